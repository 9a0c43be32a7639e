"""How much a query says of its own picture by a CLIP or SigLIP: beside the score, never mixed into it.

Both sides are centred over the benchmark; a pair's figure is how far its cosine stands out from those of
the same query with the benchmark's other pictures, in standard deviations.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.descriptions import CUT
from audit.features import SAME, Floats
from audit.pictures import Looker, keep, known, look_at
from data.errors import RowFailed
from data.llm.cache import ResponseCache
from data.progress import StageProgress

if TYPE_CHECKING:
    from PIL.Image import Image

    from data.image_embedder import ImageEmbedder

MAX_PIXELS = 1_000_000  # a CLIP looks at 50,000 to 150,000
POOL_SIZE = 1000  # pictures a query is compared with
CHUNK = 1000  # queries compared at a time
LEAST_OTHERS = (
    5  # pictures that one can be said to stand out from, and queries that say what is common to all
)
TEXTS = 64  # embedded at once
PICTURES = 16


class Alike(NamedTuple):
    """What a similarity model says of one pair; `z` is None where it can say nothing, and `note` says why."""

    z: float | None
    note: str = ""


class Likeness:
    """A dual encoder whose vectors are kept; it loads when there is something it has not seen."""

    def __init__(self, model: str, cache: ResponseCache) -> None:
        from data.local_model import config_of, revision_of

        self.model = model
        self.name = f"likeness {revision_of(model, config_of(model)) or model}"
        self._cache = cache
        self._looker = Looker(
            f"{self.name} picture", lambda: self._look, batch_size=PICTURES, max_pixels=MAX_PIXELS
        )

    @cached_property
    def _embedder(self) -> ImageEmbedder:
        from data.image_embedder import load_image_embedder

        return load_image_embedder(self.model)

    def _look(self, images: Sequence[Image]) -> list[str]:
        return [_packed(vector) for vector in self._embedder.embed_pictures(images)]

    def measure(self, queries: Sequence[str], paths: Sequence[Path | None]) -> list[Alike]:
        """One figure per pair. Equal pictures count once among the others."""
        rows = [row for row, pair in enumerate(zip(queries, paths, strict=True)) if pair[0].strip()]
        there = [path for row in rows if (path := paths[row]) is not None]
        looked = look_at(there, self._looker, self._cache, "compare")
        packed = {path: made for path, made in looked.items() if isinstance(made, str)}
        place = {vector: at for at, vector in enumerate(dict.fromkeys(packed.values()))}
        alike = [self._why_not(query, path, looked) for query, path in zip(queries, paths, strict=True)]
        rows = [row for row in rows if paths[row] in packed]
        if not rows:
            return alike
        asked = list(dict.fromkeys(queries[row] for row in rows))
        if len(asked) <= LEAST_OTHERS:  # what is left of so few when their mean is taken off says nothing
            for row in rows:
                alike[row] = Alike(None, "not compared: too few different queries")
            return alike
        vectors, cut = self._read(asked)
        number = {query: at for at, query in enumerate(asked)}
        images = centred(np.stack([_unpacked(vector) for vector in place]))
        of_rows = np.array([number[queries[row]] for row in rows])
        own = np.array([place[packed[path]] for row in rows if (path := paths[row]) is not None])
        z = _in_chunks(centred(vectors)[of_rows], images, own)
        for at, row in enumerate(rows):
            alike[row] = _alike(float(z[at]), bool(cut[of_rows[at]]))
        return alike

    @staticmethod
    def _why_not(query: str, path: Path | None, looked: dict[Path, str | RowFailed]) -> Alike:
        failure = looked.get(path) if path else None
        if isinstance(failure, RowFailed):
            return Alike(None, f"not compared: its picture cannot be read ({failure.detail})")
        return Alike(None, "" if query.strip() else "not compared: the query is empty")

    def _read(self, queries: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
        """(n, d) vectors of the queries, and (n,) which are too long to be read to their end."""
        name = f"{self.name} text"
        said = {query: known(self._cache, name, query) for query in queries}
        todo = [query for query, stored in said.items() if stored is None]
        if todo:
            with StageProgress("queries", len(queries), len(queries) - len(todo)) as progress:
                for start in range(0, len(todo), TEXTS):
                    some = todo[start : start + TEXTS]
                    for query, vector, cut in zip(some, *self._embedder.embed_texts(some), strict=True):
                        said[query] = f"{int(cut)}{_packed(vector)}"
                        keep(self._cache, name, query, said[query] or "")
                    progress.advance(len(some))
        stored = [said[query] or "" for query in queries]
        return (
            np.stack([_unpacked(each[1:]) for each in stored]),
            np.array([each[0] == "1" for each in stored], np.bool_),
        )


def centred(vectors: Floats) -> Floats:
    """(n, d) unit rows after the mean row is taken off; a row that hardly differs from the mean becomes zero.

    `vectors` (n, d), unit rows of one modality: in CLIP and its kin pictures and texts fill two cones, and
    the gap between them is in every cosine (Liang et al., Mind the Gap, NeurIPS 2022).
    """
    away = vectors - vectors.mean(axis=0, keepdims=True)
    length = np.linalg.norm(away, axis=1, keepdims=True)
    unit = np.where(length > SAME, away / np.maximum(length, SAME), 0.0)
    return unit.astype(np.float32)


def image_query_z(
    queries: Floats, images: Floats, own: NDArray[np.int64], pool: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """(n,) cosine of query i with its image own[i], and (n,) the same in standard deviations of the others.

    z = (cos(q, own) - mean of cos(q, other)) / standard deviation of cos(q, other), over the images `pool`
    (k,) names without the query's own. `queries` (n, d) and `images` (m, d) are centred rows. NaN where fewer
    than `LEAST_OTHERS` others are there; 0 for a query that is as near to all.
    """
    cosine = np.einsum("nd,nd->n", queries, images[own])
    others = queries @ images[pool].T
    there = pool[None, :] != own[:, None]
    count = there.sum(axis=1)
    few = np.maximum(count, 1)
    mean = np.where(there, others, 0.0).sum(axis=1) / few
    spread = np.sqrt(np.where(there, (others - mean[:, None]) ** 2, 0.0).sum(axis=1) / few)
    z = np.where(spread > SAME, (cosine - mean) / np.maximum(spread, SAME), 0.0)
    return cosine.astype(np.float32), np.where(count >= LEAST_OTHERS, z, np.nan).astype(np.float32)


def _in_chunks(queries: Floats, images: Floats, own: NDArray[np.int64]) -> Floats:
    """(n,) z of every pair; of many pictures an even pick stands for all."""
    pool = np.arange(0, len(images), -(-len(images) // POOL_SIZE))
    parts = [
        image_query_z(queries[start : start + CHUNK], images, own[start : start + CHUNK], pool)[1]
        for start in range(0, len(queries), CHUNK)
    ]
    return np.concatenate(parts)


def _alike(z: float, cut: bool) -> Alike:
    if np.isnan(z):
        return Alike(None, "not compared: too few other pictures")
    return Alike(z, CUT if cut else "")


def _packed(vector: Floats) -> str:
    return b64encode(vector.astype(np.float16).tobytes()).decode()


def _unpacked(text: str) -> Floats:
    return np.frombuffer(b64decode(text), np.float16).astype(np.float32)
