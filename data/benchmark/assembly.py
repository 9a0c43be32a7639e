"""What goes into a build: the rows of each split, the classes, and what the card says of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from data.benchmark.card import Facts, write_card
from data.benchmark.card_charts import write_charts
from data.benchmark.croissant import About, write_croissant
from data.benchmark.layout import Entry, entry_of
from data.benchmark.options import BUILD, Options
from data.benchmark.provenance import without_folders
from data.errors import UserError
from data.pages.charts import Series
from data.records import Pair, SubCategory
from data.reviews import Review
from data.run_folder import Plan
from data.stage_meta import StageMeta, read_meta

LEAKS = ("leak", "leak_in_image", "edit_leaks")  # reasons that make a pair one for calibration


@dataclass(frozen=True)
class Work:
    """All that goes into a build."""

    run: Path
    plan: Plan
    taxonomy: Sequence[SubCategory]
    options: Options  # anchored
    filtered: Sequence[Pair]  # all that entered the filter
    judged: Sequence[Pair]  # what the filter kept, as people judged it
    reviews: Sequence[Review]
    theirs: Sequence[Entry]  # the rows of the benchmark that is extended


def entries_of(work: Work) -> tuple[list[Entry], Sequence[Pair]]:
    """The rows of the benchmark, and our pairs with what kept some of them out.

    Raises `UserError` when a picture is gone.
    """
    kept = [pair for pair in work.judged if pair.rejected is None]
    missing = [pair.image_path or f"that of {pair.id}" for pair in kept if not _has_picture(work, pair)]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(kept)} pictures of {work.run} are missing, such as {missing[0]}: put them "
            "back, or draw them again with construct.run --redo draw."
        )
    if not work.options.extend:
        return [entry_of(number, pair, work.run) for number, pair in enumerate(kept)], work.judged
    from data.benchmark.extend import merge
    from data.embedders import load_embedder

    merged = merge(work.theirs, kept, work.run, load_embedder(work.plan.embedder), _extended(work))
    known = {pair.id: pair for pair in merged.pairs}
    return merged.entries, [known.get(pair.id, pair) for pair in work.judged]


def _extended(work: Work) -> str:
    """The name of the benchmark that is extended: its folder's, whether that or its data.json was named."""
    path = (work.run / work.options.extend).resolve()
    return path.name if path.is_dir() else path.parent.name


def calibration_of(work: Work, pairs: Sequence[Pair], first: int) -> tuple[list[Entry], int]:
    """Pairs that leak, by the filter or after an edit, as rows of their own split; their pictures lie in it.

    Also how many of them are left out, for their picture is gone.
    """
    known = {pair.id: pair for pair in pairs}
    latest = [known.get(pair.id, pair) for pair in work.filtered]
    leaking = [pair for pair in latest if pair.rejected and pair.rejected.reason in LEAKS]
    there = [pair for pair in leaking if _has_picture(work, pair)]
    entries = [entry_of(first + number, pair, work.run, folder="") for number, pair in enumerate(there)]
    return entries, len(leaking) - len(there)


def _has_picture(work: Work, pair: Pair) -> bool:
    return bool(pair.image_path) and (work.run / pair.image_path).is_file()


def labels_of(taxonomy: Sequence[SubCategory], entries: Sequence[Entry]) -> dict[str, list[str]]:
    """The class names of the labelled columns: the taxonomy's, then any others in order of appearance."""
    rows = [entry.row for entry in entries]
    categories = [*(each.category for each in taxonomy), *(row["category"] for row in rows)]
    parts = [*(each.sub_category for each in taxonomy), *(row["sub_category"] for row in rows)]
    return {"category": list(dict.fromkeys(categories)), "sub_category": list(dict.fromkeys(parts))}


def metas_of(work: Work, pairs: Sequence[Pair]) -> list[StageMeta]:
    """The stages' metas in order, the last of them for what people and the merge rejected."""
    return [*stage_metas(work), build_meta(pairs)]


def stage_metas(work: Work) -> list[StageMeta]:
    """What the run's stages left on record, in order."""
    found = (read_meta(work.run, name) for name in work.plan.stages)
    return [meta for meta in found if meta is not None]


def build_meta(pairs: Sequence[Pair]) -> StageMeta:
    """What became of the pairs that the filter kept."""
    lost = Counter(pair.rejected.reason for pair in pairs if pair.rejected)
    return StageMeta(
        stage=BUILD, fingerprint="", settings={}, finished=True, entered=len(pairs),
        kept=len(pairs) - lost.total(), rejected=dict(sorted(lost.items())), fresh=len(pairs),
    )  # fmt: skip


def describe(
    folder: Path,
    work: Work,
    pairs: Sequence[Pair],
    splits: Mapping[str, Sequence[Entry]],
    files: Mapping[str, Sequence[Path]],
    labels: Mapping[str, Sequence[str]],
) -> None:
    """Card, charts and Croissant metadata."""
    metas = metas_of(work, pairs)
    facts = Facts(
        name=work.options.name or work.plan.name,
        license=work.options.license or work.plan.license,
        date=date_of(work.options.date),
        entries=splits["test"],
        calibration=len(splits.get("calibration", ())),
        taxonomy=_counts(work.taxonomy, splits["test"]),
        models={role: without_folders(tool) for role, tool in work.plan.models.items()},
        metas=metas,
        filtered=work.filtered,
        reviews=work.reviews,
        extended=_extended(work) if work.options.extend else "",
    )
    write_charts(folder / "charts", facts.taxonomy, metas, _leakage(work.filtered, pairs))
    write_card(folder, facts)
    says = f"{len(facts.entries)} pairs of a picture and a query whose danger only the picture tells."
    about = About(facts.name, facts.license, facts.date, says, facts.models)
    write_croissant(folder, about, files, labels)


def date_of(asked: str) -> str:
    """The date in the card: as asked, by SOURCE_DATE_EPOCH (seconds), or today's."""
    try:
        if asked:
            return date.fromisoformat(asked).isoformat()
        if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
            return datetime.fromtimestamp(int(epoch), UTC).date().isoformat()
    except (ValueError, OverflowError, OSError) as error:  # OSError: beyond the platform's clock
        raise UserError("The date of a build is written YYYY-MM-DD; SOURCE_DATE_EPOCH in seconds.") from error
    return datetime.now(UTC).date().isoformat()


def _counts(taxonomy: Sequence[SubCategory], entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """Category -> sub-category -> rows: the taxonomy's, then any others."""
    rows = Counter((entry.row["category"], entry.row["sub_category"]) for entry in entries)
    counts: dict[str, dict[str, int]] = {}
    for category, part in dict.fromkeys([*((each.category, each.sub_category) for each in taxonomy), *rows]):
        counts.setdefault(category, {})[part] = rows[category, part]
    return counts


def _leakage(filtered: Sequence[Pair], pairs: Sequence[Pair]) -> list[Series]:
    """Scores of what stayed and of what went, for leaking or for something else."""
    known = {pair.id: pair for pair in pairs}
    series: dict[str, list[float]] = {"low": [], "high": [], "aside": []}
    for pair in (known.get(pair.id, pair) for pair in filtered):
        kind = "low" if pair.rejected is None else "high" if pair.rejected.reason in LEAKS else "aside"
        if pair.audit and pair.audit.leakage is not None:
            series[kind].append(pair.audit.leakage)
    names = {"low": "kept", "high": "rejected for leaking", "aside": "rejected otherwise"}
    return [Series(names[kind], kind, values) for kind, values in series.items()]
