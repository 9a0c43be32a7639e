"""The leak-free scores of a calibration: what p-values are counted against, each family moved by its own null."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit import features
from audit.calibrations import LeakFree, reference_of
from audit.empirical_null import LEVEL, Null, as_usual, log_odds
from audit.lines import LEAST_SPREAD, Line
from audit.samples import Array, Sample, given, short

CONFORMAL_SCORES = 1000  # kept per kind of description
TURNS = 4  # of nulls and leak-free scores, each found by the other: medians then move by less than 0.01
HARD_FAMILY = "plain questions"  # written to mislead; the leak-free pairs of a benchmark are not like them


class Scored(NamedTuple):
    """One family's given pairs beside one kind of description, under the fit without the family."""

    family: str
    source: str
    kind: str
    leakage: Array  # (n,)
    leak: Array  # (n,)
    weight: float  # of the leak-free ones, as in the fit

    @property
    def free(self) -> Array:
        return log_odds(self.leakage[self.leak == 0])


def scored_pairs(
    samples: Sequence[Sample], held_out: dict[str, Line], full: Line, ocr: Sequence[str]
) -> Iterator[Scored]:
    """The given pairs of all families, by kind of description; those of the families `ocr` as text read off images."""
    usual = [sample for sample in samples if sample.family != HARD_FAMILY]
    for sample in usual if any((given(sample) & (sample.leak == 0)).any() for sample in usual) else samples:
        leakage = held_out.get(sample.source, full).scores(sample.values)
        kinds = _kinds(sample, ocr)
        for kind in dict.fromkeys(kinds.tolist()):
            rows = given(sample) & (kinds == kind)
            weight = float(sample.weight[rows & (sample.leak == 0)].sum())
            if rows.any():
                yield Scored(sample.family, sample.source, kind, leakage[rows], sample.leak[rows], weight)


def references(scored: Sequence[Scored]) -> Iterator[tuple[str, LeakFree]]:
    """By `reference_of`, the leak-free pairs of all families."""
    of_kind = {
        kind: [each for each in scored if each.kind == kind and each.weight]
        for kind in ("author", "caption", "ocr")
    }
    # Benchmarks that are read off their images are few, and their texts as short as an author's.
    alike = of_kind | {"ocr": of_kind["ocr"] + of_kind["author"]}
    for kind, families in alike.items():
        yield kind, _leak_free(families or [each for own in of_kind.values() for each in own])


def _leak_free(families: Sequence[Scored]) -> LeakFree:
    """The leak-free pairs of some families, each moved by its own null, as a benchmark's will be.

    That null is read off a family's scores without its labels, by what is known of the others: in turns.
    """
    nulls = [_labelled_null(family.free) for family in families]
    weight = [family.weight for family in families]
    for _ in range(TURNS):
        location, spread = np.average(nulls, axis=0, weights=weight)
        usual = Null(short(location), short(spread))
        moved = [
            (as_usual(family.free, null, usual), family.weight)
            for family, null in zip(families, nulls, strict=True)
        ]
        leak_free = LeakFree(scores=_thinned(moved), location=usual.location, spread=usual.spread)
        found = [_found(family, leak_free, null) for family, null in zip(families, nulls, strict=True)]
        leaking = [share for share in found if share is not None]
        leak_free = leak_free.replace(sensitivity=short(float(np.mean(leaking))) if leaking else 1.0)
        nulls = [leak_free.own_null(family.leakage) for family in families]
    return leak_free


def _labelled_null(free: Array) -> Null:
    low, middle, high = np.quantile(free, [0.25, 0.5, 0.75])
    return Null(float(middle), max(float(high - low), LEAST_SPREAD))


def _found(family: Scored, leak_free: LeakFree, null: Null) -> float | None:
    """Share of leaking pairs with a small p-value; None where none leaks."""
    if not (family.leak == 1).any():
        return None
    return float((leak_free.p_values(family.leakage[family.leak == 1], null) <= LEVEL).mean())


def _thinned(families: Sequence[tuple[Array, float]]) -> tuple[float, ...]:
    """Leakage, ascending: of every family's log odds evenly spread quantiles, as many as it weighs.

    A family's few highest scores, often mislabelled pairs, do not set the scale: p-values below about 0.01 are
    approximate. Among all scores, VLSBench's leaks would not stand out one by one.
    """
    total = sum(weight for _, weight in families)
    # No family has more quantiles than scores: few pairs make no small p-values.
    most = min((CONFORMAL_SCORES, *(len(family) * total / weight for family, weight in families)))
    scores = []
    for family, weight in families:
        count = max(1, round(most * weight / total))
        scores.append(np.quantile(family, (np.arange(count) + 0.5) / count))
    # Four digits, not decimals: of leak-free pairs that all score below 0.00005 the odds would be lost.
    return tuple(float(f"{score:.4g}") for score in features.sigmoid(np.sort(np.concatenate(scores))))


def sensitivity(scored: Sequence[Scored], leak_free_of: dict[str, LeakFree]) -> float:
    """Share of leaking pairs with p <= 0.05, mean over families; 1 where none leaks."""
    found: dict[str, list[float]] = {}
    for each in scored:
        leak_free = leak_free_of[each.kind]
        share = _found(each, leak_free, leak_free.own_null(each.leakage))
        found.setdefault(each.family, []).extend([] if share is None else [share] * int(each.leak.sum()))
    shares = [float(np.mean(own)) for own in found.values() if own]
    return short(float(np.mean(shares))) if shares else 1.0


def _kinds(sample: Sample, ocr: Sequence[str]) -> NDArray[np.str_]:
    """(n,) which leak-free scores each pair counts among."""
    read = sample.family in ocr
    return np.array(
        [reference_of("ocr" if read else pair.origin, pair.image_description) for pair in sample.pairs]
    )
