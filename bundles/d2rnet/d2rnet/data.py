"""Studies with lesions on their way into D2R-Net: views, regions, report; alike in training and evaluation."""

from __future__ import annotations

from monai.transforms import Compose, CopyItemsd, Lambdad, SelectItemsd

from common.report_tokenizer import SentenceTokenizer, TokenizeReportd
from common.study_transforms import (
    MARGIN,
    LoadViewsd,
    RandCropViewsd,
    StandardiseViewsd,
    TokenizeTargetd,
    check_size,
)  # fmt: skip

from .lesions import CropRegionsd

SEEN = ("image", "view_mask", "regions", "region_mask")
TEXT = ("text_ids", "text_mask", "sentence_ids")


def training_transforms(
    *,
    tokenizer: SentenceTokenizer,
    text_tokenizer: SentenceTokenizer,
    views: int,
    size: int,
    regions: int,
    region_size: int,
    max_length: int,
    begin_id: int,
    end_id: int,
) -> Compose:
    """Views cut at random, regions, the report's tokens for the decoder and for the alignment.

    Regions come from the image as stored, so the cuts of the views move none of them. Nothing is mirrored: reports name
    sides.

    Args:
        text_tokenizer: of the alignment's encoder.

    Raises:
        ValueError: ``size`` is no multiple of 32.
    """
    check_size(size)
    return Compose(
        [
            LoadViewsd(views=views, side=round(size * MARGIN)),
            CropRegionsd(count=regions, size=region_size),
            TokenizeReportd(text_tokenizer, max_length=max_length),
            CopyItemsd(keys=["input_ids", "attention_mask"], names=["text_ids", "text_mask"]),
            TokenizeTargetd(tokenizer, max_length=max_length, begin_id=begin_id, end_id=end_id),
            RandCropViewsd(size=size, mirror=0.0),
            StandardiseViewsd(),
            SelectItemsd(keys=[*SEEN, *TEXT, "input_ids", "target_ids"]),
        ]
    )


def validation_transforms(*, views: int, size: int, regions: int, region_size: int) -> Compose:
    """Whole views and regions; the report stays text.

    Raises:
        ValueError: ``size`` is no multiple of 32.
    """
    whole = _whole(views=views, size=size, regions=regions, region_size=region_size)
    return Compose([*whole, SelectItemsd(keys=[*SEEN, "report", "study", "lesions"])])


def inference_transforms(*, views: int, size: int, regions: int, region_size: int) -> Compose:
    """Whole views and regions; ``images`` stays, to be drawn on, a line for each path.

    Raises:
        ValueError: ``size`` is no multiple of 32.
    """
    whole = _whole(views=views, size=size, regions=regions, region_size=region_size)
    return Compose([*whole, Lambdad(keys="images", func="\n".join)])


def _whole(*, views: int, size: int, regions: int, region_size: int) -> list:
    check_size(size)
    return [LoadViewsd(views=views, side=size), CropRegionsd(count=regions, size=region_size), StandardiseViewsd()]
