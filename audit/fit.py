"""The fit of a calibration: labelled pairs in, coefficients and scores of leak-free pairs out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np

from audit import metrics
from audit.calibrations import Calibration, HeldOut, Term
from audit.labelled import VIEWS, LabelledPair, captioned
from audit.lines import PRIOR, RIDGE, Line, fit_line, spread
from audit.probe import ProbeText, fold_of
from audit.samples import TERMS, Array, Measurer, Sample
from data.embedders import Embedder

CONFORMAL_SCORES = 1000  # kept per origin
HARD_FAMILY = "plain questions"  # written to mislead; the leak-free pairs of a benchmark are not like them
UNSEARCHED = 0.05  # where no pair leaks nobody looked for leaks: the top twentieth is not trusted


def fit_calibration(
    embedder: Embedder, pairs: Sequence[LabelledPair], ocr: Sequence[str], texts: Sequence[ProbeText] = ()
) -> Calibration:
    """The calibration of an embedder on labelled pairs of one or more families, and texts for its probe."""
    measurer = Measurer(embedder, texts, pairs)
    samples = list(measurer.measured(pairs))
    center, scale = spread(samples)
    full = fit_line(samples, center, scale)
    held_out = {
        source: fit_line(others, center, scale)
        for source in dict.fromkeys(sample.source for sample in samples)
        if (others := [sample for sample in samples if sample.source != source])
        and len({pair.leak for other in others for pair in other.pairs}) == 2
    }
    references = dict(_references(measurer, samples, held_out, full, ocr))
    return Calibration(
        embedder=embedder.name,
        terms={
            name: Term(center=_short(middle), scale=_short(width), weight=_short(slope * width))
            for name, middle, width, slope in zip(TERMS, center, scale, full.slope, strict=True)
        },
        intercept=_short(full.intercept + float(full.slope @ center)),
        probe=measurer.probe,
        space=measurer.space,
        sensitivity=_short(_sensitivity(samples, held_out, full, references["author"])),
        conformal=references,
        held_out={family: _held_out(line, center, scale) for family, line in held_out.items()},
        provenance=_provenance(
            samples, texts, topics_left_out(samples, center, scale), writers_left_out(samples, held_out)
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
    found: dict[str, list[float]] = {view: [] for view in VIEWS}
    for sample in samples:
        given = np.array([pair.made == "given" for pair in sample.pairs])
        scores = held_out.get(sample.source, Line(np.zeros(len(TERMS)), 0.0)).scores(sample.values[given])
        auroc = metrics.auroc(sample.leak[given], scores)
        if sample.pairs[0].writer and auroc is not None:
            found[sample.family.rpartition(", ")[2]].append(auroc)
    return {view: _short(float(np.mean(each))) for view, each in found.items() if each}


def _without(sample: Sample, topics: set[str]) -> Sample:
    rows = [row for row, pair in enumerate(sample.pairs) if pair.topic not in topics]
    kept = [sample.pairs[row] for row in rows]
    return Sample(sample.family, kept, sample.values[rows], sample.weight[rows])


def _references(
    measurer: Measurer, samples: Sequence[Sample], held_out: dict[str, Line], full: Line, ocr: Sequence[str]
) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Per origin, scores of leak-free pairs under the fit without their family; families count alike."""
    usual = [sample for sample in samples if sample.family != HARD_FAMILY] or samples
    read = [sample for sample in usual if sample.family in ocr] or usual
    told = [sample for sample in usual if sample.family not in ocr] or usual
    for origin, chosen in (("author", told), ("caption", told), ("ocr", read)):
        scores: list[Array] = []
        for sample in chosen:
            line = held_out.get(sample.source, full)
            free = [pair for pair in sample.pairs if not pair.leak and pair.made == "given"]
            if not free:
                continue
            if origin == "caption":
                free = captioned(free)
            pool = measurer.reader.pool([pair.image_description for pair in free])
            values = measurer.values_of(free, pool)
            ranked = np.sort(line.scores(values))
            trusted = len(ranked) if sample.leak.any() else round(len(ranked) * (1 - UNSEARCHED))
            scores.append(ranked[:trusted])
        yield origin, _thinned(scores)


def _thinned(families: Sequence[Array]) -> tuple[float, ...]:
    """The same number of evenly spread quantiles of every family, together in ascending order."""
    each = -(-CONFORMAL_SCORES // len(families))
    levels = (np.arange(each) + 0.5) / each
    scores = np.sort(np.concatenate([np.quantile(family, levels) for family in families]))
    return tuple(_short(score) for score in scores)


def _sensitivity(
    samples: Sequence[Sample], held_out: dict[str, Line], full: Line, reference: Sequence[float]
) -> float:
    """Share of leaking pairs with p <= 0.05, mean over families, each under the fit without it."""
    threshold = np.quantile(reference, 0.95)
    shares = []
    for sample in samples:
        given = np.array([bool(pair.leak) and pair.made == "given" for pair in sample.pairs])
        if given.any():
            line = held_out.get(sample.source, full)
            shares.append((line.scores(sample.values[given]) >= threshold).mean())
    return float(np.mean(shares))


def _held_out(line: Line, center: Array, scale: Array) -> HeldOut:
    return HeldOut(
        weights=tuple(_short(each) for each in line.slope * scale),
        intercept=_short(line.intercept + float(line.slope @ center)),
    )


def _provenance(
    samples: Sequence[Sample],
    texts: Sequence[ProbeText],
    topics: dict[str, float],
    writers: dict[str, float],
) -> dict[str, str]:
    probe = (
        {"probe_fitted_on": f"{len(texts)} texts, {sum(text.risky for text in texts)} risky"} if texts else {}
    )
    bank, situations = (
        ", ".join(f"{auroc:.3f} ({name})" for name, auroc in left_out.items())
        for left_out in (topics, writers)
    )
    return probe | {
        "scenes_by_sub_category_left_out": f"AUROC {bank}" if bank else "no scenes",
        "situations_by_writer_left_out": f"AUROC {situations}" if situations else "no situations",
        "fitted_on": families_of([sample.source for sample in samples for _ in sample.pairs]),
        "fitted_at": datetime.now(UTC).date().isoformat(),
        "method": f"non-negative ridge logistic ({RIDGE}), rescaled to {PRIOR:.0%} leaking pairs",
    }


def _short(value: float) -> float:
    return round(float(value), 4)


def families_of(names: Sequence[str]) -> str:
    """Names with how often each occurs, for the provenance."""
    return ", ".join(f"{name} {count}" for name, count in Counter(names).items())
