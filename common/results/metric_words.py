"""What each metric is called, what it means, and which way is better: for people who read a page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class MetricText(NamedTuple):
    """A metric in words; ``better`` is "higher", "lower" or ""."""

    name: str
    meaning: str
    better: str = "higher"


_TEXTS: dict[str, tuple[str, ...]] = {
    "dice": ("Dice", "overlap of the outlined and the true nodule; 1 is the same, 0 is apart"),
    "dice_without_report": ("Dice without the report", "the same from the image alone: what the report is worth"),
    "dice_without_keywords": ("Dice without keywords", "the same with the words erased that the network names"),
    "dice_without_others": ("Dice without others", "the same with as many words on other images erased"),
    "dice_two_class": ("Dice of both classes", "mean over nodule and background, as the paper has it"),
    "iou_two_class": ("IoU of both classes", "mean over nodule and background, as the paper has it"),
    "iou": ("IoU", "shared area over the area of both outlines"),
    "hd95": ("HD95", "95th percentile of the borders' distance, in pixels of the network's input", "lower"),
    "nsd": ("Surface Dice", "share of both borders that lie within two pixels of each other"),
    "nsd_1px": ("Surface Dice, one pixel", "the same within one pixel"),
    "hd95_mm": ("HD95, mm", "95th percentile of the borders' distance, in mm", "lower"),
    "hd95_px": ("HD95, file", "the same in pixels of the image's file, of which HD95's are stretched", "lower"),
    "nsd_mm": ("Surface Dice, mm", "share of both borders that lie within one mm of each other"),
    "nsd_px": ("Surface Dice, file", "the same within five pixels of the image's file"),
    "confidence_correlation": ("Confidence ranks masks", "Spearman's correlation with the Dice"),
    "dice_least_certain": ("Dice of the least certain", "of the fifth of the masks with the lowest confidence"),
    "expected_dice": ("Expected Dice", "the Dice that masks as sure have in the mean, of outlined images", ""),
    "expected_dice_error": ("Expected Dice, error", "its mean distance from the true Dice", "lower"),
    "long_axis_bias_mm": ("Long axis, bias", "mean of predicted minus true, in mm; 0 is none", ""),
    "long_axis_limits_mm": ("Long axis, limits", "95 % of the cases lie within bias +- this, in mm", "lower"),
    "long_axis_bias_px": ("Long axis, bias", "mean of predicted minus true, in pixels of the file; 0 is none", ""),
    "long_axis_limits_px": ("Long axis, limits", "95 % of the cases lie within bias +- this, in pixels", "lower"),
    "precision": ("Precision", "share of what is called positive that is"),
    "recall": ("Sensitivity", "share of what is positive that is called so"),
    "specificity": ("Specificity", "share of what is negative that is called so"),
    "nodule_sensitivity": ("Nodules found", "share of the nodules that a piece meets with IoU above 0.5"),
    "false_positives": ("False pieces", "outlined pieces an image that find no nodule", "lower"),
    "roc_auc": ("ROC AUC", "chance that a malignant image ranks above a benign one; 0.5 is guessing"),
    "case_roc_auc": ("ROC AUC of patients", "the same of patients, each with the mean over its images"),
    "prob_of_true_class": ("probability of the true class", "what the network gave the class that is true"),
    "average_precision": ("Average precision", "mean precision; guessing gives the malignant share"),
    "accuracy": ("Accuracy", "share of right answers at the threshold"),
    "f1": ("F1", "harmonic mean of precision and sensitivity at the threshold"),
    "calibration_error": ("Calibration error", "how far probabilities are from what comes true", "lower"),
    "brier": ("Brier score", "mean squared error of the probability", "lower"),
    "calibrated_error": ("Calibration error, calibrated", "the same of the calibrated probabilities", "lower"),
    "calibrated_brier": ("Brier score, calibrated", "the same of the calibrated probabilities", "lower"),
    "unsure_share": ("Unsure", "share of the images whose probability lies where no class is sure", ""),
    "accuracy_when_sure": ("Accuracy where sure", "share of right answers among the other images"),
    "accuracy_least_certain": ("Accuracy, least certain", "of the fifth of the images nearest to the threshold"),
    "threshold": ("Threshold", "probability at and above which an image is called malignant", ""),
    "bleu_4": ("BLEU-4", "runs of four words that the reference shares"),
    "rouge_l": ("ROUGE-L", "longest common run of words, gaps allowed"),
    "cider_d": ("CIDEr-D", "agreement weighted by how telling the words are; 10 is the same"),
    "meteor_nltk": ("METEOR", "agreement of words, stems and order"),
    "entity_f1": ("Entities (F1)", "whether both reports speak of the same things, denied or not"),
    "entity_status_f1": ("Entities and status (F1)", "the same, and whether both state, deny or doubt it"),
    "entity_contradictions": ("Contradictions", "reports that deny what the other states", "lower"),
    "sentences_right": ("Sentences right", "share of those that state or deny something and fit the reference"),
    "sentences_right_least_certain": ("Least certain sentences right", "the same of the least probable fifth"),
    "sentence_error": ("Calibration error, words", "how far the words' probability is from being right", "lower"),
    "calibrated_sentence_error": ("Calibration error, sentences", "the same of the calibrated one", "lower"),
    "report_fit": ("Report's fit", "mean log score of the reports' sentences on the outlined nodules"),
    "report_doubted": ("Reports doubted", "share that fits less well than 19 of 20 held-out ones", ""),
    "lesion_f1": ("Lesions (F1)", "whether the generated report names the lesions of the labelled boxes"),
    "lesion_precision": ("Lesions, precision", "share of the lesions it names that labelled boxes have"),
    "lesion_recall": ("Lesions, sensitivity", "share of the lesions of labelled boxes that it names"),
    "lesion_side": ("Lesions, side", "share of the right ones named with a side whose box is on that side"),
    "cluster_accuracy": ("Topics right", "share of studies whose topic is predicted"),
    "distinct_reports": ("Distinct reports", "different reports among those generated; one for all is collapse"),
    "mean_length": ("Length", "words of a generated report", ""),
    "copied_reports": ("Copied reports", "generated reports that are word for word one of the training", ""),
    "chexpert_f1_14_macro": ("Findings (F1-14)", "whether both reports find the same, mean of 14 observations"),
    "chexpert_f1_5_micro": ("Findings (F1-5)", "the same of five observations, all counted together"),
    "map": ("COCO mAP", "average precision over IoU 0.5 to 0.95, mean of classes"),
    "ap40": ("AP at IoU 0.4", "average precision where two fifths overlap count as found, as VinDr-CXR has it"),
    "ap50": ("AP at IoU 0.5", "average precision where half overlap counts as found"),
    "ap75": ("AP at IoU 0.75", "average precision where close overlap counts as found"),
    "froc": ("FROC", "mean sensitivity at 1/8 to 8 false boxes an image"),
}  # fmt: skip
WORDS = {metric: MetricText(*texts) for metric, texts in _TEXTS.items()}
HEADLINES = (
    "dice", "dice_without_report", "iou", "nsd", "hd95", "nodule_sensitivity", "false_positives",
    "roc_auc", "case_roc_auc", "recall", "specificity", "calibration_error",
    "chexpert_f1_14_macro", "entity_f1", "entity_contradictions", "lesion_f1", "bleu_4", "rouge_l",
    "distinct_reports", "map", "ap50", "froc",
)  # fmt: skip
MOST = 6  # headlines of a page


def headlines(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that come first, :data:`MOST` at most."""
    known = set(names)
    chosen = [name for name in HEADLINES if name in known]
    if "roc_auc" in known:  # of a classifier, recall is at a threshold that its page tells
        chosen = [name for name in chosen if name not in ("dice", "iou")]
    elif {"dice", "recall"} <= known:
        chosen.remove("recall")
    return chosen[:MOST]


def name_of(metric: str) -> str:
    """Its name for people; as it is where none is known."""
    return WORDS[metric].name if metric in WORDS else metric.replace("_", " ")


def meaning_of(metric: str) -> str:
    """What it means, and which way is better; "" where that is not known."""
    if metric not in WORDS:
        return ""
    words = WORDS[metric]
    return words.meaning + (f" ({words.better} is better)" if words.better else "")
