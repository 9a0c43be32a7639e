"""Labelled pairs with their features, by a probe and a risk space that saw no text of their writer or topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit import features
from audit.calibrations import Calibration, TrainedOn
from audit.labelled import LabelledPair, source_of, swapped
from audit.pairs import PairReader
from audit.pool import Pool
from audit.probe import ProbeText, fit_probes, fold_of
from audit.risk_space import fit_risk_space
from audit.spans import both_texts
from data.cross_encoder import Adapter, Pair
from data.embedders import Embedder, LayeredEmbedder, Odds, Vectors

Array = NDArray[np.float64]
TERMS = (
    "risky_cosine", "risky_match", "risk_recall", "risk_precision", "harm", "harm_about_image", "harm_in_match",
    "harm_cosine", "agreement", "harm_agreement", "recall", "harm_recall", "risk_z", "risk_behind",
    "harm_about_risk", "joint", "joint_of_long",
)  # fmt: skip
EVERYTHING = -1  # in place of a fold: nothing is left out
OWN_FAMILIES = ("scenes", "objects", "plain questions")  # this project's texts: half a family each


class Sample(NamedTuple):
    """The pairs of one family with their features."""

    family: str
    pairs: list[LabelledPair]
    values: Array  # (n, f)
    weight: Array  # (n,) sums to 1 for a family with both kinds, to half for one with leak-free pairs only

    @property
    def source(self) -> str:
        """What is left out together."""
        return source_of(self.pairs[0])

    @property
    def leak(self) -> Array:
        return np.array([pair.leak for pair in self.pairs], np.float64)


def group_of(pair: LabelledPair) -> str:
    """What a pair's texts are left out with: its fold, its writer, or its topic."""
    return pair.fold or pair.writer or pair.topic


