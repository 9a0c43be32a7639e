"""What calls cost: an editable price table, bills, and the ledger that holds a run to its budget."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from data.errors import UserError

TABLE = Path(__file__).with_name("prices.toml")
MILLION = 1_000_000
BATCH_DISCOUNT = 0.5  # what the Batch API takes off


class Price(BaseModel):
    """Currency units per million tokens. `cached_input` is the price of input the server had seen before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float
    output: float
    cached_input: float | None = None
    picture_tokens: int = 3000  # of input, that a picture counts for at most

    def of(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """What so many tokens cost."""
        cached_input = self.input if self.cached_input is None else self.cached_input
        fresh = (input_tokens - cached_tokens) * self.input
        return (fresh + cached_tokens * cached_input + output_tokens * self.output) / MILLION


class Bill(NamedTuple):
    """Calls, their tokens, and what those with a known price cost; `unpriced` counts the others."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def plus(self, other: Bill) -> Bill:
        """Both together."""
        return Bill(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost + other.cost,
            self.unpriced + other.unpriced,
        )

    def words(self) -> str:
        """For a progress bar: `120 calls, 64k tokens, 0.42 USD`."""
        said = f"{self.calls} calls, {(self.input_tokens + self.output_tokens) / 1000:.0f}k tokens"
        said += f", {self.cost:.2f} {CURRENCY}" if self.cost else ""
        return said + (f", {self.unpriced} calls of unknown price" if self.unpriced else "")


CURRENCY = "USD"  # of the table that ships; whoever edits the table may count in another


def find_price(model: str, table: Path = TABLE) -> Price | None:
    """The price of a model, also under a dated name such as `gpt-4o-2024-08-06`; None if it is not listed."""
    try:
        entries = tomllib.loads(table.read_text())["models"]
        undated = re.sub(r"-\d{4}-\d{2}-\d{2}$", "", model)
        entry = entries.get(model) or entries.get(undated)
        return Price.model_validate(entry) if entry else None
    except (OSError, KeyError, AttributeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise UserError(f"{table} is not a price table ({error}): see the one that came with it.") from error


class Ledger:
    """What a run has spent, which stage is spending, and how much it may.

    A call's worst case is set aside before it is made, so that the budget holds with any number in flight.
    """

    def __init__(self, budget: float | None = None, spent: Bill | None = None) -> None:
        self.budget = budget
        self.stage = ""
        self.spent = spent or Bill()  # by the whole run, also before this process
        self.fresh = Bill()  # by this process
        self.cached = 0  # calls the cache answered
        self._set_aside = 0.0
        self._settled = asyncio.Event()

    def book(self, bill: Bill) -> None:
        """Add what a call took."""
        self.spent = self.spent.plus(bill)
        self.fresh = self.fresh.plus(bill)

    @asynccontextmanager
    async def reserve(self, worst: float) -> AsyncIterator[None]:
        """Set aside what a call may cost at most; waits for calls in flight when the rest is too small.

        Raises `UserError` when even then the budget does not reach.
        """
        while self.budget is not None and self.spent.cost + self._set_aside + worst > self.budget:
            if self._set_aside <= 0:
                raise UserError(
                    f"The next call could exceed the budget of {self.budget:g} ({self.spent.cost:.4f} "
                    "spent): everything paid for is kept, raise --budget to go on."
                )
            await self._settled.wait()
        self._set_aside += worst
        try:
            yield
        finally:
            self._set_aside = max(0.0, self._set_aside - worst)
            if self._set_aside < 1e-12:
                self._set_aside = 0.0
            self._settled.set()
            self._settled = asyncio.Event()
