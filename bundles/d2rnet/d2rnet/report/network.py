"""D2R-Net: chest X-ray reports from the whole image and from detected lesions.

Tang et al., "From Detection to Radiology Report Generation: Fine-Grained Multi-Modal Alignment with Semi-Supervised
Learning" (J Imaging Inform Med 2025), as far as its code was published; the fusion of patches and regions is our
completion (spec 5.5). Without regions and attention it is R2Gen (Chen et al. 2020).
"""

from collections.abc import Callable
from typing import NamedTuple, Optional

import torch
from torch import nn

from common.nn.attention import MultiHeadAttention
from common.nn.beam_search import BeamSearch, Hypotheses
from common.nn.finding_prompts import FindingPrompts
from common.nn.report_decoder import MemoryEncoder, ReportDecoder

from .visual import VisualEncoder, VisualFeatures


class Encoded(NamedTuple):
    """What the images say.

    Attributes:
        seen: the visual side.
        memory: (B, S, dim), what the decoder reads.
        memory_mask: bool (B, S), which of its tokens there are.
        findings: (B, findings), logits.
    """

    seen: VisualFeatures
    memory: torch.Tensor
    memory_mask: torch.Tensor
    findings: torch.Tensor


class TeacherForced(NamedTuple):
    """What training needs of a batch.

    Attributes:
        log_probs: (B, T, vocab_size): position k predicts token k + 1.
        patches, patch_mask, regions: of :class:`d2rnet.report.visual.VisualFeatures`.
        findings: of :class:`Encoded`.
    """

    log_probs: torch.Tensor
    patches: torch.Tensor
    patch_mask: torch.Tensor
    regions: torch.Tensor
    findings: torch.Tensor


class AttentionMaps(NamedTuple):
    """Where each token of a report looks; views and regions of a token sum to 1.

    Attributes:
        views: (B, T, views, h, w).
        regions: (B, T, R); R is 0 without regions.
    """

    views: torch.Tensor
    regions: torch.Tensor


class TokenNorm(nn.Module):
    """Batch norm of tokens, over those that exist."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, S, width), of which ``mask`` (B, S) exist, to the same; the rest has no meaning."""
        if not self.training:
            return self.norm(x.flatten(0, 1)).unflatten(0, [x.shape[0], -1])  # (B, S, width)
        results = torch.zeros_like(x)
        results[mask] = self.norm(x[mask]).to(x.dtype)
        return results


class RegionFusion(nn.Module):
    """Patches, with what they take from the regions added, and the regions after them (spec 5.5)."""

    def __init__(self, width: int, *, heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim=width, heads=heads, dropout=dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: torch.Tensor, regions: torch.Tensor, region_mask: torch.Tensor) -> torch.Tensor:
        """(B, P, width) and (B, R, width) to (B, P + R, width); a study without regions keeps its patches."""
        some = region_mask.any(1)
        visible = (region_mask | ~some[:, None])[:, None, None]
        taken = self.attention(self.norm(patches), regions, visible)
        return torch.cat([patches + taken * some[:, None, None], regions], dim=1)


