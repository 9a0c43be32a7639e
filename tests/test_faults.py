"""The whole pipeline through everything that goes wrong around it: kills, disks, edits, signals, clocks.

An LLM server of ours writes; embedder, auditor and generator are light stand-ins (`tests/light_run.py`).
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from data.errors import UserError
from data.llm.cache import ResponseCache
from data.llm.faults import LONGEST_WAIT_SECONDS, fault_of
from data.records import Pair
from data.run_folder import locked
from data.stage import Stage, read_stage, run_stage
from tests.fault_server import PASSING, FaultServer, serving
from tests.light_run import finish, light_run, write_profile

WORKERS = 8
STAGES = ("elements", "describe", "rewrite", "draw", "audit", "verify", "filter")


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with serving(FaultServer()) as running:
        yield running


@pytest.fixture(scope="module")
def profile(server: FaultServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_profile(tmp_path_factory.mktemp("profile") / "light.toml", server.url, workers=WORKERS)


@pytest.fixture(scope="module")
def undisturbed(profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    done = finish(profile, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def finished(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(undisturbed, tmp_path / "finished"))


def benchmark(folder: Path) -> dict[str, bytes]:
    """Every file of the finished benchmark."""
    root = folder / "benchmark"
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def assert_one_sentence(run: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2 and a last line that says what to do; no traceback."""
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    said = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, run.stderr
    assert all(word in said[0] for word in words), said[0]


# -- kill -9 -------------------------------------------------------------------------------------------------


def kill_until_done(profile: Path, folder: Path, moments: random.Random, most: int) -> int:
    """Kill the run at random moments until it ends by itself or was killed `most` times; how often it was."""
    for kills in range(most):
        run = light_run(profile, folder)
        while run.poll() is None and not (folder / "run.plan.json").exists():
            time.sleep(0.01)  # a first start that is killed earlier has nothing to lose
        try:
            run.communicate(timeout=moments.uniform(0.3, 3.0))
            return kills
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
    return most


def killed_runs(tmp_path: Path, kills: int, pairs: int) -> None:
    """Runs killed `kills` times in all: each ends byte-identical, having paid twice only for what was in flight."""
    moments, left = random.Random(20241129), kills
    while left > 0:
        folder, place = tmp_path / f"killed-{left}", tmp_path / f"server-{left}"
        place.mkdir()
        # Faults that pass, one request in ten: the answers in the end are those of a calm server.
        faulty = FaultServer(0.1, seed=left, delay_seconds=0.02, faults=PASSING, hang_seconds=3.0)
        with serving(FaultServer()) as calm:
            reference = finish(write_profile(place / "calm.toml", calm.url, pairs, WORKERS), place / "calm")
            assert reference.returncode == 0, reference.stderr
        with serving(faulty) as server:
            noisy = write_profile(place / "noisy.toml", server.url, pairs, WORKERS)
            done = kill_until_done(noisy, folder, moments, left)
            last = finish(noisy, folder)
            assert last.returncode == 0, last.stderr
        paid_twice = sum(server.completed.values()) - len(server.completed)
        assert paid_twice <= done * WORKERS
        assert len(ResponseCache(folder / "responses.sqlite")) == len(server.completed)
        assert benchmark(folder) == benchmark(place / "calm")
        print(f"{done} kills, {paid_twice} of {sum(server.completed.values())} completions asked for twice")
        left -= max(done, 1)


def test_killed_five_times_the_benchmark_is_the_same_bytes(tmp_path: Path) -> None:
    killed_runs(tmp_path, 5, pairs=2)


@pytest.mark.slow
def test_killed_a_hundred_times_the_benchmark_is_the_same_bytes(tmp_path: Path) -> None:
    killed_runs(tmp_path, 100, pairs=12)


