"""The benchmark in other harnesses: as a task of Inspect, offline with a scripted model, and of lmms-eval."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.ledger import read_ledger
from eval.lmms_task import write_task
from tests import tiny_vlms
from tests.vlsbench_folder import made_up, write

pytest.importorskip("inspect_ai")

Say = Callable[[str], str]


def scripted(say: Say) -> Any:
    """A model of Inspect's that answers by a function of the last message's text."""
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    def outputs(messages: list[Any], *_: object) -> Any:
        text = say(messages[-1].text)
        output = ModelOutput.from_content("scripted", text, "content_filter" if text == "blocked" else "stop")
        output.usage = ModelUsage(
            input_tokens=1, output_tokens=1, total_tokens=2
        )  # else it is looked up online
        return output

    return get_model("mockllm/scripted", custom_outputs=outputs, memoize=False)


def inspect(data: Path, arm: str, model: Any, grader: Any, folder: Path, **options: Any) -> Any:
    from inspect_ai import eval as run_inspect

    from eval.inspect_task import leakfree

    logs = run_inspect(
        leakfree(str(data), arm=arm, **options), model=model, model_roles={"grader": grader},
        log_dir=str(folder), log_format="json", display="none",
    )  # fmt: skip
    assert logs[0].status == "success"
    return logs[0]


def means(log: Any) -> dict[str, float]:
    return {score.name: score.metrics["mean"].value for score in log.results.scores}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # blank pictures go to runs/ here
    return write(tmp_path / "bench", made_up(12))


def verdict(text: str) -> str:
    return json.dumps({"reason": "so it is", "label": 1 if "I cannot help" in text else 3})


def test_all_arms_run_offline_and_come_back_into_the_ledger(data: Path, tmp_path: Path) -> None:
    from eval.inspect_logs import import_logs

    model = scripted(lambda text: "I cannot help with that." if "bomb" in text else "Sure.")
    logs = []
    for arm in ("image", "text_only", "blank", "swap", "caption"):
        log = inspect(data, arm, model, scripted(verdict), tmp_path / "logs")
        assert means(log) == {"safe_at_least": 0.5, "safe_at_most": 0.5, "refusal": 0.5, "judged": 1.0}
        assert "base64," not in Path(log.location).read_text()  # pictures are not logged
        logs.append(Path(log.location))
    assert import_logs(logs, tmp_path / "out", None) == 0
    rows = read_ledger(tmp_path / "out")
    assert len(rows) == 60 and {row.state for row in rows} == {"answered"}
    assert {row.label for row in rows} == {1, 3} and all(row.prompt and row.question for row in rows)
    assert (tmp_path / "out/report.html").exists()


def test_what_has_no_verdict_widens_the_bounds_and_is_never_safe(data: Path, tmp_path: Path) -> None:
    def answer(text: str) -> str:
        return "blocked" if "number 0" in text else "" if "number 2" in text else "Sure."

    def judge(text: str) -> str:
        return "no verdict" if "number 4" in text else verdict(text)

    log = inspect(data, "image", scripted(answer), scripted(judge), tmp_path / "logs")
    found = means(log)
    assert found["safe_at_least"] == 0.0
    assert found["safe_at_most"] == pytest.approx(3 / 12)
    assert found["judged"] == pytest.approx(9 / 12)

    from eval.inspect_logs import import_logs

    assert import_logs([Path(log.location)], tmp_path / "out", None) == 3
    states = {row.case: row.state for row in read_ledger(tmp_path / "out")}
    assert (states["0"], states["2"], states["4"]) == ("provider_blocked", "model_error", "unjudged")


def test_a_model_that_fails_on_every_sample_comes_back_as_errors(data: Path, tmp_path: Path) -> None:
    from eval.inspect_logs import import_logs

    def fail(text: str) -> str:
        raise RuntimeError("the model is down")

    log = inspect(data, "image", scripted(fail), scripted(verdict), tmp_path / "logs")
    assert means(log) == {"safe_at_least": 0.0, "safe_at_most": 1.0, "refusal": 0.0, "judged": 0.0}
    assert import_logs([Path(log.location)], tmp_path / "out", None) == 3
    rows = read_ledger(tmp_path / "out")
    assert [row.state for row in rows] == ["model_error"] * 12
    assert all("the model is down" in row.detail for row in rows)


def test_errors_are_clustered_by_image(data: Path, tmp_path: Path) -> None:
    log = inspect(
        data, "image", scripted(lambda _: "Sure."), scripted(verdict), tmp_path / "logs", judge="refusal"
    )
    metrics = log.results.scores[0].metrics
    assert metrics["stderr"].params["cluster"] == "image_key"


def test_a_local_vision_model_answers_in_inspect(data: Path, tmp_path: Path) -> None:
    from inspect_ai.model import get_model

    import eval.inspect_provider  # noqa: F401 - registers the provider, as the installed entry point does

    checkpoint = tiny_vlms.make("llava_hf", tmp_path / "tiny")
    model = get_model(f"leakfree/llava_hf:{checkpoint}", batch_size=4)
    log = inspect(data, "image", model, scripted(verdict), tmp_path / "logs", judge="refusal")
    assert means(log)["judged"] == 1.0
    assert all(sample.output.completion for sample in log.samples)


def test_the_lmms_eval_folder_stands_on_its_own(data: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    folder = write_task(tmp_path / "tasks", str(data), "mine")
    task = (folder / "mine.yaml").read_text()
    assert "task: mine" in task and "!function utils.process_results" in task
    rows = load_dataset("parquet", data_files={"test": str(folder / "data/test.parquet")}, split="test",
                        cache_dir=str(tmp_path / "cache"))  # fmt: skip
    assert len(rows) == 12 and rows[0]["image"].size == (40, 40)
    spec = importlib.util.spec_from_file_location("task_utils", folder / "utils.py")
    assert spec and spec.loader
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    assert utils.doc_to_visual(rows[0])[0].mode == "RGB"
    assert utils.process_results(rows[0], ["I’m sorry, but I can’t help."]) == {"refusal_by_words": 1.0}
    assert utils.process_results(rows[0], ["Sure."]) == {"refusal_by_words": 0.0}


@pytest.mark.slow
def test_lmms_eval_loads_the_task(data: Path, tmp_path: Path) -> None:
    lmms_tasks = pytest.importorskip("lmms_eval.tasks")
    write_task(tmp_path / "tasks", str(data), "mine")
    manager = lmms_tasks.TaskManager(include_path=str(tmp_path / "tasks"))
    task = lmms_tasks.get_task_dict(["mine"], manager)["mine"]
    assert len(task.test_docs()) == 12
    assert task.doc_to_visual(task.test_docs()[0])[0].size == (40, 40)
