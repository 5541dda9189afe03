"""The global semantic comparison: the report being written against the reference, as vectors of their meaning.

The published term compares texts that were decoded without gradient, so it only adds a constant (spec 2.8). Here the
distribution over words is carried into the space of the references' frozen embeddings, so the term has a gradient.
Our completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from torch import nn

from common.datasets.packed import packed
from common.text.tokenizer import ReportTokenizer


class SemanticSpace(nn.Module):
    """Latent semantic analysis of the training reports (Deerwester et al. 1990): TF-IDF of words, truncated SVD.

    A report's vector is the sum of its words' vectors. So the expected vector of a report that is still a distribution
    over words is exact, needs no text encoder, and has a gradient.

    Args:
        studies: of the training split, each with ``report``.
        vocab_size: the network's.
        dims: of a vector, at most; smaller where there are few words or reports.
    """

    words: torch.Tensor

    def __init__(
        self, *, tokenizer: ReportTokenizer, studies: Sequence[Mapping], vocab_size: int, dims: int = 64
    ) -> None:
        super().__init__()
        self.vectorizer = TfidfVectorizer(analyzer=tokenizer.words, vocabulary=tokenizer.vocabulary, norm=None)
        weighted = self.vectorizer.fit_transform([study["report"] for study in studies])
        size = min(dims, min(weighted.shape) - 1)
        self.svd = TruncatedSVD(max(size, 1), random_state=0).fit(normalize(weighted))
        vectors = self.vectorizer.idf_[:, None] * self.svd.components_.T  # (words, dims)
        table = np.zeros((vocab_size, vectors.shape[1]))
        table[4 : 4 + len(vectors)] = vectors  # special tokens mean nothing
        self.register_buffer("words", torch.tensor(table, dtype=torch.float32), persistent=False)

    def embed(self, reports: Sequence[str]) -> torch.Tensor:
        """Unit vectors (N, dims) of reports."""
        vectors = self.svd.transform(self.vectorizer.transform(reports))
        return F.normalize(torch.tensor(vectors, dtype=torch.float32), dim=1)

    def with_embeddings(self, studies: Sequence[Mapping]) -> Sequence[dict]:
        """``studies``, each with ``embedding`` (dims,) of its report, computed once."""
        vectors = self.embed([study["report"] for study in studies])
        rows = [vector.numpy().copy() for vector in vectors]  # a view would keep, and store, all of them
        return packed([{**study, "embedding": row} for study, row in zip(studies, rows, strict=True)])

    def forward(self, log_probs: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        """Expected vectors (B, dims), not normalised.

        Args:
            log_probs: (B, T, vocab_size).
            written: bool (B, T), the positions that hold a word.
        """
        return ((log_probs.exp() * written[:, :, None]) @ self.words).sum(1)
