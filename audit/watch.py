"""An embedder that shows its progress: the long part of an audit is embedding texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from data.cross_encoder import Adapter, Pair
from data.embedders import LayeredEmbedder, Odds, Vectors
from data.progress import StageProgress

Text = TypeVar("Text", str, Pair)

BLOCK = 2048  # texts embedded between two steps of the bar
WORTH_WATCHING = 2 * BLOCK  # fewer are embedded before a bar would say anything


class WatchedEmbedder:
    """Passes texts on to an embedder, block by block, with a bar. Vectors come in the order of the texts."""

    def __init__(self, embedder: LayeredEmbedder) -> None:
        self.name = embedder.name
        self._embedder = embedder

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, d) unit rows, in the order of `texts`."""
        return self._watched(texts, lambda block: (self._embedder.embed(block),))[0]

    def layers(self, texts: Sequence[str]) -> Vectors:
        """(n, l * d), in the order of `texts`."""
        return self._watched(texts, lambda block: (self._embedder.layers(block),))[0]

    def embed_probed(self, texts: Sequence[str], probes: Vectors) -> tuple[Vectors, Vectors]:
        """(n, d) unit rows and (n, k) layers @ `probes`, in the order of `texts`."""
        vectors, readings = self._watched(texts, lambda block: self._embedder.embed_probed(block, probes))
        return vectors, readings

    def read_together(self, pairs: Sequence[Pair], adapter: Adapter) -> Odds:
        """(n,) log odds, in the order of the pairs."""
        return self._watched(pairs, lambda block: (self._embedder.read_together(block, adapter),), "read")[0]

    def _watched(
        self,
        texts: Sequence[Text],
        compute: Callable[[Sequence[Text]], tuple[Vectors, ...]],
        doing: str = "embed",
    ) -> tuple[Vectors, ...]:
        if len(texts) < WORTH_WATCHING:
            return compute(texts)
        # By length, so that the texts of a block are alike and none is padded for another.
        order = sorted(range(len(texts)), key=lambda at: _length(texts[at]))
        parts = []
        with StageProgress(doing, len(texts), 0) as progress:
            for start in range(0, len(order), BLOCK):
                block = [texts[at] for at in order[start : start + BLOCK]]
                parts.append(compute(block))
                progress.advance(len(block))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return tuple(np.concatenate(columns)[back] for columns in zip(*parts, strict=True))


def _length(text: str | Pair) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text))
