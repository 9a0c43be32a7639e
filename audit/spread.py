"""An audit whose pairs are scored by an engine's workers, a part each; the verdicts are over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from audit.auditor import Auditor, judged, unscorable
from audit.calibrations import Calibration, load_calibration
from audit.pool import Pool
from data.embedders import load_embedder
from data.engines import Engine, Work
from data.errors import RowFailed, UserError
from data.records import Audit

PAIRS_TOGETHER = 1000  # scored by one worker at a time


class Asked(NamedTuple):
    """A pair to be scored."""

    id: str
    query: str
    description: str | None
    origin: str


def load_auditor(
    embedder: str, calibration: str, false_discovery_rate: float, *, fast: bool = False
) -> Auditor:
    """An auditor by the names of its parts: what a worker makes its own by."""
    return Auditor(
        load_embedder(embedder, fast=fast),
        load_calibration(calibration),
        false_discovery_rate=false_discovery_rate,
    )


class PairScorer(Protocol):
    """Scores pairs, in order; the rows given together are judged together."""

    def score(
        self,
        queries: Sequence[str],
        descriptions: Sequence[str | None],
        origins: Sequence[str] | None = None,
        *,
        counted: Sequence[bool] | None = None,
    ) -> list[Audit]: ...


class SpreadAuditor(NamedTuple):
    """An auditor whose pairs an engine's workers score."""

    engine: Engine
    load: Callable[[], Auditor]
    calibration: Calibration
    false_discovery_rate: float

    def score(
        self,
        queries: Sequence[str],
        descriptions: Sequence[str | None],
        origins: Sequence[str] | None = None,
        *,
        counted: Sequence[bool] | None = None,
    ) -> list[Audit]:
        """One `Audit` per pair, in order."""
        told = origins if origins is not None else ["author"] * len(queries)
        audits = score_spread(self.engine, self.load, queries, descriptions, told)
        return judged(audits, descriptions, self.calibration, self.false_discovery_rate, counted)


def score_spread(
    engine: Engine,
    load: Callable[[], Auditor],
    queries: Sequence[str],
    descriptions: Sequence[str | None],
    origins: Sequence[str],
) -> list[Audit]:
    """What `Auditor.score` finds of each pair, in order; `judged` then sees all of them.

    The pool is made where a worker is, and every part is scored against it.
    """
    known = [
        text
        for query, text in zip(queries, descriptions, strict=True)
        if text and not unscorable(query, text)
    ]
    pool = engine.once("audit", partial(_pool, load, known)) if known else None
    asked = [
        Asked(str(row), *pair) for row, pair in enumerate(zip(queries, descriptions, origins, strict=True))
    ]
    audits: dict[int, Audit] = {}
    for done in engine.run("audit", partial(_scoring, load, pool), asked, PAIRS_TOGETHER):
        for identity, audit in done:
            if isinstance(audit, RowFailed):
                raise UserError(f"A part of the audit failed ({audit}): run the same command again.")
            audits[int(identity)] = audit
    return [audits[row] for row in range(len(asked))]


def _pool(load: Callable[[], Auditor], descriptions: Sequence[str]) -> Pool:
    return load().pool(descriptions)


def _scoring(load: Callable[[], Auditor], pool: Pool | None) -> Work:
    """What a worker scores with."""
    auditor = load()

    def score(some: Sequence[Asked]) -> list[Audit]:
        _, queries, descriptions, origins = zip(*some, strict=True)
        return auditor.score(queries, descriptions, origins, pool=pool)

    return score
