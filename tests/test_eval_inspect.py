"""The benchmark in other harnesses: as a task of Inspect, offline with a scripted model, and of lmms-eval."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from data.errors import UserError
from data.local_model import Prompt, Reply, Settings
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
        leakfree(str(data), arm=arm, **options), model=model, model_roles={"grader": grader} if grader else {},
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


def test_a_grader_that_declines_or_is_cut_off_judges_nothing(data: Path, tmp_path: Path) -> None:
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    def outputs(messages: list[Any], *_: object) -> Any:
        cut = "number 4" in messages[-1].text
        text = (
            'It says {"reason": "it refuses", "label": 1}, but'
            if cut
            else '{"reason": "I\'m sorry, but I cannot assist with that.", "label": 1}'
        )
        output = ModelOutput.from_content("scripted", text, "max_tokens" if cut else "stop")
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    grader = get_model("mockllm/scripted", custom_outputs=outputs, memoize=False)
    log = inspect(data, "image", scripted(lambda _: "Sure."), grader, tmp_path / "logs")
    assert means(log) == {"safe_at_least": 0.0, "safe_at_most": 1.0, "refusal": 0.0, "judged": 0.0}
    reasons = {sample.id: sample.scores["safety"].explanation.partition(":")[0] for sample in log.samples}
    assert reasons["4"] == "truncated" and reasons["0"] == "refused"


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


def test_a_case_whose_picture_is_missing_is_an_error_not_left_out(data: Path, tmp_path: Path) -> None:
    from eval.inspect_logs import import_logs

    (data / "imgs/0.png").unlink()
    log = inspect(data, "image", scripted(lambda _: "Sure."), scripted(verdict), tmp_path / "logs")
    assert means(log)["judged"] == pytest.approx(11 / 12) and means(log)["safe_at_most"] > 0
    assert import_logs([Path(log.location)], tmp_path / "out", None) == 3
    rows = {row.case: row for row in read_ledger(tmp_path / "out")}
    assert len(rows) == 12 and (rows["0"].state, rows["0"].text) == ("model_error", "")
    assert rows["0"].detail == "cannot_ask: the picture is missing"


def test_harmless_twins_are_in_no_safety_metric_and_come_back_as_over_refusal(tmp_path: Path) -> None:
    from eval.inspect_logs import import_logs

    rows = made_up(12)
    for row in rows[8:]:
        row["is_safe"] = True
    data = write(tmp_path / "b", rows)
    model = scripted(lambda text: "Sure." if any(f"number {at}?" in text for at in range(8)) else
                     "I cannot help with that.")  # fmt: skip
    log = inspect(data, "text_only", model, scripted(verdict), tmp_path / "logs")
    assert means(log)["safe_at_least"] == pytest.approx(4 / 8)  # with the twins it were 8 of 12
    assert import_logs([Path(log.location)], tmp_path / "out", None) == 0
    (arm,) = json.loads((tmp_path / "out/summary.json").read_text())["arms"]
    assert arm["over_refusal"]["value"] == 1.0 and arm["rates"]["rows"] == 8


def changed(log: Any, path: Path, **changes: Any) -> Path:
    """A copy of a log with other values at its top."""
    content = json.loads(Path(log.location).read_text()) | changes
    path.write_text(json.dumps(content))
    return path


def test_a_log_that_is_not_the_whole_evaluation_is_refused(data: Path, tmp_path: Path) -> None:
    from eval.inspect_logs import import_logs

    log = inspect(data, "image", scripted(lambda _: "Sure."), None, tmp_path / "logs", judge="refusal")
    content = json.loads(Path(log.location).read_text())
    first = content["samples"][:3]
    for name, changes in {
        "cancelled": {"status": "cancelled", "samples": first, "results": None},
        "short": {"samples": first},
    }.items():
        with pytest.raises(UserError, match=r"did not end .*3 of 12 samples.*eval-retry"):
            import_logs([changed(log, tmp_path / f"{name}.json", **changes)], tmp_path / "out", None)
    config = content["eval"]["config"] | {"epochs": 2}
    twice = changed(log, tmp_path / "epochs.json", eval=content["eval"] | {"config": config})
    with pytest.raises(UserError, match="has 2 epochs"):
        import_logs([twice], tmp_path / "out", None)
    assert not (tmp_path / "out/ledger.jsonl").exists()


def test_logs_of_several_benchmarks_or_judges_are_not_mixed(data: Path, tmp_path: Path) -> None:
    from eval.inspect_logs import import_logs

    other, sure = write(tmp_path / "other", made_up(6)), scripted(lambda _: "Sure.")
    image = inspect(data, "image", sure, None, tmp_path / "logs", judge="refusal")
    elsewhere = inspect(other, "text_only", sure, None, tmp_path / "logs", judge="refusal")
    judged = inspect(data, "text_only", sure, scripted(verdict), tmp_path / "logs")
    for second, kind in ((elsewhere, "benchmarks"), (judged, "judges")):
        with pytest.raises(UserError, match=f"of several {kind}"):
            import_logs([Path(image.location), Path(second.location)], tmp_path / "out", None)


def test_an_answer_without_a_score_is_unjudged(data: Path, tmp_path: Path) -> None:
    from eval.inspect_logs import import_logs

    log = inspect(data, "image", scripted(lambda _: "Sure."), None, tmp_path / "logs", judge="refusal")
    samples = json.loads(Path(log.location).read_text())["samples"]
    for sample in samples:
        sample["scores"] = None
    unscored = changed(log, tmp_path / "unscored.json", samples=samples)
    assert import_logs([unscored], tmp_path / "out", None) == 3
    assert {(row.state, row.text) for row in read_ledger(tmp_path / "out")} == {("unjudged", "Sure.")}


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


class Parrot:
    """Stands for a loaded model: says the prompts of its batch and how long an answer may be; may be slow."""

    def __init__(self, settings: Settings, seconds: float = 0.0) -> None:
        self.settings, self.seconds = settings, seconds

    def generate(self, prompts: Sequence[Prompt]) -> list[Reply]:
        time.sleep(self.seconds)
        said = " ".join(text for text, _ in prompts)
        return [Reply(f"{said}; {self.settings.max_new_tokens} tokens", "stop") for _ in prompts]


def ask_local(api: Any, text: str, tokens: int = 8) -> asyncio.Task[Any]:
    from inspect_ai.model import ChatMessageUser, GenerateConfig

    asked = [ChatMessageUser(content=text)]
    return asyncio.create_task(api.generate(asked, [], "none", GenerateConfig(max_tokens=tokens)))


def test_samples_of_a_batch_that_fails_all_fail_and_none_waits_for_ever() -> None:
    from eval.inspect_provider import LocalVision

    async def ask() -> list[Any]:
        api = LocalVision("llava_hf:/nowhere/checkpoint", batch_size=4)
        tasks = [ask_local(api, str(at)) for at in range(6)]
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)

    assert [type(outcome) for outcome in asyncio.run(ask())] == [UserError] * 6


def test_a_cancelled_sample_does_not_take_its_batch_along(monkeypatch: pytest.MonkeyPatch) -> None:
    from eval.inspect_provider import LocalVision

    monkeypatch.setattr("data.hub_models.load_hub_model", lambda arch, name, settings: Parrot(settings, 0.3))

    async def ask() -> list[str]:
        api = LocalVision("llava_hf:parrot", batch_size=4)
        tasks = [ask_local(api, str(at)) for at in range(4)]
        await asyncio.sleep(0.2)  # the first has taken all four to the model
        tasks[0].cancel()
        return [(await asyncio.wait_for(task, 30)).completion for task in tasks[1:]]

    assert all(answer.endswith("8 tokens") for answer in asyncio.run(ask()))


def test_a_batch_has_prompts_of_the_same_settings_and_answers_by_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from eval.inspect_provider import LocalVision

    monkeypatch.setattr("data.hub_models.load_hub_model", lambda arch, name, settings: Parrot(settings))

    async def ask() -> list[str]:
        api = LocalVision("llava_hf:parrot", batch_size=4)
        outputs = await asyncio.gather(
            *(ask_local(api, text, tokens) for text, tokens in (("a", 128), ("b", 1024), ("c", 128)))
        )
        return [output.completion for output in outputs]

    assert asyncio.run(ask()) == ["a c; 128 tokens", "b; 1024 tokens", "a c; 128 tokens"]


def test_the_lmms_eval_folder_stands_on_its_own(data: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    folder, left_out = write_task(tmp_path / "tasks", str(data), "mine")
    assert left_out == 0
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
    twin = rows[0] | {"harmless_twin": True}
    assert utils.process_results(twin, ["I can't help."]) == {"over_refusal_by_words": 1.0}


def test_the_lmms_eval_export_says_what_it_left_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from eval.export import main

    (data / "imgs/0.png").unlink()
    monkeypatch.setattr("sys.argv", ["eval.export", "lmms-eval", str(tmp_path / "t"), "--data", str(data)])
    assert main() == 0
    assert "left out   1 row without a picture file" in capsys.readouterr().out
    shutil.rmtree(data / "imgs")
    with pytest.raises(UserError, match=r"has a picture file: unpack the pictures beside it\.$"):
        main()


def embedded(folder: Path) -> Path:
    """Two rows of Parquet whose pictures are inside the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    rows = []
    for at in range(2):
        content = io.BytesIO()
        Image.new("RGB", (40, 40), (at * 90, 20, 30)).save(content, "PNG")
        rows.append({"query": f"bomb {at}?", "image": {"bytes": content.getvalue(), "path": f"{at}.png"}})
    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    return folder / "t.parquet"


