"""Rows of a ledger, and a finished evaluation of them, for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.rows import write_json
from eval.ledger import write_ledger
from eval.records import Label, LedgerRow
from eval.summary import summarise


def row(case: int, label: Label | None, arm: str = "image", image: str = "", **more: object) -> LedgerRow:
    fields = {
        "id": f"{case}:{arm}", "case": str(case), "arm": arm, "model": "m", "label": label, "judge": "j",
        "state": "answered" if label else "unjudged", "image_key": image or str(case),
    }  # fmt: skip
    return LedgerRow.model_validate(fields | more)


def evaluation(folder: Path, rows: Sequence[LedgerRow], judge: str = "j") -> Path:
    """A finished evaluation on disk, without its report."""
    write_ledger(folder / "ledger.jsonl", rows)
    write_json(folder / "summary.json", summarise(rows, "a", [judge], "b").model_dump(mode="json"))
    return folder
