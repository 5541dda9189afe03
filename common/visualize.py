"""``python -m common.visualize FOLDER``: the page of a run, from the files that evaluation or inference left there."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

logger = logging.getLogger(__name__)


def main() -> None:
    """Write ``FOLDER/index.html``; bad input is one line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m common.visualize", description=__doc__)
    parser.add_argument("folder", type=Path, help="output_dir of an evaluation or inference")
    folder = parser.parse_args().folder
    from common.results.page import write_page  # whose libraries take seconds

    try:
        logger.info("%s", write_page(folder))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
