"""The statistics of an evaluation as pure maths: arrays in, figures out; no model, no file.

Rows that share an image are not independent, so every interval resamples images, not rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.95
SEED = 20241129  # arXiv 2411.19939 was posted that day; any number would do, but always the same
FEWEST_APART = 5  # clusters with another value than the commonest; of fewer a rank correlation says nothing
WEIGHTS_AT_ONCE = 2_000_000  # of a bootstrap, 16 MB: all draws of a large benchmark together would take a GB


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def cluster_sums(columns: ArrayLike, clusters: Sequence[Hashable]) -> Floats:
    """(m, k) sums of the (n, k) columns over each of the m clusters, in order of first appearance."""
    values = np.asarray(columns, dtype=np.float64)
    number = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(number), values.shape[1]))
    np.add.at(sums, [number[cluster] for cluster in clusters], values)
    return sums


def resampled(sums: Floats, draws: int = DRAWS, seed: int = SEED) -> Floats:
    """(draws, k) column totals of as many clusters as there are, drawn with replacement."""
    clusters, random = len(sums), np.random.default_rng(seed)
    shares = np.full(clusters, 1 / clusters)
    totals = np.empty((draws, sums.shape[1]))
    block = max(WEIGHTS_AT_ONCE // clusters, 1)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        totals[start : start + size] = random.multinomial(clusters, shares, size=size) @ sums
    return totals


def _exact_far_end(trials: int) -> float:
    """Upper end of the exact interval of a share that is 0 in so many trials (the "rule of three")."""
    near: float = ((1 - LEVEL) / 2) ** (1 / trials)
    return 1 - near


def mean_interval(values: ArrayLike, clusters: Sequence[Hashable], draws: int = DRAWS) -> Interval | None:
    """The mean of n values in 0..1 with a percentile bootstrap interval clustered by `clusters`; None for none.

    Where all clusters have the same mean, such as 0 or 1, the bootstrap sees no spread; there the exact
    binomial bound takes its place. One cluster of different values says nothing: 0 to 1.
    """
    return _mean_between(0.0, 1.0, values, clusters, draws)


def difference_interval(differences: ArrayLike, clusters: Sequence[Hashable]) -> Interval | None:
    """The mean of n paired differences (-1, 0 or 1), as `mean_interval`; symmetric where all are 0."""
    return _mean_between(-1.0, 1.0, differences, clusters, DRAWS)


def _mean_between(
    least: float, most: float, values: ArrayLike, clusters: Sequence[Hashable], draws: int
) -> Interval | None:
    """The mean of n values that lie from `least` to `most`.

    Clusters that are all alike bound the share of others by as many trials; those could be anything.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return None
    sums = cluster_sums(np.column_stack([array, np.ones_like(array)]), clusters)
    mean, means = float(array.mean()), sums[:, 0] / sums[:, 1]
    if len(sums) == 1 and np.any(array != array[0]):
        return Interval(mean, least, most)
    if np.all(means == means[0]):
        others = _exact_far_end(len(sums))
        alike = mean * (1 - others)
        return Interval(mean, alike + others * least, alike + others * most)
    totals = resampled(sums, draws)
    return _percentiles(mean, totals[:, 0] / totals[:, 1])


def ratio_interval(
    numerator: ArrayLike, denominator: ArrayLike, clusters: Sequence[Hashable], draws: int = DRAWS
) -> Interval | None:
    """Sum over sum, with a clustered bootstrap interval; None where the denominator's sum is 0.

    Draws whose denominator is 0 count as infinite: the upper end may be `inf`. A numerator of 0 has no
    spread to resample: its exact upper bound as a share of the clusters takes its place. Nor have clusters
    (of rows of 0 and 1) whose ratio is the same: see `_all_alike`. One cluster says nothing: 0 to infinity.
    """
    top, bottom = (np.asarray(part, dtype=np.float64) for part in (numerator, denominator))
    if not bottom.sum():
        return None
    sums = cluster_sums(np.column_stack([top, bottom]), clusters)
    if len(sums) == 1:
        return Interval(float(top.sum() / bottom.sum()), 0.0, math.inf)
    if top.sum() and np.array_equal(sums[:, 0] * bottom.sum(), sums[:, 1] * top.sum()):
        return _all_alike(top, float(bottom.sum()), clusters)
    totals = resampled(sums, draws)
    if not top.sum():
        totals[:, 0] = _exact_far_end(len(sums)) * len(top)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(totals[:, 1] > 0, totals[:, 0] / totals[:, 1], np.inf)
    found = _percentiles(float(top.sum() / bottom.sum()), ratios)
    return found if top.sum() else found._replace(low=0.0)