class OneOfProbes:
    """An embedder for one of several probes that reads every text for all of them: what is kept serves the next."""

    def __init__(self, embedder: LayeredEmbedder, probes: Vectors, place: int) -> None:
        self.name = embedder.name
        self._embedder = embedder
        self._probes = probes  # (l * d, k)
        self._place = place  # of the one, among the k

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed(texts)

    def layers(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.layers(texts)

    def embed_probed(self, texts: Sequence[str], probes: Vectors) -> tuple[Vectors, Vectors]:
        """What the embedder reads by the one probe; `probes` (l * d, 1) must be it."""
        assert np.array_equal(probes[:, 0], self._probes[:, self._place])
        vectors, readings = self._embedder.embed_probed(texts, self._probes)
        return vectors, readings[:, self._place : self._place + 1]

    def read_together(self, pairs: Sequence[Pair], adapter: Adapter) -> Odds:
        return self._embedder.read_together(pairs, adapter)


class Measurer:
    """Measures labelled pairs with the probe and the risk space that saw no text of theirs."""

    def __init__(
        self,
        embedder: Embedder,
        texts: Sequence[ProbeText],
        pairs: Sequence[LabelledPair] = (),
        cross_encoders: Sequence[TrainedOn] = (),
    ) -> None:
        self._embedder = embedder
        self._cross_encoders = cross_encoders if isinstance(embedder, LayeredEmbedder) else ()
        self.terms = tuple(term for term in TERMS if self._cross_encoders or not term.startswith("joint"))
        unfitted = Calibration(embedder=embedder.name, terms={}, intercept=0.0, conformal={}, provenance={})
        folds = fold_of(
            [*(each.topic for each in texts), *(group_of(pair) for pair in pairs if pair.picture)]
        )
        left_out: dict[int | str, set[str]] = {EVERYTHING: set()}
        for group, fold in folds.items():
            left_out.setdefault(fold, set()).add(group)
        for pair in pairs:
            if pair.fold:
                left_out.setdefault(pair.family, set()).add(pair.fold)
        layered = embedder if isinstance(embedder, LayeredEmbedder) and texts else None
        probes = fit_probes(layered, texts, left_out) if layered else {}
        self._fitted = {
            name: unfitted.replace(
                probe=probes.get(name),
                space=fit_risk_space(embedder, [pair for pair in pairs if group_of(pair) not in groups]),
            )
            for name, groups in left_out.items()
        }
        weights = np.array([probe.weights for probe in probes.values()], np.float32).T
        places = {name: place for place, name in enumerate(probes)}
        readers = {
            name: PairReader(OneOfProbes(layered, weights, places[name]) if layered else embedder, fitted)
            for name, fitted in self._fitted.items()
        }
        self.reader = readers[EVERYTHING]
        self._of_group = {group: readers[fold] for group, fold in folds.items()}

    @property
    def fitted(self) -> Calibration:
        """The probe and the risk space of all texts."""
        return self._fitted[EVERYTHING]

    def fitted_without(self, family: str) -> Calibration | None:
        """Those that saw no text of a family; None where its texts took no part in them, or are left out by writer."""
        return self._fitted.get(family)

    def _values_of(self, pairs: Sequence[LabelledPair], odds: Odds, pool: Pool) -> Array:
        """(n, f) features of the pairs of one family, in the order of `terms`, from what `_read_together` says."""
        values = np.zeros((len(pairs), len(self.terms)))
        groups = [group_of(pair) for pair in pairs]
        for group in dict.fromkeys(groups):
            rows = [row for row, each in enumerate(groups) if each == group]
            reader = self._of_group.get(group, self.reader)
            queries = [pairs[row].query for row in rows]
            shown = [pairs[row].image_description for row in rows]
            start = 0
            for chunk in reader.measure(queries, shown, pool):
                some = rows[start : start + len(chunk.joint)]
                values[some] = features.features_of(replace(chunk, joint=odds[some]), self.terms)
                start += len(some)
        return values

    def _read_together(self, pairs: Sequence[LabelledPair]) -> Odds:
        """(n,) log odds of the cross-encoder that learned nothing from a pair's source; NaN where there is none."""
        odds = np.full(len(pairs), np.nan, np.float32)
        if not isinstance(self._embedder, LayeredEmbedder):
            return odds
        of_each = [self.cross_encoder_without(pair) for pair in pairs]
        for trained in dict.fromkeys(each for each in of_each if each):
            rows = [row for row, each in enumerate(of_each) if each == trained]
            both = [both_texts(pairs[row].query, pairs[row].image_description) for row in rows]
            odds[rows] = self._embedder.read_together(both, trained.adapter())
        return odds

    def cross_encoder_without(self, pair: LabelledPair) -> TrainedOn | None:
        """The first cross-encoder that learned nothing from a pair's source; None where each did, or there is none."""
        return next((each for each in self._cross_encoders if source_of(pair) not in each.sources), None)

    def measured(self, pairs: Sequence[LabelledPair]) -> Iterator[Sample]:
        """Family by family: given pairs and swapped ones, each with the family's descriptions as its pool.

        A family that every cross-encoder learned from is left out: there it looks better than it is.
        """
        if self._cross_encoders:
            pairs = [pair for pair in pairs if self.cross_encoder_without(pair)]
        of_family: dict[str, list[LabelledPair]] = {}
        for pair in pairs:
            if pair.query.strip() and pair.image_description.strip():
                of_family.setdefault(pair.family, []).append(pair)
        measured = [own + swapped(own, lambda pair: pair.leak == 1) for own in of_family.values()]
        # Of all families at once: pairs of like length are read together, and the wait has one bar.
        odds = iter(self._read_together([pair for own in measured for pair in own]))
        families_of = Counter(own[0].writer for own in measured)
        for (family, given), own in zip(of_family.items(), measured, strict=True):
            pool = self.reader.pool([pair.image_description for pair in given])
            share = (
                0.5 if family in OWN_FAMILIES else 1 / (families_of[own[0].writer] if own[0].writer else 1)
            )
            read = np.fromiter(islice(odds, len(own)), np.float32, len(own))
            yield Sample(family, own, self._values_of(own, read, pool), weights(own) * share)


def given(sample: Sample) -> NDArray[np.bool_]:
    """(n,) which of a family's pairs are its own, not made of others."""
    return np.array([pair.made == "given" for pair in sample.pairs])


def short(value: float) -> float:
    """As figures are kept."""
    return round(float(value), 4)


def weights(pairs: Sequence[LabelledPair]) -> Array:
    """(n,) half to the leaking pairs and half to the others, evenly over how pairs were made."""
    kinds = [(pair.leak, pair.made) for pair in pairs]
    count = Counter(kinds)
    of_label = {leak: len({made for each, made in set(kinds) if each == leak}) for leak in (0, 1)}
    return np.array([0.5 / of_label[kind[0]] / count[kind] for kind in kinds])
