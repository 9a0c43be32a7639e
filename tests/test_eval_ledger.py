"""The ledger against servers that fail in every way, against kill -9, and against a judge that is dead."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eval.ledger import read_ledger
from eval.records import STATES
from tests.fault_server import FaultServer, serving
from tests.vlsbench_folder import made_up, needs_vlsbench, real_rows, write

REPOSITORY = Path(__file__).resolve().parents[1]
WORKERS = 32


def command(data: Path, out: Path, url: str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "eval.run", "--arch", "openai", "--model", "m", "--judge", "openai:j",
        "--data", str(data), "--out", str(out), "--url", url, "--workers", str(WORKERS),
        "--timeout", "1", *more,
    ]  # fmt: skip


def evaluate(data: Path, out: Path, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(data, out, url, *more),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def counts(url: str) -> dict[str, Counter[str]]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/counts") as response:
        return {name: Counter(figures) for name, figures in json.load(response).items()}


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


def check_ledger(out: Path, cases: int) -> Counter[str]:
    """Every case once, in one state; labels only where an answer was judged; figures that follow."""
    rows = read_ledger(out)
    assert len(rows) == len({row.id for row in rows}) == cases
    states = Counter(row.state for row in rows)
    assert set(states) <= set(STATES) and states.total() == cases
    for row in rows:
        assert (row.label is not None) == (row.state in ("answered", "model_refused"))
        assert row.settings
        assert (row.prompt and row.image_sha256) or row.state == "model_error"
    arm = summary(out)["arms"][0]
    labelled = [row for row in rows if row.label is not None]
    safe = sum(row.label != 3 for row in labelled)
    assert arm["rates"]["judged"] == len(labelled)
    assert arm["rates"]["lowest"] == pytest.approx(safe / cases)
    assert arm["rates"]["highest"] == pytest.approx((safe + cases - len(labelled)) / cases)
    assert sum(arm["states"].values()) == cases
    return states


def test_at_30_percent_faults_every_row_ends_in_one_state_and_a_rerun_heals(tmp_path: Path) -> None:
    data, out = write(tmp_path / "bench", made_up(120)), tmp_path / "out"
    with serving(FaultServer(fault_rate=0.3, hang_seconds=2)) as server:
        first = evaluate(data, out, server.url)
        states = check_ledger(out, 120)
        assert first.returncode == 3 and "have no verdict" in first.stderr  # refusing judges, empty answers
        assert "what a provider blocked stays blocked" in first.stderr
        assert states["unjudged"] and states["provider_blocked"] and states["model_refused"]
        before = sum(server.completed.values())
        assert evaluate(data, out, server.url).returncode == 3
        assert sum(server.completed.values()) == before  # what failed for good is not asked for again
        for _ in range(4):
            healed = evaluate(data, out, server.url, "--retry-failed")
        healed_states = check_ledger(out, 120)
    assert not healed_states["unjudged"] and not healed_states["model_error"]
    assert healed.returncode == (3 if healed_states["provider_blocked"] > 0.03 * 120 else 0)


def test_a_backup_judge_judges_what_the_first_refuses(tmp_path: Path) -> None:
    data, out = write(tmp_path / "bench", made_up(60)), tmp_path / "out"
    faults = ("refusal", "refusing prose")
    with serving(FaultServer(fault_rate=0.3, faults=faults)) as server:
        evaluate(data, out, server.url, "--backup-judge", "openai:other")
    rows = read_ledger(out)
    assert {row.judge for row in rows if row.label} == {"j", "other"}
    assert all(row.state != "unjudged" for row in rows if row.judge == "other")
    filled = sum(row.judge == "other" for row in rows)
    (remark,) = summary(out)["remarks"]  # the headings name the first judge only
    assert remark.startswith(f"{filled} of the ") and "by the backup judge other: j gave none" in remark


def test_the_judge_sees_picture_description_and_reason_unless_they_are_hidden(tmp_path: Path) -> None:
    data = write(tmp_path / "bench", made_up(1))
    with serving(FaultServer(keep_bodies=True)) as server:
        evaluate(data, tmp_path / "all", server.url)
        evaluate(data, tmp_path / "none", server.url, "--hide", "image,description,safety_reason")
    shown, hidden = (json.dumps(body) for body in server.bodies if body["model"] == "j")
    for told in ("data:image/png;base64,", "A table with 0 things", "Somebody could be hurt."):
        assert told in shown and told not in hidden
    assert summary(tmp_path / "all")["remarks"] == []
    assert summary(tmp_path / "none")["remarks"] == [
        "Hidden from the judge: image, description, safety reason."
    ]
    schema = next(body for body in server.bodies if body["model"] == "j")["response_format"]["json_schema"]
    assert list(schema["schema"]["properties"]) == ["reason", "label"]  # the reason comes first


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_dead_judge_gives_bounds_of_0_to_100_percent_and_exit_code_3(tmp_path: Path) -> None:
    data, out = write(tmp_path / "bench", made_up(40)), tmp_path / "out"
    with serving(FaultServer()) as server:
        dead = f"http://127.0.0.1:{free_port()}/v1"
        done = evaluate(data, out, server.url, "--judge-url", dead)
    assert done.returncode == 3, done.stderr
    rates = summary(out)["arms"][0]["rates"]
    assert (rates["lowest"], rates["highest"], rates["judged"], rates["safety"]) == (0.0, 1.0, 0, None)
    assert {row.state for row in read_ledger(out)} == {"unjudged"}
    assert "between 0% and 100%" in (out / "report.html").read_text()
    assert json.loads((out / "results.json").read_text())["stats"]["safe_rate"] is None


def test_a_verdict_on_an_earlier_answer_is_none_on_a_new_one(tmp_path: Path) -> None:
    rows = made_up(12)
    data, out = write(tmp_path / "bench", rows), tmp_path / "out"
    with serving(FaultServer()) as server:
        assert evaluate(data, out, server.url).returncode == 0
        changed = [row | {"instruction": f"Something else: {row['instruction']}"} for row in rows]
        (data / "data.json").write_text(json.dumps(changed))
        dead = f"http://127.0.0.1:{free_port()}/v1"
        done = evaluate(data, out, server.url, "--judge-url", dead)
        assert done.returncode == 3, done.stderr
        assert {row.state for row in read_ledger(out)} == {"unjudged"}
        assert evaluate(data, out, server.url).returncode == 0  # and is made when the judge is back
    assert all(row.label and row.question.startswith("Something else") for row in read_ledger(out))


def test_a_judge_that_is_down_keeps_no_other_from_judging(tmp_path: Path) -> None:
    data, out = write(tmp_path / "bench", made_up(6)), tmp_path / "out"
    with serving(FaultServer(refuse=lambda body: 401 * (body["model"] == "other"))) as server:
        judges = ("--judge", "openai:j,openai:other", "--arms", "image,text_only")
        done = evaluate(data, out, server.url, *judges)
    assert done.returncode == 0, done.stderr
    rows = read_ledger(out)
    assert all(row.label and row.labels == {"j": row.label, "other": None} for row in rows)
    (remark,) = summary(out)["remarks"]
    assert remark.startswith("The judge other stopped: ")
    assert "The judge other stopped: " in (out / "report.html").read_text()  # whose figures are to be trusted


def test_a_backup_that_is_a_judge_too_fills_in_without_losing_or_lending_verdicts(tmp_path: Path) -> None:
    data, out = write(tmp_path / "bench", made_up(40)), tmp_path / "out"
    faults = ("refusal", "refusing prose")
    with serving(FaultServer(fault_rate=0.2, faults=faults)) as server:
        judges = ("--judge", "openai:j,openai:other")
        evaluate(data, out, server.url, *judges)
        alone = {row.id: row for row in read_ledger(out)}
        alpha = summary(out)["arms"][0]["alpha"]
        asked = sum(server.asked.values())
        evaluate(data, out, server.url, *judges, "--backup-judge", "openai:other")
        assert sum(server.asked.values()) == asked
    rows = read_ledger(out)
    filled = [row for row in rows if row.judge == "other"]
    assert filled and all(row.label == row.labels["other"] and row.labels["j"] is None for row in filled)
    assert {row.id: row.labels for row in rows} == {key: row.labels for key, row in alone.items()}
    assert summary(out)["arms"][0]["alpha"] == alpha


def test_a_smaller_limit_throws_nothing_away(tmp_path: Path) -> None:
    data, out = write(tmp_path / "bench", made_up(12)), tmp_path / "out"
    with serving(FaultServer()) as server:
        evaluate(data, out, server.url, "--arms", "image,swap")
        before = {path.name: path.read_bytes() for path in out.glob("*-swap*.jsonl")}
        asked, ledger = sum(server.asked.values()), read_ledger(out)
        evaluate(data, out, server.url, "--arms", "image,swap", "--limit", "5")
        assert {path.name: path.read_bytes() for path in out.glob("*-swap*.jsonl")} == before
        assert [row for row in ledger if row.id in {each.id for each in read_ledger(out)}] == read_ledger(out)
        evaluate(data, out, server.url, "--arms", "image,swap")
        assert sum(server.asked.values()) == asked  # not even a swapped picture is another
    assert read_ledger(out) == ledger and len(ledger) == 24


def test_redo_throws_nothing_away_before_all_else_is_right(tmp_path: Path) -> None:
    data, out = write(tmp_path / "bench", made_up(3)), tmp_path / "out"
    with serving(FaultServer()) as server:
        assert evaluate(data, out, server.url).returncode == 0
        made = sorted(path.name for path in out.iterdir())
        for wrong in (("--judge", "openai:"), ("--data", "nowhere"), ("--backup-judge", "openai:j")):
            assert evaluate(data, out, server.url, "--redo", *wrong).returncode == 2
            assert sorted(path.name for path in out.iterdir()) == made
        asked = sum(server.asked.values())
        assert evaluate(data, out, server.url, "--redo").returncode == 0
        assert sum(server.asked.values()) == asked  # what was paid for is used again


def test_other_settings_are_refused_by_the_flags_of_this_command(tmp_path: Path) -> None:
    data, out = write(tmp_path / "bench", made_up(3)), tmp_path / "out"
    with serving(FaultServer()) as server:
        assert evaluate(data, out, server.url).returncode == 0
        assert evaluate(data, out, server.url, "--max-pixels", "5000").returncode == 0  # not an API's affair
        done = evaluate(data, out, server.url, "--max-new-tokens", "64")
    assert done.returncode == 2
    assert "max_new_tokens: 128 -> 64): name another --out folder, or add --redo to throw" in done.stderr


def test_the_ledger_says_how_an_answer_ended_and_which_picture_was_shown(tmp_path: Path) -> None:
    data, out = write(tmp_path / "bench", made_up(3)), tmp_path / "out"
    with serving(FaultServer()) as server:
        evaluate(data, out, server.url, "--arms", "image,text_only")
    rows = read_ledger(out)
    assert {row.finish_reason for row in rows} == {"stop"}
    assert all(bool(row.image_sha256) == (row.arm == "image") for row in rows)


def test_a_judge_that_never_makes_sense_makes_nothing_safe(tmp_path: Path) -> None:
    data, out = write(tmp_path / "bench", made_up(30)), tmp_path / "out"
    with serving(FaultServer()) as server:
        assert evaluate(data, out, server.url, "--judge", "refusal").returncode == 0
    nonsense = FaultServer(fault_rate=1.0, faults=("wrong schema",))
    with serving(nonsense) as server:
        done = evaluate(data, out, server.url, "--redo")
    assert done.returncode == 3
    assert {row.label for row in read_ledger(out)} == {None}


def kill_and_resume(data: Path, out: Path, cases: int, moments: random.Random) -> None:
    """Ten kills at random moments, then a run to the end, then one that finds nothing to do."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fault_server", "0.3", "0", "0.02"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        url, kills = server.stdout.readline().strip(), 0
        try:
            while kills < 10:
                before = sum(counts(url)["completed"].values())
                run = subprocess.Popen(
                    command(data, out, url), cwd=REPOSITORY, start_new_session=True,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                while run.poll() is None and sum(counts(url)["completed"].values()) == before:
                    time.sleep(0.02)
                time.sleep(moments.uniform(0, 0.3 + cases / 2000))
                if run.poll() is not None:
                    break  # it has finished
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
                kills += 1
            assert evaluate(data, out, url).returncode in (0, 3)
            states = check_ledger(out, cases)
            completed = counts(url)["completed"]
            again = sum(completed.values()) - len(completed)
            print(f"{kills} kills, {again} of {completed.total()} completions repeated, {dict(states)}")
            assert again <= kills * WORKERS  # at most what was in flight when the kill came
            evaluate(data, out, url)
            assert counts(url)["completed"] == completed
        finally:
            server.kill()
    assert kills >= 3  # a fast machine finishes before the tenth


def test_killed_ten_times_no_stored_call_is_repeated(tmp_path: Path) -> None:
    kill_and_resume(write(tmp_path / "bench", made_up(200)), tmp_path / "out", 200, random.Random(5))


@pytest.mark.slow
@needs_vlsbench
def test_all_of_vlsbench_killed_ten_times_sums_to_its_2241_rows(tmp_path: Path) -> None:
    rows = real_rows()
    assert len(rows) == 2241
    kill_and_resume(write(tmp_path / "bench", rows), tmp_path / "out", 2241, random.Random(6))
