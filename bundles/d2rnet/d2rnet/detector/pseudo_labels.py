"""Boxes of a trained detector written into the annotation of studies: what D2R-Net is then trained with (spec 6)."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
from pathlib import Path

import numpy as np
from ignite import distributed as idist

from common.cli.atomic import write_text
from common.datasets.annotation import (
    SPLITS,
    WITH_BOXES,
    annotation_file,
    copied_from,
    image_folder,
    image_names,
    keys_of,
    load_annotation,
    report_of,
    save_annotation,
)
from common.datasets.coco import to_xywh, to_xyxy
from common.datasets.splits import inside
from common.engine.distributed import is_first
from common.images.files import check_image, image_size, open_image, to_grey
from common.results import blocks
from common.results.drawing import draw_boxes

from .finder import TrainedDetector

logger = logging.getLogger(__name__)
KEYS = ("boxes", "scores", "box_labels", "height", "width")


def write_pseudo_labels(
    detector: TrainedDetector,
    *,
    root: str,
    annotation: str | None,
    output: str | None,
    weights: str,
    slots: int,
    batch_size: int,
    overwrite: bool,
) -> str:
    """Write a copy of the annotation in which each study has the boxes of its first image: ``boxes`` x, y, width,
    height in pixels, ``scores``, ``box_labels``, and the image's ``height`` and ``width``.

    Results are kept in ``OUTPUT.partial.jsonl`` as they come, so that a run that was interrupted goes on; the copy
    appears whole as the run ends, and everything else in it is as in the annotation. Returns the file's name.

    Args:
        root: folder of the studies. annotation: which of its files; None: the only one. Of a copy that a run wrote
            before, what it was copied from is read.
        output: the file to write; None: ``ANNOTATION_with_boxes.json``, which trainings read in its place.
        weights: file of the detector, by which a partial result is known to be its.
        slots: boxes of a study, by falling score; free ones are -1, as published.
        overwrite: replace boxes that entries have already, or another file ``output``.

    Raises:
        FileNotFoundError: no annotation, or a copy alone, without what it was copied from.
        ValueError: entries have boxes, or ``output`` is there, and ``overwrite`` is False; or the partial result is of
            another detector.
    """
    file = _without_boxes(annotation_file(Path(root), annotation))
    content = load_annotation(file)
    entries = [entry for split in SPLITS.values() for entry in content[split]]
    target = file.with_stem(file.stem + WITH_BOXES) if output is None else Path(output)
    _check_overwriting(file, target, entries, overwrite)
    partial = Path(f"{target}.partial{f'.{idist.get_rank()}' if idist.get_rank() else ''}.jsonl")
    key = {"weights": _digest(Path(weights)), "slots": slots, "score": detector.score, "annotation": _digest(file)}
    key |= detector.settings
    results = _done_so_far(target, partial, key)
    idist.barrier()
    missing = [entry for entry in entries if _image(entry, file) not in results]
    share = missing[idist.get_rank() :: idist.get_world_size()]
    _detect(detector, share, image_folder(Path(root), entries), partial, slots, batch_size)
    idist.barrier()
    if is_first():
        _merge(target, content, entries)
    idist.barrier()
    return str(target)


def _without_boxes(file: Path) -> Path:
    """``file``; of a copy with boxes, what it was copied from."""
    original = copied_from(file)
    if original is None:
        return file
    if not original.is_file():
        raise FileNotFoundError(
            f"annotation: {str(file)!r} is named as what pseudo_label.json writes, and {original.name!r}, of which it "
            "would be made, is not beside it; restore that, or rename the file if its boxes are none of a detector"
        )
    return original


def _merge(target: Path, content: dict[str, list[dict]], entries: list[dict]) -> None:
    """Write what all processes detected into the annotation ``target``."""
    parts = _partial_files(target)
    results = dict(json.loads(line) for part in parts for line in part.read_text(encoding="utf-8").split("\n")[1:-1])
    for entry in entries:
        entry.update(results[_image(entry)])
    save_annotation(target, content)
    for part in parts:
        part.unlink()
    total = sum(sum(score >= 0 for score in entry["scores"]) for entry in entries)
    logger.info("%s: %d boxes in %d studies", target, total, len(entries))


def _partial_files(target: Path) -> list[Path]:
    """What processes have done so far, a file each."""
    return sorted(target.parent.glob(f"{glob.escape(target.name)}.partial*.jsonl"))


def _check_overwriting(file: Path, target: Path, entries: list[dict], overwrite: bool) -> None:
    known = [entry for entry in entries if entry.get("boxes")]
    if known and not overwrite:
        raise ValueError(
            f"overwrite: {len(known)} of {len(entries)} studies of {str(file)!r} have boxes; "
            "pass --overwrite true to replace them"
        )
    if target.exists() and not target.samefile(file) and not overwrite:
        raise ValueError(f"output: {str(target)!r} is there already; pass another name, or --overwrite true")


def _detect(
    detector: TrainedDetector, entries: list[dict], folder: Path, partial: Path, slots: int, batch_size: int
) -> None:
    with open(partial, "a", encoding="utf-8") as file:
        for start in range(0, len(entries), batch_size):
            some = entries[start : start + batch_size]
            paths = [inside(folder, _image(entry)) for entry in some]
            for path in paths:
                check_image(path)
            for entry, path, boxes in zip(some, paths, detector(paths), strict=True):
                file.write(json.dumps([_image(entry), in_slots(boxes, image_size(path), slots)]) + "\n")
            file.flush()
            logger.info("%d of %d studies", min(start + batch_size, len(entries)), len(entries))


def in_slots(detections: dict, size: tuple[int, int], slots: int) -> dict:
    """What an entry gets: the ``slots`` top-scoring boxes as x, y, width, height, and -1 in free slots."""
    best = np.argsort(-detections["scores"], kind="stable")[:slots]
    boxes = to_xywh(detections["boxes"][best].astype(float))
    free = slots - len(best)
    return {
        "boxes": boxes.round(1).tolist() + [[-1, -1, -1, -1]] * free,
        "scores": detections["scores"][best].astype(float).round(4).tolist() + [-1] * free,
        "box_labels": [detections["box_labels"][index] for index in best] + [""] * free,
        "height": size[1],
        "width": size[0],
    }


def _done_so_far(target: Path, partial: Path, key: dict) -> dict[str, dict]:
    """Results of an interrupted run with the same ``key``; a last line that was cut is done again.

    Leaves ``partial``, this process's own file, whole, with ``key`` as its first line.
    """
    results: dict[str, dict] = {}
    for file in _partial_files(target):
        first, *lines = file.read_text(encoding="utf-8").split("\n")
        if not lines:  # killed before its first line was whole
            file.unlink()
            continue
        if first != json.dumps(key):
            raise ValueError(
                f"output: {str(file)!r} is of another detector, annotation or setting; finish that run or delete it"
            )
        results |= dict(json.loads(line) for line in lines[:-1])
    idist.barrier()
    lines = partial.read_text(encoding="utf-8").split("\n")[:-1] if partial.is_file() else [json.dumps(key)]
    write_text(partial, "\n".join([*lines, ""]))
    logger.info("%d studies were done before", len(results))
    return results


def _name(entry: dict) -> str:
    return str(entry[keys_of(entry)[0]])


def _image(entry: dict, file: Path | None = None) -> str:
    """Name of the first image of an entry of ``file``, by which its boxes are known."""
    return image_names(entry, file)[0]


def _digest(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def draw_studies(*, root: str, file: str, output_dir: str, pages: int) -> None:
    """``pseudo_labels.html``: the first ``pages`` studies of each split with their boxes, to look at."""
    if not is_first():
        return
    content = load_annotation(Path(file))
    sections = []
    for split in SPLITS.values():
        folder = image_folder(Path(root), content[split])
        for entry in content[split][:pages]:
            grey = np.asarray(to_grey(open_image(inside(folder, _image(entry)))))
            kept = [index for index, score in enumerate(entry["scores"]) if score >= 0]
            texts = [f"{entry['box_labels'][index]} {entry['scores'][index]:.2f}" for index in kept]
            boxes = to_xyxy(np.array([entry["boxes"][index] for index in kept], dtype=float).reshape(-1, 4))
            figure = blocks.figure(draw_boxes(grey, boxes, texts), f"{_name(entry)}, {split}")
            sections.append(blocks.Section(_name(entry), [figure, blocks.text(report_of(entry))]))
    write_text(Path(output_dir) / "pseudo_labels.html", blocks.render("D2R-Net: pseudo-labels", sections))
