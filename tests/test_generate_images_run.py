"""`python -m generate_images.run` as a user runs it: killed and resumed, with everything wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.errors import UserError
from generate_images.conduct import read_prompts
from generate_images.writer import read_drawing
from tests.draw_run import COMMAND, ENVIRONMENT, REPOSITORY, here, rows_of, run, write_prompts


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_diffusion import save_sd15

    return save_sd15(tmp_path_factory.mktemp("sd15"))


class Dots:
    """A generator without weights: noise by seed, black where the prompt says so."""

    name = "dots"

    def __init__(self) -> None:
        self.drawn = 0

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        self.drawn += len(prompts)
        return [
            Image.fromarray(
                np.random.default_rng(seed).integers(
                    0, 0 if "black" in prompt else 255, (32, 32, 3), np.uint8, "black" in prompt
                )
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]


@pytest.fixture
def dots(monkeypatch: pytest.MonkeyPatch) -> Dots:
    made = Dots()
    monkeypatch.setitem(__import__("generate_images.generators").generators.GENERATORS, "dots", lambda: made)
    return made


def test_killed_and_resumed_a_run_ends_as_if_undisturbed_and_draws_nothing_twice(
    model: Path, tmp_path: Path
) -> None:
    prompts = write_prompts(tmp_path, 40)
    options = ["--generator", f"diffusers:{model}", "--steps", "3", "--device", "cpu", "--exact"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = subprocess.Popen(
        [*COMMAND, str(prompts), *options, "--out", str(killed)], cwd=REPOSITORY, env=ENVIRONMENT,
        start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while first.poll() is None and len(list(killed.glob("images/p*.png"))) < 6:
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    left = {path: path.stat().st_mtime_ns for path in killed.glob("images/p*.png")}
    assert 6 <= len(left) < 40  # it was killed in the middle of its first 64 rows
    assert here(prompts, *options, "--out", killed) == here(prompts, *options, "--out", whole) == 0
    assert {path: path.stat().st_mtime_ns for path in left} == left
    for path in whole.glob("images/*.png"):
        assert (killed / "images" / path.name).read_bytes() == path.read_bytes()
    assert (killed / "draw.jsonl").read_bytes() == (whole / "draw.jsonl").read_bytes()
    row = rows_of(whole)[7]
    assert row.drawing is not None and row.drawing.steps == 3
    assert read_drawing(whole / row.image_path) == row.drawing


def test_a_rerun_draws_only_new_and_changed_rows(
    tmp_path: Path, dots: Dots, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    here(write_prompts(tmp_path, 3), "--generator", "dots", "--out", out)
    assert dots.drawn == 3
    prompts = write_prompts(tmp_path, 5)
    prompts.write_text(prompts.read_text().replace("1 red", "one red"))
    assert here(prompts, "--generator", "dots", "--out", out) == 0
    assert dots.drawn == 6
    assert [row.id for row in rows_of(out)] == [f"p{n}" for n in range(5)]
    assert "5 of 5 pictures" in capsys.readouterr().out


def test_black_pictures_are_rejected_and_the_sheet_shows_all(
    tmp_path: Path, dots: Dots, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out"
    texts = ["a lamp", "black", *(f"box {n} — 猫" for n in range(10))]
    prompts.write_text(
        "".join(json.dumps({"id": f"/{n}/..", "prompt": t}) + "\n" for n, t in enumerate(texts))
    )
    assert here(prompts, "--generator", "dots", "--out", out, "--contact-sheet", "--retries", "1") == 0
    assert "11 of 12 pictures" in (said := capsys.readouterr().out) and "1 rejected (black)" in said
    rejected = rows_of(out)[1]
    assert rejected.rejected is not None and rejected.drawing is not None
    assert len(rejected.drawing.attempts) == 2 and rejected.image_path == ""
    assert all((out / row.image_path).parent == out / "images" for row in rows_of(out) if row.image_path)
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.width > 5 * 240 and sheet.height > 3 * 240
        assert sheet.getpixel((12 + 252 + 230, 20)) == (0xB3, 0x26, 0x1E)  # the second tile says rejected


def test_webp_pictures_and_row_sizes(model: Path, tmp_path: Path) -> None:
    prompts, out = write_prompts(tmp_path, 2, width=96, height=64), tmp_path / "out"
    options = ["--generator", f"diffusers:{model}", "--steps", "1", "--device", "cpu", "--format", "webp"]
    assert here(prompts, *options, "--out", out) == 0
    row = rows_of(out)[1]
    with Image.open(out / row.image_path) as image:
        assert image.format == "WEBP" and image.size == (96, 64)
    assert read_drawing(out / row.image_path) == row.drawing


def test_best_of_three_by_similarity_records_every_attempt(model: Path, tmp_path: Path) -> None:
    from tests.tiny_diffusion import save_similarity

    similarity = save_similarity(tmp_path / "clip", "clip")
    out, prompts = tmp_path / "out", write_prompts(tmp_path, 2)
    options = ["--generator", f"diffusers:{model}", "--steps", "1", "--device", "cpu"]
    assert here(prompts, *options, "--out", out, "--similarity", similarity, "--best-of", "3") == 0
    for row in rows_of(out):
        assert row.drawing is not None and len(row.drawing.attempts) == 3
        best = max(row.drawing.attempts, key=lambda attempt: attempt.similarity or -1)
        assert best.seed == row.drawing.seed
        assert (out / best.image_path).read_bytes() == (out / row.image_path).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--generator", "diffusers:/no/folder"], "There is no folder /no/folder"),
        (["--generator", "diffusers:nobody/nothing"], "could not be fetched from the Hub"),
        (["--generator", "diffusers:{model}", "--device", "cuda:9"], "There is no cuda:9 device here"),
        (
            ["--generator", "openai-images:m", "--key-variable", "NO_SUCH_KEY"],
            "Set the environment variable NO_SUCH_KEY",
        ),
        (["--generator", "sketch", "--steps", "0"], "--steps: input should be greater than 0"),
        (
            ["--generator", "sketch", "--steps", "9", "--negative-prompt", "fog", "--width", "64"],
            "sketch would do nothing with these settings; leave them out: negative-prompt, steps, width",
        ),
        (["--generator", "openai-images:m", "--guidance", "2"], "leave them out: guidance"),
        (["--generator", "diffusers:{model}", "--base-url", "http://x"], "leave them out: base-url"),
        (
            ["--generator", "diffusers:{model}", "--device", "cpu", "--width", "100", "--height", "64"],
            "no picture of 100x64: width and height must be multiples of 8",
        ),
        (
            ["--generator", "sketch", "--rounds", "2", "--least-match", "0.4"],
            "Without --critic MODEL these would do nothing; add it, or leave them out: --rounds, --least-match",
        ),
        (["--generator", "sketch", "--critic-url", "http://x"], "leave them out: --critic-url"),
        (["--generator", "sketch", "--best-of", "4"], "--best-of goes with --similarity MODEL"),
        (["--generator", "sketch", "--limit", "-1"], "--limit takes a number from 1 upwards, not -1"),
    ],
)
def test_a_mistake_is_one_sentence(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    filled = [argument.format(model=model) for argument in arguments]
    with pytest.raises(UserError) as error:
        here(write_prompts(tmp_path, 2), *filled, "--out", tmp_path / "out")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_mistake_ends_with_exit_code_2_and_no_traceback(tmp_path: Path) -> None:
    done = run(write_prompts(tmp_path, 2), "--generator", "paint", "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.startswith("error: Unknown generator 'paint'; choose from:")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_after_a_mistake_the_mended_command_is_not_refused(tmp_path: Path, dots: Dots) -> None:
    prompts, out = write_prompts(tmp_path, 2), tmp_path / "out"
    with pytest.raises(UserError, match="could not be fetched"):
        here(prompts, "--generator", "diffusers:nobody/nothing", "--out", out)
    assert here(prompts, "--generator", "dots", "--out", out) == 0
    with pytest.raises(UserError, match="name another --out folder, or add --redo draw"):
        here(prompts, "--generator", "dots", "--out", out, "--retries", "1")
    assert here(prompts, "--generator", "dots", "--out", out, "--retries", "1", "--redo", "draw") == 0


def test_a_deleted_picture_is_drawn_again_and_a_damaged_one_does_not_cost_the_sheet(
    tmp_path: Path, dots: Dots
) -> None:
    prompts, out = write_prompts(tmp_path, 3), tmp_path / "out"
    here(prompts, "--generator", "dots", "--out", out)
    before = rows_of(out)
    (out / "images" / "p1.png").unlink()
    (out / "images" / "p2.png").write_bytes(b"no picture")
    assert here(prompts, "--generator", "dots", "--out", out, "--contact-sheet") == 0
    assert (out / "images" / "p1.png").exists() and dots.drawn == 4
    assert rows_of(out) == before
    with Image.open(out / "contact-sheet.png") as sheet:
        marked = [sheet.getpixel((12 + 252 * tile + 230, 20)) == (0xB3, 0x26, 0x1E) for tile in range(3)]
    assert marked == [False, False, True]


def test_any_text_of_a_prompts_file_is_drawn_under_a_name_that_file_systems_take(
    tmp_path: Path, dots: Dots
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out"
    rows = [{"id": "a" + "名" * 99, "prompt": "a kite\u2028over a beach"}, {"id": "b", "prompt": "a lamp"}]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    prompts.write_bytes(lines.encode("utf-8-sig"))  # as Windows writes it
    assert here(prompts, "--generator", "dots", "--out", out) == 0
    assert [(row.id, row.prompt) for row in rows_of(out)] == [(row["id"], row["prompt"]) for row in rows]
    assert all((out / row.image_path).exists() for row in rows_of(out))


def test_half_a_surrogate_pair_in_a_prompts_file_is_replaced(tmp_path: Path, dots: Dots) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out"
    prompts.write_text(json.dumps({"id": "a\ud83d", "prompt": "a lamp \ud83d"}) + "\n")
    assert here(prompts, "--generator", "dots", "--out", out) == 0
    assert [(row.id, row.prompt) for row in rows_of(out)] == [("a\ufffd", "a lamp \ufffd")]


def test_a_disk_that_fills_up_keeps_what_is_written_and_the_same_command_goes_on(
    tmp_path: Path, dots: Dots, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from generate_images import writer

    save, saved = writer.save_picture, threading.Semaphore(9)

    def until_full(*given: Any) -> None:
        if not saved.acquire(blocking=False):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*given)

    prompts, out = write_prompts(tmp_path, 30), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(writer, "save_picture", until_full)
        with pytest.raises(UserError, match="is full: make room"):
            here(prompts, "--generator", "dots", "--out", out)
    assert len(list(out.glob("images/p*.png"))) == 9 and not list(out.glob("images/.*"))
    before = dots.drawn
    assert here(prompts, "--generator", "dots", "--out", out) == 0
    assert dots.drawn - before == 21


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no prompts"),
        ("{nonsense\n", "Line 1 of .* is no row with an id and a prompt"),
        ('{"id": "a", "prompt": "x"}\n{"id": "b"}\n', "Line 2 of"),
        (
            '{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}\n',
            "Line 2 of .* has the id 'a' of an earlier",
        ),
        ('{"id": "a", "prompt": " "}\n', "empty prompt"),
        ('{"id": "a", "prompt": "x", "width": 64}\n', "width and height together"),
        ("[1]\n", "Line 1 of .* is no row"),
        ("[" * 200_000, "Line 1 of .* is no row"),
    ],
)
def test_a_bad_prompts_file_is_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        read_prompts(path)
    with pytest.raises(UserError, match=r"Cannot read .*: No such file"):
        read_prompts(tmp_path / "none.jsonl")


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        started = time.monotonic()
        assert run("--help").returncode == 0
        return time.monotonic() - started

    assert min(seconds() for _ in range(5)) < 0.5
