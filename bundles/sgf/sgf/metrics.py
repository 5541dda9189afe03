"""Metrics of SGF's evaluation: those of reports, and how often the cluster is right."""

from __future__ import annotations

import torch

from common.metrics.reports import ReportMetrics

from .data import UNKNOWN_LABEL


class ClusterMetrics(ReportMetrics):
    """:class:`common.metrics.reports.ReportMetrics` and the share of right clusters, where studies have one."""

    def numbers(self, item: dict) -> dict[str, float]:
        clusters = {"label": float(item["label"]), "cluster": float(item["cluster"].argmax())}
        return clusters | super().numbers(item)

    def summary(self, columns: dict[str, torch.Tensor]) -> dict[str, float]:
        known = columns["label"] != UNKNOWN_LABEL
        if not known.any():
            return {}
        return {"cluster_accuracy": float((columns["label"] == columns["cluster"])[known].float().mean())}