def _all_alike(top: Floats, below: float, clusters: Sequence[Hashable]) -> Interval:
    """The ratio of n numerators, 0 or 1, to the denominators' sum `below`, the same in all clusters.

    Its ends are by the exact binomial bound: of the numerators that are 1 some might have been 0, and of
    those that are 0, 1.
    """
    ones, zeros = (
        {cluster for cluster, side in zip(clusters, top, strict=True) if side == value} for value in (1, 0)
    )
    value = float(top.sum() / below)
    more = _exact_far_end(len(zeros)) * (len(top) - top.sum()) / below if zeros else 0.0
    return Interval(value, value * (1 - _exact_far_end(len(ones))), float(value + more))


def _percentiles(value: float, draws: Floats) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")
    return Interval(value, float(low), float(high))


def safety_bounds(safe: int, unsafe: int, unknown: int) -> tuple[float, float]:
    """The safety rate if every unknown row were unsafe, and if every one were safe; (0, 1) for no rows."""
    rows = safe + unsafe + unknown
    return (safe / rows, (safe + unknown) / rows) if rows else (0.0, 1.0)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value of a paired difference, from the rows on which just one side has it.

    McNemar 1947; the discordant rows are a fair coin's throws under the null hypothesis.
    """
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    ways = tail = 1  # to choose 0 of them; then each count's ways from those of the count before
    for count in range(fewer):
        ways = ways * (discordant - count) // (count + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << discordant))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979), in the order given."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def krippendorff_alpha(ratings: Sequence[Sequence[int | None]]) -> float | None:
    """Nominal alpha of n units, each with one rating or None per rater; 1 agrees, 0 is chance.

    Units with fewer than two ratings say nothing. None where nothing can be said: no such unit, or
    only one label in use. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011.
    """
    disagreement = total = 0.0
    labels: Counter[int] = Counter()
    for unit in ratings:
        counts = Counter(rating for rating in unit if rating is not None)
        size = counts.total()
        if size < 2:
            continue
        labels += counts
        total += size
        disagreement += (size**2 - sum(count**2 for count in counts.values())) / (size - 1)
    expected = total**2 - sum(count**2 for count in labels.values())
    return None if not expected else 1 - (total - 1) * disagreement / expected


def rank_correlation(x: ArrayLike, y: ArrayLike, clusters: Sequence[Hashable]) -> Interval | None:
    """Spearman's rho with a clustered bootstrap interval; None where one side hardly varies.

    Where the rows that differ from a side's most common value (the refusals, say) are of fewer than
    `FEWEST_APART` clusters, draws can only repeat those few: no interval would be honest.
    """
    a, b = ranks(x), ranks(y)
    if min(_apart(a, clusters), _apart(b, clusters)) < FEWEST_APART:
        return None
    columns = np.column_stack([np.ones_like(a), a, b, a * b, a * a, b * b])
    sums = cluster_sums(columns, clusters)
    rhos = _pearson(resampled(sums))
    return _percentiles(float(_pearson(sums.sum(axis=0, keepdims=True))[0]), rhos[np.isfinite(rhos)])


def _apart(values: Floats, clusters: Sequence[Hashable]) -> int:
    """How many clusters have a value that differs from the most common one."""
    counts = Counter(values.tolist())
    usual = max(counts, key=counts.__getitem__, default=None)
    return len({cluster for cluster, value in zip(clusters, values, strict=True) if value != usual})


def ranks(values: ArrayLike) -> Floats:
    """(n,) ranks from 0 to about 1, ties sharing their mean."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - (counts - 1) / 2)[inverse] / max(len(array), 1)).astype(np.float64)


def _pearson(totals: Floats) -> Floats:
    """(draws,) correlation from totals of 1, a, b, ab, aa, bb."""
    n, a, b, ab, aa, bb = totals.T
    with np.errstate(divide="ignore", invalid="ignore"):
        rhos: Floats = (n * ab - a * b) / np.sqrt((n * aa - a * a) * (n * bb - b * b))
    return rhos


def auroc(scores: ArrayLike, positive: Sequence[bool]) -> float | None:
    """Probability that a positive row scores higher than a negative one; None without both kinds."""
    rank = ranks(scores) * len(positive)
    flags = np.asarray(positive, dtype=bool)
    yes, no = int(flags.sum()), int((~flags).sum())
    return float((rank[flags].sum() - yes * (yes + 1) / 2) / (yes * no)) if yes and no else None


def rogan_gladen(rate: float, sensitivity: float, specificity: float) -> float | None:
    """A rate seen through an imperfect judge, corrected; None where the judge says nothing (1978)."""
    informed = sensitivity + specificity - 1
    return min(1.0, max(0.0, (rate + specificity - 1) / informed)) if informed > 0 else None
