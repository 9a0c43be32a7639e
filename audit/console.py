"""What `audit.run` says on the console: what was read, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit.summary import Summary
    from data.sources.reader import Source


def announce(sources: Sequence[Source], labels: Sequence[str] = ()) -> list[str]:
    """Say what was read, from which columns, and what is odd about it; returns the sources' short names."""
    from audit.names import source_names
    from data.pages.page import plural

    names = source_names(sources, labels)
    for name, source in zip(names, sources, strict=True):
        layout = f", read as {source.benchmark}" if source.benchmark else ""
        say(f"{name}: {plural(len(source.rows), 'row')} of {source.name}{layout}")
        say(f"  columns  {source.columns.spelt()}")
        for note in source.notes:
            rows = f"{plural(len(note.rows), 'row')}: " if note.rows else ""
            example = f" (such as {note.example!r})" if note.example else ""
            say(f"  note     {rows}{note.reason}{example}")
    return names


def say(line: str) -> None:
    """Print a line; what a stranger's text holds of control codes does not reach the terminal."""
    print(printable(line), flush=True)


def printable(text: str) -> str:
    """The text with control codes replaced, as a terminal may be shown it."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def conclude(out: Path, summaries: Sequence[Summary]) -> None:
    """A table of the figures, the verdicts, and where everything is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    for heading in ("source", "rows", "scored", "not scored", "flagged", "estimated to leak"):
        is_name = (
            heading == "source"
        )  # a narrow terminal breaks it, for a cut one could be another's; no figure
        table.add_column(
            heading,
            justify="left" if is_name else "right",
            overflow="fold" if is_name else "ellipsis",
            no_wrap=not is_name,
        )
    for summary in summaries:
        p = summary.prevalence
        estimate = f"{p.value:.1%} ({p.low:.1%} to {p.high:.1%})" if p else "-"
        counts = (summary.rows, summary.scored, sum(summary.unscored.values()), summary.flagged)
        cells = [summary.source, *(f"{number:,}" for number in counts), estimate]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = Console(highlight=False)
    console.print()
    console.print(table)
    console.print()
    for summary in summaries:
        for line in (summary.verdict, *summary.cautions):
            say(line)
    for label, name in (
        ("report", "report.html"),
        ("rows", "audit.jsonl, audit.csv"),
        ("figures", "summary.json"),
    ):
        say(f"{label:<8} {out / name}")
