"""MONAI's way into every image file that we read: PNG, JPEG, DICOM frames, slices in NIfTI."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import PathLike
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImaged
from monai.utils import MetaKeys, ensure_tuple
from PIL import Image

from common.cli.verbose import hush
from common.images.files import open_image, to_grey
from common.images.nifti import HANDED_OVER, is_nifti, picture_of_array, read_slice

# MONAI builds all its readers beside ours, and one of them warns each time that a GPU's decoder is not installed.
hush("monai.data.nvimgcodec_pydicom_plugin", messages=["NvImgCodecPydicomReader"])


class LoadGreyd(LoadImaged):
    """``image`` by :class:`GreyReader`, channel first; an unreadable file is one line, not MONAI's traceback.

    An image that is an array already, as MONAI Deploy hands it over, becomes what its file would have become.
    """

    def __init__(self) -> None:
        super().__init__(keys="image", reader=GreyReader, ensure_channel_first=True)
        self._loader.readers = self._loader.readers[-1:]  # MONAI's others would read what ours refuses

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        if isinstance(data["image"], (np.ndarray, torch.Tensor)):
            return {**data, "image": self._of_array(data["image"])}
        try:
            return super().__call__(data, reader)
        except Exception:
            to_grey(
                open_image(str(data["image"]))
            )  # raises our own line: MONAI tries its other readers, and tells of those
            raise

    @staticmethod
    def _of_array(image: np.ndarray | torch.Tensor) -> MetaTensor:
        given = image.meta if isinstance(image, MetaTensor) else {}
        array = image.cpu().numpy() if isinstance(image, torch.Tensor) else image
        pixels = np.asarray(to_grey(picture_of_array(array))).T.astype(np.float32)
        meta = {**given, MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape), MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan")}
        affine = torch.as_tensor(np.asarray(given.get(MetaKeys.AFFINE, np.eye(4)), dtype=np.float64))
        return MetaTensor(torch.from_numpy(pixels)[None], affine=affine, meta={**meta, HANDED_OVER: True})


class GreyReader(ImageReader):
    """Read an 8-bit grey image, columns first (W, H) like MONAI's ``PILReader``; of NIfTI files with their affine."""

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **_: object) -> tuple[Image.Image, np.ndarray | None]:
        """The picture and its affine matrix, None of files that have none.

        Raises:
            ValueError: damaged, or no image.
        """
        (path,) = map(str, ensure_tuple(data))
        if is_nifti(path):
            image, affine = read_slice(path)
            return to_grey(image), affine
        return to_grey(open_image(path)), None

    def get_data(self, img: tuple[Image.Image, np.ndarray | None]) -> tuple[np.ndarray, dict]:
        image, position = img
        affine = np.eye(4) if position is None else position
        meta = {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine,
            MetaKeys.SPATIAL_SHAPE: np.asarray(image.size if position is None else (*image.size, 1)),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        }
        return np.asarray(image).T, meta
