"""The LLM stages against a server that fails in every way it can, and against kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from data.errors import PERMANENT
from data.llm.cache import ResponseCache
from data.rows import Row, read_rows
from tests.fault_server import FAULTS, FaultServer, serving
from tests.llm_run import WORKERS, make_images, profile, run_stages

REPOSITORY = Path(__file__).resolve().parents[1]


def rows_of(folder: Path, stage: str) -> list[Row]:
    return list(read_rows(folder / f"{stage}.jsonl"))


def finish_elements(url: str, folder: Path, images: Path | None) -> None:
    """The lists of all sub-categories, asking again for those that failed for good."""
    for _ in range(10):
        run_stages(profile(url, images), folder, ["elements"], retry_failed=True)
        if not any("failed" in row for row in rows_of(folder, "elements")):
            return
    raise AssertionError("a sub-category failed ten times")


def test_at_a_fault_rate_of_30_percent_every_pair_ends_complete_or_with_a_reason(tmp_path: Path) -> None:
    images, run = make_images(tmp_path / "given", 25), tmp_path / "run"
    with serving(FaultServer(fault_rate=0.3, hang_seconds=3)) as server:
        finish_elements(server.url, run, images)
        shop = run_stages(profile(server.url, images), run, ["describe", "perceive", "rewrite"])
        assert set(server.met) == set(FAULTS)  # the run met all of them
        assert sum(server.completed.values()) == len(ResponseCache(run / "responses.sqlite"))
    described, perceived, rewritten = (rows_of(run, name) for name in ("describe", "perceive", "rewrite"))
    assert (len(described), len(perceived)) == (475, 25)
    entered = {row["id"] for row in (*described, *perceived) if "failed" not in row}
    assert Counter(row["id"] for row in rewritten) == Counter(entered)  # none missing, none twice
    for row in (*described, *perceived, *rewritten):
        assert row.get("failed") in {None, *PERMANENT}
        assert "failed" in row or "rejected" in row or row.get("image_description")
    complete = [row for row in rewritten if "failed" not in row and "rejected" not in row]
    assert all(row["instruction"] and row["safety_reason"] for row in complete)
    assert len(complete) > 300
    spent = shop.cache.spent()
    assert spent.calls == sum(server.completed.values())
    assert spent.cost == pytest.approx((spent.input_tokens + 2 * spent.output_tokens) / 1e6)


def counts(url: str) -> dict[str, Counter[str]]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/counts") as response:
        return {name: Counter(figures) for name, figures in json.load(response).items()}


def test_killed_ten_times_it_pays_again_for_no_more_than_was_in_flight(tmp_path: Path) -> None:
    moments, folder = random.Random(7), tmp_path / "run"
    make_images(folder / "given", 25)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fault_server", "0", "0", "0.1"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            kills = kill_at_random(folder, url, moments)
            assert client(folder, url).wait() == 0
            figures = counts(url)
            asked_again = sum(figures["completed"].values()) - len(figures["completed"])
            assert asked_again <= kills * WORKERS
            assert len(ResponseCache(folder / "responses.sqlite")) == len(figures["completed"])
            assert Counter(row["id"] for row in rows_of(folder, "rewrite")).total() == 500
            assert client(folder, url).wait() == 0
            assert counts(url) == figures  # over a finished run it sees nothing
        finally:
            server.kill()
    print(f"{kills} kills, {asked_again} of {sum(figures['completed'].values())} completions asked for again")
    assert kills == 10


def client(folder: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.llm_run", str(folder), url]
    return subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True, stderr=subprocess.DEVNULL)


def kill_at_random(folder: Path, url: str, moments: random.Random) -> int:
    """Ten kills, each some while after the run has gone on; how many came before it had finished."""
    kills = 0
    for _ in range(10):
        before = sum(counts(url)["completed"].values())
        run = client(folder, url)
        while run.poll() is None and sum(counts(url)["completed"].values()) == before:
            time.sleep(0.02)
        time.sleep(moments.uniform(0.0, 0.8))
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            kills += 1
        run.wait()
    return kills
