"""Finished evaluations, read back for reports and comparisons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from data.errors import UserError
from eval.ledger import read_ledger
from eval.records import LedgerRow
from eval.summary import ArmFigures, Summary


class Run(NamedTuple):
    """One evaluation: its figures, its rows and where it lies."""

    name: str
    summary: Summary
    rows: list[LedgerRow]
    folder: Path

    @property
    def main(self) -> ArmFigures:
        """The arm a leaderboard goes by."""
        return self.summary.arm("image") or self.summary.arms[0]


def read_run(folder: Path) -> Run:
    """A finished evaluation."""
    rows = read_ledger(folder)
    try:
        summary = Summary.model_validate(json.loads((folder / "summary.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise UserError(
            f"{folder} has no readable summary.json: run its `python -m eval.run` again."
        ) from error
    return Run(folder.resolve().name, summary, rows, folder)


def names_of(runs: Sequence[Run]) -> list[str]:
    """The model's short name; where two runs share it, as much of the folders' ends as tells them apart."""
    short = [run.summary.model.rstrip("/").rpartition("/")[2] or run.name for run in runs]
    paths = [run.folder.resolve().parts for run in runs]
    shared = [parts for parts, name in zip(paths, short, strict=True) if short.count(name) > 1]
    depths = range(1, max(map(len, paths), default=0) + 1)
    depth = next((n for n in depths if len({parts[-n:] for parts in shared}) == len(shared)), 1)
    return [
        "/".join(parts[-depth:]) if short.count(name) > 1 else name
        for parts, name in zip(paths, short, strict=True)
    ]
