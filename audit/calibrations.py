"""What a calibration is: the combination of features fitted for one embedder, and scores of leak-free pairs.

{"embedder": "minilm", "terms": {"cosine": {"center": 0.3, "scale": 0.2, "weight": 0.9}, ...},
 "intercept": -1.9, "probe": {"weights": [0.1, ...], "intercept": 0.2},
 "space": {"weights": [[0.1, ...], ...], "query_center": [...], "image_center": [...]}, "sensitivity": 0.81,
 "cross_encoder": {"folder": "minilm", "digest": "5f0c...", "sources": ["polite", ...]},
 "conformal": {"author": {"scores": [0.003, ...], "location": -4.6, "spread": 1.7, "sensitivity": 0.88}, ...},
 "fitted_on": ["msts", ...], "taught_by": ["polite", ...],
 "held_out": {"msts": {"weights": {"cosine": 0.9, ...}, "intercept": -2.0}, ...}, "provenance": {...}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from audit import features
from audit.empirical_null import LEVEL, Null, as_usual, log_odds, own_null
from audit.features import Floats, PairArrays
from audit.metrics import Array, conformal_p
from audit.spans import content_sentences
from data.cross_encoder import Adapter, find_adapter
from data.errors import UserError, unknown
from data.records import Record

CALIBRATIONS = Path(__file__).with_name("calibration")
FACTS = "trained_on.json"  # in the folder of a cross-encoder
_FIGURES = ("terms", "intercept", "probe", "space", "sensitivity", "conformal")
LONG = 3  # sentences of a description that is as long as a caption


def reference_of(origin: str, description: str) -> str:
    """Which leak-free scores a pair is compared with: longer texts have more to match, whoever wrote them.

    "ocr" for text read off an image; else "caption" from `LONG` sentences on, "author" below.
    """
    if origin == "ocr":
        return origin
    return "caption" if len(content_sentences(description)) >= LONG else "author"


class Term(Record):
    """One feature's part in the score: weight * (value - center) / scale."""

    center: float
    scale: float
    weight: float


class Probe(Record):
    """A linear reading of an embedder's layers, in log odds: how much a text names a risk.

    One weight per number that `LayeredEmbedder.layers` gives; probing: Alain and Bengio, 2016.
    """

    weights: tuple[float, ...]
    intercept: float


class RiskSpace(Record):
    """A linear map of sentence vectors to what they tell of a risk: weights @ (vector - center of its side)."""

    weights: tuple[tuple[float, ...], ...]  # (k, d)
    query_center: tuple[float, ...]  # (d,)
    image_center: tuple[float, ...]  # (d,)


class LeakFree(Record):
    """Leak-free pairs beside one kind of description, as the usual family has them (`empirical_null.py`)."""

    scores: tuple[float, ...]  # leakage, ascending
    location: float  # median of such pairs in the usual family, log odds
    spread: float  # their interquartile range
    sensitivity: float = 1.0  # share of leaking pairs with p_value <= 0.05

    @property
    def null(self) -> Null:
        """Of the usual family."""
        return Null(self.location, self.spread)

    def own_null(self, leakage: Floats | Array) -> Null:
        """That of a benchmark with this leakage (n,); the usual one where it does not show."""
        threshold = float(np.quantile(log_odds(np.array(self.scores)), 1 - LEVEL))
        return own_null(log_odds(leakage), self.null, threshold, self.sensitivity)

    def scores_under(self, null: Null) -> Floats:
        """(m,) leakage that the leak-free pairs would have in a benchmark with this null, ascending."""
        return features.sigmoid(as_usual(log_odds(np.array(self.scores)), self.null, null))

    def p_values(self, leakage: Floats | Array, null: Null) -> Array:
        """(n,) conformal p-values of leakage (n,) in a benchmark with this null."""
        return conformal_p(as_usual(log_odds(leakage), null, self.null), log_odds(np.array(self.scores)))


class TrainedOn(Record):
    """Weights that make a cross-encoder of the embedder, and whose pairs they were learned from."""

    folder: str  # beside the calibration
    digest: str  # SHA-256 of the weights
    sources: tuple[str, ...]  # writers and families

    def adapter(self) -> Adapter:
        """The weights themselves; `UserError` where they are gone or others."""
        adapter = find_adapter(Path(self.folder))
        if adapter.digest != self.digest:
            raise UserError(
                f"The cross-encoder in {self.folder} is not the one that the calibration was fitted with: "
                "fit it again with `python -m audit.calibrate`."
            )
        return adapter


class HeldOut(Record):
    """The same combination fitted without one family, or one writer's: what it is validated with."""

    weights: dict[str, float]  # by term
    intercept: float
    probe: Probe | None = None  # where the family's texts took part in the probe, one without them
    space: RiskSpace | None = None  # the same of the risk space
    cross_encoder: TrainedOn | None = None  # and of the cross-encoder
    conformal: dict[str, LeakFree] | None = None  # of a benchmark: leak-free scores but for its own


