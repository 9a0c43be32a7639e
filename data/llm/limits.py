"""How fast to ask one server: requests in flight, requests and tokens a minute. 429s slow, successes hasten.

Nobody knows a server's limits beforehand. The window of requests in flight starts wide open, is cut by
a third when the server says "too many", and grows by two per round trip afterwards.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

CUT = 0.7
GROWTH = 2.0  # requests in flight gained per round trip
SLOWEST = 0.05  # of a stated limit per minute
RECOVERY = 0.01  # of a stated limit per minute, regained with each success
BURST_SECONDS = 1.0  # what a pause lets one catch up on


class Window:
    """The requests in flight and how many may be."""

    def __init__(self) -> None:
        self.size = math.inf
        self.in_flight = 0
        self._cuts = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> int:
        """Wait for a place, first come first served. Returns the ticket that `refused` asks for."""
        if not self._waiting and self.in_flight < self.size:
            self.in_flight += 1
            return self._cuts
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn  # whoever wakes it has counted it in
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise
        return self._cuts

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        while self._waiting and self.in_flight < self.size:
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    def refused(self, ticket: int) -> None:
        """The server said 429. Of requests sent before the last cut, none cuts again."""
        if ticket == self._cuts:
            self.size = max(1.0, min(self.size, self.in_flight) * CUT)
            self._cuts += 1

    def answered(self) -> None:
        """The server answered: there may be room for more."""
        self.size += GROWTH / max(self.size, 1.0)

    @property
    def closed_in(self) -> bool:
        """Down to one at a time."""
        return self.size < 2


class Pace:
    """So many units (requests, tokens) a minute at most; slower after a 429, then back to the limit."""

    def __init__(self, per_minute: float) -> None:
        self.limit = self.rate = per_minute
        self._free_at = 0.0

    async def take(self, units: float) -> None:
        """Wait until so many units may be spent."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now - BURST_SECONDS)
        wait = self._free_at - now
        self.correct(units)
        if wait > 0:
            await asyncio.sleep(wait)

    def correct(self, units: float) -> None:
        """Spend what an estimate missed, or give back (negative) what it had too much."""
        self._free_at += units * 60 / self.rate

    def refused(self) -> None:
        self.rate = max(self.limit * SLOWEST, self.rate * CUT)

    def answered(self) -> None:
        self.rate = min(self.limit, self.rate + self.limit * RECOVERY)
