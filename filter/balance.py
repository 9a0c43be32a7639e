"""Balance: how many pairs each sub-category sends into the benchmark, and which: those unlike each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from data.errors import UserError, unknown
from data.neighbours import Vectors
from data.records import Pair, SubCategory
from filter.duplicates import best_first, leakage_of
from filter.gates import STAGE

ROUNDING = 1e-9  # what sums of shares may be off by


def with_shares(taxonomy: Sequence[SubCategory], shares: Mapping[str, float]) -> tuple[SubCategory, ...]:
    """The taxonomy with the user's target shares (0 to 1), by sub-category or by category.

    A sub-category has its own share; what its category's then leaves is split among the others there as
    before, and those not named at all share the rest. Raises `UserError` for shares that cannot be.
    """
    of = {entry.sub_category: entry for entry in taxonomy}
    categories = {entry.category for entry in taxonomy}
    for name in shares:
        if name not in of and name not in categories:
            raise unknown("sub-category in [balance] shares", name, [*of, *sorted(categories)])
    own = {name: share for name, share in shares.items() if name in of}
    for category in [name for name in shares if name not in of]:
        others = [entry for entry in taxonomy if entry.category == category and entry.sub_category not in own]
        left = shares[category] - sum(own.get(name, 0) for name in of if of[name].category == category)
        if left < -ROUNDING or (left > ROUNDING and not others):
            raise UserError(
                f"[balance] shares: {category} has {shares[category]:g}, but its sub-categories add up to "
                f"{shares[category] - left:g}."
            )
        own |= _split(max(left, 0.0), others)
    left = 1 - sum(own.values())
    if left < -ROUNDING:
        raise UserError(f"[balance] shares add up to {1 - left:g}: give at most 1 in all.")
    own |= _split(max(left, 0.0), [entry for entry in taxonomy if entry.sub_category not in own])
    total = sum(own.values())
    if total == 0:
        raise UserError("[balance] shares leave nothing to any sub-category: give one of them more than 0.")
    return tuple(entry.replace(share=own[entry.sub_category] / total) for entry in taxonomy)


def _split(share: float, entries: Sequence[SubCategory]) -> dict[str, float]:
    """A share among sub-categories by their own shares; evenly where those are 0."""
    total = sum(entry.share for entry in entries)
    return {
        entry.sub_category: share * entry.share / total if total else share / len(entries)
        for entry in entries
    }


def quotas(taxonomy: Sequence[SubCategory], size: int, at_least: int) -> dict[str, int]:
    """Rows per sub-category: its share of `size` by largest remainder, and `at_least` in any case."""
    exact = {entry.sub_category: entry.share * size for entry in taxonomy}
    rows = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: rows[name] - exact[name])
    for name in by_remainder[: size - sum(rows.values())]:
        rows[name] += 1
    return {name: max(count, at_least) for name, count in rows.items()}


def reject_surplus(pairs: Sequence[Pair], vectors: Vectors, quota: Mapping[str, int]) -> list[Pair]:
    """The pairs in their order; beyond a sub-category's quota, those that add least to it are rejected.

    `vectors` is (n, d): the embedding of each pair's query and description, unit rows.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row in best_first(pairs):
        rows_of[pairs[row].sub_category].append(row)
    result = list(pairs)
    for sub_category, rows in rows_of.items():
        wanted = quota.get(sub_category, 0)
        weights = np.array([1 - leakage_of(pairs[row]) for row in rows], np.float32)
        chosen = {rows[place] for place in choose_diverse(vectors[rows], weights, wanted)}
        for row in rows:
            if row not in chosen:
                detail = f"{sub_category} has its {wanted} rows, more unlike each other than with this one"
                result[row] = pairs[row].reject(STAGE, "surplus", detail)
    return result


def choose_diverse(vectors: Vectors, weights: Vectors, number: int) -> list[int]:
    """Rows of `vectors` (n, d) that lie far from each other: greedy max-min choice (Gonzalez 1985).

    It starts at the first row and always adds the one farthest from all chosen, distance times
    weight; of equals the earlier row. Deterministic, n x number steps.
    """
    if number <= 0 or not len(vectors):
        return []
    chosen = [0]
    farness = 1 - vectors @ vectors[0]
    while len(chosen) < min(number, len(vectors)):
        merit = farness * weights
        merit[chosen] = -np.inf
        chosen.append(int(merit.argmax()))
        farness = np.minimum(farness, 1 - vectors @ vectors[chosen[-1]])
    return chosen