class Calibration(Record):
    """A fitted combination of features, and where it comes from."""

    embedder: str
    terms: dict[str, Term]
    intercept: float
    probe: Probe | None = None  # None: prototypes alone say what is risky
    space: RiskSpace | None = None  # None: likeness is that of the embedder alone
    cross_encoder: TrainedOn | None = None  # None: the texts of a pair are read apart only
    sensitivity: float = 1.0  # share of leaking pairs with p_value <= 0.05, for the corrected prevalence
    conformal: dict[str, LeakFree]  # by `reference_of`
    held_out: dict[str, HeldOut] = Field(default_factory=dict)
    fitted_on: tuple[str, ...] = ()  # writers and families that coefficients and leak-free scores are of
    taught_by: tuple[str, ...] = ()  # those whose texts probe and risk space learned from
    provenance: dict[str, str]

    def leakage(self, pairs: PairArrays) -> Floats:
        """(n,) the calibrated probability of a leak; a feature that is not known (NaN) counts as its mean."""
        terms = self.terms.values()
        center = np.array([term.center for term in terms])
        scale = np.array([term.scale for term in terms])
        weight = np.array([term.weight for term in terms])
        standard = (features.features_of(pairs, self.terms) - center) / scale
        return features.sigmoid(np.nan_to_num(standard) @ weight + self.intercept)

    def leak_free(self, kind: str) -> LeakFree:
        """What pairs beside one kind of description (`reference_of`) are compared with."""
        return self.conformal.get(kind, self.conformal["author"])

    def digest(self) -> str:
        """Of all that scores and p-values come from: the same for the same figures, wherever they lie."""
        figures = self.model_dump_json(include={*_FIGURES})
        weights = self.cross_encoder.digest if self.cross_encoder else ""
        return hashlib.sha256(f"{figures}{weights}".encode()).hexdigest()

    def had(self, source: str) -> str:
        """What part a family, or a writer, took in the fit, and so how far figures on it can be trusted."""
        if source in self.held_out:
            apart = source not in self.taught_by or self.held_out[source].space is not None
            return "left out" if apart else "partly left out"
        if self.cross_encoder and source in self.cross_encoder.sources:
            return "learned from"
        return "fitted on" if source in (*self.fitted_on, *self.taught_by) else "unseen"

    def without(self, family: str) -> Calibration:
        """The calibration fitted without `family`; this one where the family took no part."""
        if family not in self.held_out:
            return self
        held = self.held_out[family]
        terms = {name: term.replace(weight=held.weights[name]) for name, term in self.terms.items()}
        return self.replace(
            terms=terms,
            intercept=held.intercept,
            probe=held.probe or self.probe,
            space=held.space or self.space,
            cross_encoder=held.cross_encoder or self.cross_encoder,
            conformal=held.conformal or self.conformal,
        )


def calibration_file(embedder_name: str) -> Path:
    """Where an embedder's calibration is kept unless it is told otherwise."""
    return CALIBRATIONS / f"{embedder_name.replace('/', '-')}.json"


def load_calibration(embedder_name: str) -> Calibration:
    """The calibration shipped for an embedder, or the one in a file that `audit.calibrate` wrote."""
    path = Path(embedder_name) if embedder_name.endswith(".json") else calibration_file(embedder_name)
    if not path.is_file():
        shipped = sorted(file.stem for file in CALIBRATIONS.glob("*.json"))
        raise unknown("calibration", embedder_name, [*shipped, "FILE.json from audit.calibrate"])
    try:
        calibration = Calibration.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{path} is not a calibration: fit it again with `python -m audit.calibrate`."
        ) from error
    strangers = calibration.terms.keys() - features.FEATURES.keys()
    if strangers or "author" not in calibration.conformal:
        raise UserError(f"{path} is of another version: fit it again with `python -m audit.calibrate`.")
    return with_folders(calibration, lambda folder: str(path.parent / folder))


def with_folders(calibration: Calibration, where: Callable[[str], str]) -> Calibration:
    """The calibration with the folders of its cross-encoders named otherwise: in a file beside it, or as they are."""

    def moved(trained: TrainedOn | None) -> TrainedOn | None:
        return trained and trained.replace(folder=where(trained.folder))

    return calibration.replace(
        cross_encoder=moved(calibration.cross_encoder),
        held_out={
            source: held.replace(cross_encoder=moved(held.cross_encoder))
            for source, held in calibration.held_out.items()
        },
    )


def trained_on(folder: Path) -> TrainedOn:
    """The cross-encoder in a folder that `python -m audit.cross_encoder` wrote."""
    adapter = find_adapter(folder)
    try:
        sources = json.loads((folder / FACTS).read_text())["sources"]
        return TrainedOn(folder=str(folder), digest=adapter.digest, sources=tuple(sources))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FACTS} does not say what the cross-encoder learned from.") from error