# -- disks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kilobytes", [1, 8, 100])
def test_a_file_that_may_grow_no_further_is_one_sentence_and_the_run_goes_on_afterwards(
    tmp_path: Path, profile: Path, undisturbed: Path, kilobytes: int
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    folder = tmp_path / "run"
    assert_one_sentence(finish(profile, folder, preexec_fn=limit), "everything", "kept")
    again = finish(profile, folder)
    assert again.returncode == 0, again.stderr
    assert benchmark(folder) == benchmark(undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB in memory; where none may be mounted, the test is skipped."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_one_sentence_and_with_room_the_run_goes_on(
    small_disk: Path, profile: Path, undisturbed: Path
) -> None:
    folder = small_disk / "run"
    assert_one_sentence(finish(profile, folder), "make room" if os.geteuid() else "room")
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    again = finish(profile, folder)
    assert again.returncode == 0, again.stderr
    assert benchmark(folder) == benchmark(undisturbed)


@pytest.fixture
def read_only(finished: Path) -> Iterator[Path]:
    """A finished run that may be read but not written, not even by root."""
    if os.geteuid():
        finished.chmod(0o555)
        yield finished
        finished.chmod(0o755)
        return
    mounts = (["--bind", str(finished), str(finished)], ["-o", "remount,bind,ro", str(finished)])
    if any(subprocess.run(["mount", *each], capture_output=True, check=False).returncode for each in mounts):
        pytest.skip("root may write everywhere, and nothing can be mounted here")
    yield finished
    subprocess.run(["umount", "--lazy", str(finished)], check=True)


def test_a_run_folder_that_may_not_be_written_is_one_sentence(read_only: Path, profile: Path) -> None:
    assert_one_sentence(finish(profile, read_only, "--redo", "filter"), str(read_only))


# -- edits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_file_cut_in_the_middle_is_mended(
    finished: Path, undisturbed: Path, profile: Path, server: FaultServer, stage: str
) -> None:
    path = finished / f"{stage}.jsonl"
    os.truncate(path, path.stat().st_size // 2)
    paid = sum(server.completed.values())
    again = finish(profile, finished)
    assert again.returncode == 0, again.stderr
    assert sum(server.completed.values()) == paid  # the replies are in the cache
    assert benchmark(finished) == benchmark(undisturbed)
    assert path.read_bytes() == (undisturbed / path.name).read_bytes()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rewrite.meta.json", ["rewrite.meta.json is damaged"]),
        ("build.meta.json", ["build.meta.json is damaged"]),
        ("responses.sqlite", ["responses.sqlite"]),
    ],
)
def test_another_file_cut_in_the_middle_is_named(
    finished: Path, profile: Path, name: str, words: list[str]
) -> None:
    for extra in finished.glob(f"{name}-*"):  # what SQLite keeps beside its file
        extra.unlink()
    os.truncate(finished / name, (finished / name).stat().st_size // 2)
    assert_one_sentence(finish(profile, finished, "--redo", "describe"), *words)


def test_a_plan_cut_in_the_middle_is_written_anew(finished: Path, undisturbed: Path, profile: Path) -> None:
    plan = finished / "run.plan.json"
    os.truncate(plan, plan.stat().st_size // 2)
    assert finish(profile, finished).returncode == 0
    assert plan.read_bytes() == (undisturbed / "run.plan.json").read_bytes()


NONSENSE = (
    b"nonsense",
    b"\xff\xfe\x00",
    b"\0" * 200,
    b"[" * 100_000,
    b'{"id": 3}',
    b'{"id": "a", "of": 7}',
    b'{"id": "a", "of": "x", "failed": {"why": "not"}}',
    b'{"id": "a", "of": "x", "category": "c", "sub_category": "s", "instruction": 5}',
    b'{"id": "a", "of": "x", "category": "c", "sub_category": "s", "guest": "field"}',
    b'{"id": "a", "of": "x", "category": "c", "sub_category": "s", "rejected": "yes"}',
)


@pytest.mark.parametrize("line", NONSENSE, ids=range(len(NONSENSE)))
def test_a_row_edited_to_nonsense_is_named_or_made_again(tmp_path: Path, line: bytes) -> None:
    pairs = [Pair(id=name, category="c", sub_category="s") for name in "abc"]
    stage: Stage[Pair, Pair] = Stage("draw", {}, batch=list, batch_size=2)
    asyncio.run(run_stage(stage, pairs, tmp_path))
    path = tmp_path / "draw.jsonl"
    good = path.read_bytes().splitlines()
    own = good[0].split(b'"of": "')[1].split(b'"')[0]
    path.write_bytes(b"\n".join([line.replace(b'"x"', b'"' + own + b'"'), *good[1:], b""]))
    try:
        asyncio.run(run_stage(stage, pairs, tmp_path))
        assert [pair.id for pair in read_stage(tmp_path, "draw", Pair)] == list("abc")
    except UserError as error:
        assert f"Line 1 of {path} is not a row" in str(error)


def test_a_nonsense_row_ends_the_program_in_one_sentence(finished: Path, profile: Path) -> None:
    path = finished / "audit.jsonl"
    lines = path.read_text().splitlines()
    lines[4] = lines[4].replace('"category": "', '"category": 7, "was": "')
    path.write_text("\n".join(lines) + "\n")
    assert_one_sentence(finish(profile, finished, "--redo", "filter"), "Line 5 of", "audit.jsonl")


# -- processes, signals, clocks ------------------------------------------------------------------------------


def test_a_second_process_on_a_run_is_refused_and_the_first_not_disturbed(
    tmp_path: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "run"
    with serving(FaultServer(delay_seconds=0.05)) as slow:
        profile = write_profile(tmp_path / "slow.toml", slow.url, workers=WORKERS)
        first = light_run(profile, folder)
        while first.poll() is None and not (folder / "elements.jsonl").exists():
            time.sleep(0.01)
        assert_one_sentence(finish(profile, folder), "Another process is working on", "--run")
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert benchmark(folder) == benchmark(undisturbed)


@pytest.mark.parametrize("command", ["filter.run", "data.build"])
def test_other_tools_keep_off_a_run_that_is_worked_on(
    finished: Path, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with locked(finished), pytest.raises(UserError, match="Another process is working on"), locked(finished):
        pass  # the lock is the process's own, not the program's: a second opening is refused too
    with locked(finished):
        done = subprocess.run(
            [sys.executable, "-m", command, str(finished)],
            cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert_one_sentence(done, "Another process is working on")


@pytest.mark.parametrize(
    ("stage", "wish"),
    [
        ("elements", signal.SIGTERM),
        ("rewrite", signal.SIGINT),
        ("draw", signal.SIGTERM),
        ("filter", signal.SIGINT),
    ],
)
def test_told_to_stop_it_says_so_and_the_same_command_goes_on(
    tmp_path: Path, undisturbed: Path, stage: str, wish: signal.Signals
) -> None:
    folder = tmp_path / "run"
    with serving(FaultServer()) as server:
        profile = write_profile(tmp_path / "light.toml", server.url, workers=WORKERS)
        run = light_run(profile, folder)
        while run.poll() is None and not (folder / f"{stage}.jsonl").exists():
            time.sleep(0.001)
        os.kill(run.pid, wish)
        said = run.communicate(timeout=30)[1]
        assert run.returncode == 130, said
        assert said.splitlines()[-1] == (
            "Stopped. Everything finished so far is kept; the same command goes on from here."
        )
        assert "Traceback" not in said
        assert finish(profile, folder).returncode == 0
        assert sum(server.completed.values()) - len(server.completed) <= WORKERS
    assert benchmark(folder) == benchmark(undisturbed)


def test_told_to_stop_in_the_middle_of_a_batch_it_does_not_draw_the_rest(
    tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECONDS_A_PICTURE", "0.5")  # 38 of them take 19 s
    folder = tmp_path / "run"
    run = light_run(profile, folder)
    while run.poll() is None and not list(folder.glob("images/*.png")):
        time.sleep(0.01)
    told = time.monotonic()
    os.kill(run.pid, signal.SIGINT)
    said = run.communicate(timeout=30)[1]
    assert time.monotonic() - told < 8
    assert run.returncode == 130
    assert "Traceback" not in said


def test_a_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    moments = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: moments.uniform(0, 4e9))
    pairs = [Pair(id=f"{number}", category="c", sub_category="s") for number in range(50)]

    async def each(pair: Pair) -> Pair:
        return pair

    stage: Stage[Pair, Pair] = Stage("rewrite", {}, each=each)
    assert asyncio.run(run_stage(stage, pairs, tmp_path)).kept == 50
    assert 0 <= asyncio.run(run_stage(stage, pairs, tmp_path)).seconds < 60


@pytest.mark.parametrize("years", [-30, 0, 30])
def test_a_retry_date_read_by_a_wrong_clock_never_waits_for_years(
    monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    date = formatdate(time.time() + 2, usegmt=True)
    now = time.time() + years * 365 * 86400
    monkeypatch.setattr(time, "time", lambda: now)
    fault = fault_of(429, {"Retry-After": date}, "slow down", "server", "m")
    assert not fault.passing or (fault.wait_seconds or 0) <= LONGEST_WAIT_SECONDS
