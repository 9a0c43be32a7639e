"""What a person is told when a run ends: the funnel, the spend, where everything is, what to do next."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.errors import PERMANENT
from data.llm.prices import CURRENCY, Bill
from data.stage_meta import StageMeta

EXIT_WITH_FAILURES = 3
HEADINGS = ("stage", "entered", "kept", "rejected", "failed", "repaired", "spent")
NUMBERS = ("entered", "kept")
REASONS = ("rejected", "failed", "repaired")  # folded where the terminal is narrow


def conclude(
    folder: Path, metas: Sequence[StageMeta], spent: Bill, made: Mapping[str, Path | None] | None = None
) -> int:
    """Print it all; `made` is what lies where. 0 when every row came through or was rejected, 3 when some failed."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Funnel", title_justify="left", box=None, header_style="bold")
    for heading in HEADINGS:
        table.add_column(
            heading, justify="right" if heading in NUMBERS else "left", no_wrap=heading not in REASONS
        )
    for meta in metas:
        table.add_row(*_cells(meta))
    console = Console(highlight=False)
    console.print(table)
    if spent.calls:
        console.print(f"{'spent':<10} {spent.words()}", soft_wrap=True)
    for label, path in {**(made or {}), "rows": folder}.items():
        if path is not None:
            console.print(f"{label:<10} {path}", soft_wrap=True)
    return _say_failures(metas)


def _cells(meta: StageMeta) -> list[str]:
    """One line of the table."""
    calls = meta.spend and Bill(**meta.spend.model_dump(exclude={"currency"}))
    return [
        meta.stage,
        str(meta.entered),
        str(meta.kept),
        _tally(meta.rejected),
        _tally(meta.failed),
        _tally(meta.repaired),
        _money(calls) if calls and calls.calls else "-",
    ]


def _money(bill: Bill) -> str:
    """What a stage cost, where that is known; else how many calls: the line below the table tells the rest."""
    if not bill.cost:
        return f"{bill.calls} calls"
    return f"{bill.cost:.2f} {CURRENCY}" + (" + ?" if bill.unpriced else "")


def _say_failures(metas: Sequence[StageMeta]) -> int:
    failed: Counter[str] = Counter()
    for meta in metas:
        failed.update(meta.failed)
    passing = {reason: count for reason, count in failed.items() if reason not in PERMANENT}
    lasting = {reason: count for reason, count in failed.items() if reason in PERMANENT}
    if passing:
        print(f"Rows failed ({_tally(passing)}): the same command tries them again.", file=sys.stderr)
    if lasting:
        print(f"Rows failed for good ({_tally(lasting)}): --retry-failed asks again.", file=sys.stderr)
    for meta in metas:
        short = {reason: count for reason, count in meta.repaired.items() if reason in PERMANENT}
        if short:  # a list that ended early is no failed row, so --retry-failed alone passes it by
            print(
                f"Rows of {meta.stage} cut short ({_tally(short)}): --redo {meta.stage} --retry-failed asks on.",
                file=sys.stderr,
            )
    return EXIT_WITH_FAILURES if failed else 0


def _tally(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "-"
