"""The fit of a calibration: labelled pairs in, coefficients and scores of leak-free pairs out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit import features, metrics
from audit.calibrations import Calibration, HeldOut, LeakFree, Term, TrainedOn, reference_of
from audit.empirical_null import LEVEL, Null, as_usual, log_odds
from audit.labelled import VIEWS, LabelledPair, source_of
from audit.lines import LEAST_SPREAD, PRIOR, RIDGE, Line, fit_line, spread
from audit.probe import ProbeText, fold_of
from audit.samples import Array, Measurer, Sample
from data.embedders import Embedder
from data.errors import UserError

CONFORMAL_SCORES = 1000  # kept per kind of description
TURNS = 4  # of nulls and leak-free scores, each found by the other: medians then move by less than 0.01
# The square divides the ridge. The cross-encoder ranks better than the rest, most of all beside captions; falling
# behind other images tells swapped pairs, and costs labelled families something.
EMPHASIS = {"joint": 1.4, "joint_of_long": 0.9, "risk_behind": 0.5}
HARD_FAMILY = "plain questions"  # written to mislead; the leak-free pairs of a benchmark are not like them


def fit_calibration(
    embedder: Embedder,
    pairs: Sequence[LabelledPair],
    ocr: Sequence[str],
    texts: Sequence[ProbeText] = (),
    cross_encoders: Sequence[TrainedOn] = (),
) -> Calibration:
    """The calibration of an embedder on labelled pairs of one or more families, and texts for its probe.

    The first cross-encoder is the calibration's; what it learned from is measured by the next that did not.
    """
    measurer = Measurer(embedder, texts, pairs, cross_encoders)
    samples = list(measurer.measured(pairs))
    strangers = set(ocr) - {sample.family for sample in samples}
    if strangers:
        raise UserError(f"--ocr names no family of these files: {', '.join(sorted(strangers))}.")
    if len({pair.leak for sample in samples for pair in sample.pairs if pair.made == "given"}) < 2:
        raise UserError(
            "Hardly a pair is left to fit the coefficients: the cross-encoders learned from the others. Add one "
            "trained with --hold-out."
        )
    center, scale = spread(samples)
    scale /= [EMPHASIS.get(term, 1.0) for term in measurer.terms]
    full = fit_line(samples, center, scale)
    held_out = {
        source: fit_line(rest, center, scale)
        for source in dict.fromkeys(sample.source for sample in samples)
        if (rest := _but(samples, source)) and len({pair.leak for other in rest for pair in other.pairs}) == 2
    }
    scored = list(_scored(samples, held_out, full, ocr))
    references = dict(_references(scored))
    benchmarks = {sample.source for sample in samples if not sample.pairs[0].writer} & held_out.keys()
    rests = {source: [each for each in scored if each.source != source] for source in benchmarks}
    apart = {
        source: dict(_references(rest)) for source, rest in rests.items() if any(each.weight for each in rest)
    }
    others = {
        sample.source: used
        for sample in samples
        if (used := measurer.cross_encoder_without(sample.pairs[0])) and used != cross_encoders[0]
    }
    return Calibration(
        embedder=embedder.name,
        terms={
            name: Term(center=_short(middle), scale=_short(width), weight=_short(slope * width))
            for name, middle, width, slope in zip(measurer.terms, center, scale, full.slope, strict=True)
        },
        intercept=_short(full.intercept + float(full.slope @ center)),
        probe=measurer.fitted.probe,
        space=measurer.fitted.space,
        cross_encoder=cross_encoders[0] if "joint" in measurer.terms else None,
        sensitivity=_short(_sensitivity(list(_scored(samples, held_out, full, ())), references)),
        conformal=references,
        held_out={
            source: _held_out(
                measurer.terms,
                line,
                center,
                scale,
                measurer.fitted_without(source),
                others.get(source),
                apart.get(source),
            )
            for source, line in held_out.items()
        },
        fitted_on=tuple(dict.fromkeys(sample.source for sample in samples)),
        taught_by=tuple(dict.fromkeys(source_of(pair) for pair in pairs if pair.picture)),
        provenance=_provenance(
            samples,
            texts,
            {
                "scenes_by_sub_category_left_out": topics_left_out(samples, center, scale),
                "situations_by_writer_left_out": writers_left_out(samples, held_out),
                "benchmarks_by_fold_left_out": folds_left_out(samples, held_out),
            },
        ),
    )


def topics_left_out(samples: Sequence[Sample], center: Array, scale: Array) -> dict[str, float]:
    """AUROC of leaking over leak-free pairs where each was scored without any text of its topic's fold.

    "all families": with the other families in the fit; "scenes alone": with nothing but the scene bank.
    """
    found = {}
    bank = [sample for sample in samples if sample.family == "scenes"]
    for name, used in (("all families", samples), ("scenes alone", bank)) if bank else ():
        folds = fold_of(pair.topic for pair in bank[0].pairs)
        scores, leak = [], []
        for fold in sorted(set(folds.values())):
            rest = [_without(sample, {topic for topic in folds if folds[topic] == fold}) for sample in used]
            line = fit_line(rest, center, scale)
            asked = [
                row
                for row, pair in enumerate(bank[0].pairs)
                if pair.made == "given" and folds[pair.topic] == fold
            ]
            scores.append(bank[0].values[asked] @ line.slope + line.intercept)
            leak.append(bank[0].leak[asked])
        auroc = metrics.auroc(np.concatenate(leak), np.concatenate(scores))
        found[name] = _short(auroc if auroc is not None else float("nan"))
    return found


def writers_left_out(samples: Sequence[Sample], held_out: dict[str, Line]) -> dict[str, float]:
    """Per view, mean AUROC over writers; each was scored without any text of the writer in probe, space and fit."""
    found: dict[str, list[float]] = {view: [] for view in VIEWS}  # in this order; a file may name others
    for sample in samples:
        given = np.array([pair.made == "given" for pair in sample.pairs])
        scores = held_out.get(sample.source, Line(np.zeros(sample.values.shape[1]), 0.0)).scores(
            sample.values[given]
        )
        auroc = metrics.auroc(sample.leak[given], scores)
        if sample.pairs[0].writer and auroc is not None:
            found.setdefault(sample.family.rpartition(", ")[2], []).append(auroc)
    return {view: _short(float(np.mean(each))) for view, each in found.items() if each}


def folds_left_out(samples: Sequence[Sample], held_out: dict[str, Line]) -> dict[str, float]:
    """AUROC of each family with folds: coefficients without the family, probe and space without the pair's fold."""
    found: dict[str, float] = {}
    for sample in samples:
        rows = _given(sample) & np.array([bool(pair.fold) for pair in sample.pairs])
        if rows.any() and sample.family in held_out:
            auroc = metrics.auroc(sample.leak[rows], held_out[sample.family].scores(sample.values[rows]))
            found |= {sample.family: _short(auroc)} if auroc is not None else {}
    return found


