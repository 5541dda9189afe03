"""What :mod:`common.cli.predict` does once its command line is understood."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import predict as prediction
from common.datasets.inspection import with_time_left
from common.engine.failures import FAILURES, line_of
from common.images.files import WITH_DICOM, image_files, stem_of
from common.results.saving import Saver

logger = logging.getLogger(__name__)
NOTHING_BEGAN, SOME_FAILED = 2, 1


def predict(options: argparse.Namespace) -> int:
    """Load, predict, save; each bad image is one line."""
    beside = {id: getattr(options, id) for id in ("report", "phrase", "mask") if getattr(options, id) is not None}
    try:
        model = prediction.load(
            options.bundle,
            device=options.device,
            batch_size=options.batch_size,
            refuse_unfamiliar=options.refuse_unfamiliar,
        )
        model.require_read(beside)
        cases, failures = list_all(model, options.images, beside)
    except (ValueError, OSError, TypeError, RuntimeError) as error:
        logger.error("%s", line_of(error))
        return NOTHING_BEGAN
    for failure in failures:
        logger.error("%s", failure)
    if not cases:
        return NOTHING_BEGAN
    try:
        prediction.require_folder(options.out, model, options.images, dicom=options.dicom)
    except ValueError as error:
        logger.error("%s", line_of(error))
        return NOTHING_BEGAN
    try:
        done = predict_all(model, cases, failures, options)
    except (ValueError, OSError, RuntimeError) as error:
        logger.error("%s", line_of(error))
        return SOME_FAILED
    left_out = f"; {len(failures)} left out, named above" if failures else ""
    if done:
        logger.info("%d done%s. Open %s", done, left_out, options.out / "index.html")
    return NOTHING_BEGAN if not done else SOME_FAILED if failures else 0


def predict_all(model: Any, cases: Sequence[Any], failures: list[str], options: argparse.Namespace) -> int:
    """Write the result of each case as it comes, and the page, however it ends; return how many there are."""

    def failed(line: str) -> None:
        logger.error("%s", line)
        failures.append(line)

    names = [model.inference.name_of(case) for case in cases]
    where = {"names": names, "dicom": options.dicom, "overwrite": options.overwrite}
    saver = Saver(model.inference.predictions, options.out, **where)
    saver.require_all_free()
    try:
        for number, result in with_time_left(model.of_listed(cases, failed), len(cases)):
            logger.info("%s: %s", result.name, result.line())
            saver.write(number, result.name, result.answer.shown)
            for reason in FAILURES.take().values():
                failed(reason)
    finally:
        if saver.writer.predictions:
            saver.finish()
    return len(saver.writer.predictions)


def list_all(model: Any, images: Sequence[str], beside: dict[str, str]) -> tuple[list[Any], list[str]]:
    """Cases of all images, not read yet, and a line for each that is none.

    Raises:
        ValueError: one mask for several images.
    """
    cases: list[Any] = []
    failures: list[str] = []
    mask = beside.get("mask")
    if mask is not None and len(images) > 1 and not Path(mask).is_dir():
        raise ValueError(
            f"--mask: {mask!r} is one mask for {len(images)} images; pass a folder with masks of their names"
        )
    for image in images:
        if mask is not None and Path(mask).is_dir() and Path(image).is_file():
            named = [file for file in image_files(mask, WITH_DICOM) if stem_of(str(file)) == stem_of(image)]
            if len(named) != 1:
                failures.append(f"{image}: {mask!r} holds {len(named)} masks of its name; expected one")
                continue
            beside = beside | {"mask": str(named[0])}
        read, lines = (
            model.inference.list_each(image, **beside) if Path(image).exists() else ([], [f"no file {image!r}"])
        )
        cases += read
        failures += lines
    return cases, failures
