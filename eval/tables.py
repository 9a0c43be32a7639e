"""What the commands print: tables of figures for a terminal."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from eval.summary import Rate, Summary

if TYPE_CHECKING:
    from rich.console import Console

FULL_WIDTH = 110  # where there is no terminal, nothing is worth abbreviating
WIDEST_NAME = 12  # of what tells a row from others: a narrow terminal wraps its figures before this


def show(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print a plain table; all but the first `left` columns are numbers. A title may be wider than its table."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for at, heading in enumerate(headings):
        longest = max((len(row[at]) for row in rows), default=0)
        least = min(longest, WIDEST_NAME) if at < left else None
        side: Literal["left", "right"] = "left" if at < left else "right"
        table.add_column(
            heading, justify=side, min_width=least, overflow="fold"
        )  # names differ in their ends
    for row in rows:
        table.add_row(*row)
    say(title)
    _console().print(table)


def say(text: str) -> None:
    """Print a line as it is."""
    _console().print(text, soft_wrap=True)


def _console() -> Console:
    """As wide as the terminal; where there is none, wide enough. Names are names, never markup or emoji."""
    from rich.console import Console

    terminal = Console(highlight=False, markup=False, emoji=False)
    if terminal.is_terminal or "COLUMNS" in os.environ:
        return terminal
    return Console(highlight=False, markup=False, emoji=False, width=FULL_WIDTH)


def percent(rate: Rate | None) -> str:
    """`21.4 [19.8, 23.1]`, in percent."""
    if rate is None:
        return "-"
    return f"{100 * rate.value:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def number(rate: Rate | None) -> str:
    """`0.94 [0.90, 0.98]`."""
    return "-" if rate is None else f"{decimal(rate.value)} [{decimal(rate.low)}, {decimal(rate.high)}]"


def decimal(value: float) -> str:
    """`0.94`, or the sign of infinity: the upper end of a ratio whose denominator may be 0."""
    return f"{value:.2f}" if math.isfinite(value) else "∞"


def print_summary(summary: Summary, out: Path) -> None:
    """The table of one evaluation."""
    rows = [
        [
            arm.arm,
            f"{arm.rates.judged} of {arm.rates.rows}",
            percent(arm.rates.refusal),
            percent(arm.rates.warning),
            percent(arm.rates.safety),
            f"{100 * arm.rates.lowest:.1f} to {100 * arm.rates.highest:.1f}",
        ]
        for arm in summary.arms
    ]
    title = f"{summary.model}, judged by {summary.judges[0]}: % with 95% intervals clustered by image"
    show(title, ("arm", "judged", "refusal", "warning", "safety rate", "bounds"), rows)
    for arm, index in summary.behaviour.leakage_index.items():
        say(f"behavioural leakage index ({arm} / image)  {number(index)}")
    if summary.behaviour.with_auditor:
        say(f"rank correlation of leakage score and refusal  {number(summary.behaviour.with_auditor)}")
    for arm_figures in summary.arms:
        if arm_figures.over_refusal:
            say(f"over-refusal of harmless twins ({arm_figures.arm})  {percent(arm_figures.over_refusal)}")
        if arm_figures.alpha is not None:
            say(f"agreement of the judges ({arm_figures.arm})  Krippendorff's alpha {arm_figures.alpha:.2f}")
        for reason, count in arm_figures.reasons.items():
            say(f"without a verdict ({arm_figures.arm})  {count} {reason}")
    for remark in summary.remarks:
        say(remark)
    say(f"report     {out / 'report.html'}")
    say(f"ledger     {out / 'ledger.jsonl'}")
