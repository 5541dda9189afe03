"""SGF: reports from several views of one study, guided by the cluster that the reports of such studies belong to.

Li et al., "Ultrasound Report Generation with Cross-Modality Feature Alignment via Unsupervised Guidance" (IEEE TMI
44(1):19-30, 2025), as in its published code: ResNet, Transformer encoder and decoder of R2Gen without relational
memory, a cluster head on the pooled views (KMVE).
"""

from collections.abc import Callable
from typing import NamedTuple, Optional

import torch
from torch import nn

from common.nn.backbones import image_encoder
from common.nn.beam_search import BeamSearch, Hypotheses
from common.nn.finding_prompts import FindingPrompts
from common.nn.report_decoder import MemoryEncoder, ReportDecoder


class Encoded(NamedTuple):
    """What the images say.

    Attributes:
        memory: (B, S, dim), what the decoder reads.
        memory_mask: bool (B, S), which of its tokens there are.
        clusters: (B, K), logits; the published network returns their sigmoid.
        findings: (B, findings), logits.
    """

    memory: torch.Tensor
    memory_mask: torch.Tensor
    clusters: torch.Tensor
    findings: torch.Tensor


class TeacherForced(NamedTuple):
    """What training needs of a batch.

    Attributes:
        log_probs: (B, T, vocab_size): position k predicts token k + 1.
        clusters, findings: of :class:`Encoded`.
        hidden: (B, T, dim), the decoder's last states.
    """

    log_probs: torch.Tensor
    clusters: torch.Tensor
    hidden: torch.Tensor
    findings: torch.Tensor


