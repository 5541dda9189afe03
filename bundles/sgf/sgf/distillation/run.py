"""The knowledge distiller: cluster the training reports, choose K and dimension, label all splits, show the topics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import normalized_mutual_info_score
from transformers import AutoModel, AutoTokenizer

from common.cli.atomic import write_json, write_rows
from common.datasets.annotation import SPLITS, find_annotation, load_annotation, report_of, save_annotation
from common.text.distiller import NOISE, Distiller, choose, sampled, save

from .page import _heat_map, describe, map_of, write_page

logger = logging.getLogger(__name__)


class SentenceVectors:
    """A pretrained sentence encoder as a vectoriser: mean of the last states over the tokens.

    Args:
        weights: a local folder or hub name of a model that ``AutoModel`` loads.
    """

    pretrained = True  # nothing of it must be saved with the distiller

    def __init__(self, *, weights: str, batch_size: int = 64) -> None:
        self.tokenizer, self.model = AutoTokenizer.from_pretrained(weights), AutoModel.from_pretrained(weights).eval()
        self.batch_size = batch_size

    def fit_transform(self, reports: Sequence[str]) -> np.ndarray:
        return self.transform(reports)

    @torch.no_grad()
    def transform(self, reports: Sequence[str]) -> np.ndarray:
        """Vectors (N, D) of reports."""
        parts = []
        for start in range(0, len(reports), self.batch_size):
            texts = list(reports[start : start + self.batch_size])
            batch = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            mask = batch["attention_mask"][:, :, None].float()
            states = self.model(**batch).last_hidden_state
            parts.append((states * mask).sum(1) / mask.sum(1))
        return torch.cat(parts).numpy()


def read_annotation(*, annotation: str | None, data_dir: str | None) -> tuple[Path, dict[str, list[dict]]]:
    """The annotation file and its content, found as a training finds it; its images are not needed.

    Args:
        annotation: a path, or a name in ``data_dir``; None: the only one of ``data_dir``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as :func:`common.datasets.annotation.find_annotation`.
    """
    if data_dir is not None:
        return find_annotation(Path(data_dir), annotation)
    file = Path(str(annotation))
    if not file.is_file():
        raise FileNotFoundError(f"annotation: no file {str(file)!r}; pass --annotation FILE or --dataset_dir FOLDER")
    return file, load_annotation(file)


def texts_of(entries: Sequence[Mapping], file: Path | None = None) -> list[str]:
    """The report of each entry of ``file``, as a training reads it; "" where there is none.

    Raises:
        ValueError: an entry of no known form, or whose report is no text.
    """
    return [report_of(entry, file) for entry in entries]


def training_reports(content: Mapping[str, Sequence[Mapping]], file: Path) -> list[str]:
    """Those of the training split of ``file`` that there are; the other splits are looked at, too.

    Raises:
        ValueError: as :func:`texts_of`.
    """
    texts = {split: texts_of(content[split], file) for split in SPLITS.values()}
    return [text for text in texts["train"] if text]


def distill(
    *,
    annotation: str | None,
    data_dir: str | None,
    vectorizer: Any,
    reducer: Callable[..., Any],
    clusterer: Callable[..., Any],
    dims: Sequence[int],
    sizes: Sequence[int],
    size_name: str,
    analyzer: Any,
    output_dir: str,
) -> None:
    """Choose by silhouette, label all splits, write everything to ``output_dir``.

    ``NAME.json``, the annotation with ``labels`` (no label where there is no report), the distiller, ``metrics.json``,
    ``silhouette.csv``, ``clusters.csv``, pictures, and ``index.html``.

    Args:
        reducer: takes ``n_components``, one of ``dims``. Dimensions and sizes that so few reports cannot have are left
            out, which is logged.
        clusterer: takes ``size_name``, one of ``sizes``: ``n_clusters`` of KMeans, ``min_cluster_size`` of HDBSCAN.
        analyzer: a text to its words, for the topics.

    Raises:
        ValueError: ``output_dir`` is where the annotation file lies, which would be overwritten; a report is no text.
    """
    file, content = read_annotation(annotation=annotation, data_dir=data_dir)
    folder = Path(output_dir)
    if (folder / file.name).resolve() == file.resolve():
        raise ValueError(f"output_dir: {output_dir!r} holds the annotation file itself; pass another folder")
    reports = training_reports(content, file)
    dims, sizes = below("dims", dims, len(reports) - 1), below("sizes", sizes, len(reports))
    distiller, scores = choose(
        reports,
        vectorizer=vectorizer,
        reducers=[reducer(n_components=dim) for dim in dims],
        clusterers=[clusterer(**{size_name: size}) for size in sizes],
    )
    folder.mkdir(parents=True, exist_ok=True)
    save(distiller, folder)
    metrics = {"silhouette": distiller.silhouette(), "clusters": float(distiller.labels.max() + 1)}
    metrics["noise_share"] = float((distiller.labels == NOISE).mean())
    metrics |= write_labels(distiller, content, folder / file.name)
    write_json(folder / "metrics.json", metrics, indent=2)
    logger.info("%s: %s", file.name, " ".join(f"{name} {value:.3f}" for name, value in metrics.items()))
    results = describe(distiller, sampled(reports), analyzer)
    write_tables(folder, results, [size_name, *dims], dict(zip(sizes, scores.tolist(), strict=True)))
    heat = _heat_map(scores, sizes, dims, size_name)
    write_page(folder, file.name, metrics, results, heat, map_of(distiller, sampled(reports), results))


def write_tables(folder: Path, clusters: Sequence[dict], header: Sequence, grid: Mapping[int, Sequence]) -> None:
    """``silhouette.csv``, a row for each size of ``grid``, and ``clusters.csv`` of what :func:`describe` returned."""
    write_rows(folder / "silhouette.csv", [header, *([size, *row] for size, row in grid.items())])
    rows = [[c["label"], c["reports"], " ".join(c["words"]), c["example"]] for c in clusters]
    write_rows(folder / "clusters.csv", [["label", "reports", "words", "example"], *rows])


def below(name: str, values: Sequence[int], limit: int) -> list[int]:
    """The ``values`` below ``limit``; the others are logged.

    Raises:
        ValueError: none is.
    """
    kept = [value for value in values if value < limit]
    if not kept:
        raise ValueError(f"{name}: {list(values)} must be below {limit}, for there are few reports with text")
    if len(kept) < len(values):
        logger.warning("%s: %s are too many for so few reports and left out", name, sorted(set(values) - set(kept)))
    return kept


def write_labels(distiller: Distiller, content: Mapping[str, Sequence[dict]], path: Path) -> dict[str, float]:
    """Write the annotation with ``labels`` in each entry that has a report; compare with the labels it had.

    Returns:
        ``nmi_SPLIT``, the normalised mutual information with them, where all of a split's reports had one.
    """
    written, metrics = {}, {}
    for split in SPLITS.values():
        entries = content[split]
        texts = texts_of(entries)
        positions = [index for index, text in enumerate(texts) if text]
        given = [texts[index] for index in positions]
        clustered = split == "train" and len(given) == len(distiller.labels)
        results = distiller.labels if clustered else distiller.assign(given) if given else np.empty(0)
        label_of = dict(zip(positions, results.astype(int).tolist(), strict=True))
        bare = [{k: v for k, v in entry.items() if k != "labels"} for entry in entries]
        written[split] = [
            {**entry, "labels": label_of[index]} if index in label_of else entry for index, entry in enumerate(bare)
        ]
        known = [entries[index].get("labels") for index in positions]
        if known and None not in known:
            metrics[f"nmi_{split}"] = float(normalized_mutual_info_score(known, list(label_of.values())))
    save_annotation(path, written)
    return metrics
