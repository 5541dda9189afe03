"""Findings that training reports state: labels of the images, and the sentences that matter most.

Most sentences of most reports say that nothing is wrong. So a generator that learns every word alike writes the most
frequent report for every image. Here the findings are learned from the images as labels, their sentences count more,
and the report is written from what was found (:mod:`common.nn.finding_prompts`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.transforms import Transform

from common.cli.atomic import write_json
from common.cli.model_file import trained_with
from common.cli.reading import read_json
from common.engine.distributed import gather
from common.metrics.assertion import ABSENT
from common.metrics.entities import organ_of
from common.metrics.entity_status import FINDINGS
from common.metrics.sentence_truth import said_of
from common.nn.finding_prompts import FindingPrompts
from common.text.encoding import encode_report, split_sentences
from common.text.tokenizer import SentenceTokenizer

logger = logging.getLogger(__name__)
NAME = "findings.json"
LABELS = ("stated", "word_weights")
ENOUGH = 10_000  # reports that are labelled at the start, evenly spaced: a millisecond each


def stated_in(text: str, organ: str) -> set[str]:
    """Findings that ``text`` says are there, or may be; places and looks are none."""
    said = {name for name, status in said_of(text, organ).items() if status != ABSENT}
    return said if organ == "chest" else said & FINDINGS


class StatedFindings(Transform):
    """Add to a training study ``stated`` (count,), 1 of a finding that its report states, and ``word_weights`` (T,).

    The findings are those on which the training reports differ most: of the chest CheXpert's observations
    (:mod:`common.metrics.observations`), else :data:`common.metrics.entity_status.FINDINGS`.

    Args:
        studies: of the training split, each with ``report``.
        count: of findings; 0: none, and all words weigh alike.
        tokenizer, max_length: of :class:`common.transforms.reports.TokenizeTargetd`.
        emphasis: weight of the words of a sentence that states one of the findings; of the others 1.

    Attributes:
        names: of the findings.
        prevalence: (count,) share of the training reports that state each.

    Raises:
        ValueError: ``count`` is more than the reports differ in.
    """

    def __init__(
        self,
        *,
        studies: Sequence[Mapping],
        count: int,
        tokenizer: SentenceTokenizer,
        max_length: int,
        emphasis: float = 4.0,
    ) -> None:
        self.tokenizer, self.max_length, self.emphasis = tokenizer, max_length, emphasis
        self.organ, self.prevalence = "", np.zeros(0)
        self.names: list[str] = []
        if count:
            reports = [study["report"] for study in studies[:: -(-len(studies) // ENOUGH)]]
            self.organ = organ_of(reports) or ""
            self.names, self.prevalence = self._choose(reports, count)
            told = ", ".join(f"{name} {share:.0%}" for name, share in zip(self.names, self.prevalence, strict=True))
            logger.info("findings, of %d training reports: %s", len(reports), told)

    def _choose(self, reports: Sequence[str], count: int) -> tuple[list[str], np.ndarray]:
        """The ``count`` findings that are stated and not stated most often, and the share that states each."""
        stated = [stated_in(report, self.organ) for report in reports] if self.organ else []
        shares = {name: sum(name in said for said in stated) / len(stated) for name in sorted(set().union(*stated))}
        some = sorted(
            (name for name, share in shares.items() if share < 1), key=lambda name: -min(shares[name], 1 - shares[name])
        )
        if len(some) < count:
            raise ValueError(f"findings: {count}, but the training reports differ in {len(some)} ({', '.join(some)})")
        return some[:count], np.array([shares[name] for name in some[:count]])

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        report = data["report"]
        weights, stated = torch.ones(self.max_length), torch.zeros(len(self.names))
        if self.names:
            said = stated_in(report, self.organ)
            stated = torch.tensor([float(name in said) for name in self.names])
            states = [bool(stated_in(report[a:b], self.organ) & {*self.names}) for a, b in split_sentences(report)]
            sentence_of = encode_report(self.tokenizer, report, self.max_length - 1).sentence_ids
            for position, sentence in enumerate(sentence_of):
                weights[position] = self.emphasis if states[sentence] else 1.0
        return {**data, "stated": stated, "word_weights": weights}

    def saver(self, folder: str) -> Callable[[], list[Path]]:
        """What writes the names into the ``folder`` of the weights, or removes those of an earlier training."""
        return partial(self._save, Path(folder) / NAME)

    def _save(self, path: Path) -> list[Path]:
        if not self.names:
            path.unlink(missing_ok=True)
            return []
        write_json(path, self.names)
        return [path]


def read_names(weights: str) -> list[str]:
    """Names of the findings of the network ``weights``; none where it knows none.

    Raises:
        ValueError: it knows some, and their names are not beside it, or damaged.
    """
    path, count = Path(weights).with_name(NAME), trained_with(weights).get("findings", 0)
    names = read_json(path, what="findings") if path.is_file() else []
    if not isinstance(names, list) or (count and len(names) != count):
        raise ValueError(
            f"findings: {str(path)!r} does not name the {count} findings of the network beside it; restore it"
        )
    return names


def finding_loss(logits: torch.Tensor, stated: torch.Tensor) -> dict[str, torch.Tensor]:
    """The term ``findings`` of a loss: binary cross-entropy of logits (B, findings), mean over all; none of none."""
    return {"findings": F.binary_cross_entropy_with_logits(logits.float(), stated)} if stated.shape[1] else {}


def findings_of(prompts: FindingPrompts | None, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a step that writes reports tells of their findings (B, findings): probabilities, from which on each is
    found, and which the decoder knew of.
    """
    if prompts is None:
        return {}
    limits = prompts.thresholds.sigmoid().expand_as(logits)
    return {"findings": logits.float().sigmoid(), "finding_thresholds": limits, "found": prompts.found(logits)}


