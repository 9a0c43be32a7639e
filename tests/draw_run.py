"""`python -m generate_images.run` for tests: as a user runs it, or in this process; its prompts and its rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from generate_images.conduct import DrawnRow, conduct
from generate_images.run import parse_arguments

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "generate_images.run"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # tiny models, and no network


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=REPOSITORY, env=ENVIRONMENT,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def here(*arguments: str | Path) -> int:
    """The same command in this process, where a test reaches in; as bare of threads and network."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", True),
            mock.patch("sys.argv", ["run", *map(str, arguments)]),
        ):
            return conduct(parse_arguments())
    finally:
        torch.set_num_threads(before)


def write_prompts(folder: Path, count: int, **more: object) -> Path:
    path = folder / "prompts.jsonl"
    rows = [{"id": f"p{n}", "prompt": f"a lamp and {n} red boxes", **more} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(out: Path) -> list[DrawnRow]:
    from data.stage import read_stage

    return list(read_stage(out, "draw", DrawnRow))
