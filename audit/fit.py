"""The fit of a calibration: labelled pairs in, coefficients and scores of leak-free pairs out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from audit import metrics
from audit.calibrations import Calibration, HeldOut, LeakFree, Term, TrainedOn
from audit.labelled import VIEWS, LabelledPair, source_of
from audit.leak_free import references, scored_pairs, sensitivity
from audit.lines import PRIOR, RIDGE, Line, fit_line, spread
from audit.probe import ProbeText, fold_of
from audit.samples import Array, Measurer, Sample, given, short
from data.embedders import Embedder
from data.errors import UserError

# The square divides the ridge. The cross-encoder ranks better than the rest, most of all beside captions; falling
# behind other images tells swapped pairs, and costs labelled families something.
EMPHASIS = {"joint": 1.4, "joint_of_long": 0.9, "risk_behind": 0.5}


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
    scored = list(scored_pairs(samples, held_out, full, ocr))
    leak_free = dict(references(scored))
    benchmarks = {sample.source for sample in samples if not sample.pairs[0].writer} & held_out.keys()
    rests = {source: [each for each in scored if each.source != source] for source in benchmarks}
    apart = {
        source: dict(references(rest)) for source, rest in rests.items() if any(each.weight for each in rest)
    }
    others = {
        sample.source: used
        for sample in samples
        if (used := measurer.cross_encoder_without(sample.pairs[0])) and used != cross_encoders[0]
    }
    return Calibration(
        embedder=embedder.name,
        terms={
            name: Term(center=short(middle), scale=short(width), weight=short(slope * width))
            for name, middle, width, slope in zip(measurer.terms, center, scale, full.slope, strict=True)
        },
        intercept=short(full.intercept + float(full.slope @ center)),
        probe=measurer.fitted.probe,
        space=measurer.fitted.space,
        cross_encoder=cross_encoders[0] if "joint" in measurer.terms else None,
        sensitivity=sensitivity(list(scored_pairs(samples, held_out, full, ())), leak_free),
        conformal=leak_free,
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
        found[name] = short(auroc if auroc is not None else float("nan"))
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
    return {view: short(float(np.mean(each))) for view, each in found.items() if each}


def folds_left_out(samples: Sequence[Sample], held_out: dict[str, Line]) -> dict[str, float]:
    """AUROC of each family with folds: coefficients without the family, probe and space without the pair's fold."""
    found: dict[str, float] = {}
    for sample in samples:
        rows = given(sample) & np.array([bool(pair.fold) for pair in sample.pairs])
        if rows.any() and sample.family in held_out:
            auroc = metrics.auroc(sample.leak[rows], held_out[sample.family].scores(sample.values[rows]))
            found |= {sample.family: short(auroc)} if auroc is not None else {}
    return found


def _but(samples: Sequence[Sample], source: str) -> list[Sample]:
    return [sample for sample in samples if sample.source != source]


def _without(sample: Sample, topics: set[str]) -> Sample:
    rows = [row for row, pair in enumerate(sample.pairs) if pair.topic not in topics]
    kept = [sample.pairs[row] for row in rows]
    return Sample(sample.family, kept, sample.values[rows], sample.weight[rows])


def _held_out(
    terms: Sequence[str],
    line: Line,
    center: Array,
    scale: Array,
    fitted: Calibration | None,
    trained: TrainedOn | None,
    leak_free: dict[str, LeakFree] | None,
) -> HeldOut:
    return HeldOut(
        weights={term: short(each) for term, each in zip(terms, line.slope * scale, strict=True)},
        intercept=short(line.intercept + float(line.slope @ center)),
        probe=fitted.probe if fitted else None,
        space=fitted.space if fitted else None,
        cross_encoder=trained,
        conformal=leak_free,
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


def families_of(names: Sequence[str]) -> str:
    """Names with how often each occurs, for the provenance."""
    return ", ".join(f"{name} {count}" for name, count in Counter(names).items())
