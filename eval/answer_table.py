"""The report's browser of answers: rows with their verdicts, and the pictures they were asked about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.pages.thumbnails import thumbnails
from eval.records import LABEL_NAMES, LedgerRow
from eval.runs import Run

TABLE_ROWS = 6000
LONGEST_TEXT = 1500
PICTURE_SIDE = 160
PICTURE_BYTES = 9_000_000


def answer_table(runs: Sequence[Run]) -> list[dict[str, object]]:
    """Rows of the browser: all, or as many of each run as fit."""
    most = max(TABLE_ROWS // max(len(runs), 1), 1)
    chosen = [(place, row) for place, run in enumerate(runs) for row in run.rows[:most]]
    pictures = _pictures(runs, chosen)
    return [_table_row(place, row, pictures.get((place, row.image))) for place, row in chosen]


def _pictures(runs: Sequence[Run], chosen: Sequence[tuple[int, LedgerRow]]) -> dict[tuple[int, str], str]:
    """Thumbnails by run and picture; each picture travels once."""
    wanted = list(dict.fromkeys((place, row.image) for place, row in chosen if row.image))
    paths = [_picture_path(runs[place], image) for place, image in wanted]
    made = thumbnails(paths, PICTURE_SIDE, PICTURE_BYTES)
    return {key: picture for key, picture in zip(wanted, made, strict=True) if picture}


def _picture_path(run: Run, image: str) -> Path | None:
    """The file, in the benchmark's folder or among the embedded pictures that were unpacked beside the ledger."""
    benchmark = Path(run.summary.benchmark).expanduser()
    folders = (benchmark if benchmark.is_dir() else benchmark.parent, run.folder / "pictures")
    try:
        for root in (folder.resolve() for folder in folders):
            path = (root / image).resolve()
            if path.is_relative_to(root) and path.is_file():
                return path
    except (ValueError, OSError):  # a stranger's text that can be no path
        return None
    return None


def _table_row(place: int, row: LedgerRow, picture: str | None) -> dict[str, object]:
    return {
        "run": place,
        "case": row.case,
        "arm": row.arm,
        "question": row.question[:LONGEST_TEXT],
        "answer": row.text[:LONGEST_TEXT],
        "cut": len(row.text) > LONGEST_TEXT or row.finish_reason == "length",
        "state": row.state,
        "label": row.label,
        "verdict": LABEL_NAMES[row.label] if row.label else row.state.replace("_", " "),
        "reason": (row.reason or row.detail)[:LONGEST_TEXT],
        "judge": row.judge,
        "category": " · ".join(filter(None, (row.category, row.sub_category))),
        "leakage": None if row.leakage is None else round(row.leakage, 3),
        "picture": picture if row.arm == "image" else None,
    }
