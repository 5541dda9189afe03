"""Metrics of detected boxes: COCO's average precision and recall, and FROC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou

FALSE_POSITIVES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # an image, of FROC's mean sensitivity (LUNA16)
MOST = 100  # boxes of an image that count


def detection_metrics(
    predictions: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    targets: Sequence[tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
) -> dict[str, float]:
    """``map``, ``ap40``, ``ap50``, ``ap75``, ``ar``, ``ap50_CLASS`` of the classes that ``targets`` has, and FROC's.

    COCO's (thresholds 0.5 to 0.95, 100 boxes an image, mean over classes that occur); ``ap40`` is the measure of
    VinDr-CXR's challenge; ``sensitivity_at_N_fp`` with N false boxes an image, and ``froc``, their mean, are of
    :func:`froc_curve`.

    Args:
        predictions: for each image boxes (M, 4) as x1, y1, x2, y2, labels (M,) from 0, scores (M,).
        targets: for each image boxes (G, 4) and labels (G,).

    Raises:
        ValueError: other numbers of images, or no image has a box.
    """
    if len(predictions) != len(targets):
        raise ValueError(f"predictions: boxes of {len(predictions)} images for {len(targets)} images")
    if not sum(len(boxes) for boxes, _ in targets):
        raise ValueError("targets: no box in any image, so there is nothing to measure; check the data set's boxes")
    present = sorted({int(label) for _, labels in targets for label in labels})
    names_present = [classes[label] for label in present]
    values = _coco(predictions, targets, present, names_present, (0.5, 0.75), (0.5, 0.95, 0.05))
    values |= _coco(predictions, targets, present, names_present, (0.4,), (0.4, 0.45, 0.05))
    names = {
        "map": "mAP_IoU_0.50_0.95_0.05",
        "ap40": "AP_IoU_0.40",
        "ap50": "AP_IoU_0.50",
        "ap75": "AP_IoU_0.75",
        "ar": "mAR_IoU_0.50_0.95_0.05",
    }
    result = {name: float(values[f"{key}_MaxDet_{MOST}"]) for name, key in names.items()}
    for label in present:
        result[f"ap50_{classes[label]}"] = float(values[f"{classes[label]}_AP_IoU_0.50_MaxDet_{MOST}"])
    curve = froc_curve(predictions, targets)
    points = {f"sensitivity_at_{limit:g}_fp": value for limit, value in zip(FALSE_POSITIVES, curve, strict=True)}
    return result | {"froc": float(np.mean(curve)), **points}


def _coco(
    predictions: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    targets: Sequence[tuple[np.ndarray, np.ndarray]],
    present: list[int],
    names: list[str],
    thresholds: tuple[float, ...],
    span: tuple[float, float, float],
) -> dict[str, float]:
    """MONAI's metrics at ``thresholds`` of IoU, and their mean over ``span``: first, last, step."""
    metric = COCOMetric(classes=names, iou_list=thresholds, iou_range=span, max_detection=(MOST,), verbose=False)
    matches = matching_batch(
        iou_fn=box_iou,  # type: ignore[arg-type]
        iou_thresholds=metric.iou_thresholds.tolist(),
        pred_boxes=[boxes for boxes, _, _ in predictions],
        pred_classes=[_indices(labels, present) for _, labels, _ in predictions],
        pred_scores=[scores for _, _, scores in predictions],
        gt_boxes=[boxes for boxes, _ in targets],
        gt_classes=[_indices(labels, present) for _, labels in targets],
        max_detections=MOST,
    )
    return {name: float(value) for name, value in metric(matches)[0].items()}


def _indices(labels: np.ndarray, present: list[int]) -> np.ndarray:
    """Index of each label in ``present``; those that it lacks, which no mean counts, come after all."""
    return np.array([present.index(label) if label in present else len(present) for label in labels], dtype=np.int64)


def froc_curve(
    predictions: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    targets: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    overlap: float = 0.5,
) -> list[float]:
    """Sensitivity at each of :data:`FALSE_POSITIVES` an image (van Ginneken et al. 2010); all classes together.

    A box counts as detected once, by the top-scoring box of its label that overlaps it by ``overlap``.
    """
    hits, scores, total = [], [], sum(len(boxes) for boxes, _ in targets)
    for (boxes, labels, confidences), (true_boxes, true_labels) in zip(predictions, targets, strict=True):
        taken = np.zeros(len(true_boxes), dtype=bool)
        like = box_iou(boxes, true_boxes) if len(boxes) and len(true_boxes) else np.zeros((len(boxes), len(true_boxes)))
        for index in np.argsort(-confidences, kind="stable"):
            fits = (like[index] >= overlap) & (true_labels == labels[index]) & ~taken
            best = int(np.argmax(np.where(fits, like[index], -1))) if fits.any() else -1
            if best >= 0:
                taken[best] = True
            hits.append(best >= 0)
            scores.append(confidences[index])
    order = np.argsort(-np.array(scores), kind="stable")
    right = np.array(hits, dtype=bool)[order]
    sensitivity, wrong = np.cumsum(right) / total, np.cumsum(~right) / len(targets)
    reached = [sensitivity[wrong <= limit] for limit in FALSE_POSITIVES]
    return [float(values[-1]) if len(values) else 0.0 for values in reached]
