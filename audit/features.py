"""The features of visual safety information leakage as pure maths: arrays in, arrays out; no model, no file.

A pair leaks when the *risky* content of its image can be learned from its query alone. `PairArrays`
holds what an embedder says of n pairs; `FEATURES` is the one table of what is computed from it. A
calibration names the features it uses, so leaving one out of it switches that feature off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

MARGIN_SLOPE = 12.0  # of the riskiness sigmoid
NULL_WEIGHT = 0.1  # in risk recall and precision, of a span that nothing matches
WEIGHT_SLOPE = 20.0  # of the weights exp(slope * margin) in risk recall and precision
PROFILE_SLOPE = 20.0  # of the softmax over risk prototypes
PROBE_SCALE = 0.08  # log odds of a probe to the units of a margin
NEAREST = 4  # prototypes of either kind that a margin is measured to
SAME = 1e-4  # vectors and cosines that differ by less are the same but for rounding
WHOLE_CAPTION = 4  # sentences that make a description as long as a caption
USUAL_LEAK = 1.0  # log odds of the cross-encoder for a leak as they usually are
Z_CEILING = 6.0  # beyond this an image is surely the query's own, however much farther


@dataclass(frozen=True)
class PairArrays:
    """What is known of n pairs with at most a query spans and b image spans; padding is masked out."""

    cosine: Floats  # (n,) of the query, or a sentence of it, and the description's nearest sentence
    pool_mean: Floats  # (n,) mean of the same against the pool's descriptions
    pool_std: Floats  # (n,) its standard deviation
    similarity: Floats  # (n, a, b) cosine of query spans with image spans
    query_mask: Mask  # (n, a) which query spans are there
    image_mask: Mask  # (n, b) which image spans are there
    query_margin: Floats  # (n, a) risk margin of query spans
    image_margin: Floats  # (n, b) risk margin of image spans
    harm: Floats  # (n,) risk margin of the query, or of its riskiest sentence
    agreement: Floats  # (n,) 0 to 1: do query and nearest sentence speak of the same risk
    risk_cosine: Floats  # (n,) cosine of query and nearest passage in the risk space; 0 where there is none
    risk_mean: Floats  # (n,) mean of the same against the pool's descriptions
    risk_std: Floats  # (n,) its standard deviation
    risk_nearest: Floats  # (n,) the largest of them
    joint: Floats  # (n,) log odds of a leak by the cross-encoder, which reads both texts at once; NaN without one
    sentences: NDArray[np.int64]  # (n,) of the description, at least 1
    recall: Floats  # (n,) 0 to 1: share of a sentence's word stems that the query holds, at best


def sigmoid(x: NDArray[np.floating[Any]]) -> Floats:
    """1 / (1 + exp(-x)), elementwise, without overflow."""
    return (0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, dtype=np.float64)))).astype(np.float32)


# -- what spans and texts are: computed from vectors ---------------------------------------------------------


def risk_margin(vectors: Floats, risk: Floats, benign: Floats) -> Floats:
    """(n,) how much nearer to risk than to its absence: mean of the top four cosines to each, subtracted.

    `vectors` (n, d), `risk` (r, d), `benign` (s, d), unit rows; about -0.5 to 0.5. Shared design, "span
    riskiness", with the same subjects without the risk among the benign prototypes.
    """
    margin: Floats = _top_mean(vectors @ risk.T) - _top_mean(vectors @ benign.T)
    return margin


def _top_mean(cosines: Floats) -> Floats:
    k = min(NEAREST, cosines.shape[1])
    cosines.partition(cosines.shape[1] - k, axis=1)  # in place: nobody else holds them
    mean: Floats = cosines[:, -k:].mean(axis=1, dtype=np.float32)
    return mean


def joint_margin(margin: Floats, log_odds: Floats) -> Floats:
    """(n,) mean of the margin to prototypes and a probe's log odds in a margin's units.

    Prototypes hold for subjects nobody trained on, the probe for how things are said; together they rank
    better than either.
    """
    joint: Floats = np.float32(0.5) * (margin + np.float32(PROBE_SCALE) * log_odds)
    return joint


def in_risk_space(vectors: Floats, weights: Floats, center: Floats) -> Floats:
    """(..., k) unit rows: `vectors` (..., d) of one side, less its `center` (d,), mapped by `weights` (k, d)."""
    mapped = (vectors - center) @ weights.T
    unit: Floats = mapped / np.maximum(np.linalg.norm(mapped, axis=-1, keepdims=True), SAME)
    return unit


def riskiness(margin: Floats) -> Floats:
    """r = sigmoid(12 margin), 0 to 1, any shape."""
    return sigmoid(MARGIN_SLOPE * margin)


def risk_agreement(query: Floats, image: Floats, risk: Floats) -> Floats:
    """(n,) 0 to 1: Bhattacharyya coefficient of two softmax distributions over the (r, d) risk prototypes."""
    both = np.sqrt(_softmax(query @ risk.T) * _softmax(image @ risk.T))
    agreement: Floats = both.sum(axis=1, dtype=np.float32)
    return agreement


def _softmax(cosines: Floats) -> Floats:
    raised = np.exp(PROFILE_SLOPE * (cosines - cosines.max(axis=1, keepdims=True)))
    distribution: Floats = raised / raised.sum(axis=1, keepdims=True)
    return distribution


# -- features of pairs: each takes PairArrays and gives (n,) -------------------------------------------------


def pool_z(pairs: PairArrays) -> Floats:
    """How far the cosine lies above the query's cosines with other images; 0 to 1 is 0 to 6 deviations.

    Repairs captions, where boilerplate resembles boilerplate; near 0 for another pair's image.
    """
    return _above_pool(pairs.cosine, pairs.pool_mean, pairs.pool_std, least_std=0.03)


def risk_z(pairs: PairArrays) -> Floats:
    """The pool's z in the risk space: does the query stand out by the risk it names, not by its words."""
    return _above_pool(pairs.risk_cosine, pairs.risk_mean, pairs.risk_std, least_std=0.1)


