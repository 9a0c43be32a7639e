"""A small run with a benchmark built of it, and what tests ask of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from data.benchmark.options import Options
from data.build import build_run
from data.taxonomy import load_taxonomy
from tests.small_run import make_run

REPOSITORY = Path(__file__).resolve().parents[1]
DAY = "2026-01-31"


def build(*arguments: str, here: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """`python -m data.build` with these arguments, in the folder `here`."""
    return subprocess.run(
        [sys.executable, "-m", "data.build", *arguments],
        cwd=here, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def make_built_run(folder: Path) -> Path:
    """The folder as a run of 12 kept pairs, its benchmark with the calibration split of 3 in it."""
    make_run(folder)
    build_run(folder, load_taxonomy(), Options(calibration=True, date=DAY))
    return folder


def rows_of(benchmark: Path) -> list[dict[str, object]]:
    """The rows of its data.json."""
    rows: list[dict[str, object]] = json.loads((benchmark / "data.json").read_text())
    return rows


def files_of(folder: Path) -> dict[str, bytes]:
    """The contents of all files in a folder and below it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
