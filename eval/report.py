"""The report of one evaluation or a leaderboard of several: rates, arms, categories, all answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data.pages.page import Figure, count, percent, plural, render_page, write_page
from eval.answer_table import answer_table
from eval.judges import STRING_BASELINE
from eval.published import published
from eval.records import REFUSAL, LedgerRow
from eval.runs import Run, names_of, read_run
from eval.statistics import mean_interval
from eval.summary import Rate, Rates, part_name, rate
from eval.tables import decimal

TEMPLATE = Path(__file__).with_name("templates") / "report.html"
BINS = 5  # of the auditor's score
HEAT_STEPS = 10
ARM_NAMES = {
    "image": "with its picture",
    "text_only": "text only",
    "blank": "blank picture",
    "caption": "caption instead",
    "swap": "swapped picture",
}


class Cell(NamedTuple):
    """A field of the heat map; `heat` is 0 to 9, or None where nothing was judged."""

    text: str
    heat: int | None
    title: str


class HeatRow(NamedTuple):
    """A category or sub-category over all columns."""

    name: str
    rows: int
    kind: str
    cells: list[Cell]


class Bin(NamedTuple):
    """Rows whose leakage lies in a range, and how many of them were refused without the picture."""

    name: str
    rows: int
    refusal: Rate


def write_report(path: Path, folders: Sequence[Path], comparison: object = None) -> None:
    """Write the page of one evaluation, or of several with what `eval.compare` found."""
    runs = [read_run(folder) for folder in folders]
    names = names_of(runs)
    table = answer_table(runs)
    named = list(zip(names, runs, strict=True))
    values = {
        "runs": named,
        "names": names,
        "leaders": sorted(named, key=lambda entry: -_safety(entry[1].main.rates)),
        "facts": published(),
        "published": sorted(published().models, key=lambda model: -model.rates[2]),
        "figures": _figures(runs[0]) if len(runs) == 1 else [],
        "verdicts": [_verdict(name, run) for name, run in named],
        "arm_names": ARM_NAMES,
        "columns": _columns(named),
        "heat": _heat(runs),
        "leakage": [(name, run, _bins(run.rows)) for name, run in named],
        "string_judged": any(STRING_BASELINE in run.summary.judges[:1] for run in runs),
        "comparison": comparison,
        "judges": {name: run.summary.judges[0] for name, run in named if run.summary.judges},
        "decimal": decimal,
        "table": table,
        "rows_in_all": sum(len(run.rows) for run in runs),
        "settings": [(name, _settings(run)) for name, run in named],
    }
    write_page(path, render_page(TEMPLATE, values))


def _columns(named: Sequence[tuple[str, Run]]) -> list[str]:
    """Headings of the heat map: the arm, the model, or both where it takes both."""
    several = len(named) > 1
    return [
        ARM_NAMES.get(arm.arm, arm.arm) if not several
        else name if len(run.summary.arms) == 1 else f"{name}, {ARM_NAMES.get(arm.arm, arm.arm)}"
        for name, run in named
        for arm in run.summary.arms
    ]  # fmt: skip


def _safety(found: Rates) -> float:
    return found.safety.value if found.safety else -1.0


def _verdict(name: str, run: Run) -> str:
    """One sentence: the safety rate with its interval, or its bounds where it cannot be trusted."""
    found, arm = run.main.rates, run.main.arm
    if not found.rows:
        return f"{name}: all cases are harmless twins, which have an over-refusal and no safety rate."
    if found.safety is None:
        return (
            f"{name}: no answer of the arm “{arm}” has a verdict; its safety rate lies between 0% and 100%."
        )
    where = (
        f"{percent(found.safety.value)} of its judged answers are safe (95% interval "
        f"{percent(found.safety.low)} to {percent(found.safety.high)})"
    )
    if found.lowest == found.highest:
        return f"{name}: {where}."
    bounds = f"{percent(found.lowest)} and {percent(found.highest)}"
    return f"{name}: {where}; with every row counted it lies between {bounds}."


def _figures(run: Run) -> list[Figure]:
    found = run.main.rates
    figures = [
        _figure("Safety rate", found.safety),
        _figure("Refusals", found.refusal),
        _figure("Warnings", found.warning),
    ]
    for arm, index in run.summary.behaviour.leakage_index.items():
        if index:
            over = f"{arm.replace('_', ' ')} over image, {decimal(index.low)} to {decimal(index.high)}"
            figures.append(Figure("Behavioural leakage", f"{index.value:.2f}", over))
    missing, rows = sum(run.main.reasons.values()), sum(run.main.states.values())  # harmless twins among them
    kind = "warn" if missing else ""
    figures.append(Figure("Without a verdict", count(missing), f"of {plural(rows, 'row')}", kind))
    return figures


def _figure(name: str, found: Rate | None) -> Figure:
    if found is None:
        return Figure(name, "–", "nothing judged", "warn")
    return Figure(name, percent(found.value), f"95% interval {percent(found.low)} to {percent(found.high)}")


def _heat(runs: Sequence[Run]) -> list[HeatRow]:
    """Safety rate per category and sub-category, one column per run and arm."""
    columns = [arm for run in runs for arm in run.summary.arms]
    parts: dict[str, dict[str, None]] = {}
    for run in runs:
        for row in run.rows:
            parts.setdefault(row.category, {}).setdefault(row.sub_category)
    rows = []
    for category in sorted(filter(None, parts)):
        rows.append(_heat_row(category, "group", [arm.categories.get(category) for arm in columns]))
        for sub in sorted(filter(None, parts[category])):
            key = part_name(category, sub)
            rows.append(_heat_row(sub, "part", [arm.sub_categories.get(key) for arm in columns]))
    return rows


def _heat_row(name: str, kind: str, found: Sequence[Rates | None]) -> HeatRow:
    return HeatRow(
        name, max((each.rows for each in found if each), default=0), kind, [_cell(each) for each in found]
    )


def _cell(found: Rates | None) -> Cell:
    if found is None or found.safety is None:
        return Cell("–", None, "nothing judged")
    safety = found.safety
    interval = f"95% interval {percent(safety.low)} to {percent(safety.high)}"
    title = f"{percent(safety.value)} safe, {interval}, {found.judged} judged"
    return Cell(f"{safety.value:.0%}", min(int(safety.value * HEAT_STEPS), HEAT_STEPS - 1), title)


def _bins(rows: Sequence[LedgerRow]) -> list[Bin]:
    """Refusal without the picture by the auditor's score, in the arm that `summary.behaviour` takes."""
    judged = [row for row in rows if row.label is not None and row.is_safe is not True]
    arms = {row.arm for row in judged}
    arm = next((name for name in ("text_only", "blank") if name in arms), None)
    scored = [(row.leakage, row) for row in judged if row.arm == arm and row.leakage is not None]
    bins = []
    for at in range(BINS):
        inside = [row for leakage, row in scored if min(int(leakage * BINS), BINS - 1) == at]
        found = rate(
            mean_interval([row.label == REFUSAL for row in inside], [row.image_key for row in inside])
        )
        if found:
            bins.append(Bin(f"{at / BINS:.1f} – {(at + 1) / BINS:.1f}", len(inside), found))
    return bins


def _settings(run: Run) -> list[tuple[str, str]]:
    first = run.rows[0]
    return [
        ("Model", run.summary.model),
        ("Architecture", run.summary.arch),
        ("Revision", first.revision or "not told by the server"),
        ("Generation settings", first.settings),
        ("Judge", ", ".join(run.summary.judges)),
        ("Benchmark", run.summary.benchmark),
        ("Rows", count(len(run.rows))),
    ]
