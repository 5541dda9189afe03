"""TN3K and TG3K (Gong et al. 2021, 2023): thyroid images with nodule or gland masks, without reports."""

from __future__ import annotations

from pathlib import Path

from common.cli.reading import read_json
from common.datasets.splits import tell_of_leaks
from common.images.files import image_files


def read_tn3k(root: str, split: str, *, fold: int = 0) -> list[dict]:
    """Read ``{trainval,test}-{image,mask}/`` with ``tn3k-trainval-fold{fold}.json``.

    The fold file holds indices into the numerically sorted list of files. ``report`` is empty. The images of both
    folders are numbered from 0: a test image's case is ``test-0000``.

    Raises:
        FileNotFoundError: no fold file.
        ValueError: an unknown ``split``, or an index beyond the files.
    """
    if split == "test":
        return _cases(Path(root), "test-image", "test-mask", prefix="test-")
    return _of_fold(
        Path(root), f"tn3k-trainval-fold{fold}.json", split, _cases(Path(root), "trainval-image", "trainval-mask")
    )


def read_tg3k(root: str, split: str) -> list[dict]:
    """Read ``thyroid-image/``, ``thyroid-mask/`` (gland) with ``tg3k-trainval.json``; there is no test split.

    Raises:
        FileNotFoundError: no ``tg3k-trainval.json``.
        ValueError: ``split`` is "test" or unknown.
    """
    return _of_fold(Path(root), "tg3k-trainval.json", split, _cases(Path(root), "thyroid-image", "thyroid-mask"))


def _cases(root: Path, images: str, masks: str, *, prefix: str = "") -> list[dict]:
    mask_of = {file.stem: file for file in image_files(root / masks)}
    files = image_files(root / images)
    return [
        {
            "image": str(file),
            "label": str(mask_of.get(file.stem, root / masks / file.name)),
            "report": "",
            "case": prefix + file.stem,
        }
        for file in files
    ]


def _is_indices(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(index, int) and index >= 0 for index in value)


def _of_fold(root: Path, name: str, split: str, cases: list[dict]) -> list[dict]:
    keys = {"train": "train", "validation": "val"}
    if split not in keys:
        raise ValueError(f"split: {split!r} is not in {name}, which has {sorted(keys)}")
    path = root / name if (root / name).is_file() else root.parent / name
    if not path.is_file():
        raise FileNotFoundError(f"dataset_dir: no file {str(root / name)!r}, which lists the split; put it there")
    content = read_json(path, what="dataset_dir")
    if not isinstance(content, dict) or not all(_is_indices(content.get(key)) for key in keys.values()):
        raise ValueError(f"dataset_dir: {str(path)!r} has no lists 'train' and 'val' of indices; correct it")
    tell_of_leaks({key: content[key] for key in keys.values()}, what="images", where=str(path))
    indices = content[keys[split]]
    if indices and max(indices) >= len(cases):
        raise ValueError(
            f"{path}: index {max(indices)} of {split!r}, but there are {len(cases)} images; complete the folder"
        )
    return [cases[index] for index in indices]
