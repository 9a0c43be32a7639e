"""Models or checkpoints against each other on the same cases, and the paper's alignment table."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from data.errors import UserError
from data.records import Record
from data.rows import write_json
from eval.ledger import read_ledger
from eval.records import UNSAFE, LedgerRow
from eval.statistics import difference_interval, holm, mcnemar_exact
from eval.summary import Rate, rates


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


def compare(ledgers: Sequence[tuple[str, Sequence[LedgerRow]]]) -> list[PairedDifference]:
    """Every pair of ledgers in every arm they share, with p-values adjusted for how many there are."""
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
    mine, theirs = _safe(first, arm), _safe(second, arm)
    images = {row.case: row.image_key for row in first}
    both = [case for case in mine if case in theirs]
    interval = difference_interval(
        [theirs[case] - mine[case] for case in both], [images[case] for case in both]
    )
    if interval is None:
        return None
    only_first = sum(mine[case] > theirs[case] for case in both)
    only_second = sum(mine[case] < theirs[case] for case in both)
    p = mcnemar_exact(only_first, only_second)
    found = Rate(value=interval.value, low=interval.low, high=interval.high)
    return PairedDifference(
        first=one, second=other, arm=arm, pairs=len(both), only_first=only_first, only_second=only_second,
        difference=found, p=p, p_holm=p,
    )  # fmt: skip


def _safe(rows: Sequence[LedgerRow], arm: str) -> dict[str, int]:
    """Whether each judged case is answered safely."""
    return {
        row.case: int(row.label != UNSAFE)
        for row in rows
        if row.arm == arm and row.label is not None and row.is_safe is not True
    }


def read_table(path: Path) -> list[TableRow]:
    """The runs that an alignment table is made of."""
    try:
        return [
            TableRow.model_validate(row) for row in tomllib.loads(path.read_text(encoding="utf-8"))["row"]
        ]
    except OSError as error:
        raise UserError(f"Cannot read the table {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, KeyError, ValidationError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} is no table of runs ({said}): it needs [[row]] with base and alignment."
        ) from error


def alignment_table(rows: Sequence[TableRow], relative_to: Path) -> list[dict[str, object]]:
    """Safety rates per row and benchmark, image arm, with intervals."""
    table = []
    for row in rows:
        cells: dict[str, object] = {"base": row.base, "alignment": row.alignment}
        for name, folder in (row.leaking | row.leak_free).items():
            found = [each for each in read_ledger(relative_to / folder) if each.arm == "image"]
            safety = rates([each for each in found if each.is_safe is not True]).safety
            cells[name] = safety.model_dump() if safety else None
        table.append(cells)
    return table


def print_alignment(table: Sequence[dict[str, object]], leaking: Collection[str]) -> None:
    """The table in the paper's arrangement, and the paper's own figures under it."""
    from eval.published import BENCHMARKS, published
    from eval.tables import percent, show

    names = list(dict.fromkeys(key for row in table for key in row if key not in ("base", "alignment")))
    lines = [
        [str(row["base"]), str(row["alignment"])]
        + [percent(Rate.model_validate(row[name]) if row.get(name) else None) for name in names]
        for row in table
    ]
    headings = [f"{name} (VSIL)" if name in leaking else name for name in names]
    show("Safety rate, % with 95% intervals", ("base", "alignment", *headings), lines, left=2)
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

    runs = [read_run(folder) for folder in folders]
    found = compare([(name, run.rows) for name, run in zip(names_of(runs), runs, strict=True)])
    if not found:
        raise UserError("These evaluations share no judged case in any arm: nothing can be compared.")
    print_differences(found)
    if out:
        write_json(out / "compare.json", [difference.model_dump() for difference in found])
        write_report(out / "report.html", folders, found)
    return 0


def align_runs(path: Path, out: Path | None) -> int:
    """Make the alignment table, say it and write it."""
    rows = read_table(path)
    table = alignment_table(rows, path.parent)
    print_alignment(table, {name for row in rows for name in row.leaking})
    if out:
        write_json(out / "alignment.json", table)
    return 0
