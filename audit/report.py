"""The report of an audit: verdict, scores, categories and every pair with its evidence, in one page."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from audit.calibrations import Calibration
from audit.descriptions import Content
from audit.empirical_null import Null
from audit.summary import Audited, CategoryFigures, Share, Summary, counted, why_unscored
from data.pages.charts import Histogram, Series, axis_top, histogram
from data.pages.page import Figure, count, percent, plural, render_page, write_page
from data.pages.thumbnails import thumbnails
from data.records import Audit, Span
from data.sources.reader import SourceRow

TEMPLATE = Path(__file__).with_name("templates") / "report.html"
TABLE_ROWS = 6000  # pairs in the page's table; every pair is in audit.jsonl
LEAST_UNSCORED = 300  # of these, at least so many are for pairs without a score, but no more than half
LONGEST_TEXT = 3000  # characters of a query or description in the table
PICTURE_SIDE = 160
PICTURE_BYTES = 9_000_000
STEPS = 100  # of the threshold slider
SCORE_DIGITS = 5  # in the page
SHOWN_CATEGORIES = 60
TELLING_ROWS = 20  # a category with fewer rows may run off its axis


class Settings(NamedTuple):
    """What the audit was made with."""

    embedder: str
    calibration: Calibration
    false_discovery_rate: float
    eyes: Mapping[str, str] = {}  # what pictures were looked at with
    exact: bool = False  # scored in float32


class Panel(NamedTuple):
    """What the page shows of one source."""

    place: int  # among the sources, from 0
    summary: Summary
    chart: Histogram | None
    figures: list[Figure]
    categories: list[CategoryFigures]
    more_categories: int
    top: float  # end of the axis of the categories' flagged shares


def write_report(
    path: Path, sources: Sequence[Audited], summaries: Sequence[Summary], settings: Settings
) -> None:
    """Write the page; `summaries` belong to `sources`, in order."""
    table = _table(sources)
    panels = [
        _panel(place, *each, settings) for place, each in enumerate(zip(sources, summaries, strict=True))
    ]
    values = {
        "panels": panels,
        "top": axis_top([share.high for summary in summaries for share in _shares(summary)]),
        "settings": settings,
        "threshold": _threshold(sources),
        "rows_in_all": sum(summary.rows for summary in summaries),
        "rows_shown": len(table),
        "pictures": any(row["picture"] for row in table),
        "table": table,
        "steps": {
            "names": [audited.name for audited in sources],
            "above": [_above(_scores(audited)) for audited in sources],
            "calm": _above(_reference(summaries, settings.calibration)),
        },
    }
    write_page(path, render_page(TEMPLATE, values))


def _shares(summary: Summary) -> list[Share]:
    return [share for share in (summary.prevalence, summary.flagged_share) if share is not None]


def _panel(place: int, audited: Audited, summary: Summary, settings: Settings) -> Panel:
    scores = _scores(audited)
    reference = _reference([summary], settings.calibration)
    outlines = [Series("Leak-free calibration pairs", "calm", reference)] if reference else []
    categories = list(summary.categories[:SHOWN_CATEGORIES])
    return Panel(
        place=place,
        summary=summary,
        chart=histogram([Series("Pairs", "plain", scores)], outlines) if scores else None,
        figures=_figures(summary),
        categories=categories,
        more_categories=len(summary.categories) - len(categories),
        top=axis_top([*_ends(categories)]),
    )


def _ends(categories: Sequence[CategoryFigures]) -> Iterator[float]:
    """What the categories' axis has to hold: every share, and intervals that say something."""
    for entry in categories:
        if entry.flagged_share:
            yield entry.flagged_share.high if entry.counted >= TELLING_ROWS else entry.flagged_share.value


def _figures(summary: Summary) -> list[Figure]:
    """The figures at the top of a report on one source."""
    prevalence, flagged = summary.prevalence, summary.flagged_share
    missing = sum(summary.unscored.values())
    figures = []
    if prevalence:
        note = f"95% interval {percent(prevalence.low)} to {percent(prevalence.high)}"
        figures.append(Figure("Estimated share that leaks", percent(prevalence.value), note))
    figures.append(
        Figure(
            "Pairs flagged",
            count(summary.flagged),
            f"{percent(flagged.value)} of the counted" if flagged else "",
        )
    )
    figures.append(Figure("Pairs scored", count(summary.scored), f"of {plural(summary.rows, 'row')}"))
    figures.append(Figure("Not scored", count(missing), "never counted as clean", "warn" if missing else ""))
    return figures


def _scores(audited: Audited) -> list[float]:
    return [audit.leakage for _, audit in counted(audited.pairs()) if audit.leakage is not None]


