"""Where a benchmark's own leak-free pairs score, read off its scores: an empirical null (Efron, JASA 99, 2004).

Leak-free pairs of one benchmark score higher, or spread wider, than those of another. Most of this shows without
labels: the pairs below the share that leaks are leak-free ones, and where their middle and their quartiles lie, there
lies their tail. Before scores become p-values they are moved to where the usual family of the calibration has them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from audit.features import Floats
from audit.metrics import Array, rogan_gladen

LEVEL = 0.05  # of the test that counts leaks
FEW = 20  # pairs that say as much of their null as the usual family does
# Share of leaks up to which the lower pairs are trusted, and from which they say nothing.
SURE, LOST = 0.4, 0.7
REACH = 2.0  # log odds between two families' medians, at most; no family of ours lies farther from the usual
WIDEST = 2.0  # times the usual spread, at most, and its inverse at least
EXTREME = 15.0  # log odds


class Null(NamedTuple):
    """Median and interquartile range of leak-free pairs, in log odds."""

    location: float
    spread: float


def log_odds(leakage: Floats | Array) -> Array:
    """(n,) of probabilities, finite."""
    least = 1 / (1 + np.exp(EXTREME))
    inside = np.clip(np.asarray(leakage, np.float64), least, 1 - least)
    return np.asarray(np.log(inside / (1 - inside)))


def own_null(odds: Array, usual: Null, threshold: float, sensitivity: float) -> Null:
    """The null of (n,) log odds, of leaking and leak-free pairs together.

    Rogan and Gladen's estimate says how many leak: `threshold` is exceeded by 5 % of leak-free pairs and by the share
    `sensitivity` of leaking ones. The others are the lowest. Few pairs, or many leaks, leave the usual null.
    """
    if not len(odds) or sensitivity <= LEVEL:
        return usual
    leaking = rogan_gladen(float(np.mean(odds >= threshold)), sensitivity, LEVEL)
    trust = len(odds) / (len(odds) + FEW) * float(np.clip((LOST - leaking) / (LOST - SURE), 0, 1))
    low, middle, high = np.quantile(odds, (1 - leaking) * np.array([0.25, 0.5, 0.75]))
    shift = float(np.clip(middle - usual.location, -REACH, REACH))
    wider = float(np.clip((high - low) / usual.spread, 1 / WIDEST, WIDEST))
    return Null(usual.location + trust * shift, usual.spread * wider**trust)


def as_usual(odds: Array, null: Null, usual: Null) -> Array:
    """(n,) log odds where the usual family has them."""
    wider = usual.spread / null.spread
    return odds * wider + (usual.location - null.location * wider)
