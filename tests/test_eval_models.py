"""Every local architecture with a tiny model: batches equal singles, original LLaVA equals the library's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.errors import RowFailed, UserError
from data.hub_models import load_hub_model
from data.local_model import LocalModel, Reply, Settings, open_picture
from data.rows import read_rows
from eval.conversations import CONVERSATIONS, conversation_for, converse
from eval.ledger import read_ledger
from eval.models import ARCHS
from eval.original_llava import load_original_llava
from eval.run import main
from tests import tiny_vlms
from tests.vlsbench_folder import made_up, write

QUESTIONS = [
    "What should I do with this?",
    "How?",
    "Tell me how this works, and where <image> is.",
    "I'm careful.",
]
SHORT = Settings(max_new_tokens=10)
HUB = ["llava_hf", "llava_next", "qwen2vl", "mllama"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    made = {arch: tiny_vlms.make(arch, folder / arch) for arch in HUB}
    made["auto"] = made["llava_hf"]
    made["llava"] = tiny_vlms.original_llava(folder / "llava-v1.5-tiny", made["llava_hf"])
    return made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    paths = tiny_vlms.pictures(tmp_path_factory.mktemp("pictures"))
    return [open_picture(path, 10**6) for path in paths]


def load(arch: str, checkpoint: Path, settings: Settings = SHORT) -> LocalModel:
    if arch == "llava":
        return load_original_llava(str(checkpoint), settings)
    return load_hub_model(arch, str(checkpoint), settings)


@pytest.mark.parametrize("arch", [*HUB, "auto", "llava"])
def test_a_batch_of_four_equals_four_singles(
    arch: str, checkpoints: dict[str, Path], pictures: list[Any]
) -> None:
    model = load(arch, checkpoints[arch])
    for shown in (pictures, [None] * 4):
        prompts = list(zip(QUESTIONS, shown, strict=True))
        together = model.generate(prompts)
        assert together == [model.generate([prompt])[0] for prompt in prompts]
        assert all(not isinstance(reply, RowFailed) and reply.text for reply in together)
    same_question = model.generate([(QUESTIONS[0], picture) for picture in pictures])
    assert len(set(same_question)) > 1  # it sees the pictures


@pytest.mark.parametrize(("anyres", "tower_inside"), [(False, False), (False, True), (True, True)])
def test_llava_in_its_original_layout_gives_the_librarys_logits(
    anyres: bool, tower_inside: bool, checkpoints: dict[str, Path], pictures: list[Any], tmp_path: Path
) -> None:
    import torch

    arch = "llava_next" if anyres else "llava_hf"
    old = tiny_vlms.original_llava(
        tmp_path / "llava-v1", checkpoints[arch], tower_inside=tower_inside, anyres=anyres
    )
    ours, theirs = load("llava", old), load(arch, checkpoints[arch])
    before, after = CONVERSATIONS["v1"].split("{question}")
    theirs.encode.processor.chat_template = (  # type: ignore[attr-defined]
        "{% for message in messages %}" + before + "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
        + after + "{% endfor %}"
    )  # fmt: skip
    prompts = [("What is it? Tell me.", pictures[0]), ("How?", pictures[3])]
    mine, its = ours.encode(prompts), theirs.encode(prompts)
    with torch.inference_mode():
        difference = ours.model(**mine).logits - theirs.model(**its).logits
    assert difference[its["attention_mask"].bool()].abs().max() <= 1e-4


def test_pictures_are_padded_to_a_square_as_llava_was_trained(
    checkpoints: dict[str, Path], pictures: list[Any]
) -> None:
    encode: Any = load("llava", checkpoints["llava"]).encode
    squared = encode._squared(pictures[1])
    assert squared.size == (64, 64) and squared.getpixel((0, 0)) == (122, 116, 104)


def test_when_memory_runs_out_the_batch_is_halved(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    model = load("llava_hf", checkpoints["llava_hf"])
    expected, generate, sizes = model.generate([(text, None) for text in QUESTIONS]), model.model.generate, []

    def hungry(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("no more memory")
        return generate(**inputs)

    monkeypatch.setattr(model.model, "generate", hungry)
    assert model.generate([(text, None) for text in QUESTIONS]) == expected
    assert sizes == [4, 2, 1, 1, 1, 1]
    model.generate([(text, None) for text in QUESTIONS])
    assert sizes[6:] == [1, 1, 1, 1]  # what failed once is not tried again


def test_a_row_too_large_even_alone_fails_alone(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    model = load("llava_hf", checkpoints["llava_hf"])
    generate = model.model.generate

    def hungry(**inputs: Any) -> Any:
        if inputs["input_ids"].shape[1] > 20:
            raise torch.OutOfMemoryError("no more memory")
        return generate(**inputs)

    monkeypatch.setattr(model.model, "generate", hungry)
    replies = model.generate([("How?", None), ("x " * 40, None)])
    assert not isinstance(replies[0], RowFailed)
    assert isinstance(replies[1], RowFailed) and replies[1].reason == "out_of_memory"


def test_large_pictures_are_downscaled_to_the_pixel_limit(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (900, 300)).save(tmp_path / "large.png")
    small = open_picture(tmp_path / "large.png", 30_000)
    assert small.size == (300, 100)


def test_the_conversation_templates_are_the_originals() -> None:
    assert converse("v1", "What?", with_image=True).endswith("questions. USER: <image>\nWhat? ASSISTANT:")
    assert converse("mistral", "What?", with_image=True) == "[INST] <image>\nWhat? [/INST]"
    assert converse("llama-2", "What?", with_image=False).startswith(
        "[INST] <<SYS>>\nYou are a helpful language"
    )
    assert converse("plain", "What?", with_image=True) == "<image>\nWhat?\n"
    assert converse("v1", "a <image> b", with_image=False).count("<image>") == 0
    names = {
        "liuhaotian/llava-v1.5-7b": "v1", "llava-v1.6-mistral-7b": "mistral",
        "llava-llama-2-13b-chat": "llama-2",
        "llava-v1.6-34b": "chatml", "my-vlguard-checkpoint/": "v1",
    }  # fmt: skip
    assert {name: conversation_for(name) for name in names} == names
    with pytest.raises(UserError, match="Unknown conversation 'v9'; choose from: v1,"):
        conversation_for("x", "v9")


def test_a_checkpoint_of_another_architecture_is_sent_to_auto(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="use --arch auto"):
        load_hub_model("mllama", str(checkpoints["llava_hf"]), SHORT)
    with pytest.raises(UserError, match="not in the original LLaVA layout"):
        load_original_llava(str(checkpoints["llava_hf"]), SHORT)
    with pytest.raises(UserError, match="Cannot load the model /nowhere"):
        load_hub_model("auto", "/nowhere", SHORT)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def on_the_hub(cache: Path, name: str, checkpoint: Path) -> str:
    """The checkpoint in the Hub's cache, as if it had been downloaded; returns its id."""
    repository = cache / f"models--tiny--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    shutil.copytree(checkpoint, repository / "snapshots" / COMMIT)
    return f"tiny/{name}"