def _but(samples: Sequence[Sample], source: str) -> list[Sample]:
    return [sample for sample in samples if sample.source != source]


def _without(sample: Sample, topics: set[str]) -> Sample:
    rows = [row for row, pair in enumerate(sample.pairs) if pair.topic not in topics]
    kept = [sample.pairs[row] for row in rows]
    return Sample(sample.family, kept, sample.values[rows], sample.weight[rows])


class _Scored(NamedTuple):
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


def _scored(
    samples: Sequence[Sample], held_out: dict[str, Line], full: Line, ocr: Sequence[str]
) -> Iterator[_Scored]:
    for sample in [sample for sample in samples if sample.family != HARD_FAMILY] or samples:
        leakage = held_out.get(sample.source, full).scores(sample.values)
        kinds = _kinds(sample, ocr)
        for kind in dict.fromkeys(kinds.tolist()):
            rows = _given(sample) & (kinds == kind)
            weight = float(sample.weight[rows & (sample.leak == 0)].sum())
            if rows.any():
                yield _Scored(sample.family, sample.source, kind, leakage[rows], sample.leak[rows], weight)


def _references(scored: Sequence[_Scored]) -> Iterator[tuple[str, LeakFree]]:
    """By `reference_of`, the leak-free pairs of all families."""
    of_kind = {
        kind: [each for each in scored if each.kind == kind and each.weight]
        for kind in ("author", "caption", "ocr")
    }
    # Benchmarks that are read off their images are few, and their texts as short as an author's.
    alike = of_kind | {"ocr": of_kind["ocr"] + of_kind["author"]}
    for kind, families in alike.items():
        yield kind, _leak_free(families or [each for own in of_kind.values() for each in own])


