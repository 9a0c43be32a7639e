"""The combination of features: a non-negative ridge logistic regression, rescaled to probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audit import features
from audit.samples import Array, Sample

RIDGE = 3.0  # times the squared standardised coefficients, beside the mean log loss
PRIOR = 0.22  # share of leaking pairs that the probabilities are right for (VLSBench .15, families up to .5)
SETTLED = 1e-6  # a step that moves no coefficient farther is the last
LEAST_SPREAD = 1e-3  # a feature that never varies counts for nothing
LABEL_SLACK = 0.02  # no label is trusted beyond this, so that no score runs away


class Line(NamedTuple):
    """A linear score of raw features: values @ slope + intercept."""

    slope: Array
    intercept: float

    def scores(self, values: Array) -> Array:
        """(n,) calibrated probabilities of (n, f) features."""
        return features.sigmoid(values @ self.slope + self.intercept).astype(np.float64)


def spread(samples: Sequence[Sample]) -> tuple[Array, Array]:
    """(f,) weighted mean and (f,) weighted standard deviation of the features."""
    values, weight = np.concatenate([s.values for s in samples]), np.concatenate([s.weight for s in samples])
    center = np.average(values, axis=0, weights=weight)
    return center, np.maximum(
        np.sqrt(np.average((values - center) ** 2, axis=0, weights=weight)), LEAST_SPREAD
    )


def fit_line(samples: Sequence[Sample], center: Array, scale: Array) -> Line:
    """Non-negative ridge logistic regression for the direction, then a logistic rescaling along it."""
    values = (np.concatenate([sample.values for sample in samples]) - center) / scale
    leak = np.concatenate([sample.leak for sample in samples])
    weight = np.concatenate([sample.weight for sample in samples])
    direction, _ = logistic(values, np.clip(leak, LABEL_SLACK, 1 - LABEL_SLACK), weight, RIDGE)
    share = np.where(leak == 1, PRIOR / weight[leak == 1].sum(), (1 - PRIOR) / weight[leak == 0].sum())
    steep, intercept = logistic((values @ direction)[:, None], leak, weight * share, 0.0)
    slope = direction * steep[0] / scale
    return Line(slope, intercept - float(slope @ center))


def logistic(
    values: Array, target: Array, weight: Array, ridge: float, steps: int = 3000
) -> tuple[Array, float]:
    """Coefficients (f,) >= 0 and intercept that minimise weighted log loss + ridge |w|^2.

    Accelerated projected descent: Beck and Teboulle, SIAM J. Imaging Sci. 2, 2009 (FISTA), with restarts.
    """
    weight = weight / weight.sum()
    wide = np.concatenate([values, np.ones((len(values), 1))], axis=1)
    steepest = np.linalg.eigvalsh((wide * weight[:, None]).T @ wide)[-1] / 4 + 2 * ridge
    penalty = np.append(np.full(values.shape[1], 2 * ridge), 0.0)
    least = np.append(np.zeros(values.shape[1]), -np.inf)
    now = ahead = np.zeros(wide.shape[1])
    momentum = 1.0
    for _ in range(steps):
        error: Array = features.sigmoid(wide @ ahead) - target
        slope = wide.T @ (weight * error) + penalty * ahead
        following = np.maximum(ahead - slope / steepest, least)
        if (ahead - following) @ (following - now) > 0:
            momentum = 1.0
        if np.abs(following - now).max() < SETTLED:
            return following[:-1], float(following[-1])
        longer = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = following + (momentum - 1) / longer * (following - now)
        now, momentum = following, longer
    return now[:-1], float(now[-1])
