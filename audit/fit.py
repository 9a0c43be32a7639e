"""The fit of a calibration: labelled pairs in, coefficients and scores of leak-free pairs out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit import metrics, vsil
from audit.auditor import Auditor, Pool
from audit.calibrations import Calibration, HeldOut, Term
from audit.labelled import VIEWS, LabelledPair, captioned, swapped
from audit.probe import ProbeText, fit_probes, fold_of
from audit.risk_space import fit_risk_space
from data.embedders import Embedder, LayeredEmbedder

Array = NDArray[np.float64]
TERMS = (
    "risky_cosine", "risky_match", "risk_recall", "risk_precision", "harm", "harm_about_image", "harm_in_match",
    "harm_cosine", "agreement", "harm_agreement", "recall", "harm_recall", "risk_z", "harm_about_risk",
)  # fmt: skip
RIDGE = 0.3  # times the squared standardised coefficients, beside the mean log loss
PRIOR = 0.32  # share of leaking pairs that the probabilities are right for
CONFORMAL_SCORES = 1000  # kept per origin
OWN_FAMILIES = ("scenes", "objects", "plain questions")  # this project's texts: half a family each
HARD_FAMILY = "plain questions"  # written to mislead; the leak-free pairs of a benchmark are not like them
UNSEARCHED = 0.05  # where no pair leaks nobody looked for leaks: the top twentieth is not trusted
SETTLED = 1e-6  # a step that moves no coefficient farther is the last
LEAST_SPREAD = 1e-3  # a feature that never varies counts for nothing
LABEL_SLACK = 0.02  # no label is trusted beyond this, so that no score runs away


class Sample(NamedTuple):
    """The pairs of one family with their features."""

    family: str
    pairs: list[LabelledPair]
    values: Array  # (n, f)
    weight: Array  # (n,) sums to 1 for a family with both kinds, to half for one with leak-free pairs only

    @property
    def source(self) -> str:
        """What is left out together: the writer's families, or the one family."""
        return self.pairs[0].writer or self.family

    @property
    def leak(self) -> Array:
        return np.array([pair.leak for pair in self.pairs], np.float64)


def group_of(pair: LabelledPair) -> str:
    """What a pair's texts are left out with: its writer, or its topic."""
    return pair.writer or pair.topic


class Line(NamedTuple):
    """A linear score of raw features: values @ slope + intercept."""

    slope: Array
    intercept: float

    def scores(self, values: Array) -> Array:
        """(n,) calibrated probabilities of (n, f) features."""
        return vsil.sigmoid(values @ self.slope + self.intercept).astype(np.float64)


class Fitter:
    """Measures pairs with the probe and the risk space that saw no text of theirs."""

    def __init__(
        self, embedder: Embedder, texts: Sequence[ProbeText], pairs: Sequence[LabelledPair] = ()
    ) -> None:
        unfitted = Calibration(embedder=embedder.name, terms={}, intercept=0.0, conformal={}, provenance={})
        folds = fold_of(
            [*(each.topic for each in texts), *(group_of(pair) for pair in pairs if pair.picture)]
        )
        probes = fit_probes(embedder, texts, folds) if isinstance(embedder, LayeredEmbedder) and texts else {}
        fitted = {}
        for fold in (None, *sorted(set(folds.values()))):
            known = [pair for pair in pairs if fold is None or folds.get(group_of(pair)) != fold]
            space = fit_risk_space(embedder, known)
            fitted[fold] = Auditor(embedder, unfitted.replace(probe=probes.get(fold), space=space))
        self.auditor = fitted[None]
        self._of_group = {group: fitted[fold] for group, fold in folds.items()}

    def values_of(self, pairs: Sequence[LabelledPair], pool: Pool) -> Array:
        """(n, f) features of the pairs, in the order of `TERMS`."""
        values = np.zeros((len(pairs), len(TERMS)))
        groups = [group_of(pair) for pair in pairs]
        for group in dict.fromkeys(groups):
            rows = [row for row, each in enumerate(groups) if each == group]
            auditor = self._of_group.get(group, self.auditor)
            queries = [pairs[row].query for row in rows]
            shown = [pairs[row].image_description for row in rows]
            chunks = [vsil.features(chunk, TERMS) for chunk in auditor.measure(queries, shown, pool)]
            values[rows] = np.concatenate(chunks)
        return values

    def measured(self, pairs: Sequence[LabelledPair]) -> Iterator[Sample]:
        """Family by family: given pairs and swapped ones, each with the family's descriptions as its pool."""
        for family in dict.fromkeys(pair.family for pair in pairs):
            own = [pair for pair in pairs if pair.family == family]
            given = [pair for pair in own if pair.query.strip() and pair.image_description.strip()]
            made = swapped(given, lambda pair: pair.leak == 1)
            pool = self.auditor.pool([pair.image_description for pair in given])
            writers_families = len(
                {pair.family for pair in pairs if pair.writer and pair.writer == own[0].writer}
            )
            share = 0.5 if family in OWN_FAMILIES else 1 / max(writers_families, 1)
            weight = weights(given + made) * share
            yield Sample(family, given + made, self.values_of(given + made, pool), weight)


def fit_calibration(
    embedder: Embedder, pairs: Sequence[LabelledPair], ocr: Sequence[str], texts: Sequence[ProbeText] = ()
) -> Calibration:
    """The calibration of an embedder on labelled pairs of one or more families, and texts for its probe."""
    fitter = Fitter(embedder, texts, pairs)
    samples = list(fitter.measured(pairs))
    center, scale = spread(samples)
    full = fit_line(samples, center, scale)
    held_out = {
        source: fit_line(others, center, scale)
        for source in dict.fromkeys(sample.source for sample in samples)
        if (others := [sample for sample in samples if sample.source != source])
        and len({pair.leak for other in others for pair in other.pairs}) == 2
    }
    references = dict(_references(fitter, samples, held_out, full, ocr))
    return Calibration(
        embedder=embedder.name,
        terms={
            name: Term(center=_short(middle), scale=_short(width), weight=_short(slope * width))
            for name, middle, width, slope in zip(TERMS, center, scale, full.slope, strict=True)
        },
        intercept=_short(full.intercept + float(full.slope @ center)),
        probe=fitter.auditor.calibration.probe,
        space=fitter.auditor.calibration.space,
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


def weights(pairs: Sequence[LabelledPair]) -> Array:
    """(n,) half to the leaking pairs and half to the others, evenly over how pairs were made."""
    kinds = [(pair.leak, pair.made) for pair in pairs]
    of_label = {leak: len({made for each, made in set(kinds) if each == leak}) for leak in (0, 1)}
    return np.array([0.5 / of_label[kind[0]] / kinds.count(kind) for kind in kinds])


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
        error: Array = vsil.sigmoid(wide @ ahead) - target
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


def _references(
    fitter: Fitter, samples: Sequence[Sample], held_out: dict[str, Line], full: Line, ocr: Sequence[str]
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
            pool = fitter.auditor.pool([pair.image_description for pair in free])
            values = fitter.values_of(free, pool)
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
