"""Studies with lesions on their way into D2R-Net: views, regions, report; alike in training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import Compose, CopyItemsd, Lambdad, SelectItemsd

from common.datasets.studies import list_studies
from common.engine.stated_findings import LABELS, StatedFindings
from common.text.tokenizer import SentenceTokenizer
from common.transforms.load import check_size
from common.transforms.reports import TokenizeReportd, TokenizeTargetd
from common.transforms.views import MARGIN, LoadViewsd, RandCropViewsd, StandardiseViewsd

from ..detector.finder import DetectLesionsd, TrainedDetector
from .boxes import CropRegionsd, DescribeDetectionsd, StandardiseRegionsd, read_boxed_studies

VISUAL_KEYS = ("image", "view_mask", "regions", "region_mask")
TEXT = ("text_ids", "text_mask", "sentence_ids")


def training_transforms(
    *,
    tokenizer: SentenceTokenizer,
    text_tokenizer: SentenceTokenizer,
    stated: StatedFindings,
    views: int,
    size: int,
    regions: int,
    region_size: int,
    coordinates: bool,
    max_length: int,
) -> Compose:
    """Views cut at random, regions, the report's tokens for the decoder and for the alignment, and what it states.

    Regions come from the image as stored, so the cuts of the views move none of them. Nothing is mirrored: reports name
    sides.

    Args:
        text_tokenizer: of the alignment's encoder.
        coordinates: of :class:`d2rnet.report.boxes.StandardiseRegionsd`.

    Raises:
        ValueError: ``size`` is no multiple of 32.
    """
    check_size(size)
    return Compose(
        [
            CropRegionsd(count=regions, size=region_size, views=round(size * MARGIN)),
            LoadViewsd(views=views, side=round(size * MARGIN)),
            TokenizeReportd(text_tokenizer, max_length=max_length),
            CopyItemsd(keys=["input_ids", "attention_mask"], names=["text_ids", "text_mask"]),
            TokenizeTargetd(tokenizer, max_length=max_length),
            RandCropViewsd(size=size, mirror=0.0),
            StandardiseViewsd(),
            StandardiseRegionsd(count=regions, coordinates=coordinates),
            stated,
            SelectItemsd(keys=[*VISUAL_KEYS, *TEXT, "input_ids", "target_ids", *LABELS]),
        ]
    )


def validation_transforms(*, views: int, size: int, regions: int, region_size: int, coordinates: bool) -> Compose:
    """Whole views and regions; the report stays text.

    Raises:
        ValueError: ``size`` is no multiple of 32.
    """
    whole = _whole(views=views, size=size, regions=regions, region_size=region_size, coordinates=coordinates)
    return Compose([*whole, SelectItemsd(keys=[*VISUAL_KEYS, "report", "study", "lesions", "detected"])])


def inference_transforms(
    *, views: int, size: int, regions: int, region_size: int, coordinates: bool, detector: TrainedDetector | None
) -> Compose:
    """Lesions found where the data have none, whole views and regions.

    ``images`` stays, to be drawn on, a line for each path; ``detections`` describes them.

    Raises:
        ValueError: ``size`` is no multiple of 32.
    """
    whole = _whole(views=views, size=size, regions=regions, region_size=region_size, coordinates=coordinates)
    kept = SelectItemsd(keys=[*VISUAL_KEYS, "study", "images", "detections", "report"], allow_missing_keys=True)
    return Compose(
        [DetectLesionsd(detector), *whole, DescribeDetectionsd(), Lambdad(keys="images", func="\n".join), kept]
    )


def inference_cases(*, image: str | None, data_dir: str | None, views: int, annotation: str | None) -> Sequence[dict]:
    """What inference runs over: :func:`common.datasets.studies.list_studies` of ``image``, without boxes; or, where it
    is None, the test split of ``data_dir`` with its boxes.
    """
    if image is None:
        return read_boxed_studies(str(data_dir), "test", views=views, annotation=annotation)
    return list_studies(image=image, data_dir=None, views=views)


def _whole(*, views: int, size: int, regions: int, region_size: int, coordinates: bool) -> list:
    check_size(size)
    crops = [CropRegionsd(count=regions, size=region_size, views=size), LoadViewsd(views=views, side=size)]
    return [*crops, StandardiseRegionsd(count=regions, coordinates=coordinates), StandardiseViewsd()]
