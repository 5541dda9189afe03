# PYTHON_ARGCOMPLETE_OK
"""Compare two evaluations case by case: ``python -m common.cli.compare RUN_A RUN_B``.

Each is a folder with ``per_case.csv``, of the same cases. For every metric that both have: both means, the mean
difference B - A with its 95 % interval (bootstrap over patients, whose images are drawn together), the two-sided p of
Wilcoxon's signed-rank test on the patients' mean differences, and how many cases became better or worse by value. Of a
classifier also its ROC AUC, whose difference has the interval of the same bootstrap.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from common.cli.completion import complete

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; bad input is one line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m common.cli.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path, metavar="RUN_A", help="output_dir of an evaluation")
    parser.add_argument("second", type=Path, metavar="RUN_B", help="output_dir of another one, of the same cases")
    complete(parser)
    options = parser.parse_args(arguments)
    from common.results.comparison import compare, read_both  # whose libraries take seconds

    try:
        first, second, patients = read_both([options.first, options.second])
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    header = ("metric", "A", "B", "B - A", "95 % interval", "p", "higher", "lower")
    table = [header, *compare(first, second, patients)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    drawn = f"{len(set(patients.values()))} patients" if patients else "each a patient of its own"
    logger.info("%d cases, %s", len(first), drawn)
    for row in table:
        logger.info("%s", "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
