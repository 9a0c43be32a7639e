"""How good scores are against labels, which rows to flag, and how much of a benchmark leaks: arrays in.

Labels are 1 for pairs that leak and 0 for pairs that do not; scores are higher where more leaks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.features import Floats, Mask

Array = NDArray[np.float64]
ROUNDING = 1e-12  # of a quotient, at most: figures that differ by a smaller share are the same


def auroc(labels: Array, scores: Array) -> float | None:
    """Probability that a leaking pair scores above a leak-free one, ties half; None without both."""
    leaking = int(labels.sum())
    free = len(labels) - leaking
    if not leaking or not free:
        return None
    _, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(middle_ranks[where][labels == 1].sum())
    return (rank_sum - leaking * (leaking + 1) / 2) / (leaking * free)


def threshold_at(labels: Array, scores: Array, false_positive_rate: float) -> float:
    """The lowest threshold that at most this share of the leak-free pairs lies above."""
    free = np.sort(scores[labels == 0])
    return float(free[max(0, int(np.ceil((1 - false_positive_rate) * len(free))) - 1)])


def tpr_at(labels: Array, scores: Array, false_positive_rate: float = 0.05) -> float | None:
    """Share of leaking pairs above that threshold; None when one kind of pair is missing."""
    if not (labels == 1).any() or not (labels == 0).any():
        return None
    return float((scores[labels == 1] > threshold_at(labels, scores, false_positive_rate)).mean())


def share_above(scores: Array, threshold: float) -> float | None:
    """Share of scores at or above the threshold; None when there are none."""
    return float((scores >= threshold).mean()) if len(scores) else None


def calibration_error(labels: Array, scores: Array, bins: int = 10) -> float | None:
    """Expected calibration error, 0 to 1: mean gap of score and share leaking over equal bins (Guo 2017).

    None when there are no scores.
    """
    if not len(scores):
        return None
    place = np.minimum((scores * bins).astype(int), bins - 1)
    total = 0.0
    for each in np.unique(place):
        inside = place == each
        total += inside.mean() * abs(labels[inside].mean() - scores[inside].mean())
    return float(total)


def rogan_gladen(flagged: float, sensitivity: float, false_positive_rate: float) -> float:
    """True prevalence from the flagged share, 0 to 1 (Rogan and Gladen, Am. J. Epidemiol. 107, 1978)."""
    return min(1.0, max(0.0, (flagged - false_positive_rate) / (sensitivity - false_positive_rate)))


def prevalence(
    flags: Sequence[bool],
    images: Sequence[str],
    sensitivity: float,
    false_positive_rate: float,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """(value, low, high): share of rows that leak, corrected for error rates, with its 95 % interval.

    `flags` are per-row tests with the given error rates; the bootstrap draws images, not rows, since the rows
    of one image are alike. Empty input gives (0, 0, 1).
    """
    if not len(flags):
        return 0.0, 0.0, 1.0
    _, cluster = np.unique(np.asarray(images, dtype=object).astype(str), return_inverse=True)
    sizes = np.bincount(cluster).astype(np.float64)
    hits = np.bincount(cluster, weights=np.asarray(flags, np.float64))
    # Images with as many rows and hits are alike to a draw: it is enough to draw how many of each kind there are.
    kinds, number = np.unique(np.stack([hits, sizes], axis=1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(sizes), number / len(sizes), size=draws) @ kinds
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    share = float(hits.sum() / sizes.sum())
    return (
        rogan_gladen(share, sensitivity, false_positive_rate),
        rogan_gladen(float(low), sensitivity, false_positive_rate),
        rogan_gladen(float(high), sensitivity, false_positive_rate),
    )


def conformal_p(scores: Floats | Array, calibration: Floats | Array) -> Array:
    """(n,) (1 + number of leak-free calibration scores at least as high) / (1 + their number).

    `calibration` (m,) in any order; Vovk et al., Algorithmic Learning in a Random World, 2005.
    """
    ordered = np.sort(calibration)
    above = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1.0 + above) / (1.0 + len(ordered)), np.float64)


def benjamini_hochberg(p_values: Array, rate: float) -> Mask:
    """(n,) which rows to flag so that the expected share of false flags is at most `rate`.

    Benjamini and Hochberg, J. R. Stat. Soc. B 57, 1995; conformal p-values of one calibration set keep it
    valid (Bates et al., Ann. Stat. 51, 2023).
    """
    n = len(p_values)
    order = np.argsort(p_values, kind="stable")
    limits = rate * np.arange(1, n + 1) / max(n, 1)
    # Conformal p-values are fractions: many lie on a limit, and count however the two quotients were rounded.
    passed = np.flatnonzero(p_values[order] <= limits * (1 + ROUNDING))
    flags = np.zeros(n, dtype=np.bool_)
    if len(passed):
        flags[order[: passed[-1] + 1]] = True
    return flags
