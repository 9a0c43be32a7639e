"""What an embedder, a probe and a risk space say of pairs: texts in, the arrays that features are computed from out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from audit import features
from audit.calibrations import Calibration
from audit.features import Floats, Mask, PairArrays
from audit.pool import Pool, Space
from audit.prototypes import Prototypes, load_prototypes
from audit.spans import both_texts, content_sentences, image_spans, passages, query_parts, query_spans
from data.embedders import Embedder, LayeredEmbedder
from data.errors import UserError

POOL_SIZE = 1000  # descriptions a query is compared with to normalise its cosine
CHUNK = 1000  # pairs in memory at a time


class PairReader:
    """Reads pairs with one embedder and what a calibration makes of its vectors."""

    def __init__(
        self, embedder: Embedder, calibration: Calibration, prototypes: Prototypes | None = None
    ) -> None:
        if calibration.embedder != embedder.name:
            raise UserError(
                f"The calibration was fitted for the embedder {calibration.embedder!r}, not {embedder.name!r}: fit "
                "one with `python -m audit.calibrate`."
            )
        # A taxonomy of one's own is known by its phrases only: probe and cross-encoder were trained on ours.
        self._probe = calibration.probe if prototypes is None else None
        if (calibration.probe or calibration.cross_encoder) and not isinstance(embedder, LayeredEmbedder):
            raise UserError(
                f"The calibration reads the layers of {calibration.embedder!r}, which {embedder.name!r} does "
                "not show: fit one with `python -m audit.calibrate`."
            )
        self._space = Space.of(calibration.space) if calibration.space else None
        trained = calibration.cross_encoder if prototypes is None else None
        self._adapter = trained.adapter() if trained else None
        prototypes = prototypes or load_prototypes()
        self._embedder = embedder
        self._risk = embedder.embed(prototypes.risk)
        self._benign = embedder.embed(prototypes.benign)
        self._pool_rows: dict[str, int] = {}  # of the latest pool's texts, which its pairs hold too
        self._pool_read = self._ask([])

    def pool(self, descriptions: Sequence[str]) -> Pool:
        """What a query's cosine is normalised by: distinct descriptions, evenly picked if many."""
        distinct = list(dict.fromkeys(descriptions))
        step = -(-len(distinct) // POOL_SIZE) or 1
        pieces = [content_sentences(text) for text in distinct[::step]]
        starts = np.cumsum([0, *map(len, pieces)])[:-1]
        told = [passages(text) for text in distinct[::step]]
        texts = list(dict.fromkeys(part for parts in (*pieces, *told) for part in parts))
        self._pool_rows = {text: row for row, text in enumerate(texts)}
        self._pool_read = self._ask(texts)
        phrases = np.concatenate([self._benign, self._risk])
        passage_starts = np.cumsum([0, *map(len, told)])[:-1]
        vectors, passage_vectors = (
            self._pool_read[0][[self._pool_rows[part] for parts in group for part in parts]]
            for group in (pieces, told)
        )
        return Pool(vectors, starts, phrases, passage_vectors, passage_starts, frozenset(distinct[::step]))

    def measure(
        self, queries: Sequence[str], descriptions: Sequence[str], pool: Pool
    ) -> Iterator[PairArrays]:
        """What the features are computed from, a chunk of pairs at a time; no text may be empty."""
        for start in range(0, len(queries), CHUNK):
            some, shown = queries[start : start + CHUNK], descriptions[start : start + CHUNK]
            spans = [query_spans(query) for query in some], [image_spans(text) for text in shown]
            yield self.read(some, shown, *spans, pool)

    def read(
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
        longer = [passages(text) for text in descriptions]
        weighed = dict.fromkeys(_all_texts(asked, of_queries, of_images))
        texts = list(weighed | dict.fromkeys(_all_texts(told, longer)))
        row_of = {text: row for row, text in enumerate(texts)}
        vectors, margins = self._embed(texts, len(weighed))
        part_rows, part_mask = _padded(asked, row_of)
        query_rows, query_mask = _padded(of_queries, row_of)
        image_rows, image_mask = _padded(of_images, row_of)
        cosine, part, sentence = _nearest(vectors, part_rows, part_mask, *_padded(told, row_of))
        parts, counts = vectors[part_rows[part_mask]], part_mask.sum(axis=1)
        first_parts = np.cumsum(counts) - counts
        held = np.array([text in pool.described for text in descriptions], np.bool_)
        pool_mean, pool_std = pool.spread(parts, first_parts, cosine, held)
        shown_rows, shown_mask = _padded(longer, row_of)
        risk_cosine, risk_mean, risk_std, risk_nearest = self._in_risk_space(
            parts, first_parts, counts, vectors.take(shown_rows, axis=0), shown_mask, held, pool
        )
        return PairArrays(
            cosine=cosine,
            pool_mean=pool_mean,
            pool_std=pool_std,
            similarity=vectors.take(query_rows, axis=0) @ vectors.take(image_rows, axis=0).transpose(0, 2, 1),
            query_mask=query_mask,
            image_mask=image_mask,
            query_margin=margins[query_rows],
            image_margin=margins[image_rows],
            harm=np.where(part_mask, margins[part_rows], -np.inf).max(axis=1).astype(np.float32),
            agreement=features.risk_agreement(vectors[part], vectors[sentence], self._risk),
            risk_cosine=risk_cosine,
            risk_mean=risk_mean,
            risk_std=risk_std,
            risk_nearest=risk_nearest,
            joint=self._read_together(queries, descriptions),
            sentences=np.array([max(len(pieces), 1) for pieces in told]),
            recall=np.array([_stem_recall(*pair) for pair in zip(queries, told, strict=True)], np.float32),
        )

    def _ask(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """(n, d) vectors and (n, k) readings from the embedder itself; k is 1 with a probe and 0 without one."""
        if self._probe is None or not isinstance(self._embedder, LayeredEmbedder):
            return self._embedder.embed(texts), np.zeros((len(texts), 0), np.float32)
        return self._embedder.embed_probed(texts, np.asarray(self._probe.weights, np.float32)[:, None])

    def _embed(self, texts: Sequence[str], weighed: int) -> tuple[Floats, Floats]:
        """(n, d) vectors of the texts, and (weighed,) how risky each of the first ones is, as a margin."""
        rows = np.array([self._pool_rows.get(text, -1) for text in texts], np.int64)
        fresh = np.flatnonzero(rows < 0)
        rows[fresh] = len(self._pool_rows) + np.arange(len(fresh))
        asked = self._ask([texts[row] for row in fresh.tolist()])
        vectors, readings = (
            np.concatenate([some for some in both if len(some)])[rows]
            for both in zip(self._pool_read, asked, strict=True)
        )
        margins = features.risk_margin(vectors[:weighed], self._risk, self._benign)
        if self._probe is None:
            return vectors, margins
        log_odds = readings[:weighed, 0] + np.float32(self._probe.intercept)
        return vectors, features.joint_margin(margins, log_odds)

    def _read_together(self, queries: Sequence[str], descriptions: Sequence[str]) -> Floats:
        """(n,) log odds of the cross-encoder; without one NaN."""
        if self._adapter is None or not isinstance(self._embedder, LayeredEmbedder):
            return np.full(len(queries), np.nan, np.float32)
        pairs = [both_texts(*pair) for pair in zip(queries, descriptions, strict=True)]
        return self._embedder.read_together(pairs, self._adapter)

    def _in_risk_space(
        self,
        parts: Floats,
        first_parts: NDArray[np.int64],
        counts: NDArray[np.int64],
        shown: Floats,
        there: Mask,
        held: Mask,
        pool: Pool,
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """(n,) largest cosine of a part of the query and a passage; its (n,) mean, deviation and most in the pool.

        `shown` (n, t, d) are the descriptions' passages, `there` (n, t) which of them are, and `held` (n,) whether a
        pair's description is in the pool.
        """
        if self._space is None:
            nothing = np.zeros(len(shown), np.float32)
            return nothing, nothing, nothing, nothing
        queries = self._space.queries(parts)
        images = np.repeat(self._space.images(shown), counts, axis=0)
        cosines = np.where(np.repeat(there, counts, axis=0), np.einsum("pk,ptk->pt", queries, images), -1.0)
        cosine = np.maximum.reduceat(cosines.max(axis=1), first_parts).astype(np.float32)
        return cosine, *pool.risk_spread(queries, first_parts, cosine, held, self._space)


def _nearest(
    vectors: Floats, parts: NDArray[np.int64], asked: Mask, sentences: NDArray[np.int64], told: Mask
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """(n,) largest cosine of a part of the query with a sentence of the description, and (n,) the rows of both."""
    cosines = vectors.take(parts, axis=0) @ vectors.take(sentences, axis=0).transpose(0, 2, 1)
    cosines = np.where(asked[:, :, None] & told[:, None, :], cosines, -1.0).astype(np.float32)
    pairs = np.arange(len(cosines))
    part, sentence = np.divmod(cosines.reshape(len(cosines), -1).argmax(axis=1), sentences.shape[1])
    return cosines[pairs, part, sentence], parts[pairs, part], sentences[pairs, sentence]


def _all_texts(*groups: list[list[str]]) -> Iterator[str]:
    for group in groups:
        for texts in group:
            yield from texts


def _padded(groups: list[list[str]], row_of: dict[str, int]) -> tuple[NDArray[np.int64], Mask]:
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
