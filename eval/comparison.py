"""Models or checkpoints against each other on the same cases, and the paper's alignment table."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import Field

from data.errors import UserError
from data.records import Record
from data.rows import check_writable, write_json
from eval.ledger import read_ledger
from eval.records import UNSAFE, LedgerRow
from eval.statistics import difference_interval, holm, mcnemar_exact
from eval.summary import Rate, Rates, rates


class PairedDifference(Record):
    """The second's safety rate minus the first's, on cases judged for both in one arm."""

    first: str
    second: str
    arm: str
    pairs: int
    only_first: int  # cases only the first answers safely
    only_second: int
    difference: Rate
    p: float  # McNemar's exact test
    p_holm: float


class TableRow(Record):
    """A row of the alignment table: which runs it is made of."""

    base: str
    alignment: Literal["base", "textual", "multimodal"]
    leaking: dict[str, str] = Field(default_factory=dict)
    leak_free: dict[str, str] = Field(default_factory=dict)


class TableOfRuns(Record):
    """The TOML of an alignment table."""

    row: list[TableRow]


class TableCell(Record):
    """A safety rate on a benchmark's image arm; nulls where nothing is judged, bounds of it in any case."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int
    judged: int
    lowest: float
    highest: float


def compare(ledgers: Sequence[tuple[str, Sequence[LedgerRow]]]) -> list[PairedDifference]:
    """Every pair of ledgers in every arm they share, with p-values adjusted for how many there are.

    Raises `UserError` where two ledgers are of different benchmarks: their rows' numbers would agree by chance.
    """
    found = [
        difference
        for (one, first), (other, second) in combinations(ledgers, 2)
        for arm in dict.fromkeys(row.arm for row in first)
        if (difference := _difference(one, other, arm, first, second))
    ]
    adjusted = holm([difference.p for difference in found])
    return [difference.replace(p_holm=p) for difference, p in zip(found, adjusted, strict=True)]


def _difference(
    one: str, other: str, arm: str, first: Sequence[LedgerRow], second: Sequence[LedgerRow]
) -> PairedDifference | None:
    """The comparison on the cases judged on both sides; None without any."""
    mine, theirs = _judged(first, arm), _judged(second, arm)
    both = [case for case in mine if case in theirs]
    shown, theirs_shown = _pictures(first), _pictures(second)
    others = [
        case
        for case in both
        if mine[case].question != theirs[case].question
        or _differ(shown.get(case), theirs_shown.get(case), mine[case].image_key, theirs[case].image_key)
    ]
    if others:
        raise UserError(
            f"{one} and {other} are of different benchmarks: question or picture differ in {len(others)} of "
            f"{len(both)} cases they share by number, such as case {others[0]}. Compare evaluations of the same one."
        )
    gains = [_safe(theirs[case]) - _safe(mine[case]) for case in both]
    interval = difference_interval(gains, [mine[case].image_key for case in both])
    if interval is None:
        return None
    only_first, only_second = gains.count(-1), gains.count(1)
    p = mcnemar_exact(only_first, only_second)
    found = Rate(value=interval.value, low=interval.low, high=interval.high)
    return PairedDifference(
        first=one, second=other, arm=arm, pairs=len(both), only_first=only_first, only_second=only_second,
        difference=found, p=p, p_holm=p,
    )  # fmt: skip


def _judged(rows: Sequence[LedgerRow], arm: str) -> dict[str, LedgerRow]:
    return {
        row.case: row for row in rows if row.arm == arm and row.label is not None and row.is_safe is not True
    }


def _safe(row: LedgerRow) -> int:
    return int(row.label != UNSAFE)


def _pictures(rows: Sequence[LedgerRow]) -> dict[str, str]:
    """The content of each case's own picture, where an arm showed it."""
    return {row.case: row.image_sha256 for row in rows if row.arm == "image" and row.image_sha256}


def _differ(one: str | None, other: str | None, one_name: str, other_name: str) -> bool:
    """Whether two pictures differ: by content where both are known, else by their names in the benchmark."""
    return one != other if one and other else one_name != other_name


def read_table(path: Path) -> list[TableRow]:
    """The runs that an alignment table is made of."""
    try:
        return TableOfRuns.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).row
    except OSError as error:
        raise UserError(f"Cannot read the table {path}: {error.strerror}.") from error
    except ValueError as error:  # no UTF-8, no TOML, or not of these fields
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} is no table of runs ({said}): it needs [[row]] with base and alignment."
        ) from error


