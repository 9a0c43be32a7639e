"""`--estimate`: what a run would take in calls, tokens and money, before anything is spent.

The stages are rehearsed on the scene bank, whose texts are about as long as a model's, and what they took
per row is multiplied by the rows there will be. Rows that are done already cost nothing, unless they, or
those they come from, were made with other settings; nor do those that a stage is known to have lost. A stage
under --redo asks for nothing that is paid for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from construct.describe import describe_element
from construct.elements import list_elements, pairs_of
from construct.leaks import LeakScorer
from construct.offline.author import OfflineAuthor, count_asked
from construct.offline.scenes import load_scenes
from construct.perceive import listed
from construct.profile import ChatSection, Profile
from construct.rewrite import rewrite_query
from construct.stages import Step, steps_of
from construct.workshop import Workshop, price_of
from data.embedders import Embedder, Vectors
from data.errors import PERMANENT
from data.llm.cache import ResponseCache
from data.llm.chat import CHARACTERS_PER_TOKEN, TOKENS_PER_PICTURE, Asker
from data.llm.prices import BATCH_DISCOUNT, CURRENCY, Bill
from data.records import Audit, ElementList
from data.rows import parse_row
from data.stage import read_meta, read_stage
from data.stage_chain import is_finished
from data.taxonomy import load_taxonomy

ELEMENT = "an object in the hands of a person"  # of usual length, where the bank has no more
LOOKING_OUTPUT_TOKENS = 120  # of a reply about a picture


class Forecast(NamedTuple):
    """What one stage would take for the rows still to be done."""

    stage: str
    rows: int
    bill: Bill


class Known(NamedTuple):
    """What a stage need not be asked for again: rows it has made, and of these the ones that go no further."""

    done: int = 0
    lost: int = 0


class Understudy(OfflineAuthor):
    """The offline author, never at a loss for elements: a real model has more than the bank."""

    def elements(self, prompt: str) -> list[str]:
        known = super().elements(prompt)
        return known + [f"{ELEMENT} {number}" for number in range(count_asked(prompt) - len(known))]


class Unlike:
    """An embedder to which no two texts are alike."""

    name = "unlike"

    def embed(self, texts: Sequence[str]) -> Vectors:
        return np.eye(len(texts), dtype=np.float32)


class KnownLeaks:
    """Finds the leaks the scene bank says there are."""

    def __init__(self) -> None:
        self._leaking = {scene.leaking_query for scene in load_scenes()}

    async def score(self, query: str, description: str) -> Audit:  # noqa: ARG002 - the protocol's
        return Audit(leakage=1.0 if query in self._leaking else 0.0)


class Rehearsal(Workshop):
    """A workshop in which nothing is paid for, loaded or kept."""

    @cached_property
    def cache(self) -> ResponseCache:
        return ResponseCache(":memory:")

    @cached_property
    def author(self) -> Asker:
        offline = self.profile.author.kind == "offline"
        return Asker(OfflineAuthor() if offline else Understudy(), self.cache, ledger=self.ledger)

    @cached_property
    def embedder(self) -> Embedder:
        return Unlike()

    @cached_property
    def leak_scorer(self) -> LeakScorer:
        return KnownLeaks()


def forecast(
    profile: Profile,
    folder: Path,
    stage: str,
    limit: int | None,
    batch: bool = False,
    retry_failed: bool = False,
) -> list[Forecast]:
    """What each chosen stage that asks a model would take. Raises `UserError` for what a run would refuse."""
    shop = Rehearsal(profile, folder, batch=batch)
    shop.check()
    per_row, pairs = asyncio.run(_rehearse(shop))
    known = {name: _known(folder / f"{name}.jsonl", retry_failed) for name in _current(shop)}
    if "elements" in known and is_finished(folder, "elements"):
        pairs = sum(1 for _ in pairs_of(read_stage(folder, "elements", ElementList)))
    rows = _rows_to_come(shop, pairs, limit, known)
    forecasts = []
    for step in steps_of(profile):
        if stage in ("all", step.name) and (step.name in per_row or step.asks == "mllm"):
            todo = max(0, rows[step.name] - known.get(step.name, Known()).done)
            forecasts.append(_forecast(step, todo, per_row.get(step.name), shop))
    return forecasts


def _forecast(step: Step, todo: int, per_row: tuple[Bill, int] | None, shop: Workshop) -> Forecast:
    section, batch = getattr(shop.profile, step.asks), shop.batch
    if per_row is None:  # it looks at pictures, which cannot be rehearsed
        letters = sum(len(shop.prompt(name).system) + len(shop.prompt(name).user) for name in step.prompts)
        letters += len(listed(load_taxonomy())) if step.name == "perceive" else 0
        looked = letters // CHARACTERS_PER_TOKEN + TOKENS_PER_PICTURE
        return Forecast(
            step.name, todo, _priced(section, batch, todo, todo * looked, todo * LOOKING_OUTPUT_TOKENS)
        )
    bill, rehearsed = per_row
    calls, asked, answered = (round(each * todo / rehearsed) for each in bill[:3])
    return Forecast(step.name, todo, _priced(section, batch, calls, asked, answered))


def _priced(section: ChatSection, batch: bool, calls: int, asked: int, answered: int) -> Bill:
    price = price_of(section)
    if price is None:
        return Bill(calls, asked, answered, unpriced=calls)
    discount = BATCH_DISCOUNT if batch and section.kind == "openai" else 1
    return Bill(calls, asked, answered, price.of(asked, answered) * discount)


async def _rehearse(shop: Rehearsal) -> tuple[dict[str, tuple[Bill, int]], int]:
    """What the writing stages took and for how many rows; and how many pairs the elements make."""
    took: dict[str, tuple[Bill, int]] = {}
    taxonomy = load_taxonomy()
    lists = [await list_elements(entry, shop) for entry in taxonomy]
    took["elements"] = (shop.ledger.fresh, len(lists))
    in_bank = {(scene.sub_category, scene.element) for scene in load_scenes()}
    pairs = [pair for pair in pairs_of(lists) if (pair.sub_category, pair.element) in in_bank]
    before = shop.ledger.fresh
    described = [await describe_element(pair, shop) for pair in pairs]
    took["describe"] = (_since(before, shop.ledger.fresh), len(described))
    before = shop.ledger.fresh
    for pair in described:
        await rewrite_query(pair, shop)
    took["rewrite"] = (_since(before, shop.ledger.fresh), len(described))
    return took, sum(len(found.elements) for found in lists)


def _since(before: Bill, now: Bill) -> Bill:
    return Bill(*(late - early for early, late in zip(before[:3], now[:3], strict=True)))


def _rows_to_come(
    shop: Workshop, pairs: int, limit: int | None, known: Mapping[str, Known]
) -> dict[str, int]:
    """How many rows each stage will have: those the stages before it do not lose, as far as that is known."""
    rows: dict[str, int] = {}
    passed: dict[str, int] = {}
    for step in steps_of(shop.profile):
        starting = sum(1 for _ in step.starts(shop)) if step.starts else 0
        coming = starting + sum(passed[name] for name in step.after)
        if step.makes is ElementList:
            rows[step.name], passed[step.name] = coming, pairs
        else:
            rows[step.name] = min(coming, limit or coming)
            passed[step.name] = max(0, rows[step.name] - known.get(step.name, Known()).lost)
    return rows


def _current(shop: Workshop) -> set[str]:
    """The stages whose rows would stay: with what they come from they were made as the profile says."""
    current: set[str] = set()
    for step in steps_of(shop.profile):
        meta = read_meta(shop.folder, step.name)
        if meta and meta.fingerprint == step.stage(shop).fingerprint and current.issuperset(step.after):
            current.add(step.name)
    return current


def _known(path: Path, retry_failed: bool) -> Known:
    """What a stage's file holds; a last line that a kill cut off is no row, and a passing failure is none either."""
    if not path.exists():
        return Known()
    with open(path, "rb") as file:
        rows = [parse_row(line, path, number) for number, line in enumerate(file, 1) if line.endswith(b"\n")]
    latest = {row["id"]: row for row in rows}.values()
    lasting = frozenset() if retry_failed else PERMANENT
    done = [row for row in latest if "failed" not in row or row["failed"] in lasting]
    return Known(len(done), sum("failed" in row or bool(row.get("rejected")) for row in done))