def risk_behind(pairs: PairArrays) -> Floats:
    """How far the cosine in the risk space falls behind that of the benchmark's nearest image, -2 to 0.

    0 where no image fits the query better: a query about another image has that one before its own.
    """
    behind: Floats = np.minimum(pairs.risk_cosine - pairs.risk_nearest, np.float32(0.0))
    return behind


def _above_pool(cosine: Floats, mean: Floats, std: Floats, least_std: float) -> Floats:
    z = (cosine - mean) / np.maximum(std, least_std)
    return (np.clip(z, 0.0, Z_CEILING) / Z_CEILING).astype(np.float32)


def best_for_query(pairs: PairArrays) -> Floats:
    """(n, a) each query span's best cosine with an image span; 0 where padded."""
    best = _best(pairs.similarity, pairs.image_mask[:, None, :], axis=2)
    return np.where(pairs.query_mask, best, np.float32(0.0))


def best_for_image(pairs: PairArrays) -> Floats:
    """(n, b) each image span's best cosine with a query span, at least 0; 0 where padded."""
    best = _best(pairs.similarity, pairs.query_mask[:, :, None], axis=1)
    return np.where(pairs.image_mask, np.maximum(best, np.float32(0.0)), np.float32(0.0))


def _best(cosines: Floats, mask: Mask, axis: int) -> Floats:
    """The largest cosine along an axis where the mask allows it; -1 where it allows none."""
    allowed: Floats = np.where(mask, cosines, np.float32(-1.0))
    best: Floats = np.max(allowed, axis=axis, initial=-1.0)
    return best


def late_interaction(pairs: PairArrays) -> Floats:
    """Mean over query spans of the best cosine with an image span: MaxSim (ColBERT, 2020) over spans."""
    count = np.maximum(pairs.query_mask.sum(axis=1), 1).astype(np.float32)
    mean: Floats = best_for_query(pairs).sum(axis=1) / count
    return mean


def risky_match(pairs: PairArrays) -> Floats:
    """Max over query spans q of r(q) max_d cos(q, d): the riskiest thing the query shares with the image."""
    match: Floats = np.max(riskiness(pairs.query_margin) * best_for_query(pairs), axis=1, initial=0.0)
    return match


def span_matches(pairs: PairArrays) -> Floats:
    """(n, a, b) cos(q, d) sqrt(r(q) r(d)), 0 to 1: the evidence; 0 where padded."""
    risk = np.sqrt(riskiness(pairs.query_margin)[:, :, None] * riskiness(pairs.image_margin)[:, None, :])
    there = pairs.query_mask[:, :, None] & pairs.image_mask[:, None, :]
    return np.where(there, np.maximum(pairs.similarity, 0.0) * risk, 0.0).astype(np.float32)


