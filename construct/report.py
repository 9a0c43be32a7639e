"""The report of a construction run: funnel, taxonomy, leakage and the pictures, in one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

from construct import describe, elements, perceive
from data.benchmark.assembly import LEAKS
from data.errors import UserError
from data.llm.prices import CURRENCY, Bill
from data.pages.charts import Series, histogram, nested_donut
from data.pages.page import Figure, count, render_page, write_page
from data.pages.thumbnails import thumbnails
from data.records import Pair, SubCategory
from data.stage import read_stage
from data.stage_meta import StageMeta, read_meta

TEMPLATE = Path(__file__).with_name("templates") / "report.html"
GALLERY_ROWS = 2000  # kept pairs shown, and as many rejected ones; all of them are in the run folder
PICTURE_SIDE = 320
PICTURE_BYTES = 16_000_000
BRANCHES = (describe.STAGE, perceive.STAGE)  # where pairs begin


class Lost(NamedTuple):
    """Rows that left at a stage for one reason; the bar's segment begins at `start` rows."""

    name: str
    kind: str
    start: int
    rows: int


class Step(NamedTuple):
    """One line of the funnel."""

    name: str
    unit: str
    entered: int
    kept: int
    lost: list[Lost]
    mended: list[str]


class Portion(NamedTuple):
    """A sub-category's rows and its target."""

    name: str
    rows: int
    share: float
    target: float


def write_report(folder: Path, stages: Sequence[str], taxonomy: Sequence[SubCategory]) -> Path:
    """Write `report.html` into a run's folder; `stages` in order, the last one decides which pairs stay.

    Raises `UserError` when that stage has not run yet.
    """
    metas = [meta for name in stages if (meta := read_meta(folder, name)) is not None]
    if not metas or metas[-1].stage != stages[-1]:
        raise UserError(f"{folder} has nothing to report yet: run the stage {stages[-1]!r} first.")
    pairs = list(read_stage(folder, stages[-1], Pair))
    kept = [pair for pair in pairs if pair.rejected is None]
    dropped = [pair for pair in pairs if pair.rejected is not None]
    portions = _portions(kept, taxonomy)
    path = folder / "report.html"
    values = {
        "run": folder.resolve().name,
        "kept": len(kept),
        "dropped": len(dropped),
        "facts": _facts(metas, kept, portions),
        "funnel": _funnel(metas),
        "portions": portions,
        "top_share": max((max(p.share, p.target) for inner in portions.values() for p in inner), default=1.0),
        "donut": nested_donut({name: {p.name: p.rows for p in inner} for name, inner in portions.items()}),
        "leakage": _leakage(kept, dropped),
        "limit": _leakage_limit(metas[-1]),
        "settings": dict(_settings(metas)),
        "gallery": _gallery(folder, kept[:GALLERY_ROWS], dropped[:GALLERY_ROWS]),
        "gallery_rows": GALLERY_ROWS,
    }
    write_page(path, render_page(TEMPLATE, values))
    return path


def _funnel(metas: Sequence[StageMeta]) -> list[Step]:
    """The stages; the one that lists elements says that it counts sub-categories."""
    steps = []
    for meta in metas:
        unit = "sub-categories" if meta.stage == elements.STAGE else "pairs"
        mended = [f"mended: {_words(name)} {count(rows)}" for name, rows in meta.repaired.items()]
        steps.append(Step(meta.stage, unit, meta.entered, meta.kept, _lost(meta), mended))
    return steps


def _lost(meta: StageMeta) -> list[Lost]:
    """Leaks, other rejections and failures, each beginning where the one before it ends."""
    kinds = [
        (_words(name), "leak" if name in LEAKS else "aside", rows) for name, rows in meta.rejected.items()
    ]
    kinds += [(f"failed: {_words(name)}", "failed", rows) for name, rows in meta.failed.items()]
    lost, start = [], meta.kept
    for name, kind, rows in sorted(kinds, key=lambda each: ("leak", "aside", "failed").index(each[1])):
        lost.append(Lost(name, kind, start, rows))
        start += rows
    return lost


def _words(code: str) -> str:
    return code.replace("_", " ")


def _facts(
    metas: Sequence[StageMeta], kept: Sequence[Pair], portions: Mapping[str, Sequence[Portion]]
) -> list[Figure]:
    """The figures at the top."""
    every = [portion for inner in portions.values() for portion in inner]
    covered = sum(portion.rows > 0 for portion in every)
    scores = _scores(kept)
    failed = sum(sum(meta.failed.values()) for meta in metas)
    figures = [
        Figure("Pairs in the benchmark", count(len(kept)), f"of {count(_drafted(metas))} drafted"),
        Figure("Sub-categories covered", f"{covered} of {len(every)}"),
    ]
    if scores:
        mean = f"{sum(scores) / len(scores):.2f}"
        figures.append(Figure("Mean leakage of kept pairs", mean, f"highest {max(scores):.2f}"))
    if failed:
        figures.append(Figure("Rows that failed", count(failed), "the funnel says why", "warn"))
    spent = _spent(metas)
    if spent.calls:
        cost = f"{spent.cost:.2f} {CURRENCY}" if spent.cost else "nothing"
        figures.append(Figure("Spent on models", "unknown" if spent.unpriced else cost, spent.words()))
    return figures


