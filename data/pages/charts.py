"""Geometry of the pages' charts: numbers in, positions in percent or path strings out; no HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """Values of one kind, 0 to 1; `kind` picks the colour: "low", "high", "plain", ..."""

    name: str
    kind: str
    values: Sequence[float]


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram, in percent of the plot."""

    x: float
    width: float
    y: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True)
class Tick:
    """A grid line at `at` percent, with its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """Bars, outlines of comparison sets, and grid lines of one plot."""

    bars: tuple[Bar, ...]
    outlines: tuple[tuple[str, str, str], ...]  # (name, kind, points of a 100 x 100 polyline)
    ticks: tuple[Tick, ...]


def histogram(stacked: Sequence[Series], outlines: Sequence[Series] = (), bins: int = 40) -> Histogram:
    """Shares of rows per score bin, stacked; heights go with the square root, so that tails show.

    Bars are shares of all stacked rows together; an outline's are shares of its own rows.
    """
    counts = [bin_counts(series.values, bins) for series in stacked]
    total = max(sum(map(sum, counts)), 1)
    lines = [[n / max(len(s.values), 1) for n in bin_counts(s.values, bins)] for s in outlines]
    columns = [sum(column) / total for column in zip(*counts, strict=True)]
    top = max([*columns, *(share for line in lines for share in line), 0.01]) * 1.08
    return Histogram(
        bars=tuple(_bars(stacked, counts, total, top)),
        outlines=tuple(
            (series.name, series.kind, _steps(line, top))
            for series, line in zip(outlines, lines, strict=True)
        ),
        ticks=_share_ticks(top),
    )


def bin_counts(values: Sequence[float], bins: int) -> list[int]:
    """How many values of 0 to 1 fall into each of `bins` equal bins; 1 belongs to the last."""
    counts = [0] * bins
    for value in values:
        counts[min(int(value * bins), bins - 1)] += 1
    return counts


def _bars(stacked: Sequence[Series], counts: Sequence[Sequence[int]], total: int, top: float) -> list[Bar]:
    bins = len(counts[0])
    bars = []
    for index in range(bins):
        below = 0.0
        for series, numbers in zip(stacked, counts, strict=True):
            if not numbers[index]:
                continue
            above = below + numbers[index] / total
            y, foot = _level(above, top), _level(below, top)
            title = f"{series.name}, {index / bins:.2f}–{(index + 1) / bins:.2f}: {numbers[index]:,}"
            bars.append(Bar(100 * index / bins, 100 / bins, y, foot - y, series.kind, title))
            below = above
    return bars


def _level(share: float, top: float) -> float:
    """Percent from the plot's top at which a share stands."""
    return round(100 * (1 - math.sqrt(share / top)), 3)


def _steps(shares: Sequence[float], top: float) -> str:
    """A stepped outline in a 100 x 100 box."""
    points = []
    for index, share in enumerate(shares):
        y = _level(share, top)
        points += [f"{100 * index / len(shares):.2f},{y}", f"{100 * (index + 1) / len(shares):.2f},{y}"]
    return " ".join(points)


def _share_ticks(top: float) -> tuple[Tick, ...]:
    """At most four grid lines, well apart, of round shares."""
    ticks: list[Tick] = []
    for share in (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.002):
        at = _level(share, top) if share <= top else -100.0
        if at >= 0 and at < 86 and (not ticks or at - ticks[-1].at >= 17):
            ticks.append(Tick(at, f"{100 * share:g}%"))
    return tuple(ticks)


@dataclass(frozen=True)
class Arc:
    """A ring segment of a donut as an SVG path; `kind` counts the categories from 0."""

    path: str
    kind: int
    shade: int  # counts the parts of a category, to tell neighbours apart
    title: str


def nested_donut(parts: Mapping[str, Mapping[str, int]]) -> tuple[Arc, ...]:
    """Categories as the inner ring, their parts as the outer one, clockwise from the top (radius 100)."""
    total = sum(sum(inner.values()) for inner in parts.values())
    arcs: list[Arc] = []
    start = 0.0
    for kind, (category, inner) in enumerate(parts.items()):
        share = sum(inner.values()) / max(total, 1)
        arcs += _ring(46, 68, start, share, kind, 0, f"{category}: {sum(inner.values()):,}")
        at = start
        for shade, (part, number) in enumerate(inner.items()):
            title = f"{part}: {number:,} ({100 * number / max(total, 1):.1f}%)"
            arcs += _ring(70, 98, at, number / max(total, 1), kind, shade % 3, title)
            at += number / max(total, 1)
        start += share
    return tuple(arcs)


def _ring(
    inner: float, outer: float, start: float, share: float, kind: int, shade: int, title: str
) -> list[Arc]:
    """The segment of a ring from `start` over `share` of the circle; nothing where there is nothing."""
    if share <= 0:
        return []
    end = start + min(share, 0.99999)  # a full circle would begin where it ends and vanish
    large = int(share > 0.5)
    (x1, y1), (x2, y2) = _on_circle(outer, start), _on_circle(outer, end)
    (x3, y3), (x4, y4) = _on_circle(inner, end), _on_circle(inner, start)
    path = (
        f"M{x1:.2f} {y1:.2f}A{outer} {outer} 0 {large} 1 {x2:.2f} {y2:.2f}"
        f"L{x3:.2f} {y3:.2f}A{inner} {inner} 0 {large} 0 {x4:.2f} {y4:.2f}Z"
    )
    return [Arc(path, kind, shade, title)]


def _on_circle(radius: float, turn: float) -> tuple[float, float]:
    return radius * math.sin(2 * math.pi * turn), -radius * math.cos(2 * math.pi * turn)


def axis_top(values: Sequence[float]) -> float:
    """A round upper end for an axis of shares that holds all values."""
    largest = max(values, default=0.0)
    return next((top for top in (0.05, 0.1, 0.2, 0.3, 0.5) if largest <= top), 1.0)
