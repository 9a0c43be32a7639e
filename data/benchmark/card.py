"""The dataset card: README.md with a header the Hub understands, and everything a user should know."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data.benchmark.layout import Entry
from data.gate_tally import GateTally, tally_gates
from data.intervals import bootstrap_mean, wilson
from data.llm.prices import CURRENCY
from data.records import Pair
from data.reviews import Review, agreements, reviewer_numbers, standings
from data.rows import write_text
from data.stage_meta import Spend, StageMeta

TEMPLATES = Path(__file__).with_name("templates")


class AuditResult(NamedTuple):
    """What the auditor finds of the finished rows."""

    scored: int
    flagged: int
    flagged_interval: tuple[float, float]  # 95 %, of the share
    mean: float
    mean_interval: tuple[float, float]
    highest: float


class People(NamedTuple):
    """What people did."""

    reviewers: int
    pairs: int
    approved: int
    rejected: int
    edited: int
    kappas: list[str]


class Facts(NamedTuple):
    """Everything the card says that is not the same for every benchmark."""

    name: str
    license: str
    date: str
    entries: Sequence[Entry]
    calibration: int  # rows of that split; 0 where there is none
    taxonomy: Mapping[str, Mapping[str, int]]
    models: Mapping[str, str]
    metas: Sequence[StageMeta]
    filtered: Sequence[Pair]  # all pairs that entered the filter
    reviews: Sequence[Review]
    extended: str  # the name of the benchmark that was extended; empty where none was


def write_card(folder: Path, facts: Facts) -> None:
    """Write README.md."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined)  # noqa: S701
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}  # YAML knows no pairs of surrogates
    environment.filters["cell"] = _cell
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    own = [entry.pair for entry in facts.entries if entry.pair is not None]
    card = environment.get_template("card.md").render(
        facts=facts,
        rows=len(facts.entries),
        pictures=len({entry.row["image_path"] for entry in facts.entries}),
        sources=Counter(entry.row["source"] for entry in facts.entries).most_common(),
        size_category=size_category(len(facts.entries) + facts.calibration),
        own=len(own),
        audit=audit_result(own),
        gates=_gates(facts.filtered),
        funnel=facts.metas,
        tally=_tally,
        cost=_cost(facts.metas),
        people=_people(facts.reviews, facts.filtered),
        drawn_by=_drawn_by(own),
    )
    write_text(folder / "README.md", card)


def audit_result(pairs: Sequence[Pair]) -> AuditResult | None:
    """The audit of these pairs with 95 % intervals; None where none was scored."""
    audits = [pair.audit for pair in pairs if pair.audit is not None and pair.audit.leakage is not None]
    if not audits:
        return None
    scores = [audit.leakage or 0.0 for audit in audits]
    flagged = sum(bool(audit.leaks) for audit in audits)
    interval = wilson(flagged, len(audits))
    mean = sum(scores) / len(scores)
    return AuditResult(len(audits), flagged, interval, mean, bootstrap_mean(scores), max(scores))


def size_category(rows: int) -> str:
    """The Hub's size label."""
    for limit, label in (
        (1_000, "n<1K"),
        (10_000, "1K<n<10K"),
        (100_000, "10K<n<100K"),
        (1_000_000, "100K<n<1M"),
    ):
        if rows < limit:
            return label
    return "1M<n<10M"


def _gates(pairs: Sequence[Pair]) -> list[GateTally]:
    return tally_gates(pairs)


def _tally(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{rows:,} {name.replace('_', ' ')}" for name, rows in reasons.items()) or "-"


def _cost(metas: Sequence[StageMeta]) -> str:
    """What the calls to models took, in a sentence."""
    spent = [meta.spend for meta in metas if meta.spend is not None and meta.spend.calls]
    if not spent:
        return "No call to a paid or remote model is on record."
    total = Spend(
        calls=sum(each.calls for each in spent),
        input_tokens=sum(each.input_tokens for each in spent),
        output_tokens=sum(each.output_tokens for each in spent),
        cost=sum(each.cost for each in spent),
        unpriced=sum(each.unpriced for each in spent),
    )
    tokens = f"{total.input_tokens:,} tokens in and {total.output_tokens:,} out"
    priced = f"{total.cost:.2f} {CURRENCY}" if total.calls > total.unpriced else "no known price"
    rest = f" ({total.unpriced:,} calls without a known price)" if 0 < total.unpriced < total.calls else ""
    return f"{total.calls:,} calls to chat models, {tokens}: {priced}{rest}."


def _people(reviews: Sequence[Review], pairs: Sequence[Pair]) -> People | None:
    """What people decided, an edit being a decision; None where nobody has looked."""
    stand = standings(reviews, {pair.id: pair.instruction for pair in pairs})
    decided = [each for each in stand.values() if each.decisions or each.edit]
    if not decided:
        return None
    editors = {each.edit.reviewer for each in decided if each.edit}
    names = sorted(editors | {name for each in decided for name in each.decisions})
    number = {name: f"reviewer {place}" for name, place in reviewer_numbers(reviews).items()}
    kappas = [
        f"{number[each.one]} and {number[each.other]} agree on {each.share:.0%} of {each.pairs} pairs, "
        + ("Cohen's kappa not defined" if each.kappa is None else f"Cohen's kappa {each.kappa:.2f}")
        for each in agreements(stand)
    ]
    return People(
        len(names), len(decided), sum(each.count("approve") for each in decided),
        sum(each.count("reject") for each in decided), sum(each.edit is not None for each in stand.values()), kappas,
    )  # fmt: skip


def _drawn_by(pairs: Sequence[Pair]) -> list[str]:
    """Generators with their revision, as the drawings have it on record."""
    made = {pair.drawing.generator + (f" at {pair.drawing.revision}" if pair.drawing.revision else "")
            for pair in pairs if pair.drawing}  # fmt: skip
    return sorted(made)


def _cell(text: object) -> str:
    """Text on one line that is no Markdown and no HTML: it ends no cell, makes no tag, link or picture."""
    return re.sub(r"([\\`*\[\]<>|~])", r"\\\1", " ".join(str(text).split()))
