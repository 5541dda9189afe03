"""Make the weights that a bundle comes with out of a trained folder: half the bytes, and what inference needs.

``python -m benchmarks.release akessfa runs/ddti`` writes ``bundles/akessfa/models/``: ``model.pt`` (and
``detector.pt``) in float16, what belongs to it, and ``model.json`` with its settings and SHA-256 digests. What trained
the folder is told in the card.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from fnmatch import fnmatch
from pathlib import Path

import torch

from common.cli import model_file
from common.cli.atomic import whole_file
from common.cli.given import require_weights
from common.cli.trained import digest_of
from common.engine.beside_weights import save_numbers
from common.engine.familiarity import file_of
from common.metrics.familiarity import Familiarity
from common.pack import PACKED

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
LARGEST = 16 * 2**20  # bytes of a network's weights
NUMBERS = (
    "calibration.json",
    "sentence_calibration.json",
    "report_fit.json",
    "expected_dice.json",
)  # fitted to a network, named
NETWORKS = ("model.pt", "detector.pt")  # the second one of d2rnet alone


def release(source: Path, target: Path, name: str = "model.pt") -> None:
    """Copy the network ``name`` in ``source`` to ``target``, in float16.

    Raises:
        FileNotFoundError: ``source`` holds no such weights, or nothing that says how they were trained.
        ValueError: the result is larger than a repository should hold.
    """
    weights = Path(require_weights(str(source / name)))
    known = json.loads(model_file.path_of(weights).read_text(encoding="utf-8"))
    target.mkdir(parents=True, exist_ok=True)
    names = [companion for companion in known["files"] if companion != weights.name and is_packed(companion)]
    companions = {companion: target / companion for companion in names}
    for companion, path in companions.items():
        shutil.copyfile(source / companion, path)
    model_file.path_of(target / weights.name).unlink(missing_ok=True)
    with whole_file(target / weights.name) as part:
        torch.save(in_half(torch.load(weights, weights_only=True)), part)
        if Path(part).stat().st_size > LARGEST:
            raise ValueError(
                f"{str(source)!r}: {Path(part).stat().st_size} bytes in float16; expected {LARGEST} at most"
            )
        model_file.write(target / weights.name, known["settings"], files={**companions, weights.name: Path(part)})
    if name == "model.pt":
        for numbers in NUMBERS:
            keep_numbers(weights.with_name(numbers), weights, target / name)
    if name == "model.pt" and file_of(weights).is_file():
        familiarity = Familiarity.load(file_of(weights), weights=digest_of(weights))
        if familiarity is not None:
            familiarity.save(file_of(target / name), weights=digest_of(target / name))


def keep_numbers(file: Path, weights: Path, target: Path) -> None:
    """Write what ``file`` says of the network ``weights`` beside ``target``, the same one; nothing if of another."""
    target.with_name(file.name).unlink(missing_ok=True)
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"weights": None}
    if content.pop("weights") == digest_of(weights):
        save_numbers(target.with_name(file.name), content, weights=str(target))


def is_packed(name: str) -> bool:
    """Whether a zip of the bundle takes the file along: not the word counts of training reports."""
    return any(fnmatch(f"models/{name}", pattern) for pattern in PACKED)


def in_half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices and filters in float16; vectors, such as the statistics of batch norms, are few and stay as they are."""
    return {
        name: value.half() if value.is_floating_point() and value.dim() > 1 else value for name, value in state.items()
    }


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", choices=sorted(path.name for path in (ROOT / "bundles").iterdir()))
    parser.add_argument("folder", type=Path, help="of a training: model.pt, model.json and what belongs to them")
    arguments = parser.parse_args()
    target = ROOT / "bundles" / arguments.bundle / "models"
    for name in NETWORKS:
        if name == "model.pt" or (arguments.folder / name).is_file():
            release(arguments.folder, target, name)
    for file in sorted(target.iterdir()):
        logger.info("%s %d bytes", file.relative_to(ROOT), file.stat().st_size)


if __name__ == "__main__":
    main()