def risky_cosine(pairs: PairArrays) -> Floats:
    """Cosine times max over query spans of r(q): likeness counts as far as the query names a risk."""
    risk = np.max(np.where(pairs.query_mask, riskiness(pairs.query_margin), 0.0), axis=1, initial=0.0)
    product: Floats = np.multiply(pairs.cosine, risk, dtype=np.float32)
    return product


def risk_recall(pairs: PairArrays) -> Floats:
    """Best cosine of every image span, by weights exp(20 margin): how much of the risk is named.

    One span that nothing matches is added here and in `risk_precision`, as if it were harmless: where
    nothing at all is risky, no overlap counts for much.
    """
    return _weighted(best_for_image(pairs), pairs.image_margin, pairs.image_mask)


def risk_precision(pairs: PairArrays) -> Floats:
    """Best cosine of every query span, by weights exp(20 margin): is what the query risks shown."""
    return _weighted(best_for_query(pairs), pairs.query_margin, pairs.query_mask)


def _weighted(best: Floats, margin: Floats, mask: Mask) -> Floats:
    weight = np.where(mask, np.exp(WEIGHT_SLOPE * margin), np.float32(0.0))
    mean: Floats = (best * weight).sum(axis=1) / (weight.sum(axis=1) + np.float32(NULL_WEIGHT))
    return mean


def harm_about_image(pairs: PairArrays) -> Floats:
    """r(query) times the pool's z: a harmful query leaks only if it is about this image, not just any."""
    return np.multiply(riskiness(pairs.harm), pool_z(pairs))


def harm_about_risk(pairs: PairArrays) -> Floats:
    """r(query) times the pool's z in the risk space."""
    return np.multiply(riskiness(pairs.harm), risk_z(pairs))


def harm_cosine(pairs: PairArrays) -> Floats:
    """r(query) times the cosine, where that is above zero."""
    product: Floats = np.multiply(riskiness(pairs.harm), np.maximum(pairs.cosine, 0.0), dtype=np.float32)
    return product


def harm_agreement(pairs: PairArrays) -> Floats:
    """r(query) times the agreement: the same risk, and the query names it."""
    return np.multiply(riskiness(pairs.harm), pairs.agreement)


def harm_recall(pairs: PairArrays) -> Floats:
    """r(query) times the share of a sentence's word stems that the query holds."""
    return np.multiply(riskiness(pairs.harm), pairs.recall)


def joint_of_long(pairs: PairArrays) -> Floats:
    """The cross-encoder's log odds less 1, by the description's length: 0 beside one sentence, whole from four on.

    A long description has something like every query, so that cosines say less there and reading says more.
    1 is about what leaks have: a leak that is told at greater length keeps its score.
    """
    share = np.clip((pairs.sentences - 1) / (WHOLE_CAPTION - 1), 0.0, 1.0)
    return (share * (pairs.joint - USUAL_LEAK)).astype(np.float32)


def harm_in_match(pairs: PairArrays) -> Floats:
    """r(query) times late interaction: a harmful query leaks only if it names what the image shows."""
    return np.multiply(riskiness(pairs.harm), late_interaction(pairs))


FEATURES: dict[str, Callable[[PairArrays], Floats]] = {
    "cosine": lambda pairs: pairs.cosine,
    "pool_z": pool_z,
    "late_interaction": late_interaction,
    "risky_match": risky_match,
    "risky_cosine": risky_cosine,
    "risk_recall": risk_recall,
    "risk_precision": risk_precision,
    "harm": lambda pairs: pairs.harm,
    "harm_about_image": harm_about_image,
    "harm_in_match": harm_in_match,
    "harm_cosine": harm_cosine,
    "harm_agreement": harm_agreement,
    "harm_recall": harm_recall,
    "risk_z": risk_z,
    "risk_behind": risk_behind,
    "harm_about_risk": harm_about_risk,
    "agreement": lambda pairs: pairs.agreement,
    "joint": lambda pairs: pairs.joint,
    "joint_of_long": joint_of_long,
    "recall": lambda pairs: pairs.recall,
}


def features_of(pairs: PairArrays, names: Iterable[str]) -> Floats:
    """(n, f) the named features, in the order of `names`."""
    return np.stack([FEATURES[name](pairs) for name in names], axis=1).astype(np.float32)