HUB_REVISIONS = """
import sys
from data.hub_models import load_hub_model
from data.local_model import Settings
from eval.judges import Rubric, local_judge
from eval.original_llava import load_original_llava
hub, original = sys.argv[1:]
print(load_hub_model("llava_hf", hub, Settings()).revision)
print(load_original_llava(original, Settings()).revision)
print(local_judge(hub, Rubric()).settings["revision"])
"""


def test_a_model_of_the_hub_is_recorded_with_its_commit(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(checkpoints["llava"], flat)
    settings = json.loads((flat / "config.json").read_text())
    settings["mm_vision_tower"] = str(flat / "tower")  # of another repository, as LLaVA-1.5's is
    (flat / "config.json").write_text(json.dumps(settings))
    names = [
        on_the_hub(tmp_path / "cache", "llava-hf", checkpoints["llava_hf"]),
        on_the_hub(tmp_path / "cache", "llava-v1.5", flat),
    ]
    done = subprocess.run(
        [sys.executable, "-c", HUB_REVISIONS, *names], capture_output=True, text=True, check=False,
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.stdout.split() == [COMMIT] * 3, done.stderr


@pytest.fixture(scope="module")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bench") / "tiny", made_up(6))


def evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The command line in this process: the libraries are loaded already."""
    monkeypatch.setattr(sys, "argv", ["eval.run", *arguments])
    return main()


def evaluations(folder: Path, checkpoints: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    for arch in ARCHS:
        if arch not in ("openai", "blind"):
            yield arch, folder / arch


def test_every_local_architecture_runs_the_whole_evaluation(
    checkpoints: dict[str, Path], benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arch, out in evaluations(tmp_path, checkpoints):
        arguments = [
            "--arch", arch, "--model", str(checkpoints[arch]), "--data", str(benchmark_folder),
            "--out", str(out), "--arms", "image,text_only,blank,caption,swap", "--judge", "refusal",
            "--max-new-tokens", "6", "--batch-size", "4",
        ]  # fmt: skip
        code = evaluate(monkeypatch, *arguments)
        rows = read_ledger(out)
        silent = [row for row in rows if row.state != "answered"]  # random weights may say nothing
        assert len(rows) == 30 and len(silent) <= 1 and code == (3 if silent else 0)
        assert all(row.state == "model_error" and row.detail.startswith("empty_reply") for row in silent)
        assert all(row.revision and row.settings for row in rows)
        assert all(row.text and row.prompt and row.label for row in rows if row not in silent)
        assert (out / "report.html").exists()


def test_a_local_judge_that_makes_no_sense_leaves_everything_unjudged(
    checkpoints: dict[str, Path], benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--arch", "blind", "--data", str(benchmark_folder), "--out", str(tmp_path / "out")]
    assert evaluate(monkeypatch, *arguments, "--judge", f"local:{checkpoints['llava_hf']}") == 3
    assert {row.state for row in read_ledger(tmp_path / "out")} == {"unjudged"}


def test_an_empty_answer_is_an_error_that_nobody_judges(
    checkpoints: dict[str, Path], benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalModel, "_reply", lambda self, tokens: Reply(" ", "stop"))
    arguments = [
        "--arch",
        "llava_hf",
        "--model",
        str(checkpoints["llava_hf"]),
        "--data",
        str(benchmark_folder),
    ]
    assert evaluate(monkeypatch, *arguments, "--out", str(tmp_path / "out"), "--judge", "refusal") == 3
    rows = read_ledger(tmp_path / "out")
    assert {(row.state, row.label, row.detail.partition(":")[0]) for row in rows} == {
        ("model_error", None, "empty_reply")
    }


def test_a_trusted_judge_or_guard_may_be_pickled_as_its_error_says(
    checkpoints: dict[str, Path], benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file

    from eval import vsil

    old = tmp_path / "old"
    shutil.copytree(checkpoints["llava_hf"], old)
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    data = ["--data", str(benchmark_folder)]
    for flags, reason in (([], "never judged"), (["--pickled-weights"], "truncated")):
        arguments = ["--arch", "blind", *data, "--out", str(tmp_path / "run"), "--judge", f"local:{old}"]
        assert evaluate(monkeypatch, *arguments, *flags) == 3
        assert {row.detail.partition(":")[0] for row in read_ledger(tmp_path / "run")} == {reason}
    guard = ["eval.vsil", *data, "--guard", f"llama-guard:{old}", "--out", str(tmp_path / "check")]
    monkeypatch.setattr(sys, "argv", guard)
    with pytest.raises(UserError, match="add --pickled-weights"):
        vsil.main()
    monkeypatch.setattr(sys, "argv", [*guard, "--pickled-weights"])
    assert vsil.main() == 3  # it makes no sense, but it is asked


def test_a_guard_that_makes_no_sense_finds_nothing(
    checkpoints: dict[str, Path], benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eval import vsil

    guard = f"llama-guard:{checkpoints['llava_hf']}"
    arguments = ["--data", str(benchmark_folder), "--guard", guard, "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["eval.vsil", *arguments])
    assert vsil.main() == 3
    found = json.loads((tmp_path / "out/vsil.json").read_text())
    assert (found["judged"], found["r1"], found["ratio"]) == (0, None, None)


def test_the_originals_command_line_and_output_work(
    benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [
        "--arch",
        "blind",
        "--data_root",
        str(benchmark_folder),
        "--output_dir",
        str(tmp_path / "out"),
    ]
    assert evaluate(monkeypatch, *arguments, "--judge", "refusal") == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert set(found["stats"]) == {"safe_rate", "safe_refuse_rate", "safe_warning_rate"}
    assert found["stats"]["safe_rate"] == 50.0
    log = found["logs"][0]
    assert list(log) == ["id", "question", "image_path", "pred_answer", "safe_label", "label_str"]
    assert (log["id"], log["image_path"], log["safe_label"]) == (0, "imgs/0.png", 1)
    assert len(list(read_rows(tmp_path / "out/ledger.jsonl"))) == 6
