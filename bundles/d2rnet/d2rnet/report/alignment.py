"""Image and report brought together while training: negative-aware matching (Zhang et al., NAAF, CVPR 2022).

The published file of the two blocks is missing; its options are NAAF's (spec 5.5). Global alignment matches patches
with the report's tokens, local alignment lesion regions with its sentences. Our completion.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-8


class Matching(NamedTuple):
    """Scores of all pairs.

    Attributes:
        scores: (I, C), of image i and report c.
        best: (I, C, W), likeness of each word to the region that is most like it.
    """

    scores: torch.Tensor
    best: torch.Tensor


def match(
    regions: torch.Tensor,
    words: torch.Tensor,
    region_mask: torch.Tensor,
    word_mask: torch.Tensor,
    *,
    boundary: float | torch.Tensor,
    sharpness: float = 20.0,
) -> Matching:
    """NAAF's training score of every image with every report.

    A word adds the cosine to the regions that are more like it than ``boundary``, weighted by likeness; a likeness
    weighted over all regions; and, where no region reaches ``boundary``, what is missing, which is negative.

    Args:
        regions: (I, R, D), unit vectors; ``region_mask`` (I, R), which there are, one at least for each image.
        words: (C, W, D), unit vectors; ``word_mask`` (C, W), one at least for each report.
        sharpness: lambda of the softmax.
    """
    like = torch.einsum("ird,cwd->icwr", regions, words)
    mask = region_mask[:, None, None]
    best = like.masked_fill(~mask, -1.0).amax(3)
    mismatch = (best - boundary).clamp(max=0.0)

    above = mask & (like > boundary)
    weights = torch.where(above, ((like - boundary) * sharpness).exp(), 0.0)
    weights = weights / (weights.sum(3, keepdim=True) + EPS)
    results = torch.einsum("icwr,ird->icwd", weights, regions)
    by_features = torch.einsum("icwd,cwd->icw", results, words) / results.norm(dim=3).clamp(min=EPS)

    signed = F.leaky_relu(like, 0.1) * word_mask[None, :, :, None]
    signed = signed / (signed.pow(2).sum(2, keepdim=True) + EPS**2).sqrt()  # over the words of each region, as in NAAF
    relevance = (signed * sharpness).masked_fill(~mask, -torch.inf).softmax(dim=3)
    total = mismatch + by_features + (like * relevance).sum(3)
    return Matching((total * word_mask).sum(2) / word_mask.sum(1), best)


def hinge(scores: torch.Tensor, *, margin: float = 0.2) -> torch.Tensor:
    """Hinge of the hardest negative of each image and of each report, mean over the batch (published: sum).

    ``scores`` (B, B), pairs on the diagonal; 0 for a single pair.
    """
    matched = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    of_images = (margin + scores - scores.diag()[:, None]).clamp(min=0.0).masked_fill(matched, 0.0)
    of_reports = (margin + scores - scores.diag()[None]).clamp(min=0.0).masked_fill(matched, 0.0)
    return (of_images.amax(1) + of_reports.amax(0)).mean()


class Boundary(nn.Module):
    """NAAF's boundary between words that an image shows and words that it does not.

    Normal distributions are fitted to the best likenesses of words in their own image and in others; the boundary is
    where they cross, mismatches counted ``penalty`` times. Moments and boundary are averages over the batches, without
    gradient; a crossing outside 0 to 1 counts as 0, as published.
    """

    value: torch.Tensor
    moments: torch.Tensor

    def __init__(self, *, penalty: float = 2.0, momentum: float = 0.9) -> None:
        super().__init__()
        self.penalty, self.momentum = penalty, momentum
        self.register_buffer("value", torch.zeros(()))
        self.register_buffer("moments", torch.full([4], torch.nan))

    @torch.no_grad()
    def update(self, best: torch.Tensor, word_mask: torch.Tensor) -> None:
        """Move by the likenesses ``best`` (B, B, W) of one batch; fewer than two pairs change nothing."""
        if len(best) < 2:
            return
        matched = torch.eye(len(best), dtype=torch.bool, device=best.device)
        words = word_mask.expand(len(best), -1, -1)
        parts = [best[matched[:, :, None] & words].double(), best[~matched[:, :, None] & words].double()]
        new = torch.stack([value for part in parts for value in (part.mean(), part.var())]).to(self.moments.dtype)
        known = torch.where(self.moments.isnan(), new, self.moments)
        self.moments.copy_(self.momentum * known + (1 - self.momentum) * new)
        crossing = crossing_of(*self.moments.tolist(), penalty=self.penalty)
        self.value.mul_(0.3).add_(0.7 * (crossing if 0 <= crossing <= 1 else 0.0))


def crossing_of(mean: float, var: float, other_mean: float, other_var: float, *, penalty: float) -> float:
    """Where the density of matched words meets ``penalty`` times that of mismatched ones; nan: nowhere."""
    a = var - other_var
    b = 2 * (mean * other_var - other_mean * var)
    ratio = math.log(math.sqrt(max(other_var, EPS)) / (penalty * math.sqrt(max(var, EPS))) + EPS)
    c = other_mean**2 * var - mean**2 * other_var + 2 * var * other_var * ratio
    inside = b * b - 4 * a * c
    return (-b + math.sqrt(inside)) / (2 * a + 1e-10) if inside > 0 else math.nan


class Alignment(nn.Module):
    """Both alignments, with the text encoder that training needs and generation does not.

    One encoder serves both (published: two BERTs).

    Args:
        encoder: tokens of a report to features, as those of :mod:`common.text.encoders`.
        width: of patches and regions.
        margin: of the hinge. sharpness: of the scores. penalty: of the boundary. All are NAAF's.
        shrink: weight of the mean square of the words' features before they become unit vectors.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        width: int = 1024,
        margin: float = 0.2,
        sharpness: float = 20.0,
        penalty: float = 2.0,
        shrink: float = 0.01,
    ) -> None:
        super().__init__()
        self.encoder, self.project = encoder, nn.Linear(encoder.width, width)  # type: ignore[arg-type]
        self.of_patches, self.of_regions = Boundary(penalty=penalty), Boundary(penalty=penalty)
        self.margin, self.sharpness, self.shrink = margin, sharpness, shrink

    def forward(
        self,
        patches: torch.Tensor,
        patch_mask: torch.Tensor,
        regions: torch.Tensor,
        region_mask: torch.Tensor,
        text: dict,
    ) -> dict[str, torch.Tensor]:
        """Named terms ``global`` and ``local``; 0 where fewer than two studies can be matched.

        Args:
            patches: (B, P, width), of which ``patch_mask`` (B, P) exist; regions: (B, R, width) with ``region_mask``.
            text: ``input_ids``, ``attention_mask``, ``sentence_ids`` (B, L) of the reports.
        """
        words = self.project(self.encoder(**text).tokens)
        word_mask = text["attention_mask"] > 0
        sentences, sentence_mask = mean_of_sentences(words, word_mask, text["sentence_ids"])
        shrunk = self.shrink * words[word_mask].pow(2).mean()
        return {
            "global": self._term(patches, words, patch_mask, word_mask, self.of_patches) + shrunk,
            "local": self._term(regions, sentences, region_mask, sentence_mask, self.of_regions),
        }

    def _term(
        self,
        seen: torch.Tensor,
        words: torch.Tensor,
        seen_mask: torch.Tensor,
        word_mask: torch.Tensor,
        boundary: Boundary,
    ) -> torch.Tensor:
        both = seen_mask.any(1) & word_mask.any(1)
        if int(both.sum()) < 2:
            return seen.sum() * 0 + words.sum() * 0
        units = F.normalize(seen[both].float(), dim=2), F.normalize(words[both].float(), dim=2)
        masks, limit = (seen_mask[both], word_mask[both]), boundary.value.clone()
        with torch.autocast(seen.device.type, enabled=False):  # bfloat16 cannot tell close likenesses apart
            results = match(*units, *masks, boundary=limit, sharpness=self.sharpness)
            if self.training:
                boundary.update(results.best, word_mask[both])
            return hinge(results.scores, margin=self.margin)


def mean_of_sentences(
    words: torch.Tensor, word_mask: torch.Tensor, sentence_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean features (B, S, D) of each report's sentences, and which there are (B, S); S: of the longest report."""
    count = int(sentence_ids.masked_fill(~word_mask, -1).max()) + 1
    member = (sentence_ids[:, None] == torch.arange(max(count, 1), device=words.device)[None, :, None]) & word_mask[
        :, None
    ]
    sizes = member.sum(2)
    means = member.to(words.dtype) @ words / sizes.clamp(min=1)[:, :, None]
    return means, sizes > 0
