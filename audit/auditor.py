"""The auditor: queries and what their images show in, one `Audit` per pair out.

auditor = Auditor(load_embedder("minilm"), load_calibration("minilm"))
auditor.score(["How do I forge this passport?"], ["A desk with blank passports and stamps."])
-> [Audit(leakage=0.93, text_harm=0.9, p_value=0.01, leaks=True, query_spans=(...), ...)]
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from audit import features, metrics
from audit.calibrations import Calibration, reference_of
from audit.features import Floats
from audit.pairs import CHUNK, PairReader
from audit.pool import Pool
from audit.prototypes import Prototypes
from audit.spans import image_spans, query_spans
from data.embedders import Embedder
from data.errors import UserError
from data.records import Audit, Span
from data.sources.columns import clean

EVIDENCE_SPANS = 3  # shown per side
UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")  # Unicode's control codes, format marks and spaces


class Auditor:
    """Scores pairs with one embedder and the calibration fitted for it."""

    def __init__(
        self,
        embedder: Embedder,
        calibration: Calibration,
        *,
        prototypes: Prototypes | None = None,
        false_discovery_rate: float = 0.05,
    ) -> None:
        if not 0 < false_discovery_rate < 1:  # nor NaN
            raise UserError(f"A false-discovery rate lies between 0 and 1, not at {false_discovery_rate:g}.")
        self.calibration = calibration
        self._reader = PairReader(embedder, calibration, prototypes)
        self._rate = false_discovery_rate

    def score(
        self,
        queries: Iterable[str | None],
        descriptions: Iterable[str | None],
        origins: Sequence[str] | None = None,
        *,
        pool: Pool | None = None,
        counted: Sequence[bool] | None = None,
    ) -> list[Audit]:
        """One `Audit` per pair, in order. A pair without a query or a description is not scored and says why.

        Texts may come in anything that holds them in order: a list, an array, a column of a data frame, a generator.
        `UserError` where there are not as many of both, or one is neither a text nor missing (None, NaN).
        `leaks` is Benjamini-Hochberg's verdict over the rows given together, and they are each other's pool
        unless one is given: audit a benchmark in one call. A pool of fewer than about twenty descriptions
        says little; the prototypes then stand in for it. With a given pool no row bears on another's p-value.
        `counted` as in `judged`.
        """
        asked, shown = _texts(queries, "query"), _texts(descriptions, "description")
        if len(asked) != len(shown):
            raise UserError(
                f"{len(asked):,} queries do not go with {len(shown):,} descriptions: give one of each a pair."
            )
        origins = origins if origins is not None else ["author"] * len(asked)
        audits = [
            Audit(unscored_because=unscorable(query, description), content_from=origin)
            for query, description, origin in zip(asked, shown, origins, strict=True)
        ]
        rows = [row for row, audit in enumerate(audits) if audit.unscored_because is None]
        if rows:
            some, texts, told = ([side[row] for row in rows] for side in (asked, shown, origins))
            scored = self._score_complete(some, texts, told, pool or self.pool(texts))
            for row, audit in zip(rows, scored, strict=True):
                audits[row] = audit
        return judged(audits, shown, self.calibration, self._rate, counted, alone=pool is not None)

    def pool(self, descriptions: Sequence[str]) -> Pool:
        """What a query's cosine is normalised by: distinct descriptions, evenly picked if many."""
        return self._reader.pool([clean(text) for text in descriptions])

    def _score_complete(
        self, queries: Sequence[str], descriptions: Sequence[str], origins: Sequence[str], pool: Pool
    ) -> list[Audit]:
        audits: list[Audit] = []
        for start in range(0, len(queries), CHUNK):
            part = slice(start, start + CHUNK)
            audits += self._score_chunk(queries[part], descriptions[part], origins[part], pool)
        return audits

    def _score_chunk(
        self, queries: Sequence[str], descriptions: Sequence[str], origins: Sequence[str], pool: Pool
    ) -> list[Audit]:
        spans = [query_spans(query) for query in queries], [image_spans(text) for text in descriptions]
        pairs = self._reader.read(queries, descriptions, *spans, pool)
        leakage = self.calibration.leakage(pairs)
        matches = features.span_matches(pairs)
        query_evidence = _evidence(spans[0], matches.max(axis=2, initial=0.0))
        image_evidence = _evidence(spans[1], matches.max(axis=1, initial=0.0))
        harm = features.riskiness(pairs.harm)
        return [
            Audit(
                leakage=float(leakage[row]),
                text_harm=float(harm[row]),
                query_spans=query_evidence[row],
                image_spans=image_evidence[row],
                content_from=origins[row],
            )
            for row in range(len(queries))
        ]


