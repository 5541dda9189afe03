"""Metrics of D2R-Net's evaluation: those of reports, and whether the lesions that are named are those of the boxes."""

from __future__ import annotations

from math import nan

import torch

from common.metrics.reports import ReportMetrics

from .lesion_names import PHRASES, Named, named_lesions


class LesionMetrics(ReportMetrics):
    """:class:`common.metrics.reports.ReportMetrics` and ``lesion_precision``, ``lesion_recall``, ``lesion_f1``,
    ``lesion_side``, where studies have labelled boxes; studies whose boxes a detector found count nothing.

    A label counts once a study; it is right where a box has it, whatever the side. ``lesion_side`` is the share of
    right labels with a side, whose side is that of a box with this label.
    """

    def numbers(self, item: dict) -> dict[str, float]:
        boxed = {Named(*lesion.split(":", 1)[::-1]) for lesion in item["lesions"].split(";") if lesion}
        boxed = {lesion for lesion in boxed if lesion.label in PHRASES}
        stated = named_lesions(item["text"])
        names, true = ({lesion.label for lesion in lesions} for lesions in (stated, boxed))
        sided = {lesion for lesion in stated if lesion.side and lesion.label in true}
        counts = {"lesions_named": len(names), "lesions_boxed": len(true), "lesions_right": len(names & true)}
        counts |= {"sides_named": len(sided), "sides_right": len(sided & boxed)}
        counted = {name: nan if item.get("detected") else float(count) for name, count in counts.items()}
        return super().numbers(item) | counted

    def summary(self, columns: dict[str, torch.Tensor]) -> dict[str, float]:
        total = {name: float(values.nansum()) for name, values in columns.items()}
        if not total["lesions_boxed"]:
            return {}
        precision = total["lesions_right"] / max(total["lesions_named"], 1)
        recall = total["lesions_right"] / total["lesions_boxed"]
        f1 = 2 * precision * recall / (precision + recall) if total["lesions_right"] else 0.0
        side = total["sides_right"] / max(total["sides_named"], 1)
        return {"lesion_precision": precision, "lesion_recall": recall, "lesion_f1": f1, "lesion_side": side}