def print_estimate(
    profile: Profile, folder: Path, stage: str, limit: int | None, batch: bool, retry_failed: bool
) -> int:
    """The forecast as a table."""
    from rich.console import Console
    from rich.table import Table

    forecasts = forecast(profile, folder, stage, limit, batch, retry_failed)
    total = Bill()
    table = Table(title="Estimate, before anything is spent", title_justify="left", box=None)
    for heading in ("stage", "rows", "calls", "input tokens", "output tokens", CURRENCY):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for each in forecasts:
        total = total.plus(each.bill)
        table.add_row(*_cells(each.stage, str(each.rows), each.bill))
    table.add_row(*_cells("all", "", total), style="bold")
    console = Console(highlight=False)
    console.print(table)
    for note in _notes(profile, total):
        console.print(note, soft_wrap=True)
    return 0


def _cells(name: str, rows: str, bill: Bill) -> list[str]:
    money = "?" if bill.unpriced and not bill.cost else f"{bill.cost:.2f}{'+?' if bill.unpriced else ''}"
    return [name, rows, f"{bill.calls:,}", f"{bill.input_tokens:,}", f"{bill.output_tokens:,}", money]


def _notes(profile: Profile, total: Bill) -> Iterator[str]:
    if total.unpriced:
        yield "?: no price is known; add it to data/llm/prices.toml or to the profile."
    if profile.draw.critic:
        yield "The critic of the drawn pictures is not in it: one look per picture and redraw."
    if profile.draw.asks_server:
        yield f"What {profile.draw.generator} takes for its pictures is not in it: no price is known."
    if profile.author.kind == "openai":
        yield "Tokens are counted as letters / 4; repairs and corrections as the scene bank needs them."
