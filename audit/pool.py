"""What single cosines are normalised by: the other images of a benchmark, as embedded and in the risk space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit import features
from audit.calibrations import RiskSpace
from audit.features import Floats, Mask

POOL_PRIOR = 20.0  # how many descriptions the phrases count for, against the benchmark's own


class Pool(NamedTuple):
    """The descriptions of a benchmark, by sentence and by passage, and the phrases that stand in where they are few."""

    sentences: Floats  # (s, d)
    starts: NDArray[np.int64]  # (m,) each description's first sentence
    phrases: Floats  # (r, d)
    passages: Floats  # (p, d)
    passage_starts: NDArray[np.int64]  # (m,) each description's first passage
    described: frozenset[str]  # whose descriptions these are: a query's own image is not among its others

    def spread(
        self, parts: Floats, first_parts: NDArray[np.int64], own: Floats, held: Mask
    ) -> tuple[Floats, Floats]:
        """(n,) mean and (n,) standard deviation of each query's cosine with images that are not its own.

        `parts` (p, d) are the queries' parts, `first_parts` (n,) the row of each query's first; `own` (n,) is the
        cosine with its own image, and `held` (n,) whether that is in the pool.
        """
        nearest = most_of_each(self.sentences @ parts.T, self.starts)
        return _spread(nearest, self.phrases @ parts.T, first_parts, own, held)[:2]

    def risk_spread(
        self, parts: Floats, first_parts: NDArray[np.int64], own: Floats, held: Mask, space: Space
    ) -> tuple[Floats, Floats, Floats]:
        """The same in the risk space, and the (n,) largest cosine; `parts` (p, k) are already there."""
        passages, phrases = space.images(self.passages), space.images(self.phrases)
        nearest = most_of_each(passages @ parts.T, self.passage_starts)
        return _spread(nearest, phrases @ parts.T, first_parts, own, held)


class Space(NamedTuple):
    """A calibration's risk space, as arrays."""

    weights: Floats  # (k, d)
    query_center: Floats  # (d,)
    image_center: Floats  # (d,)

    @classmethod
    def of(cls, found: RiskSpace) -> Space:
        """The space of a calibration."""
        arrays = (found.weights, found.query_center, found.image_center)
        return cls(*(np.asarray(each, np.float32) for each in arrays))

    def queries(self, vectors: Floats) -> Floats:
        """(n, k) where (n, d) vectors of queries lie in the space."""
        return features.in_risk_space(vectors, self.weights, self.query_center)

    def images(self, vectors: Floats) -> Floats:
        """(..., k) where (..., d) vectors of descriptions lie in the space."""
        return features.in_risk_space(vectors, self.weights, self.image_center)


def _spread(
    cosines: Floats, reference: Floats, first_parts: NDArray[np.int64], own: Floats, held: Mask
) -> tuple[Floats, Floats, Floats]:
    """Of queries in parts (p,): `cosines` (m, p) with the pool's descriptions, `reference` (r, p) with the phrases."""
    others, phrases = most_of_each(cosines.T, first_parts), most_of_each(reference.T, first_parts)
    mean, std = shrunken_spread(others, phrases, own, held)
    return mean, std, others.max(axis=1)


def most_of_each(rows: Floats, starts: NDArray[np.int64]) -> Floats:
    """(m, k) the largest of each group of the (n, k) rows; `starts` (m,) are the groups' first ones, ascending.

    `np.maximum.reduceat(rows, starts)` in a third of the time: groups are few rows, and whole rows are compared.
    """
    counts = np.diff(starts, append=len(rows))
    most = rows[starts]
    for place in range(1, counts.max(initial=0)):
        longer = np.flatnonzero(counts > place)
        most[longer] = np.maximum(most[longer], rows[starts[longer] + place])
    return most


def shrunken_spread(cosines: Floats, reference: Floats, own: Floats, held: Mask) -> tuple[Floats, Floats]:
    """(n,) mean and (n,) deviation of (n, m) cosines with a pool, drawn to a reference's if that is small.

    `reference` (n, r) counts as much as `POOL_PRIOR` descriptions; `own` (n,) is the one cosine of a row that is
    its own image's and does not count where the pool has that, `held` (n,). With a pool of one, only the reference
    does.
    """
    count = cosines.shape[1] - held.astype(np.float64)
    own = np.where(held, own, 0.0)
    total = cosines.sum(axis=1) - own
    squares = (cosines**2).sum(axis=1) - own**2
    mean = (total + POOL_PRIOR * reference.mean(axis=1)) / (count + POOL_PRIOR)
    square = (squares + POOL_PRIOR * (reference**2).mean(axis=1)) / (count + POOL_PRIOR)
    return mean.astype(np.float32), np.sqrt(np.maximum(square - mean**2, 0.0)).astype(np.float32)
