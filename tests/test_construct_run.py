"""The whole chain as a user runs it: end to end, killed and resumed, and with everything wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from construct.offline.scenes import load_scenes
from construct.profile import EMBEDDED
from construct.stages import STEPS
from data.records import Pair
from data.stage import read_meta, read_stage
from data.taxonomy import load_taxonomy

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "construct.run"]


def construct(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the offline profile that nothing disturbed."""
    folder = tmp_path_factory.mktemp("run") / "demo"
    done = construct("--stage", "all", "--run", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def benchmark_rows(folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads((folder / "benchmark" / "data.json").read_text())
    return rows


def test_the_demo_builds_a_benchmark_with_every_sub_category(finished: Path) -> None:
    rows = benchmark_rows(finished)
    assert len(rows) >= 120
    assert {row["sub_category"] for row in rows} == {entry.sub_category for entry in load_taxonomy()}
    assert all((finished / "benchmark" / str(row["image_path"])).exists() for row in rows)


def test_every_kept_pair_has_a_leak_score_and_no_leaking_query_is_among_them(finished: Path) -> None:
    kept = [pair for pair in read_stage(finished, "filter", Pair) if pair.rejected is None]
    assert all(pair.audit is not None and pair.audit.leakage is not None for pair in kept)
    leaking = {scene.leaking_query for scene in load_scenes()}
    assert not leaking & {pair.instruction for pair in kept}
    rejected = Counter(p.rejected.reason for p in read_stage(finished, "filter", Pair) if p.rejected)
    assert rejected["leak"] >= 1  # what the repair loop lets through, the gate must find
    repaired = read_meta(finished, "rewrite")
    assert repaired is not None and sum(repaired.repaired.values()) >= 5


def test_the_benchmark_opens_with_datasets_and_its_rows_are_vlsbench_rows(finished: Path) -> None:
    from datasets import load_dataset

    pairs = load_dataset(str(finished / "benchmark"), split="test", cache_dir=str(finished / "cache"))
    rows = benchmark_rows(finished)
    assert len(pairs) == len(rows)
    assert pairs[0]["image"].size == (512, 512)
    assert pairs.features["sub_category"].int2str(pairs[3]["sub_category"]) == rows[3]["sub_category"]
    assert list(rows[0]) == [
        "instruction_id", "instruction", "image_path", "category", "sub_category", "source",
        "image_description", "safety_reason",
    ]  # fmt: skip
    assert [row["instruction_id"] for row in rows] == list(range(len(rows)))


def test_a_second_run_repeats_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.png")}
    started = time.monotonic()
    again = construct("--stage", "all", "--run", str(finished))
    assert again.returncode == 0
    assert time.monotonic() - started < 15
    assert again.stderr.count("nothing left to do") == 7
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.png")} == before


def test_the_filter_alone_takes_a_runs_rows_for_its_own(finished: Path) -> None:
    before = (finished / "filter.meta.json").read_text()
    command = [sys.executable, "-m", "filter.run", str(finished)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing left to do" in done.stderr
    made = [json.loads(text)["fingerprint"] for text in (before, (finished / "filter.meta.json").read_text())]
    assert made[0] == made[1]


def test_after_another_filter_the_report_is_called_old_and_made_anew_by_the_command_named(
    finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("cache"))
    command = [sys.executable, "-m", "filter.run", str(run), "--size", "40", "--at-least", "1"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False)
    named = f"`python -m construct.run --stage build --run {run} --profile PROFILE`"
    assert f"{run / 'report.html'} and the benchmark still show the filter before" in done.stdout
    assert named in done.stdout
    assert construct("--stage", "build", "--run", str(run), "--profile", "offline").returncode == 0
    kept = [pair for pair in read_stage(run, "filter", Pair) if pair.rejected is None]
    assert len(benchmark_rows(run)) == len(kept) < len(benchmark_rows(finished))
    assert f">{len(kept)}<" in (run / "report.html").read_text()
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False)
    assert again.returncode == 0 and "report.html" not in again.stdout


@pytest.mark.slow  # `test_faults.py` kills a lighter run five times too
def test_killed_at_five_random_moments_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    calm, folder, moments = tmp_path / "calm", tmp_path / "killed", random.Random(20241129)
    some = ["--limit", "60"]  # of 246: what takes time is starting, five times over
    started = time.monotonic()
    assert construct(*some, "--run", str(calm)).returncode == 0
    long = time.monotonic() - started
    kills = 0
    while kills < 5:
        run = subprocess.Popen(
            [*COMMAND, *some, "--run", str(folder)], cwd=REPOSITORY, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            run.wait(timeout=moments.uniform(0.05, 0.6) * long)
            break  # it finished before the kill: nothing is left to disturb
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            kills += 1
    assert construct(*some, "--run", str(folder)).returncode == 0
    made = [(each / "benchmark/data.json").read_bytes() for each in (calm, folder)]
    assert made[0] == made[1]
    assert json.loads(made[0])
    assert kills >= 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stage", "paint"], "Unknown stage 'paint'; choose from: all, elements,"),
        (["--profile", "ofline"], "Unknown profile 'ofline'"),
        (["--stage", "audit"], "Stage 'audit' needs 'elements' first"),
        (["--limit", "0"], "--limit takes a number from 1 upwards"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = construct(*arguments, "--run", str(tmp_path / "run"))
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("key", "kind"), [("generator = ", "generator"), ("embedder = ", "embedder")])
def test_an_unknown_tool_is_said_before_anything_is_made(tmp_path: Path, key: str, kind: str) -> None:
    offline = (REPOSITORY / "construct/profiles/offline.toml").read_text()
    line = next(line for line in offline.splitlines() if line.startswith(key))
    profile = tmp_path / "mine.toml"
    profile.write_text(offline.replace(line, f'{key}"nonesuch"'))
    done = construct("--profile", str(profile), "--run", str(tmp_path / "run"))
    assert done.returncode == 2
    assert f"Unknown {kind} 'nonesuch'; choose from:" in done.stderr
    assert not (tmp_path / "run" / "elements.jsonl").exists()


def test_a_run_folder_with_other_settings_is_refused_and_left_alone(finished: Path, tmp_path: Path) -> None:
    profile = tmp_path / "mine.toml"
    offline = (REPOSITORY / "construct/profiles/offline.toml").read_text()
    profile.write_text(offline.replace("max_leakage = 0.3", "max_leakage = 0.4"))
    before = {path: path.read_bytes() for path in finished.glob("*.jsonl")}
    done = construct("--profile", str(profile), "--run", str(finished))
    assert done.returncode == 2
    assert "filter.max_leakage: 0.3 -> 0.4" in done.stderr and "--redo filter" in done.stderr
    assert {path: path.read_bytes() for path in finished.glob("*.jsonl")} == before


def test_two_processes_on_one_run_folder_are_one_too_many(tmp_path: Path) -> None:
    import fcntl

    folder = tmp_path / "run"
    folder.mkdir()
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = construct("--run", str(folder))
    assert done.returncode == 2
    assert "Another process is working on" in done.stderr


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        started = time.monotonic()
        assert construct("--help").returncode == 0
        return time.monotonic() - started

    assert min(seconds() for _ in range(3)) < 0.5


def test_help_names_every_stage_and_every_embedded_profile() -> None:
    said = " ".join(construct("--help").stdout.split())
    places = [said.index(f"{step.name} -> ") for step in STEPS if step.name != "perceive"]
    assert places == sorted(places)
    assert f"({', '.join(sorted(file.stem for file in EMBEDDED.glob('*.toml')))})" in said