def _reference(summaries: Sequence[Summary], calibration: Calibration) -> list[float]:
    """The leak-free calibration scores that most pairs here are compared with, as a single source has them."""
    of_all = [null for summary in summaries for null in summary.nulls]
    pairs: Counter[str] = Counter()
    for null in of_all:
        pairs[null.kind] += null.pairs
    if not pairs:
        return []
    (kind, _), *_ = pairs.most_common(1)
    leak_free = calibration.leak_free(kind)
    own = Null(of_all[0].location, of_all[0].spread) if len(summaries) == 1 else leak_free.null
    return [float(score) for score in leak_free.scores_under(own)]


def _above(scores: Sequence[float]) -> list[float]:
    """Share of scores, as the table has them, at or above 0, 0.01, ... 1; empty where there are no scores."""
    ordered, n = sorted(round(score, SCORE_DIGITS) for score in scores), len(scores)
    return [round(1 - bisect_left(ordered, step / STEPS) / n, 5) for step in range(STEPS + 1)] if n else []


def _threshold(sources: Sequence[Audited]) -> float:
    """Where the slider stands at first: the least flagged score of the only source, else the middle."""
    flagged = [audit.leakage for audited in sources for audit in audited.audits if audit.leaks]
    lowest = min((score for score in flagged if score is not None), default=0.5)
    return int(100 * lowest) / 100 if len(sources) == 1 else 0.5


def _table(sources: Sequence[Audited]) -> list[dict[str, object]]:
    """The rows of the page's table: all of them, or each source's worst and some without a score."""
    rooms = _rooms([len(audited.audits) for audited in sources])
    chosen = [
        (place, *pair)
        for place, (audited, most) in enumerate(zip(sources, rooms, strict=True))
        for pair in _worst(audited, most)
    ]
    paths = [Path(row.image) if row.image else None for _, _, row, *_ in chosen]
    # The worst are looked at most: they have the first call on the picture budget.
    order = sorted(range(len(chosen)), key=lambda at: -(chosen[at][3].leakage or 0))
    made = thumbnails([paths[at] for at in order], PICTURE_SIDE, PICTURE_BYTES)
    pictures = dict(zip(order, made, strict=True))
    return [_table_row(*entry, pictures[at]) for at, entry in enumerate(chosen)]


def _rooms(sizes: Sequence[int]) -> list[int]:
    """Rows of the table for each source: equal parts, and what a smaller source leaves goes to the larger ones."""
    rooms, left = [0] * len(sizes), TABLE_ROWS
    for behind, place in enumerate(sorted(range(len(sizes)), key=lambda place: sizes[place])):
        rooms[place] = min(sizes[place], max(left // (len(sizes) - behind), 1))
        left -= rooms[place]
    return rooms


def _worst(audited: Audited, most: int) -> list[tuple[int, SourceRow, Audit, Content]]:
    """At most `most` numbered pairs in input order: flagged ones, the highest scores, and room for unscored ones."""
    numbered = [(number, *entry) for number, entry in enumerate(audited.entries())]
    if len(numbered) <= most:
        return numbered
    scored = [entry for entry in numbered if entry[2].leakage is not None]
    room = max(min(LEAST_UNSCORED, most // 2), most - len(scored))
    unscored = [entry for entry in numbered if entry[2].leakage is None][:room]
    scored.sort(key=lambda entry: (not entry[2].leaks, -(entry[2].leakage or 0)))
    return sorted(scored[: most - len(unscored)] + unscored, key=lambda entry: entry[0])


def _table_row(
    source: int, number: int, row: SourceRow, audit: Audit, content: Content, picture: str | None
) -> dict[str, object]:
    """One pair for the page's script, under short keys: thousands of these are in the page."""
    return {
        "source": source,
        "n": number,
        "id": row.id,
        "query": _cut(row.query),
        "shows": _cut(content.text or ""),
        "category": " · ".join(filter(None, (row.category, row.sub_category))),
        "leakage": _short(audit.leakage, SCORE_DIGITS),
        "harm": _short(audit.text_harm),
        "p": _short(audit.p_value, 4),
        "leaks": bool(audit.leaks),
        "harmless": row.is_safe is True,
        "because": why_unscored(audit),
        "from": content.origin,
        "note": content.note,
        "alike": _short(content.similarity, 2),
        "words": [_words(audit.query_spans), _words(audit.image_spans)],
        "image": bool(row.image),  # too many or unreadable ones are not in the page
        "picture": picture,
    }


def _words(spans: Sequence[Span]) -> list[list[object]]:
    return [[span.text, round(span.weight, 2)] for span in spans]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"


def _short(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
