"""An embedder that shows its progress: the long part of an audit is embedding texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from data.embedders import LayeredEmbedder, Vectors
from data.progress import StageProgress

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

    def _watched(
        self, texts: Sequence[str], compute: Callable[[Sequence[str]], tuple[Vectors, ...]]
    ) -> tuple[Vectors, ...]:
        if len(texts) < WORTH_WATCHING:
            return compute(texts)
        # By length, so that the texts of a block are alike and none is padded for another.
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        parts = []
        with StageProgress("embed", len(texts), 0) as progress:
            for start in range(0, len(order), BLOCK):
                block = [texts[at] for at in order[start : start + BLOCK]]
                parts.append(compute(block))
                progress.advance(len(block))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return tuple(np.concatenate(columns)[back] for columns in zip(*parts, strict=True))
