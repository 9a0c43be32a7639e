"""Memory stays flat, and a run that is told to stop stops cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

MEASURED = """
import asyncio, resource, sys
from pathlib import Path
from construct.conductor import Inputs
from data.llm.cache import ResponseCache
from data.llm.chat import Asker, ChatRequest, Completion
from data.records import Pair
from data.rows import read_rows
from data.stage import Stage, read_stage, run_stage
from pydantic import BaseModel

class Colour(BaseModel):
    name: str

class Parrot:
    model = "parrot"
    async def complete(self, request: ChatRequest) -> Completion:
        await asyncio.sleep(0)
        return Completion(text='{"name": "' + "red" * 50 + '"}')
    async def close(self) -> None: ...

folder, number = Path(sys.argv[1]), int(sys.argv[2])
asker = Asker(Parrot(), ResponseCache(folder / "responses.sqlite"))

def pairs():
    for row in range(number):
        yield Pair(id=f"{row:012d}", element=f"row {row}", category="c", sub_category="s",
                   image_description="a long description " * 40)

async def copied(pair):
    return pair

async def asked(pair):
    reply = await asker.ask("system", pair.element + pair.image_description, Colour)
    return pair.replace(instruction=reply.name)

async def both():
    await run_stage(Stage("first", {}, each=copied, workers=64), Inputs(pairs), folder)
    first = Inputs(lambda: read_stage(folder, "first", Pair))
    await run_stage(Stage("second", {}, each=asked, workers=64), first, folder)

asyncio.run(both())
assert sum(1 for _ in read_rows(folder / "second.jsonl")) == number
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_megabytes(folder: Path, rows: int) -> float:
    """Of a process that runs two stages over so many rows."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(folder), str(rows)],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


@pytest.mark.slow
def test_50000_rows_take_little_more_memory_than_2000(tmp_path: Path) -> None:
    few, many = peak_megabytes(tmp_path / "few", 2000), peak_megabytes(tmp_path / "many", 50_000)
    print(f"2,000 rows: {few:.0f} MB, 50,000 rows: {many:.0f} MB")
    assert many - few <= 150


def test_10000_rows_take_little_more_memory_than_1000(tmp_path: Path) -> None:
    few, many = peak_megabytes(tmp_path / "few", 1000), peak_megabytes(tmp_path / "many", 10_000)
    assert many - few <= 30


@pytest.mark.parametrize("wish", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_says_so_and_ends_with_130(tmp_path: Path, wish: signal.Signals) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fault_server", "0", "0", "0.3"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        run = subprocess.Popen(
            [sys.executable, "-m", "tests.llm_run", str(tmp_path), url],
            cwd=REPOSITORY, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        rows = tmp_path / "describe.jsonl"
        for _ in range(600):
            if rows.exists() and rows.stat().st_size:
                break
            time.sleep(0.05)
        os.kill(run.pid, wish)
        said = run.communicate(timeout=30)[1]
    finally:
        server.kill()
        server.wait()
    assert run.returncode == 130
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    assert rows.read_bytes().endswith(b"\n")
    assert '"spend"' in (tmp_path / "describe.meta.json").read_text()