def judged(
    audits: Sequence[Audit],
    descriptions: Sequence[str | None],
    calibration: Calibration,
    false_discovery_rate: float,
    counted: Sequence[bool] | None = None,
    *,
    alone: bool = False,
) -> list[Audit]:
    """The scored audits with p-values, and `leaks` by Benjamini and Hochberg's rule.

    Leak-free pairs score higher in some benchmarks than in others: the null is that of the pairs given together, or
    the usual one with `alone`. A pair that is not counted, such as a benchmark's harmless twin, is not flagged and
    bears on no other's verdict.
    """
    rows = [row for row, audit in enumerate(audits) if audit.leakage is not None]
    leakage = np.array([audits[row].leakage for row in rows], np.float64)
    counts = np.array([counted is None or counted[row] for row in rows], np.bool_)
    kinds = np.array([reference_of(audits[row].content_from or "", descriptions[row] or "") for row in rows])
    p_values = np.ones(len(rows))
    for kind in dict.fromkeys(kinds.tolist()):
        like = kinds == kind
        leak_free = calibration.leak_free(kind)
        null = leak_free.null if alone else leak_free.own_null(leakage[like & counts])
        p_values[like] = leak_free.p_values(leakage[like], null)
    flags = np.zeros(len(rows), np.bool_)
    flags[counts] = metrics.benjamini_hochberg(p_values[counts], false_discovery_rate)
    verdicts = list(audits)
    for row, p_value, leaks in zip(rows, p_values.tolist(), flags.tolist(), strict=True):
        verdicts[row] = audits[row].model_copy(update={"p_value": p_value, "leaks": leaks})
    return verdicts


def unscorable(query: str | None, description: str | None) -> str | None:
    """Why a pair cannot be scored; None where it can."""
    if _is_blank(query):
        return "the query is empty"
    if _is_blank(description):
        return "nothing is known of what the image shows"
    return None


def _is_blank(text: str | None) -> bool:
    """Whether there is nothing to be seen: a zero-width space is no query either."""
    return all(unicodedata.category(letter) in UNSEEN for letter in text or "")


def _texts(given: Iterable[str | None], name: str) -> list[str]:
    """The texts by their place, for a data frame's column would give them by label; "" for a missing one."""
    if isinstance(given, (str, bytes)):
        raise UserError(f"Every pair has a {name} of its own: give a list of them, not one text.")
    texts = []
    for place, text in enumerate(given):
        if not (isinstance(text, str) or _is_missing(text)):
            raise UserError(
                f"A {name} is a text; that of pair {place} (from 0) is of type {type(text).__name__}."
            )
        texts.append(clean(text) if isinstance(text, str) else "")
    return texts


def _is_missing(value: object) -> bool:
    """None, or what arrays and data frames have in its place: NaN equals nothing, pandas' NA cannot be asked."""
    return value is None or type(value).__name__ == "NAType" or value != value


def _evidence(spans: Sequence[Sequence[str]], weights: Floats) -> list[tuple[Span, ...]]:
    """Per pair, the spans that weigh most, heaviest first; `weights` (n, a) are 0 where a pair has fewer than a."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :EVIDENCE_SPANS]
    heaviest = np.take_along_axis(weights, order, axis=1).astype(np.float64).round(3).tolist()
    return [
        tuple(
            Span(text=own[place], weight=weight)
            for place, weight in zip(places, of_pair, strict=True)
            if place < len(own)
        )
        for own, places, of_pair in zip(spans, order.tolist(), heaviest, strict=True)
    ]
