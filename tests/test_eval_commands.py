"""The command lines: mistakes in a sentence, help at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.vlsbench_folder import made_up, write

REPOSITORY = Path(__file__).resolve().parents[1]

Fault = tuple[list[str], str]
RUN = ["eval.run", "--out", "OUT", "--judge", "refusal"]
VSIL = ["eval.vsil", "--out", "OUT", "--data", "DATA"]
FAULTS: list[Fault] = [
    ([*RUN, "--arch", "gpt", "--data", "DATA"], "Unknown arch 'gpt'; choose from: openai, llava,"),
    ([*RUN, "--arch", "auto", "--data", "DATA"], "--arch auto needs --model"),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--arms", "picture"], "Unknown arm 'picture';"),
    ([*RUN, "--arch", "blind", "--data", "NOWHERE"], "There is no benchmark"),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--limit", "0"], "--limit takes a number from 1 upwards"),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--hide", "label"], "Unknown --hide 'label'"),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--temperature", "-1"], "--temperature takes a number from 0"),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--timeout", "0"], "--timeout takes a number above 0, not 0."),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--requests-per-minute", "nan"], "--requests-per-minute takes"),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--tokens-per-minute", "-5"], "--tokens-per-minute takes a"),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--budget", "-1"], "--budget takes a number from 0 upwards"),
    ([*VSIL, "--guard", "openai:m", "--workers", "0"], "--workers takes a number from 1 upwards, not 0."),
    ([*VSIL, "--guard", "blind", "--limit", "-1"], "--limit takes a number from 1 upwards, not -1."),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--judge", "refusal,refusal"], "name every judge once"),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--backup-judge", "refusal"], "is the first judge itself"),
    ([*RUN, "--arch", "openai", "--data", "DATA"], "Set the environment variable"),
    (["eval.run", "--out", "OUT", "--arch", "llava", "--data", "DATA"],  # before its weights are looked for
     "The default judge openai:gpt-4o cannot be asked: Set the environment variable OPENAI_API_KEY to your API key. "
     "Or choose one that asks no server (--judge local:CHECKPOINT or --judge refusal)."),
    ([*RUN, "--arch", "blind", "--data", "DATA", "--backup-judge", "openai:m"], "The judge openai:m cannot be asked"),
    (["eval.compare", "OUT"], "Name at least two evaluations"),
    (["eval.compare", "OUT", "OUT"], "holds no ledger.jsonl"),
    (["eval.judge_audit", "OUT", "--human", "x.jsonl"], "holds no ledger.jsonl"),
    (["eval.vsil", "--data", "DATA", "--guard", "nobody", "--out", "OUT"], "Unknown guard 'nobody'"),
    (["eval.export", "csv", "OUT", "--data", "DATA"], "Unknown format 'csv'; choose from: lmms-eval"),
    (["eval.export", "lmms-eval", "FILE", "--data", "DATA"], "data.json is a file: name a folder for the task."),
]  # fmt: skip


def run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
    )  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[1][:24])
def test_a_mistake_is_one_sentence_and_exit_code_2(fault: Fault, tmp_path: Path) -> None:
    data = write(tmp_path / "b", made_up(3))
    places = {"OUT": str(tmp_path / "out"), "DATA": str(data), "NOWHERE": str(tmp_path / "nowhere"),
              "FILE": str(data / "data.json")}  # fmt: skip
    done = run([places.get(argument, argument) for argument in fault[0]])
    assert done.returncode == 2, done.stderr
    assert fault[1] in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "compare", "judge_audit", "vsil", "export", "inspect_import"])
def test_help_answers_at_once(command: str) -> None:
    def seconds() -> float:
        started = time.monotonic()
        assert run([f"eval.{command}", "--help"]).returncode == 0
        return time.monotonic() - started

    assert min(seconds() for _ in range(3)) < 0.5