class VisualExtractor(nn.Module):
    """Tokens and one pooled vector of each view."""

    def __init__(self, *, backbone: nn.Module, pooled: int) -> None:
        super().__init__()
        self.features = backbone
        self.channels: int = backbone.channels[3]  # type: ignore[index, assignment]
        self.reduce = nn.Conv2d(self.channels, pooled, 1)

    def forward(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 3, H, W) to tokens (N, h * w, channels) and vectors (N, pooled)."""
        last = self.features(views)[3]
        return last.flatten(2).transpose(1, 2), self.reduce(last).mean([2, 3])  # (N, h * w, C), (N, P)


class SGF(nn.Module):
    """The network.

    Args:
        vocab_size: the tokenizer's.
        clusters: K, labels of the distiller.
        views: images a study has at most; missing ones are not seen, their pooled vector is zero.
        findings: recognised in the images, and made known to the decoder (:mod:`common.nn.finding_prompts`);
            published: 0.
        backbone: image encoder with the interface of :mod:`common.nn.backbones`, of standardised colour images.
        depth, width, weights: of :class:`common.nn.backbones.ResNetFeatures`, there without ``backbone``;
            published: 101, 64, ImageNet's.
        dim, hidden, heads, layers: of encoder and decoder.
        pad_id, begin_id, end_id, unknown_id: published files use 0 for the first three, and -1.
        max_length: tokens of a generated report at most.
        min_length, beams, length_penalty, block_ngram: of :class:`common.nn.beam_search.BeamSearch`; its first
            hypothesis is the report.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        clusters: int,
        views: int = 2,
        findings: int = 0,
        backbone: Optional[nn.Module] = None,
        depth: Optional[int] = None,
        width: Optional[int] = None,
        weights: Optional[str] = None,
        dim: int = 512,
        hidden: int = 512,
        heads: int = 8,
        layers: int = 3,
        dropout: float = 0.1,
        pad_id: int = 0,
        begin_id: int = 2,
        end_id: int = 3,
        unknown_id: int = 1,
        max_length: int = 150,
        min_length: int = 0,
        beams: int = 1,
        length_penalty: float = 0.0,
        block_ngram: int = 0,
    ) -> None:
        super().__init__()
        self.views = views
        sizes = {"depth": depth, "width": width, "weights": weights}
        encoder = image_encoder(backbone, default_depth=101, in_channels=3, colour=True, **sizes)  # type: ignore[arg-type]
        self.visual = VisualExtractor(backbone=encoder, pooled=dim)
        self.cluster_head = nn.Sequential(nn.Dropout(0.5), nn.Linear(views * dim, clusters))
        self.prompts = FindingPrompts(findings=findings, features=views * dim, dim=dim) if findings else None
        self.embed = nn.Sequential(nn.Linear(self.visual.channels, dim), nn.ReLU(), nn.Dropout(0.5))
        self.encoder = MemoryEncoder(dim=dim, hidden=hidden, heads=heads, layers=layers, dropout=dropout)
        decoder = ReportDecoder(
            vocab_size=vocab_size, pad_id=pad_id, dim=dim, hidden=hidden, heads=heads, layers=layers, dropout=dropout,
            max_length=max_length + 1,
        )  # fmt: skip
        ids = {"begin_id": begin_id, "end_id": end_id, "pad_id": pad_id, "unknown_id": unknown_id}
        self.report = BeamSearch(
            decoder, beams=beams, max_length=max_length, min_length=min_length, length_penalty=length_penalty,
            block_ngram=block_ngram, **ids,
        )  # fmt: skip

    def encode(
        self,
        image: torch.Tensor,
        view_mask: Optional[torch.Tensor] = None,
        stated: Optional[torch.Tensor] = None,
    ) -> Encoded:
        """Look at the images.

        Args:
            image: float (B, views, 3, H, W), standardised with ImageNet's statistics.
            view_mask: bool (B, views), which views there are; None: all.
            stated: 0 or 1 (B, findings), of the true report, for the decoder to know; None: what is found.
        """
        if view_mask is None:
            view_mask = torch.ones(image.shape[0], image.shape[1], dtype=torch.bool, device=image.device)
        tokens, pooled = self.visual(image.flatten(0, 1))  # (B * views, h * w, C), (B * views, P)
        pooled = pooled.unflatten(0, [-1, self.views]) * view_mask[:, :, None]  # (B, views, P)
        memory_mask = view_mask[:, :, None].expand(-1, -1, tokens.shape[1]).flatten(1)  # (B, S)
        tokens = tokens.unflatten(0, [-1, self.views]).flatten(1, 2)  # (B, S, C)
        memory = self.encoder(self.embed(tokens), memory_mask)  # (B, S, dim)
        of_study = pooled.flatten(1)  # (B, views * P)
        findings = of_study.new_zeros([of_study.shape[0], 0])
        if self.prompts is not None:
            findings = self.prompts(of_study)
            memory = self.prompts.condition(memory, findings, stated)
        return Encoded(memory, memory_mask, self.cluster_head(of_study), findings)

    @torch.jit.unused
    def image_features(self) -> tuple[nn.Module, Callable[[torch.Tensor], object]]:
        """As :mod:`common.engine.familiarity` has it."""
        return self.visual.features, lambda image: self.visual.features(image.flatten(0, 1))

    def forward(
        self,
        image: torch.Tensor,
        input_ids: Optional[torch.Tensor] = None,
        view_mask: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """Log-probabilities (B, T, vocab_size) of the next token after each of ``input_ids`` (B, T), begin first.

        Without ``input_ids``, of the first token.
        """
        if input_ids is None:
            input_ids = torch.full([image.shape[0], 1], self.report.begin_id, device=image.device)
        return self.teacher_forcing(image, input_ids, view_mask, None).log_probs

    @torch.jit.export
    def teacher_forcing(
        self,
        image: torch.Tensor,
        input_ids: torch.Tensor,
        view_mask: Optional[torch.Tensor] = None,
        stated: Optional[torch.Tensor] = None,
    ) -> TeacherForced:
        """``image`` (B, views, 3, H, W) and ``input_ids`` (B, T), begin first, to all that training needs.

        ``view_mask`` (B, views) and ``stated`` (B, findings) are those of :meth:`encode`.
        """
        seen = self.encode(image, view_mask, stated)
        hidden = self.report.decoder.hidden(input_ids, seen.memory, seen.memory_mask)
        log_probs = self.report.decoder.logit(hidden).float().log_softmax(dim=2)
        return TeacherForced(log_probs, seen.clusters, hidden, seen.findings)

    @torch.jit.export
    def generate(self, image: torch.Tensor, view_mask: Optional[torch.Tensor] = None) -> Hypotheses:
        """The best reports of each study: ``image`` (B, views, 3, H, W) to ids (B, K, T), and their scores."""
        seen = self.encode(image, view_mask, None)
        return self.report(seen.memory, seen.memory_mask)

    @torch.jit.export
    def attention(
        self, ids: torch.Tensor, memory: torch.Tensor, memory_mask: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        """Where each token of ``ids`` (B, T) looks: (B, T, views, h, w), summing to 1.

        Cross-attention of the decoder's last layer at the step that wrote the token, mean over heads. The published
        code draws products of states instead (spec 2.7).
        """
        begin = torch.full_like(ids[:, :1], self.report.begin_id)
        weights = self.report.decoder.attention(torch.cat([begin, ids[:, :-1]], dim=1), memory, memory_mask)
        height = (image.shape[3] + 31) // 32
        return weights.unflatten(2, [self.views, height, -1])  # (B, T, views, h, w)


class TeacherForcing(nn.Module):
    """Teacher forcing as a module of its own, which data parallel can wrap."""

    def __init__(self, network: SGF) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: torch.Tensor, input_ids: torch.Tensor, view_mask: torch.Tensor, stated: torch.Tensor
    ) -> TeacherForced:
        """As :meth:`SGF.teacher_forcing`."""
        return self.network.teacher_forcing(image, input_ids, view_mask, stated)
