"""Archives that hold what is needed to use them: the network, its settings, and its tokenizer.

Beside code and weights a TorchScript archive has the extra files ``metadata.json``, ``inference.json`` (with the sizes
that the network was trained with) and, where the network has a tokenizer of its own, ``tokenizer.json``, which
``tokenizers.Tokenizer.from_str`` takes. This and ``.pt2`` also carry the trained files as they lie in the bundle, for
:func:`common.predict.load`, which runs none of an archive's code.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import save_net_with_metadata
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from torch import nn

from common.cli.atomic import whole_file
from common.cli.model_file import path_of
from common.cli.running import running_parser
from common.cli.trained import TRAINED, add_to
from common.text.tokenizer import WORD, ReportTokenizer

logger = logging.getLogger(__name__)
CHOSEN = {  # files that have an option of their own, by its id, and their names beside a trained network
    "tokenizer_path": ("report_tokenizer.json", "tokenizer.json"), "detector_weights": ("detector.pt",),
    "detector_settings": ("detector_settings.json",),
}  # fmt: skip


def write_archive(*, network: nn.Module, folder: str) -> None:
    """Write ``network``, in eval mode on the CPU, to the archive ``folder/model.ts``, whole or not at all."""
    parser = running_parser()
    metadata, extra = ({}, {}) if parser is None else (metadata_of(parser), extra_files(parser))
    scripted = torch.jit.script(network.cpu().eval())
    with whole_file(Path(folder) / "model.ts") as part:
        save_net_with_metadata(
            scripted, str(part), include_config_vals=False, meta_values=metadata, more_extra_files=extra
        )
        add_trained(part)
    logger.info("exported: %s", Path(folder) / "model.ts")


def metadata_of(parser: ConfigParser) -> dict[str, Any]:
    """``metadata.json`` of the bundle that ``parser`` runs."""
    file = Path(str(parser.get_parsed_content("bundle_root"))) / "configs" / "metadata.json"
    return json.loads(file.read_text(encoding="utf-8"))


def extra_files(parser: ConfigParser) -> dict[str, bytes]:
    """The config as it runs, and the tokenizer in the form of the library ``tokenizers``."""
    config = {id: value for id, value in parser.get().items() if not id.startswith("_")}
    files = {"inference.json": json.dumps(config, ensure_ascii=False).encode()}
    if "tokenizer_path" in parser:
        tokenizer = parser.get_parsed_content("tokenizer")
        path = Path(parser.get_parsed_content("tokenizer_path"))
        text = portable(tokenizer) if isinstance(tokenizer, ReportTokenizer) else path.read_text(encoding="utf-8")
        files["tokenizer.json"] = text.encode()
    return files


def add_trained(archive: Path) -> None:
    """Add the trained files of the bundle that runs, for :func:`common.predict.load`; no ``inference.json``, none."""
    parser = running_parser()
    if parser is not None and "image" in parser:
        weights = Path(parser.get_parsed_content("weights"))
        files = {"model.pt": weights, "model.json": path_of(weights)}
        files |= {name: weights.parent / name for name in TRAINED}
        for id in (id for id in CHOSEN if id in parser):
            chosen = Path(parser.get_parsed_content(id))
            files |= {name: chosen for name in TRAINED if name in CHOSEN[id]}
        add_to(archive, bundle=name_of_bundle(parser), files=files)


def name_of_bundle(parser: ConfigParser) -> str:
    """That of its package, wherever the folder lies and whatever it is called."""
    config: Any = ConfigParser.load_config_file(
        Path(str(parser.get_parsed_content("bundle_root"))) / "configs" / "inference.json"
    )["bundle_root"]
    return str(config["name"])


def portable(tokenizer: ReportTokenizer) -> str:
    """JSON that ``tokenizers.Tokenizer.from_str`` takes and that splits English as ``tokenizer`` does.

    Chinese is one unknown word there, since jieba is not part of it, and placeholders such as ``_2DS_`` are lowered.
    """
    backend = Tokenizer.from_str(tokenizer.backend.backend_tokenizer.to_str())
    backend.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    words = Regex(WORD.pattern.replace("?P<chinese>", ""))
    backend.pre_tokenizer = pre_tokenizers.Split(words, behavior="removed", invert=True)  # type: ignore[assignment]
    return backend.to_str()
