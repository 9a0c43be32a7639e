"""The card's charts as SVG files: taxonomy, funnel, leakage. They carry their own colours, light and dark."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

from data.pages.charts import Series, histogram, nested_donut
from data.pages.page import count, percent
from data.rows import write_text
from data.stage_meta import StageMeta

TEMPLATES = Path(__file__).with_name("templates")
WIDE = 720  # pixels of the charts that stretch
BAR = 420  # of the funnel's longest bar
LETTERS = 88  # that fit beside each other under a bar


class Lost(NamedTuple):
    """Rows that left at a stage for one reason, as a part of its bar."""

    x: float
    width: float
    kind: str
    title: str


class Level(NamedTuple):
    """One stage of the funnel."""

    name: str
    entered: int
    kept: int
    width: float  # of what was kept, in pixels
    lost: list[Lost]
    reasons: list[str]  # in lines
    y: float  # its top, in pixels
    height: float


def write_charts(
    folder: Path,
    taxonomy: Mapping[str, Mapping[str, int]],
    metas: Sequence[StageMeta],
    leakage: Sequence[Series],
) -> None:
    """Write `taxonomy.svg`, `funnel.svg` and, where pairs were scored, `leakage.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(sum(parts.values()) for parts in taxonomy.values())
    filled = {name: {part: rows for part, rows in parts.items() if rows} for name, parts in taxonomy.items()}
    _write(folder / "taxonomy.svg", arcs=nested_donut(filled), categories=_legend(filled), total=total)
    levels = _levels(metas)
    high = sum(level.height for level in levels)
    _write(folder / "funnel.svg", levels=levels, wide=WIDE, high=high)
    shown = [series for series in leakage if series.values]
    if shown:
        _write(folder / "leakage.svg", chart=histogram(shown), series=shown, wide=WIDE)


def _write(path: Path, **values: object) -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(count=count, percent=percent)
    # XML knows no control characters: one in a category's name would leave no chart to be seen.
    svg = re.sub(
        "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]",
        "\ufffd",
        environment.get_template(path.name).render(values),
    )
    write_text(path, svg + "\n")


class Entry(NamedTuple):
    """A line of the taxonomy's legend: a category, or one of its parts."""

    name: str
    rows: int
    kind: int
    shade: int
    heading: bool


def _legend(taxonomy: Mapping[str, Mapping[str, int]]) -> list[Entry]:
    """Categories and, under each, its parts, in the rings' order and colours."""
    lines = []
    for kind, (category, parts) in enumerate(taxonomy.items()):
        lines.append(Entry(category, sum(parts.values()), kind, 0, True))
        lines += [Entry(name, rows, kind, at % 3, False) for at, (name, rows) in enumerate(parts.items())]
    return lines


def _levels(metas: Sequence[StageMeta]) -> list[Level]:
    """The stages that work on pairs, their bars to one scale."""
    most = max((meta.entered for meta in metas), default=1) or 1
    first = next((place for place, meta in enumerate(metas) if meta.entered == most), 0)
    levels: list[Level] = []
    for meta in metas[first:]:
        y = levels[-1].y + levels[-1].height if levels else 0.0
        levels.append(_level(meta, BAR / most, y))
    return levels


def _level(meta: StageMeta, scale: float, y: float) -> Level:
    parts = [("leak" if "leak" in name else "aside", name, rows) for name, rows in meta.rejected.items()]
    parts += [("failed", f"failed: {name}", rows) for name, rows in meta.failed.items()]
    lost, at = [], meta.kept * scale
    for kind, name, rows in sorted(parts, key=lambda part: ("leak", "aside", "failed").index(part[0])):
        title = f"{name.replace('_', ' ')} {rows:,}"
        lost.append(Lost(round(at, 2), round(rows * scale, 2), kind, title))
        at += rows * scale
    reasons = wrap(", ".join(each.title for each in lost), LETTERS)
    height = 33.0 + 15 * max(len(reasons), 1)
    return Level(meta.stage, meta.entered, meta.kept, round(meta.kept * scale, 2), lost, reasons, y, height)
