"""Charts of a run as SVG, drawn by matplotlib: curves, the spread of cases, ROC, precision and recall, reliability."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from common.metrics.classification import net_benefit
from common.results.metric_words import name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#1662a0", "#c7551a", "#2e8b57", "#8b3a8b", "#a67c00", "#5b6570", "#b3264a", "#0f8b8d")
BINS = 5  # of a reliability diagram


def _figure(width: float = 6.4, height: float = 2.9, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of ``columns`` axes side by side, in inches."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def svg_of(figure: Figure) -> str:
    """``figure`` as a data URL, the same bytes for the same figure."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "run", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def curves(kind: str, names: Sequence[str], history: Sequence[Mapping[str, float]]) -> str:
    """A line over the epochs for each of ``names``, of ``kind`` "loss" or "validation"; gaps stay gaps."""
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = _figure()
    for index, name in enumerate(names):
        points = [(row["epoch"], row[name]) for row in history if name in row and np.isfinite(row[name])]
        if not points:
            continue
        style = "-" if index < len(COLOURS) else "--"
        label = name_of(name.removeprefix(f"{kind} "))
        axes.plot(*np.array(points).T, style, color=COLOURS[index % len(COLOURS)], label=label, marker=".", gid=name)
    axes.set(xlabel="epoch", ylabel="loss" if kind == "loss" else "on the validation split")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return svg_of(figure)


def distribution(values: Mapping[str, Sequence[float]]) -> str:
    """A box for each metric over its cases, with the cases as dots: quartiles, whiskers to 1.5 times their distance."""
    figure, (axes,) = _figure(height=0.7 + 0.55 * len(values))
    names = list(values)[::-1]
    rng = np.random.default_rng(0)
    for row, name in enumerate(names, start=1):
        heights = row + rng.uniform(-0.18, 0.18, len(values[name]))
        axes.plot(values[name], heights, ".", color=COLOURS[0], alpha=0.35, markersize=4)
    axes.boxplot([values[name] for name in names], orientation="horizontal", widths=0.5, showfliers=False)
    axes.set_yticks(range(1, len(names) + 1), [name_of(name) for name in names])
    axes.set(xlabel="each dot is a case", xlim=(-0.02, 1.02))
    axes.grid(axis="x", alpha=0.25)
    return svg_of(figure)


def agreement(predicted: np.ndarray, true: np.ndarray, unit: str) -> str:
    """Bland and Altman 1986: the difference of two measures (N,) over their mean, with bias and limits of agreement."""
    figure, (axes,) = _figure()
    gains = predicted - true
    bias, limit = float(gains.mean()), 1.96 * float(gains.std(ddof=1))
    axes.plot((predicted + true) / 2, gains, ".", color=COLOURS[0], alpha=0.5)
    axes.axhline(bias, color=COLOURS[1], label=f"bias {bias:+.1f} {unit}")
    for end in (bias - limit, bias + limit):
        axes.axhline(end, linestyle="--", color=COLOURS[5])
    axes.plot([], [], "--", color=COLOURS[5], label=f"95 % of the cases: {bias - limit:+.1f} to {bias + limit:+.1f}")
    axes.set(xlabel=f"mean of predicted and true, {unit}", ylabel=f"predicted - true, {unit}")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return svg_of(figure)


def froc(sensitivities: Mapping[float, float]) -> str:
    """Sensitivity over false boxes an image, by which ``sensitivities`` are keyed."""
    figure, (axes,) = _figure()
    axes.plot(list(sensitivities), list(sensitivities.values()), marker="o", color=COLOURS[0])
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(sensitivities), [f"{limit:g}" for limit in sensitivities])
    axes.set(xlabel="false boxes an image", ylabel="sensitivity", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.25)
    return svg_of(figure)


def decision_curve(labels: np.ndarray, probabilities: np.ndarray) -> str:
    """Net benefit over the probability from which on a reader acts, beside acting on all images and on none."""
    figure, (axes,) = _figure()
    thresholds = np.linspace(0.01, 0.99, 99)
    model, everybody = (net_benefit(labels, p, thresholds) for p in (probabilities, np.ones_like(probabilities)))
    axes.plot(thresholds, model, color=COLOURS[0], label="acting on the network")
    axes.plot(thresholds, everybody, "--", color=COLOURS[1], label="acting on all")
    axes.axhline(0.0, linestyle=":", color=COLOURS[5], label="acting on none")
    top = float(labels.mean())
    axes.set(
        xlabel="probability from which on one acts", ylabel="net benefit", xlim=(0, 1), ylim=(-0.3 * top, 1.05 * top)
    )
    axes.grid(alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return svg_of(figure)


def classification(labels: np.ndarray, probabilities: np.ndarray) -> str:
    """ROC, precision over sensitivity, and reliability, of ``labels`` (N,) in {0, 1} with both classes."""
    figure, (left, middle, right) = _figure(width=9.0, height=3.1, columns=3)
    false, true, _ = roc_curve(labels, probabilities)
    left.plot(false, true, color=COLOURS[0])
    left.plot([0, 1], [0, 1], ":", color=COLOURS[5])
    left.set(xlabel="1 - specificity", ylabel="sensitivity")
    left.set_title(f"ROC, AUC {roc_auc_score(labels, probabilities):.2f}", fontsize=10)
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    middle.plot(recall, precision, color=COLOURS[0])
    middle.axhline(float(labels.mean()), linestyle=":", color=COLOURS[5])
    middle.set(xlabel="sensitivity", ylabel="precision")
    middle.set_title("precision; dotted: the malignant share", fontsize=10)
    observed, said = calibration_curve(labels, probabilities, n_bins=BINS, strategy="quantile")
    right.plot(said, observed, marker="o", color=COLOURS[0])
    right.plot([0, 1], [0, 1], ":", color=COLOURS[5])
    right.set(xlabel="probability that was said", ylabel="share that is malignant")
    right.set_title(f"reliability, fifths of {len(labels)} images", fontsize=10)
    for axes in (left, middle, right):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid(alpha=0.25)
    return svg_of(figure)