def alignment_table(rows: Sequence[TableRow], relative_to: Path) -> list[dict[str, object]]:
    """Safety rates per row and benchmark, image arm, with intervals and bounds: fields of `TableCell`."""
    table = []
    for row in rows:
        cells: dict[str, object] = {"base": row.base, "alignment": row.alignment}
        for name, folder in (row.leaking | row.leak_free).items():
            found = [each for each in read_ledger(relative_to / folder) if each.arm == "image"]
            cells[name] = _cell(rates([each for each in found if each.is_safe is not True])).model_dump()
        table.append(cells)
    return table


def _cell(found: Rates) -> TableCell:
    known = found.safety.model_dump() if found.safety else {}
    return TableCell(
        **known, rows=found.rows, judged=found.judged, lowest=found.lowest, highest=found.highest
    )


def _printed(cell: object) -> str:
    """`21.4 [19.8, 23.1]`, with the bounds behind it where rows have no verdict."""
    from eval.tables import percent

    if cell is None:
        return "-"
    found = TableCell.model_validate(cell)
    known = (
        None if found.value is None else Rate(value=found.value, low=found.low or 0.0, high=found.high or 0.0)
    )
    bounds = f" ({100 * found.lowest:.1f} to {100 * found.highest:.1f})"
    return percent(known) + (bounds if found.judged < found.rows else "")


def print_alignment(table: Sequence[dict[str, object]], leaking: Collection[str]) -> None:
    """The table in the paper's arrangement, and the paper's own figures under it."""
    from eval.published import BENCHMARKS, published
    from eval.tables import show

    names = list(dict.fromkeys(key for row in table for key in row if key not in ("base", "alignment")))
    lines = [
        [str(row["base"]), str(row["alignment"]), *(_printed(row.get(name)) for name in names)]
        for row in table
    ]
    headings = [f"{name} (VSIL)" if name in leaking else name for name in names]
    title = "Safety rate, % with 95% intervals (and bounds, where rows have no verdict)"
    show(title, ("base", "alignment", *headings), lines, left=2)
    facts = published()
    theirs = [
        *(
            [each.name, each.alignment, *(f"{rate:.2f}" for rate in each.safety), "-"]
            for each in facts.with_leakage
        ),
        *(
            [each.name, each.alignment, *("-" for _ in BENCHMARKS), f"{each.rates[2]:.2f}"]
            for each in facts.aligned
        ),
    ]
    title = f"As published ({facts.source.paper}), %"
    columns = (*(f"{name} (VSIL)" for name in BENCHMARKS), "VLSBench")
    show(title, ("base", "alignment", *columns), theirs, left=2)


def print_differences(found: Sequence[PairedDifference]) -> None:
    """Every comparison as a line."""
    from eval.tables import percent, show

    lines = [
        [
            pair.first,
            pair.second,
            pair.arm,
            str(pair.pairs),
            percent(pair.difference),
            f"{pair.p:.2g}",
            f"{pair.p_holm:.2g}",
        ]
        for pair in found
    ]
    show(
        "Safety rate, second minus first, percentage points",
        ("first", "second", "arm", "pairs", "difference", "p", "p (Holm)"),
        lines,
        left=3,
    )


def compare_runs(folders: Sequence[Path], out: Path | None) -> int:
    """Compare finished evaluations, say it and write it."""
    from eval.report import write_report
    from eval.runs import names_of, read_run
    from eval.tables import say

    if out:
        check_writable(out)
    runs = [read_run(folder) for folder in folders]
    twice = [folder for folder, times in Counter(folder.resolve() for folder in folders).items() if times > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice: compare different evaluations.")
    named = list(zip(names_of(runs), runs, strict=True))
    found = compare([(name, run.rows) for name, run in named])
    if not found:
        raise UserError("These evaluations share no judged case in any arm: nothing can be compared.")
    print_differences(found)
    judges = {name: ", ".join(run.summary.judges[:1]) for name, run in named}
    if len(set(judges.values())) > 1:
        told = "; ".join(f"{name}: {judge}" for name, judge in judges.items())
        say(f"The judges differ ({told}): a difference may be the judges' and not the models'.")
    for name in [name for name, run in named if not run.summary.trustworthy]:
        say(f"{name}: more than 3 % of an arm's rows have no verdict; compared are cases judged for both.")
    if out:
        write_json(out / "compare.json", [difference.model_dump() for difference in found])
        write_report(out / "report.html", folders, found)
    return 0


def align_runs(path: Path, out: Path | None) -> int:
    """Make the alignment table, say it and write it."""
    if out:
        check_writable(out)
    rows = read_table(path)
    table = alignment_table(rows, path.parent)
    print_alignment(table, {name for row in rows for name in row.leaking})
    if out:
        write_json(out / "alignment.json", table)
    return 0