def _drafted(metas: Sequence[StageMeta]) -> int:
    """How many pairs were begun, in both branches."""
    begun = [meta.entered for meta in metas if meta.stage in BRANCHES]
    return sum(begun) if begun else max(meta.entered for meta in metas)


def _spent(metas: Sequence[StageMeta]) -> Bill:
    """What the stages' calls took, all together."""
    bills = [Bill(**meta.spend.model_dump(exclude={"currency"})) for meta in metas if meta.spend]
    return reduce(Bill.plus, bills, Bill())


def _portions(kept: Sequence[Pair], taxonomy: Sequence[SubCategory]) -> dict[str, list[Portion]]:
    """Category -> its sub-categories with rows and targets, in the taxonomy's order, strangers last."""
    rows = Counter((pair.category, pair.sub_category) for pair in kept)
    targets = {(entry.category, entry.sub_category): entry.share for entry in taxonomy}
    portions: dict[str, list[Portion]] = {}
    for category, name in [*targets, *sorted(rows.keys() - targets.keys())]:
        number = rows[category, name]
        portion = Portion(name, number, number / max(len(kept), 1), targets.get((category, name), 0.0))
        portions.setdefault(category, []).append(portion)
    return portions


def _leakage(kept: Sequence[Pair], dropped: Sequence[Pair]) -> dict[str, object]:
    """The histogram of scores by what became of the pair, and how many pairs have none."""
    leaking = [pair for pair in dropped if pair.rejected and pair.rejected.reason in LEAKS]
    others = [pair for pair in dropped if pair.rejected and pair.rejected.reason not in LEAKS]
    series = [
        Series("Kept", "low", _scores(kept)),
        Series("Rejected for leaking", "high", _scores(leaking)),
        Series("Rejected for something else", "aside", _scores(others)),
    ]
    shown = [entry for entry in series if entry.values]
    unscored = len(kept) + len(dropped) - sum(len(entry.values) for entry in series)
    return {"chart": histogram(shown) if shown else None, "series": shown, "unscored": unscored}


def _scores(pairs: Sequence[Pair]) -> list[float]:
    return [pair.audit.leakage for pair in pairs if pair.audit and pair.audit.leakage is not None]


def _leakage_limit(meta: StageMeta) -> float | None:
    """The filter's `max_leakage`, where its settings name one."""
    section = meta.settings.get("filter")
    limit = section.get("max_leakage") if isinstance(section, dict) else None
    return float(limit) if isinstance(limit, int | float) else None


def _settings(metas: Sequence[StageMeta]) -> Iterator[tuple[str, str]]:
    """Every setting the stages depend on, once, as `section.key`."""
    for meta in metas:
        for section, value in meta.settings.items():
            if isinstance(value, dict):
                yield from ((f"{section}.{key}", str(each)) for key, each in value.items())
            else:
                yield section, str(value)


def _gallery(folder: Path, kept: Sequence[Pair], dropped: Sequence[Pair]) -> list[dict[str, object]]:
    """Cards for the page's script; the kept pairs have the first call on the picture budget."""
    pairs = [*kept, *dropped]
    root = folder.resolve()
    pictures = thumbnails([_inside(root, pair.image_path) for pair in pairs], PICTURE_SIDE, PICTURE_BYTES)
    return [_card(pair, picture) for pair, picture in zip(pairs, pictures, strict=True)]


def _inside(root: Path, relative: str) -> Path | None:
    """The picture's path, if it has one that stays within the run."""
    path = (root / relative).resolve() if relative and "\0" not in relative else root
    return path if path != root and path.is_relative_to(root) else None


def _card(pair: Pair, picture: str | None) -> dict[str, object]:
    audit, rejected = pair.audit, pair.rejected
    return {
        "id": pair.id,
        "category": pair.category,
        "sub_category": pair.sub_category,
        "query": pair.instruction or pair.harmful_query,
        "shows": pair.image_description,
        "reason": pair.safety_reason,
        "leakage": None if audit is None or audit.leakage is None else round(audit.leakage, 3),
        "words": [[span.text, span.weight] for span in audit.query_spans] if audit else [],
        "rejected": f"{_words(rejected.reason)}: {rejected.detail}" if rejected else None,
        "picture": picture,
    }
