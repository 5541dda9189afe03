# PYTHON_ARGCOMPLETE_OK
"""Predict with a trained bundle: ``python -m common.cli.predict akessfa IMAGE... --report TEXT --out FOLDER``.

The results are those of the bundle's ``configs/inference.json``: pictures, ``predictions.json`` and a page to open.
Bad images are named, the others are done; the exit code is then 1, and 2 where nothing could begin.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from common.cli.completion import bundles, complete
from common.cli.trained import PACKED, find
from common.cli.verbose import speak_of_everything

logger = logging.getLogger(__name__)
NOTHING_BEGAN = 2


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m common.cli.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bundle = result.add_argument(
        "bundle", help="akessfa, clip_tnseg (nodule outlines), hfcn (benign or malignant), sgf, d2rnet (reports); or a "
        "bundle's folder, packed zip or exported archive (.ts, .pt2)",
    )  # fmt: skip
    bundle.completer = bundles  # type: ignore[attr-defined]
    result.add_argument(
        "images", nargs="+", metavar="IMAGE", help="PNG, JPEG, TIFF, DICOM, NIfTI slice, or a folder of them; of sgf "
        "and d2rnet a folder is one study",
    )  # fmt: skip
    result.add_argument("--report", help="akessfa: the report, or a .txt file that holds it")
    result.add_argument("--phrase", help='clip_tnseg: what to outline; by default "thyroid nodule"')
    result.add_argument(
        "--mask", help="hfcn: the nodule's mask, for one image, or a folder with masks of the same names"
    )
    result.add_argument("--out", type=Path, default=Path("predictions"), help="folder for the results (%(default)s)")
    result.add_argument("--overwrite", action="store_true", help="replace results that the folder holds")
    result.add_argument("--dicom", action="store_true", help="write DICOM SEG and SR, too; of DICOM images")
    result.add_argument(
        "--refuse-unfamiliar",
        action="store_true",
        help="no answer for an image that is unlike the training images",
    )
    result.add_argument("--device", help="cpu, cuda or cuda:N; by default a GPU where there is one")
    result.add_argument("--batch-size", type=_count, default=8, help="images at once (%(default)s)")
    result.add_argument("--verbose", action="store_true", help="also print versions, and all that libraries say")
    return result


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict and write; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    command = parser()
    complete(command)
    options = command.parse_args(arguments)
    logging.getLogger("ignite").setLevel(logging.WARNING)
    try:
        return run(options)
    except KeyboardInterrupt:
        logger.error("interrupted")
        return 130


def run(options: argparse.Namespace) -> int:
    """Refuse what can be seen to fail before MONAI's import, which takes seconds; then predict."""
    try:
        if Path(options.bundle).suffix not in PACKED:
            find(options.bundle)
        if (options.out / "predictions.json").exists() and not options.overwrite:
            raise ValueError(f"--out: {options.out} holds results; pass another folder, or --overwrite")
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return NOTHING_BEGAN
    if options.verbose:
        speak_of_everything()
    from common.cli.predicting import predict

    return predict(options)


if __name__ == "__main__":
    sys.exit(main())