class D2RNet(nn.Module):
    """The network.

    Args:
        visual: its :class:`d2rnet.report.visual.VisualEncoder`.
        token_norm: batch norm before the tokens are embedded (R2Gen's option ``use_bn``; published: off). Without it
            small features, as those of a network from scratch, let the encoder give one vector for all tokens.
        vocab_size: the tokenizer's.
        findings: recognised by the mean patch, and made known to the decoder (:mod:`common.nn.finding_prompts`);
            published: 0.
        dim, hidden, heads, layers: of encoder and decoder; published: 512, 512, 8, 3.
        slots, slot_heads: of :class:`common.nn.relational_memory.RelationalMemory`; published: 3, 8.
        max_length: tokens of a generated report at most; published: 100.
        beams, min_length, length_penalty, block_ngram: of :class:`common.nn.beam_search.BeamSearch`; published: 3
            beams.
    """

    def __init__(
        self,
        *,
        visual: VisualEncoder,
        vocab_size: int,
        token_norm: bool = False,
        findings: int = 0,
        dim: int = 512,
        hidden: int = 512,
        heads: int = 8,
        layers: int = 3,
        slots: int = 3,
        slot_heads: int = 8,
        dropout: float = 0.1,
        pad_id: int = 0,
        begin_id: int = 2,
        end_id: int = 3,
        unknown_id: int = 1,
        max_length: int = 100,
        min_length: int = 0,
        beams: int = 3,
        length_penalty: float = 0.0,
        block_ngram: int = 0,
    ) -> None:
        super().__init__()
        self.visual = visual
        self.fusion = None if visual.regions is None else RegionFusion(visual.width, heads=heads, dropout=dropout)
        self.token_norm = TokenNorm(visual.width) if token_norm else None
        self.embed = nn.Sequential(nn.Linear(visual.width, dim), nn.ReLU(), nn.Dropout(0.5))
        self.encoder = MemoryEncoder(dim=dim, hidden=hidden, heads=heads, layers=layers, dropout=dropout)
        decoder = ReportDecoder(
            vocab_size=vocab_size, pad_id=pad_id, dim=dim, hidden=hidden, heads=heads, layers=layers, dropout=dropout,
            max_length=max_length + 1, slots=slots, slot_heads=slot_heads,
        )  # fmt: skip
        self.prompts = FindingPrompts(findings=findings, features=visual.width, dim=dim) if findings else None
        ids = {"begin_id": begin_id, "end_id": end_id, "pad_id": pad_id, "unknown_id": unknown_id}
        self.report = BeamSearch(
            decoder, beams=beams, max_length=max_length, min_length=min_length, length_penalty=length_penalty,
            block_ngram=block_ngram, **ids,
        )  # fmt: skip

    def encode(
        self,
        image: torch.Tensor,
        regions: Optional[torch.Tensor] = None,
        region_mask: Optional[torch.Tensor] = None,
        view_mask: Optional[torch.Tensor] = None,
        stated: Optional[torch.Tensor] = None,
    ) -> Encoded:
        """Look at the images and regions.

        Args:
            image: float (B, views, 3, H, W), standardised with ImageNet's statistics.
            regions: float (B, R, 3, S, S), each standardised by itself; None: there are none.
            region_mask: bool (B, R); None: all.
            view_mask: bool (B, views); None: all.
            stated: 0 or 1 (B, findings), of the true report, for the decoder to know; None: what is found.
        """
        batch, device = image.shape[0], image.device
        if view_mask is None:
            view_mask = torch.ones([batch, image.shape[1]], dtype=torch.bool, device=device)
        if regions is None:
            region_mask = torch.zeros([batch, 1], dtype=torch.bool, device=device)
        elif region_mask is None:
            region_mask = torch.ones([batch, regions.shape[1]], dtype=torch.bool, device=device)
        assert region_mask is not None  # TorchScript does not see it
        seen = self.visual(image, view_mask, regions, region_mask)
        tokens, mask = seen.patches, seen.patch_mask
        if self.fusion is not None:
            tokens, mask = self.fusion(tokens, seen.regions, region_mask), torch.cat([mask, region_mask], dim=1)
        if self.token_norm is not None:
            tokens = self.token_norm(tokens, mask)
        memory = self.encoder(self.embed(tokens), mask)
        findings = memory.new_zeros([batch, 0])
        if self.prompts is not None:
            patch_mask = seen.patch_mask[:, :, None]  # (B, P, 1)
            findings = self.prompts((seen.patches * patch_mask).sum(1) / patch_mask.sum(1))
            memory = self.prompts.condition(memory, findings, stated)
        return Encoded(seen, memory, mask, findings)

    @torch.jit.unused
    def image_features(self) -> tuple[nn.Module, Callable[[torch.Tensor], object]]:
        """As :mod:`common.engine.familiarity` has it."""
        return self.visual.features, lambda image: self.visual.features(image.flatten(0, 1))

    def forward(
        self,
        image: torch.Tensor,
        input_ids: Optional[torch.Tensor] = None,
        regions: Optional[torch.Tensor] = None,
        region_mask: Optional[torch.Tensor] = None,
        view_mask: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """Log-probabilities (B, T, vocab_size) of the next token after each of ``input_ids`` (B, T), begin first.

        Without ``input_ids``, of the first token.
        """
        if input_ids is None:
            input_ids = torch.full([image.shape[0], 1], self.report.begin_id, device=image.device)
        return self.teacher_forcing(image, input_ids, regions, region_mask, view_mask, None).log_probs

    @torch.jit.export
    def teacher_forcing(
        self,
        image: torch.Tensor,
        input_ids: torch.Tensor,
        regions: Optional[torch.Tensor] = None,
        region_mask: Optional[torch.Tensor] = None,
        view_mask: Optional[torch.Tensor] = None,
        stated: Optional[torch.Tensor] = None,
    ) -> TeacherForced:
        """``image`` (B, views, 3, H, W) and ``input_ids`` (B, T), begin first, to all that training needs.

        The other arguments are those of :meth:`encode`.
        """
        seen, memory, mask, findings = self.encode(image, regions, region_mask, view_mask, stated)
        log_probs = self.report.decoder(input_ids, memory, mask)
        return TeacherForced(log_probs, seen.patches, seen.patch_mask, seen.regions, findings)

    @torch.jit.export
    def generate(
        self,
        image: torch.Tensor,
        regions: Optional[torch.Tensor] = None,
        region_mask: Optional[torch.Tensor] = None,
        view_mask: Optional[torch.Tensor] = None,
    ) -> Hypotheses:
        """The best reports of each study, ids (B, K, T) and their scores; arguments as of :meth:`encode`."""
        encoded = self.encode(image, regions, region_mask, view_mask, None)
        return self.report(encoded.memory, encoded.memory_mask)

    @torch.jit.export
    def attention(
        self, ids: torch.Tensor, memory: torch.Tensor, memory_mask: torch.Tensor, image: torch.Tensor
    ) -> AttentionMaps:
        """Where each token of ``ids`` (B, T) looks: cross-attention of the decoder's last layer, mean over heads."""
        begin = torch.full_like(ids[:, :1], self.report.begin_id)
        before = torch.cat([begin, ids[:, :-1]], dim=1)  # (B, T)
        weights = self.report.decoder.attention(before, memory, memory_mask)  # (B, T, views * h * w + R)
        views, height, width = image.shape[1], (image.shape[3] + 31) // 32, (image.shape[4] + 31) // 32
        patches = views * height * width
        of_views = weights[:, :, :patches].unflatten(2, [views, height, width])  # (B, T, views, h, w)
        return AttentionMaps(of_views, weights[:, :, patches:])  # (B, T, R)
