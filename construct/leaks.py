"""Scoring drafts for leaks while they are written: against a fixed pool, many drafts at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from data.records import Audit

if TYPE_CHECKING:
    from audit.auditor import Auditor


class LeakScorer(Protocol):
    """Says how much a query gives away of what a description shows, and by which words."""

    async def score(self, query: str, description: str) -> Audit: ...


class AuditedDrafts:
    """The auditor as a leak scorer.

    Its pool is fixed, so that a pair's score depends on nothing but the pair; drafts that arrive while
    others are being scored are scored together in the next go, off the event loop.
    """

    def __init__(self, auditor: Auditor, pool: Sequence[str]) -> None:
        self._auditor = auditor
        self._pool = auditor.pool(pool)
        self._waiting: list[tuple[str, str, asyncio.Future[Audit]]] = []
        self._at_work: asyncio.Task[None] | None = None

    async def score(self, query: str, description: str) -> Audit:
        """The audit of one draft."""
        scored: asyncio.Future[Audit] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, description, scored))
        if self._at_work is None or self._at_work.done():
            self._at_work = asyncio.create_task(self._score_waiting())
        return await scored

    async def _score_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            queries, descriptions, futures = zip(*batch, strict=True)
            try:
                audits = await asyncio.to_thread(self._audit, queries, descriptions)
            except Exception as error:  # noqa: BLE001 - belongs to the rows that wait for it
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
                continue
            for future, audit in zip(futures, audits, strict=True):
                if not future.done():
                    future.set_result(audit)

    def _audit(self, queries: Sequence[str], descriptions: Sequence[str]) -> list[Audit]:
        return self._auditor.score(queries, descriptions, pool=self._pool)
