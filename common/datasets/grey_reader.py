"""MONAI's way into every image file that we read: PNG, JPEG, DICOM frames, slices in NIfTI."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, ensure_tuple
from PIL import Image

from common.datasets.files import open_image, to_grey
from common.slices import is_nifti, read_slice


class GreyReader(ImageReader):
    """Read an 8-bit grey image, columns first (W, H) like MONAI's ``PILReader``; of NIfTI files with their affine."""

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **_: object) -> tuple[Image.Image, np.ndarray]:
        """The picture and its affine matrix.

        Raises:
            ValueError: damaged, or no image.
        """
        (path,) = map(str, ensure_tuple(data))
        if is_nifti(path):
            image, affine = read_slice(path)
            return to_grey(image), affine
        return to_grey(open_image(path)), np.eye(4)

    def get_data(self, img: tuple[Image.Image, np.ndarray]) -> tuple[np.ndarray, dict]:
        image, affine = img
        meta = {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine,
            MetaKeys.SPATIAL_SHAPE: np.asarray(image.size),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        }
        return np.asarray(image).T, meta