def test_pictures_embedded_in_the_benchmark_are_shown_and_exported(data: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    table = embedded(tmp_path)
    log = inspect(table, "image", scripted(lambda _: "Sure."), None, tmp_path / "logs", judge="refusal")
    assert [sample.metadata["problem"] for sample in log.samples] == ["", ""]
    assert means(log)["judged"] == 1.0
    folder, left_out = write_task(tmp_path / "tasks", str(table), "mine")
    assert left_out == 0 and pq.read_table(folder / "data/test.parquet").num_rows == 2


def test_embedded_pictures_are_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eval.run import main

    arguments = ["--arch", "blind", "--data", str(embedded(tmp_path)), "--judge", "refusal"]
    monkeypatch.setattr("sys.argv", ["eval.run", *arguments, "--out", str(tmp_path / "out")])
    assert main() == 0
    assert (tmp_path / "out/report.html").read_text().count('"picture":"data:image/') == 2


@pytest.mark.slow
def test_lmms_eval_loads_the_task(data: Path, tmp_path: Path) -> None:
    lmms_tasks = pytest.importorskip("lmms_eval.tasks")
    write_task(tmp_path / "tasks", str(data), "mine")
    manager = lmms_tasks.TaskManager(include_path=str(tmp_path / "tasks"))
    task = lmms_tasks.get_task_dict(["mine"], manager)["mine"]
    assert len(task.test_docs()) == 12
    assert task.doc_to_visual(task.test_docs()[0])[0].size == (40, 40)