def describe_findings(item: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[dict]]:
    """Of an entry of ``predictions.json``: each of :func:`findings_of`; nothing where the network knows none."""
    if "findings" not in item:
        return {}
    columns = [item[key].tolist() for key in ("findings", "finding_thresholds", "found")]
    named = names or [f"finding {number}" for number in range(1, 1 + len(columns[0]))]
    return {
        "findings": [
            {"name": name, "probability": round(prob, 4), "threshold": round(limit, 4), "found": found}
            for name, prob, limit, found in zip(named, *columns, strict=True)
        ]
    }


class MatchPrevalence:
    """Handler of a training's evaluator: before it writes reports, set the thresholds of the findings.

    Each is found in as large a share of the validation images as training reports state it. A network is sure of its
    training images and hardly ever of others, so that with a fixed threshold it would find none. The reports of the
    validation images are not looked at. The thresholds are part of the weights.

    Args:
        network: its ``prompts`` are a :class:`common.nn.finding_prompts.FindingPrompts`, or None.
        logits_of: logits (B, findings) of a batch, on a device.
    """

    def __init__(
        self, *, network: Any, stated: StatedFindings, logits_of: Callable[[dict, torch.device], torch.Tensor]
    ) -> None:
        self.network, self.stated, self.logits_of = network, stated, logits_of

    def attach(self, engine: Engine) -> None:
        if self.stated.names:
            likely = torch.from_numpy(self.stated.prevalence).logit().float()
            self.network.prompts.thresholds.copy_(likely)  # of weights that are saved before the first validation
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self.network.eval()
        device, loader = engine.state.device, engine.data_loader  # type: ignore[attr-defined]
        with torch.no_grad():
            parts = [self.logits_of(batch, device).cpu() for batch in loader]
        logits = torch.cat(gather(parts)).float()
        shares = torch.from_numpy(1 - self.stated.prevalence).float()
        found = [torch.quantile(column, share) for column, share in zip(logits.T, shares, strict=True)]
        self.network.prompts.thresholds.copy_(torch.stack(found))
