"""The fit of a probe: which texts name a risk and which do not, and a linear reading that tells them apart.

Its texts are this project's own (`calibration/queries.toml`, the queries of the scene bank and of
`calibration/situations/`, the prototypes) and the queries of benchmarks with rated pairs, of which it keeps figures.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from audit.calibrations import Probe
from audit.labelled import LabelledPair
from audit.prototypes import Prototypes
from data.embedders import LayeredEmbedder
from data.errors import UserError

QUERIES = Path(__file__).with_name("calibration") / "queries.toml"
FOLDS = (
    6  # a pair is measured by the probe that saw no text of its sub-category, writer or sixth of a benchmark
)
Key = TypeVar("Key")
INVERSE_RIDGE = 3e-3  # scikit-learn's C, on standardised layers


class ProbeText(NamedTuple):
    """A text of known kind; texts of a topic, or of a writer, can be left out together."""

    text: str
    risky: bool
    topic: str
    weight: float


def query_texts(path: Path = QUERIES) -> list[ProbeText]:
    """The risky and harmless queries of a file, each with and without its closing mark."""
    try:
        topics = tomllib.loads(path.read_text())["topic"]
        kinds = [
            (query, kind == "risky", topic["sub_category"])
            for topic in topics
            for kind in ("risky", "harmless")
            for query in topic[kind]
        ]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no queries ({error}): it needs [[topic]] tables.") from error
    return list(_both_marks(kinds))


def scene_texts(path: Path) -> list[ProbeText]:
    """A scene bank's queries and elements."""
    scenes = tomllib.loads(path.read_text())["scene"]
    kinds = [
        (scene[kind], kind != "leak_free_query", scene["sub_category"])
        for scene in scenes
        for kind in ("leaking_query", "harmful_query", "leak_free_query")
    ]
    elements = [ProbeText(scene["element"], True, scene["sub_category"], 0.3) for scene in scenes]
    return [*_both_marks(kinds), *elements]


def situation_texts(path: Path) -> list[ProbeText]:
    """The queries of a file of situations, left out together: one writer's."""
    situations = tomllib.loads(path.read_text())["situation"]
    kinds = [
        (query, kind == "leaking", path.stem)
        for situation in situations
        for kind in ("leaking", "leak_free")
        for query in situation[kind]
    ]
    return list(_both_marks(kinds))


def pair_texts(pairs: Iterable[LabelledPair]) -> list[ProbeText]:
    """The queries of labelled pairs, left out by fold."""
    kinds = {(pair.query, bool(pair.leak), pair.fold): None for pair in pairs}
    return list(_both_marks(kinds))


def prototype_texts(prototypes: Prototypes) -> list[ProbeText]:
    """The phrases of the prototypes: what short spans are like."""
    risky = [ProbeText(phrase, True, "", 0.5) for phrase in prototypes.risk]
    return risky + [ProbeText(phrase, False, "", 0.5) for phrase in prototypes.benign]


def _both_marks(kinds: Iterable[tuple[str, bool, str]]) -> Iterable[ProbeText]:
    """Each text as it is and with its closing mark changed: the mark says nothing of risk."""
    for text, risky, topic in kinds:
        other = text[:-1] if text.endswith(("?", ".")) else f"{text}?"
        yield ProbeText(text, risky, topic, 0.5)
        yield ProbeText(other, risky, topic, 0.5)


def fold_of(topics: Iterable[str]) -> dict[str, int]:
    """Which fold each topic is left out with."""
    return {topic: place % FOLDS for place, topic in enumerate(sorted(set(topics) - {""}))}


def fit_probes(
    embedder: LayeredEmbedder, texts: Sequence[ProbeText], left_out: Mapping[Key, Collection[str]]
) -> dict[Key, Probe]:
    """For every name the probe that saw no text of the topics left out under it."""
    layers = embedder.layers([each.text for each in texts]).astype(np.float64)
    return {
        key: _fit(layers, texts, np.array([each.topic not in topics for each in texts]))
        for key, topics in left_out.items()
    }


def _fit(layers: NDArray[np.float64], texts: Sequence[ProbeText], used: NDArray[np.bool_]) -> Probe:
    """Ridge logistic regression; risky and harmless texts weigh the same in sum."""
    from sklearn.linear_model import LogisticRegression

    center, scale = layers.mean(axis=0), layers.std(axis=0) + 1e-4
    risky = np.array([each.risky for each in texts])[used]
    weight = np.array([each.weight for each in texts])[used]
    weight[risky] *= weight[~risky].sum() / weight[risky].sum()
    model = LogisticRegression(C=INVERSE_RIDGE, max_iter=1000)
    model.fit((layers[used] - center) / scale, risky, sample_weight=weight)
    weights = model.coef_[0] / scale
    return Probe(
        weights=tuple(round(float(each), 3) for each in weights),
        intercept=round(float(model.intercept_[0] - weights @ center), 4),
    )
