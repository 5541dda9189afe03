"""Metrics of generated reports by models of other groups, through the package ``radeval`` (Xu et al. 2025, EMNLP).

RadGraph F1, F1-CheXbert, GREEN, RaTEScore and others; each downloads its model at first use. The package is not
installed with this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

from common.cli.given import import_package

PREFIX = "radeval_"


def names_of(text: str) -> list[str]:
    """Names that stand in ``text`` with commas or spaces between: "radgraph,f1chexbert"."""
    return text.replace(",", " ").split()


def radeval_scores(generated: Sequence[str], references: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """The package's metrics ``names``, each number as ``radeval_NAME``; nothing where no name is given.

    Raises:
        ValueError: the package is not installed, or knows no such metric.
    """
    if not names:
        return {}
    package = import_package("radeval", package="radeval", extra=None)
    try:
        evaluator = package.RadEval(metrics=list(names), show_progress=False)
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"radeval: {' '.join(names)!r} is not what the package computes ({error})") from error
    scores = evaluator(refs=list(references), hyps=list(generated))
    return {f"{PREFIX}{name}": float(value) for name, value in scores.items() if isinstance(value, Real)}