def _leak_free(families: Sequence[_Scored]) -> LeakFree:
    """The leak-free pairs of some families, each moved by its own null, as a benchmark's will be.

    That null is read off a family's scores without its labels, by what is known of the others: in turns.
    """
    nulls = [_labelled_null(family.free) for family in families]
    for _ in range(TURNS):
        weight = [family.weight for family in families]
        location, spread = np.average(nulls, axis=0, weights=weight)
        usual = Null(_short(location), _short(spread))
        moved = [
            (as_usual(family.free, null, usual), family.weight)
            for family, null in zip(families, nulls, strict=True)
        ]
        leak_free = LeakFree(scores=_thinned(moved), location=usual.location, spread=usual.spread)
        found = [_found(family, leak_free, null) for family, null in zip(families, nulls, strict=True)]
        leaking = [share for share in found if share is not None]
        leak_free = leak_free.replace(sensitivity=_short(float(np.mean(leaking))) if leaking else 1.0)
        nulls = [leak_free.own_null(family.leakage) for family in families]
    return leak_free


def _labelled_null(free: Array) -> Null:
    low, middle, high = np.quantile(free, [0.25, 0.5, 0.75])
    return Null(float(middle), max(float(high - low), LEAST_SPREAD))


def _found(family: _Scored, leak_free: LeakFree, null: Null) -> float | None:
    """Share of leaking pairs with a small p-value; None where none leaks."""
    if not (family.leak == 1).any():
        return None
    return float((leak_free.p_values(family.leakage[family.leak == 1], null) <= LEVEL).mean())


def _kinds(sample: Sample, ocr: Sequence[str]) -> NDArray[np.str_]:
    """(n,) which leak-free scores each pair counts among."""
    read = sample.family in ocr
    return np.array(
        [reference_of("ocr" if read else pair.origin, pair.image_description) for pair in sample.pairs]
    )


def _given(sample: Sample) -> NDArray[np.bool_]:
    return np.array([pair.made == "given" for pair in sample.pairs])


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
    return tuple(_short(score) for score in features.sigmoid(np.sort(np.concatenate(scores))))


def _sensitivity(scored: Sequence[_Scored], references: dict[str, LeakFree]) -> float:
    """Share of leaking pairs with p <= 0.05, mean over families."""
    found: dict[str, list[float]] = {}
    for each in scored:
        leak_free = references[each.kind]
        share = _found(each, leak_free, leak_free.own_null(each.leakage))
        found.setdefault(each.family, []).extend([] if share is None else [share] * int(each.leak.sum()))
    return float(np.mean([np.mean(shares) for shares in found.values() if shares]))


def _held_out(
    terms: Sequence[str],
    line: Line,
    center: Array,
    scale: Array,
    fitted: Calibration | None,
    trained: TrainedOn | None,
    references: dict[str, LeakFree] | None,
) -> HeldOut:
    return HeldOut(
        weights={term: _short(each) for term, each in zip(terms, line.slope * scale, strict=True)},
        intercept=_short(line.intercept + float(line.slope @ center)),
        probe=fitted.probe if fitted else None,
        space=fitted.space if fitted else None,
        cross_encoder=trained,
        conformal=references,
    )


def _provenance(
    samples: Sequence[Sample], texts: Sequence[ProbeText], left_out: dict[str, dict[str, float]]
) -> dict[str, str]:
    probe = (
        {"probe_fitted_on": f"{len(texts)} texts, {sum(text.risky for text in texts)} risky"} if texts else {}
    )
    figures = {
        name: "AUROC " + ", ".join(f"{auroc:.3f} ({what})" for what, auroc in found.items())
        for name, found in left_out.items()
        if found
    }
    return (
        probe
        | figures
        | {
            "fitted_on": families_of([sample.source for sample in samples for _ in sample.pairs]),
            "fitted_at": datetime.now(UTC).date().isoformat(),
            "method": f"non-negative ridge logistic ({RIDGE}), rescaled to {PRIOR:.0%} leaking pairs",
        }
    )


def _short(value: float) -> float:
    return round(float(value), 4)


def families_of(names: Sequence[str]) -> str:
    """Names with how often each occurs, for the provenance."""
    return ", ".join(f"{name} {count}" for name, count in Counter(names).items())
