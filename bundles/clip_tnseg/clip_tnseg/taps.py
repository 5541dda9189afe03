"""CLIP's taps of whole images on disk: the frozen image tower then runs once an image, not once an image and epoch."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandomizableTrait, Transform
from safetensors.torch import load_file, save_file

from common.cli.atomic import whole_file
from common.engine.precision import autocast

from .frozen_clip import FrozenClip

logger = logging.getLogger(__name__)


class TapFiles:
    """One safetensors file an image, bfloat16, named by the weights, the image's content and its size.

    A change of any of them is another name, so no file is ever out of date. At 352 pixels with ViT-B/16 a file has
    2.2 MB.

    Args:
        folder: made when the first file is written.
        size: the images' side in pixels, to which they are stretched.
    """

    def __init__(self, *, folder: str, size: int) -> None:
        self.folder, self.size, self.weights = Path(folder), size, ""

    def use(self, clip: FrozenClip) -> None:
        """Name files by the weights and taps of ``clip`` from now on."""
        digest = hashlib.sha256(str((clip.taps, self.size)).encode())
        for name, value in sorted(clip.image.state_dict().items()):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        self.weights = digest.hexdigest()

    def path(self, image: str) -> Path:
        """File of an image file, whether it exists or not.

        Raises:
            RuntimeError: :meth:`use` was not called.
        """
        if not self.weights:
            raise RuntimeError("taps: files are named by CLIP's weights; call write_taps first")
        content = hashlib.sha256(self.weights.encode() + Path(image).read_bytes())
        return self.folder / f"{content.hexdigest()[:40]}.safetensors"

    def read(self, image: str) -> torch.Tensor:
        """Taps (K, 1 + patches, width), bfloat16, of an image file.

        Raises:
            FileNotFoundError: they were never written.
        """
        path = self.path(image)
        if not path.is_file():
            raise FileNotFoundError(f"features_dir: no taps of {image!r} in {str(self.folder)!r}; run write_taps")
        return load_file(path)["taps"]

    def write(self, image: str, taps: torch.Tensor) -> None:
        """Write taps (K, T, D) of an image file, whole or not at all."""
        with whole_file(self.path(image)) as part:
            save_file({"taps": taps.to(torch.bfloat16).cpu().contiguous()}, part)


class ReadTapsd(Transform, RandomizableTrait):
    """Add ``taps`` (K, T, D) of ``source``.

    ``CacheDataset`` keeps nothing from a random transform on: counted as one, taps stay on disk and not in memory.
    """

    def __init__(self, files: TapFiles) -> None:
        self.files = files

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, "taps": self.files.read(str(data["source"]))}


def write_taps(
    *,
    files: TapFiles,
    clip: FrozenClip,
    cases: Iterable[Mapping],
    load: Sequence,
    batch_size: int,
    device: torch.device,
    amp: bool | str,
) -> None:
    """Write the taps that ``files`` lacks; an interrupted run goes on where it stopped.

    Several processes share the work.

    Args:
        cases: each with ``image`` and ``source``.
        load: transforms from a case to its standardised ``image`` (3, H, W).
    """
    files.use(clip)
    files.folder.mkdir(parents=True, exist_ok=True)
    sources = dict.fromkeys(str(case["source"]) for case in cases)
    missing = [{"image": source, "source": source} for source in sources if not files.path(source).is_file()]
    logger.info("taps: %d of %d images to compute, into %s", len(missing), len(sources), files.folder)
    idist.barrier()  # all have looked before one writes
    share = Dataset(missing[idist.get_rank() :: idist.get_world_size()], transform=Compose(list(load)))
    for batch in DataLoader(share, batch_size=batch_size):
        with torch.no_grad(), autocast(device, amp):
            taps = torch.stack(clip(batch["image"].to(device)), dim=1)
        for source, values in zip(batch["source"], taps, strict=True):
            files.write(source, values)
    idist.barrier()
