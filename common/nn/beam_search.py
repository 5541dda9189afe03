"""Batched beam search over a decoder with an explicit state; one beam is greedy search."""

from typing import NamedTuple, Optional

import torch
from torch import nn


class Hypotheses(NamedTuple):
    """The best reports of each study, the best one first.

    Attributes:
        ids: int64 (B, K, T), without begin and end token, padded.
        scores: (B, K), sum of log-probabilities over length ** length_penalty; -inf: there are fewer than K.
        log_probs: (B, K, T), of each token and of the end that follows the last one; 0 after that.
    """

    ids: torch.Tensor
    scores: torch.Tensor
    log_probs: torch.Tensor


class BeamSearch(nn.Module):
    """Generate reports.

    A hypothesis that ends leaves its place; a study whose live hypotheses can no longer win leaves the batch.

    Args:
        decoder: with ``start``, ``step`` and ``select`` of :class:`common.nn.report_decoder.ReportDecoder`.
        beams: K.
        max_length: tokens at most; what has not ended by then counts as ended.
        min_length: the end token is not taken before.
        length_penalty: 0 compares sums of log-probabilities, 1 means.
        block_ngram: no n-gram of this length twice in a report; 0 allows all.
        unknown_id: never written; -1: there is no such token.

    Raises:
        ValueError: lengths or beams out of range.
    """

    def __init__(
        self,
        decoder: nn.Module,
        *,
        begin_id: int,
        end_id: int,
        pad_id: int,
        beams: int = 1,
        max_length: int = 60,
        min_length: int = 0,
        length_penalty: float = 0.0,
        block_ngram: int = 0,
        unknown_id: int = -1,
    ) -> None:
        super().__init__()
        if beams < 1 or not 0 <= min_length < max_length:
            raise ValueError(f"beams: {beams} and min_length: {min_length} < max_length: {max_length} must be positive")
        self.decoder = decoder
        self.begin_id, self.end_id, self.pad_id = begin_id, end_id, pad_id
        self.beams, self.max_length, self.min_length = beams, max_length, min_length
        self.length_penalty, self.block_ngram, self.unknown_id = length_penalty, block_ngram, unknown_id

    def forward(self, memory: torch.Tensor, visible: Optional[torch.Tensor] = None) -> Hypotheses:
        """Reports of ``memory`` (B, S, dim), of which ``visible`` (B, S) exists."""
        with torch.no_grad():
            return self._search(memory, visible)

    def _search(self, memory: torch.Tensor, visible: Optional[torch.Tensor]) -> Hypotheses:
        batch, device = memory.shape[0], memory.device
        result = self._nothing(batch, device)
        done, live = self._nothing(batch, device), self._nothing(batch, device)
        live.scores[:, 0] = 0.0
        studies = torch.arange(batch, device=device)
        state = self.decoder.start(memory, visible, self.beams)
        tokens = torch.full([batch, self.beams], self.begin_id, device=device)
        for position in range(self.max_length):
            log_probs, state = self.decoder.step(tokens, position, state)
            live, beam = self._extend(live, self._allow(log_probs, live.ids, position), position)
            tokens = live.ids[:, :, position]
            ended = (
                tokens == self.end_id if position + 1 < self.max_length else torch.ones_like(tokens, dtype=torch.bool)
            )
            done = self._finish(done, live, ended, position + 1)
            live.scores.masked_fill_(ended, float("-inf"))
            running = self._running(done, live)
            if not bool(running.all()):
                for part, results in zip(result, done):  # noqa: B905 (TorchScript)
                    part[studies[~running]] = results[~running]
                keep = running.nonzero()[:, 0]
                if keep.shape[0] == 0:
                    break
                done, live = self._of(done, keep), self._of(live, keep)
                studies, tokens = studies[keep], tokens[keep]
                state = self.decoder.select(state, keep, beam[keep], position + 1)
            elif self.beams > 1:
                rows = torch.arange(tokens.shape[0], device=device)
                state = self.decoder.select(state, rows, beam, position + 1)
        return self._trim(result)

    def _nothing(self, batch: int, device: torch.device) -> Hypotheses:
        ids = torch.full([batch, self.beams, self.max_length], self.pad_id, device=device)
        scores = torch.full([batch, self.beams], float("-inf"), device=device)
        return Hypotheses(ids, scores, torch.zeros(ids.shape, device=device))

    def _of(self, hypotheses: Hypotheses, studies: torch.Tensor) -> Hypotheses:
        return Hypotheses(hypotheses.ids[studies], hypotheses.scores[studies], hypotheses.log_probs[studies])

    def _allow(self, log_probs: torch.Tensor, ids: torch.Tensor, position: int) -> torch.Tensor:
        """Forbid padding, begin and unknown, the end before ``min_length``, and n-grams that would repeat."""
        for special in (self.pad_id, self.begin_id, self.unknown_id):
            if special >= 0 and special != self.end_id:  # published files use one id for all three
                log_probs[:, :, special] = float("-inf")
        if position < self.min_length:
            log_probs[:, :, self.end_id] = float("-inf")
        size = self.block_ngram
        if size > 0 and position >= size:
            grams = ids[:, :, :position].unfold(2, size, 1)  # (b, K, N, size)
            last = ids[:, :, position - size + 1 : position]
            repeated = (grams[:, :, :, : size - 1] == last[:, :, None]).all(3)
            penalty = torch.zeros_like(log_probs)
            penalty.scatter_add_(2, grams[:, :, :, size - 1], repeated.to(penalty.dtype))
            log_probs = log_probs.masked_fill(penalty > 0, float("-inf"))
        return log_probs

    def _extend(self, live: Hypotheses, log_probs: torch.Tensor, position: int) -> tuple[Hypotheses, torch.Tensor]:
        """The K best continuations, and the beam (b, K) that each continues."""
        vocabulary = log_probs.shape[2]
        scores, index = (live.scores[:, :, None] + log_probs).flatten(1).topk(self.beams)  # (B, K), of K * V
        beam, token = torch.div(index, vocabulary, rounding_mode="floor"), index % vocabulary
        rows = torch.arange(beam.shape[0], device=beam.device)[:, None]
        ids, known = live.ids[rows, beam], live.log_probs[rows, beam]
        ids[:, :, position], known[:, :, position] = token, log_probs[rows, beam, token]
        return Hypotheses(ids, scores, known), beam

    def _finish(self, done: Hypotheses, live: Hypotheses, ended: torch.Tensor, length: int) -> Hypotheses:
        """The K best of what had ended and what ends now."""
        new = (live.scores / float(length) ** self.length_penalty).masked_fill(~ended, float("-inf"))
        scores, position = torch.cat([done.scores, new], dim=1).topk(self.beams)
        rows = torch.arange(position.shape[0], device=position.device)[:, None]
        ids = torch.cat([done.ids, live.ids], dim=1)[rows, position]
        log_probs = torch.cat([done.log_probs, live.log_probs], dim=1)[rows, position]
        return Hypotheses(ids, scores, log_probs)

    def _running(self, done: Hypotheses, live: Hypotheses) -> torch.Tensor:
        """Whether a live hypothesis of the study may still be among its K best: log-probabilities only fall."""
        best = live.scores.amax(1) / float(self.max_length) ** self.length_penalty
        return best > done.scores[:, -1]

    def _trim(self, hypotheses: Hypotheses) -> Hypotheses:
        """End tokens become padding; hypotheses that do not exist are all padding."""
        gone = (hypotheses.ids == self.end_id) | torch.isinf(hypotheses.scores)[:, :, None]
        ids = hypotheses.ids.masked_fill(gone, self.pad_id)
        return Hypotheses(ids, hypotheses.scores, hypotheses.log_probs)
