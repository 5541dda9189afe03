"""Networks as files that run without this code: ONNX, and torch.export's ``.pt2``; sizes and lengths stay free."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.export import Dim

from common.cli.atomic import whole_file
from common.cli.verbose import hush
from common.engine.archive import add_trained
from common.nn.folding import fold_batch_norms

logger = logging.getLogger(__name__)
CHATTY = (  # tell each node that they leave as it is, and that torchvision, of no use here, is not installed
    "onnxscript", "onnx_ir", "torch.onnx._internal.exporter._registration",
)  # fmt: skip
STRIDE = 32  # sides of an image are multiples of it


class Example(NamedTuple):
    """Inputs that a network is traced with.

    Attributes:
        inputs: tensors by the names of ``forward``'s arguments, which become those of the file.
        free: axes of each input that stay free.
    """

    inputs: dict[str, torch.Tensor]
    free: dict[str, dict[int, Dim]]


def free_axes(**lengths: int) -> dict[str, Dim]:
    """Names of free axes: ``batch``, ``rows`` and ``columns`` (pixels, from 64 in steps of 32), and ``lengths``.

    Args:
        lengths: by name, the most that the network takes.
    """
    axes = {"batch": Dim("batch", min=1), "rows": STRIDE * Dim("rows_32", min=2)}
    axes["columns"] = STRIDE * Dim("columns_32", min=2)
    return axes | {name: Dim(name, min=1, max=most) for name, most in lengths.items()}


def export(network: nn.Module, example: Example, *, path: str, outputs: list[str]) -> None:
    """Write ``network``, in eval mode on the CPU, to ``path``, whole or not at all: ``.onnx`` or ``.pt2``.

    Batch norms are folded into the convolutions before them.

    Args:
        outputs: names of the outputs in ONNX.

    Raises:
        ValueError: another suffix.
    """
    suffix = Path(path).suffix
    if suffix not in (".onnx", ".pt2"):
        raise ValueError(f"path: {path!r} ends in {suffix!r}; the forms are .onnx and .pt2")
    hush(*CHATTY)
    network = copy.deepcopy(network).cpu().eval()
    fold_batch_norms(network)
    for module in network.modules():
        if hasattr(module, "inplace"):  # which takes three times as long to trace at free sizes
            module.inplace = False  # type: ignore[assignment]
    with torch.no_grad(), whole_file(path) as part:
        if suffix == ".pt2":
            program = torch.export.export(network, (), example.inputs, dynamic_shapes=example.free, strict=False)
            torch.export.save(program, part)
            add_trained(Path(part))
        else:
            torch.onnx.export(
                network, kwargs=example.inputs, f=str(part), dynamic_shapes=example.free,
                input_names=list(example.inputs), output_names=outputs, external_data=False, dynamo=True, verbose=False,
            )  # fmt: skip
    logger.info("exported: %s", path)
