"""The auditor: queries and what their images show in, one `Audit` per pair out.

auditor = Auditor(load_embedder("minilm"), load_calibration("minilm"))
auditor.score(["How do I forge this passport?"], ["A desk with blank passports and stamps."])
-> [Audit(leakage=0.93, text_harm=0.9, p_value=0.01, leaks=True, query_spans=(...), ...)]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit import vsil
from audit.calibrations import Calibration, load_calibration
from audit.prototypes import Prototypes, load_prototypes
from audit.spans import image_spans, query_parts, query_spans, sentences, shorten, strip_boilerplate
from audit.vsil import Floats, PairArrays
from data.embedders import Embedder, LayeredEmbedder
from data.errors import UserError
from data.records import Audit, Span

__all__ = ["ORIGINS", "Auditor", "Calibration", "Pool", "load_calibration"]

ORIGINS = ("author", "caption", "ocr")  # of a description; the conformal reference depends on it
POOL_SIZE = 1000  # descriptions a query is compared with to normalise its cosine
CHUNK = 1000  # pairs in memory at a time
EVIDENCE_SPANS = 3  # shown per side


class Pool(NamedTuple):
    """The descriptions of a benchmark, by sentence, and the phrases that stand in where they are few."""

    sentences: Floats  # (s, d)
    starts: NDArray[np.int64]  # (m,) each description's first sentence
    phrases: Floats  # (r, d)
    whole: Floats  # (m, d) each description, whole
    complete: bool  # whether every description of the benchmark is in it, a query's own too

    def spread(self, parts: Floats, first_parts: NDArray[np.int64], own: Floats) -> tuple[Floats, Floats]:
        """(n,) mean and (n,) standard deviation of each query's cosine with images that are not its own.

        `parts` (p, d) are the queries' parts, `first_parts` (n,) the row of each query's first.
        """
        nearest = np.maximum.reduceat(parts @ self.sentences.T, self.starts, axis=1)
        return self._spread(nearest, parts @ self.phrases.T, first_parts, own)

    def risk_spread(
        self, parts: Floats, first_parts: NDArray[np.int64], own: Floats, space: Space
    ) -> tuple[Floats, Floats]:
        """The same in the risk space; `parts` (p, k) are already there."""
        whole, phrases = space.images(self.whole), space.images(self.phrases)
        return self._spread(parts @ whole.T, parts @ phrases.T, first_parts, own)

    def _spread(
        self, cosines: Floats, reference: Floats, first_parts: NDArray[np.int64], own: Floats
    ) -> tuple[Floats, Floats]:
        others = np.maximum.reduceat(cosines, first_parts, axis=0)
        reference = np.maximum.reduceat(reference, first_parts, axis=0)
        return vsil.shrunken_spread(others, reference, own if self.complete else None)


class Space(NamedTuple):
    """A calibration's risk space, as arrays."""

    weights: Floats  # (k, d)
    query_center: Floats  # (d,)
    image_center: Floats  # (d,)

    def queries(self, vectors: Floats) -> Floats:
        """(n, k) where (n, d) vectors of queries lie in the space."""
        return vsil.in_risk_space(vectors, self.weights, self.query_center)

    def images(self, vectors: Floats) -> Floats:
        """(n, k) where (n, d) vectors of descriptions lie in the space."""
        return vsil.in_risk_space(vectors, self.weights, self.image_center)


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
        # A taxonomy of one's own is known by its phrases only: the probe was trained on ours.
        self._probe = calibration.probe if prototypes is None else None
        if self._probe and not isinstance(embedder, LayeredEmbedder):
            raise UserError(
                f"The calibration reads the layers of {calibration.embedder!r}, which {embedder.name!r} does "
                "not show: fit one with `python -m audit.calibrate`."
            )
        self._space = _space_of(calibration)
        prototypes = prototypes or load_prototypes()
        self.calibration = calibration
        self._embedder = embedder
        self._rate = false_discovery_rate
        self._risk = embedder.embed(prototypes.risk)
        self._benign = embedder.embed(prototypes.benign)

    def score(
        self,
        queries: Sequence[str],
        descriptions: Sequence[str | None],
        origins: Sequence[str] | None = None,
        *,
        pool: Pool | None = None,
    ) -> list[Audit]:
        """One `Audit` per pair, in order. A pair without a query or a description is not scored and says why.

        `leaks` is Benjamini-Hochberg's verdict over the rows given together, and they are each other's pool
        unless one is given: audit a benchmark in one call. A pool of fewer than about twenty descriptions
        says little; the prototypes then stand in for it.
        """
        origins = origins if origins is not None else ["author"] * len(queries)
        audits = [
            Audit(unscored_because=_why_unscored(query, description), content_from=origin)
            for query, description, origin in zip(queries, descriptions, origins, strict=True)
        ]
        rows = [row for row, audit in enumerate(audits) if audit.unscored_because is None]
        texts = [descriptions[row] or "" for row in rows]
        if rows:
            asked, told = [queries[row] for row in rows], [origins[row] for row in rows]
            scored = self._score_complete(asked, texts, told, pool or self.pool(texts))
            for row, audit in zip(rows, scored, strict=True):
                audits[row] = audit
        return audits

    def pool(self, descriptions: Sequence[str]) -> Pool:
        """What a query's cosine is normalised by: distinct descriptions, evenly picked if many."""
        distinct = list(dict.fromkeys(descriptions))
        step = -(-len(distinct) // POOL_SIZE) or 1
        pieces = [content_sentences(text) for text in distinct[::step]]
        starts = np.cumsum([0, *map(len, pieces)])[:-1]
        vectors = self._embedder.embed([piece for text in pieces for piece in text])
        phrases = np.concatenate([self._benign, self._risk])
        whole = self._embedder.embed([bare_description(text) for text in distinct[::step]])
        return Pool(vectors, starts, phrases, whole, complete=step == 1)

    def _score_complete(
        self, queries: Sequence[str], descriptions: Sequence[str], origins: Sequence[str], pool: Pool
    ) -> list[Audit]:
        audits: list[Audit] = []
        for start in range(0, len(queries), CHUNK):
            part = slice(start, start + CHUNK)
            audits += self._score_chunk(queries[part], descriptions[part], origins[part], pool)
        p_values = np.array([audit.p_value for audit in audits], np.float32)
        flags = vsil.benjamini_hochberg(p_values, self._rate)
        return [
            audit.model_copy(update={"leaks": bool(flag)}) for audit, flag in zip(audits, flags, strict=True)
        ]

    def _score_chunk(
        self, queries: Sequence[str], descriptions: Sequence[str], origins: Sequence[str], pool: Pool
    ) -> list[Audit]:
        spans = [query_spans(query) for query in queries], [image_spans(text) for text in descriptions]
        pairs = self._measure(queries, descriptions, *spans, pool)
        leakage = self.calibration.leakage(pairs)
        p_values = self._p_values(leakage, origins)
        matches = vsil.span_matches(pairs)
        query_weights, image_weights = matches.max(axis=2, initial=0.0), matches.max(axis=1, initial=0.0)
        harm = vsil.riskiness(pairs.harm)
        return [
            Audit(
                leakage=float(leakage[row]),
                text_harm=float(harm[row]),
                p_value=float(p_values[row]),
                query_spans=_evidence(spans[0][row], query_weights[row]),
                image_spans=_evidence(spans[1][row], image_weights[row]),
                content_from=origins[row],
            )
            for row in range(len(queries))
        ]

    def _p_values(self, leakage: Floats, origins: Sequence[str]) -> Floats:
        reference = self.calibration.conformal
        p_values = np.ones(len(leakage), np.float32)
        for origin in dict.fromkeys(origins):
            rows = np.array([each == origin for each in origins])
            scores = np.asarray(reference.get(origin, reference["author"]), np.float32)
            p_values[rows] = vsil.conformal_p(leakage[rows], scores)
        return p_values

    def measure(
        self, queries: Sequence[str], descriptions: Sequence[str], pool: Pool
    ) -> Iterator[PairArrays]:
        """What the features are computed from, a chunk of pairs at a time; no text may be empty."""
        for start in range(0, len(queries), CHUNK):
            some, shown = queries[start : start + CHUNK], descriptions[start : start + CHUNK]
            spans = [query_spans(query) for query in some], [image_spans(text) for text in shown]
            yield self._measure(some, shown, *spans, pool)

    def _read(self, texts: Sequence[str], weighed: int) -> tuple[Floats, Floats]:
        """(n, d) vectors of the texts, and (weighed,) how risky each of the first ones is, as a margin."""
        if self._probe is None or not isinstance(self._embedder, LayeredEmbedder):
            vectors = self._embedder.embed(texts)
            return vectors, vsil.risk_margin(vectors[:weighed], self._risk, self._benign)
        weights = np.asarray(self._probe.weights, np.float32)
        vectors, readings = self._embedder.embed_probed(texts, weights)
        margins = vsil.risk_margin(vectors[:weighed], self._risk, self._benign)
        return vectors, vsil.joint_margin(margins, readings[:weighed] + np.float32(self._probe.intercept))

    def _measure(
        self,
        queries: Sequence[str],
        descriptions: Sequence[str],
        of_queries: list[list[str]],
        of_images: list[list[str]],
        pool: Pool,
    ) -> PairArrays:
        """Every distinct text is embedded once, then all is array work on padded spans."""
        asked = [query_parts(query) for query in queries]
        told = [content_sentences(text) for text in descriptions]
        bare = [bare_description(text) for text in descriptions]
        weighed = dict.fromkeys(_all_texts(asked, of_queries, of_images))
        texts = list(weighed | dict.fromkeys(_all_texts(told, [bare])))
        row_of = {text: row for row, text in enumerate(texts)}
        vectors, margins = self._read(texts, len(weighed))
        part_rows, part_mask = _padded(asked, row_of)
        query_rows, query_mask = _padded(of_queries, row_of)
        image_rows, image_mask = _padded(of_images, row_of)
        cosine, part, sentence = _nearest(vectors, part_rows, part_mask, *_padded(told, row_of))
        parts, counts = vectors[part_rows[part_mask]], part_mask.sum(axis=1)
        first_parts = np.cumsum(counts) - counts
        pool_mean, pool_std = pool.spread(parts, first_parts, cosine)
        whole = vectors[[row_of[text] for text in bare]]
        risk_cosine, risk_mean, risk_std = self._in_risk_space(parts, first_parts, counts, whole, pool)
        shown = vectors[image_rows].transpose(0, 2, 1)
        return PairArrays(
            cosine=cosine,
            pool_mean=pool_mean,
            pool_std=pool_std,
            similarity=vectors[query_rows] @ shown,
            whole=np.where(part_mask[:, :, None], vectors[part_rows] @ shown, -1.0)
            .max(axis=1)
            .astype(np.float32),
            query_mask=query_mask,
            image_mask=image_mask,
            query_margin=margins[query_rows],
            image_margin=margins[image_rows],
            harm=np.where(part_mask, margins[part_rows], -np.inf).max(axis=1).astype(np.float32),
            agreement=vsil.risk_agreement(vectors[part], vectors[sentence], self._risk),
            risk_cosine=risk_cosine,
            risk_mean=risk_mean,
            risk_std=risk_std,
            recall=np.array([_stem_recall(*pair) for pair in zip(queries, told, strict=True)], np.float32),
        )

    def _in_risk_space(
        self,
        parts: Floats,
        first_parts: NDArray[np.int64],
        counts: NDArray[np.int64],
        descriptions: Floats,
        pool: Pool,
    ) -> tuple[Floats, Floats, Floats]:
        """(n,) cosine of query and description in the risk space, and its (n,) mean and deviation in the pool."""
        if self._space is None:
            nothing = np.zeros(len(descriptions), np.float32)
            return nothing, nothing, nothing
        queries = self._space.queries(parts)
        images = np.repeat(self._space.images(descriptions), counts, axis=0)
        cosine = np.maximum.reduceat(np.einsum("pk,pk->p", queries, images), first_parts)
        return cosine, *pool.risk_spread(queries, first_parts, cosine, self._space)


def bare_description(description: str) -> str:
    """The whole description without caption boilerplate, no longer than an embedder reads."""
    return shorten(strip_boilerplate(description))


def content_sentences(description: str) -> list[str]:
    """The description's sentences without caption boilerplate."""
    return sentences(strip_boilerplate(description))


def _nearest(
    vectors: Floats, parts: NDArray[np.int64], asked: vsil.Mask, sentences: NDArray[np.int64], told: vsil.Mask
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """(n,) largest cosine of a part of the query with a sentence of the description, and (n,) the rows of both."""
    cosines = vectors[parts] @ vectors[sentences].transpose(0, 2, 1)
    cosines = np.where(asked[:, :, None] & told[:, None, :], cosines, -1.0).astype(np.float32)
    pairs = np.arange(len(cosines))
    part, sentence = np.divmod(cosines.reshape(len(cosines), -1).argmax(axis=1), sentences.shape[1])
    return cosines[pairs, part, sentence], parts[pairs, part], sentences[pairs, sentence]


def _why_unscored(query: str, description: str | None) -> str | None:
    if not (query or "").strip():
        return "the query is empty"
    if not (description or "").strip():
        return "nothing is known of what the image shows"
    return None


def _space_of(calibration: Calibration) -> Space | None:
    if calibration.space is None:
        return None
    found = calibration.space
    arrays = (found.weights, found.query_center, found.image_center)
    return Space(*(np.asarray(each, np.float32) for each in arrays))


def _all_texts(*groups: list[list[str]]) -> Iterator[str]:
    for group in groups:
        for texts in group:
            yield from texts


def _padded(groups: list[list[str]], row_of: dict[str, int]) -> tuple[NDArray[np.int64], vsil.Mask]:
    """(n, longest) row numbers and which of them are there."""
    width = max(1, max(map(len, groups), default=1))
    rows = np.zeros((len(groups), width), np.int64)
    mask = np.zeros((len(groups), width), np.bool_)
    for place, group in enumerate(groups):
        rows[place, : len(group)] = [row_of[text] for text in group]
        mask[place, : len(group)] = True
    return rows, mask


def _stem_recall(query: str, pieces: Sequence[str]) -> float:
    """The largest share of a sentence's word stems that the query holds."""
    found = _stems(query)
    return max((len(wanted & found) / len(wanted) for wanted in map(_stems, pieces) if wanted), default=0.0)


def _stems(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"[^\W_]{4,}", text.lower())}


def _evidence(spans: list[str], weights: Floats) -> tuple[Span, ...]:
    """The spans that weigh most, heaviest first."""
    order = np.argsort(-weights[: len(spans)], kind="stable")[:EVIDENCE_SPANS]
    return tuple(Span(text=spans[place], weight=round(float(weights[place]), 3)) for place in order)
