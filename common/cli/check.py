# PYTHON_ARGCOMPLETE_OK
"""Look at a data set before training: ``python -m common.cli.check DATASET_DIR --bundle NAME``.

Tells the recognised layout, what each split holds, and each image that is missing, damaged, twice there, or on both
sides of a split, with examples. Every image is decoded once, on all cores. The exit code is 0 where the bundle can
train on it, 1 where something must be mended, 2 where the layout is not understood.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from common.cli.completion import BUNDLES, complete

logger = logging.getLogger(__name__)
EXAMPLES = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and report; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(
        prog="python -m common.cli.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset_dir", help="folder of the data set")
    parser.add_argument("--bundle", required=True, choices=BUNDLES, help="that is to train on it")
    parser.add_argument("--annotation", help="sgf, d2rnet: the annotation file, where there are several")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="shown of each kind of fault (%(default)s)")
    parser.add_argument(
        "--manifest",
        type=Path,
        help="JSON file for size, time and SHA-256 of every file; trainings trust DATASET_DIR/checked_files.json",
    )
    parser.add_argument("--table", type=Path, help="write the data set as a table, to lie in DATASET_DIR as cases.csv")
    complete(parser)
    options = parser.parse_args(arguments)
    if not Path(options.dataset_dir).exists():
        logger.error("dataset_dir: no folder %r; pass an existing one", options.dataset_dir)
        return 2
    return check(options)


def check(options: argparse.Namespace) -> int:
    """Inspect, and write what is asked for; return the exit code: 2, with a line that says why, where it cannot.

    What the readers raise is that line.
    """
    from common.cli.atomic import write_json  # after the command line is understood: these import torch and MONAI
    from common.datasets.inspection import inspect
    from common.datasets.inspection_report import manifest, report, table_of
    from common.datasets.table import write_table
    from common.engine.failures import line_of
    from common.images.manifest import is_own

    try:
        dataset_report = inspect(options.dataset_dir, options.bundle, options.annotation)
        if options.manifest is not None and not is_own(options.manifest):
            raise ValueError(f"--manifest: {str(options.manifest)!r} is there and no manifest; pass another name")
        if options.table is not None and options.table.exists():
            raise ValueError(f"--table: {str(options.table)!r} is there already; pass another name")
        if options.table is not None:
            write_table(options.table, table_of(dataset_report, Path(options.dataset_dir)))
    except (FileNotFoundError, ValueError, json.JSONDecodeError) as error:
        logger.error("%s", line_of(error))
        return 2
    if options.manifest is not None:
        write_json(options.manifest, manifest(dataset_report, options.dataset_dir), indent=1)
    return report(dataset_report, options.bundle, examples=options.examples)


if __name__ == "__main__":
    sys.exit(main())
