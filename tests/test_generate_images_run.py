"""`python -m generate_images.run` as a user runs it: killed and resumed, with everything wrong."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.errors import UserError
from generate_images.conduct import DrawnRow, conduct, read_prompts
from generate_images.run import parse_arguments
from generate_images.writer import read_drawing

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "generate_images.run"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # tiny models, and no network


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=REPOSITORY, env=ENVIRONMENT,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """The same command in this process, where a test reaches in; as bare of threads and network."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def call(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["run", *map(str, arguments)])
        return conduct(parse_arguments())

    yield call
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_diffusion import save_sd15

    return save_sd15(tmp_path_factory.mktemp("sd15"))


def write_prompts(folder: Path, count: int, **more: object) -> Path:
    path = folder / "prompts.jsonl"
    rows = [{"id": f"p{n}", "prompt": f"a lamp and {n} red boxes", **more} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(out: Path) -> list[DrawnRow]:
    from data.stage import read_stage

    return list(read_stage(out, "draw", DrawnRow))


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
    model: Path, tmp_path: Path, here: Callable[..., int]
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
    tmp_path: Path, dots: Dots, here: Callable[..., int], capsys: pytest.CaptureFixture[str]
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
    tmp_path: Path, dots: Dots, here: Callable[..., int], capsys: pytest.CaptureFixture[str]
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


def test_webp_pictures_and_row_sizes(model: Path, tmp_path: Path, here: Callable[..., int]) -> None:
    prompts, out = write_prompts(tmp_path, 2, width=96, height=64), tmp_path / "out"
    options = ["--generator", f"diffusers:{model}", "--steps", "1", "--device", "cpu", "--format", "webp"]
    assert here(prompts, *options, "--out", out) == 0
    row = rows_of(out)[1]
    with Image.open(out / row.image_path) as image:
        assert image.format == "WEBP" and image.size == (96, 64)
    assert read_drawing(out / row.image_path) == row.drawing


def test_best_of_three_by_similarity_records_every_attempt(
    model: Path, tmp_path: Path, here: Callable[..., int]
) -> None:
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
    here: Callable[..., int],
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


def test_after_a_mistake_the_mended_command_is_not_refused(
    tmp_path: Path, dots: Dots, here: Callable[..., int]
) -> None:
    prompts, out = write_prompts(tmp_path, 2), tmp_path / "out"
    with pytest.raises(UserError, match="could not be fetched"):
        here(prompts, "--generator", "diffusers:nobody/nothing", "--out", out)
    assert here(prompts, "--generator", "dots", "--out", out) == 0
    with pytest.raises(UserError, match="name another --out folder, or add --redo draw"):
        here(prompts, "--generator", "dots", "--out", out, "--retries", "1")
    assert here(prompts, "--generator", "dots", "--out", out, "--retries", "1", "--redo", "draw") == 0


def test_a_deleted_picture_is_drawn_again_and_a_damaged_one_does_not_cost_the_sheet(
    tmp_path: Path, dots: Dots, here: Callable[..., int]
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
    tmp_path: Path, dots: Dots, here: Callable[..., int]
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out"
    rows = [{"id": "a" + "名" * 99, "prompt": "a kite\u2028over a beach"}, {"id": "b", "prompt": "a lamp"}]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    prompts.write_bytes(lines.encode("utf-8-sig"))  # as Windows writes it
    assert here(prompts, "--generator", "dots", "--out", out) == 0
    assert [(row.id, row.prompt) for row in rows_of(out)] == [(row["id"], row["prompt"]) for row in rows]
    assert all((out / row.image_path).exists() for row in rows_of(out))


def test_a_disk_that_fills_up_keeps_what_is_written_and_the_same_command_goes_on(
    tmp_path: Path, dots: Dots, here: Callable[..., int], monkeypatch: pytest.MonkeyPatch
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


Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any] | str]]  # a text is sent as a web page


@contextmanager
def images_server(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server on loopback that speaks the Images API; its address, and the bodies it saw."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append({"path": self.path, "key": self.headers["authorization"]} | body)
            status, reply = answer(body)
            content = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
            self.send_response(status)
            kind = "text/html" if isinstance(reply, str) else "application/json"
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def painted(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    width, height = map(int, body["size"].split("x"))
    noise = np.random.default_rng(body["seed"]).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return 200, {"created": 0, "data": [{"b64_json": base64.b64encode(buffer.getvalue()).decode()}]}


def test_an_images_server_draws_with_the_pairs_seed_and_refusals_are_rejections(
    tmp_path: Path, here: Callable[..., int]
) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "1 red" in body["prompt"]:
            return 400, {"error": {"message": "no", "type": "t", "code": "content_policy_violation"}}
        if "2 red" in body["prompt"]:
            return 501, {"error": {"message": "no", "type": "t", "code": "c"}}
        return painted(body)

    out, prompts = tmp_path / "out", write_prompts(tmp_path, 4)
    options = ["--generator", "openai-images:sd-server", "--width", "64", "--height", "64", "--out", out]
    from unittest import mock

    with images_server(answer) as (url, seen), mock.patch("generate_images.openai_images.RETRIES", 0):
        assert here(prompts, *options, "--base-url", url) == 3
    rows = {row.id: row for row in rows_of(out)}
    assert sorted(rows) == ["p0", "p1", "p3"]  # p2 failed: a rerun tries it again
    assert rows["p1"].rejected is not None and rows["p1"].rejected.reason == "provider_blocked"
    assert rows["p0"].drawing is not None and rows["p0"].drawing.seed in {body["seed"] for body in seen}
    assert len(seen) == 4 and all(body["path"] == "/v1/images/generations" for body in seen)
    with images_server(painted) as (url, seen):
        assert here(prompts, *options, "--base-url", url) == 0
    assert len(seen) == 1 and "2 red" in seen[0]["prompt"]


def test_a_refused_key_and_a_dead_image_server_are_one_sentence(
    tmp_path: Path, here: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generate_images.openai_images.RETRIES", 0)
    prompts, out = write_prompts(tmp_path, 2), tmp_path / "out"
    options = ["--generator", "openai-images:m", "--out", out]
    refusal = {"error": {"message": "no", "type": "t", "code": "c"}}
    with (
        images_server(lambda _: (401, refusal)) as (url, _),
        pytest.raises(UserError, match="refused the API key"),
    ):
        here(prompts, *options, "--base-url", url)
    with pytest.raises(UserError, match="connection to the image server failed"):
        here(prompts, *options, "--base-url", url)


def refused(status: int, message: str, code: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": "t", "code": code}}


def options_for(url: str, out: Path) -> list[str | Path]:
    size = ["--width", "64", "--height", "64"]
    return ["--generator", "openai-images:sd-server", *size, "--base-url", url, "--out", out]


def test_a_bad_request_fails_its_row_alone_until_asked_for_again(
    tmp_path: Path, here: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        long = "3 red" in body["prompt"]
        return refused(400, "prompt too long", "string_above_max_length") if long else painted(body)

    out, prompts = tmp_path / "out", write_prompts(tmp_path, 8)
    with images_server(answer) as (url, seen):
        assert here(prompts, *options_for(url, out)) == 3
        assert len(seen) == 8 and len(rows_of(out)) == 7
        said = capsys.readouterr()
        assert "7 of 8 pictures" in said.out and "1 failed (bad_request)" in said.out
        assert "--retry-failed asks again" in said.err and "p3: HTTP 400: prompt too long" in said.err
        assert here(prompts, *options_for(url, out)) == 3
        assert len(seen) == 8
    with images_server(painted) as (url, seen):
        assert here(prompts, *options_for(url, out), "--retry-failed") == 0
        assert len(seen) == 1 and len(rows_of(out)) == 8


def test_what_is_under_way_when_the_key_is_refused_is_kept(tmp_path: Path, here: Callable[..., int]) -> None:
    under_way = threading.Barrier(4)

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        under_way.wait(10)
        if "0 red" in body["prompt"]:
            return refused(401, "no", "c")
        time.sleep(0.3)
        return painted(body)

    out, prompts = tmp_path / "out", write_prompts(tmp_path, 4)
    with images_server(answer) as (url, _), pytest.raises(UserError, match="refused the API key"):
        here(prompts, *options_for(url, out))
    assert sorted(path.name for path in out.glob("images/*.png")) == ["p1.png", "p2.png", "p3.png"]
    with images_server(painted) as (url, seen):
        assert here(prompts, *options_for(url, out)) == 0
        assert len(seen) == 1


def test_ctrl_c_keeps_what_is_under_way_and_asks_no_more(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        time.sleep(0.5)
        return painted(body)

    out, prompts = tmp_path / "out", write_prompts(tmp_path, 40)
    with images_server(answer) as (url, seen):
        command = [*COMMAND, prompts, *options_for(url, out)]
        running = subprocess.Popen(list(map(str, command)), cwd=REPOSITORY, env=ENVIRONMENT)
        while len(seen) < 6:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
        assert len(seen) < 40 and len(list(out.glob("images/p*.png"))) == len(seen)


def test_an_account_without_credit_is_one_sentence_and_not_asked_again(
    tmp_path: Path, here: Callable[..., int]
) -> None:
    def answer(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        time.sleep(0.05)
        return refused(429, "You exceeded your current quota", "insufficient_quota")

    with images_server(answer) as (url, seen):
        with pytest.raises(UserError, match="has no credit left"):
            here(write_prompts(tmp_path, 40), *options_for(url, tmp_path / "out"))
        assert len(seen) <= 8  # those of four workers, and what they began before they were stopped


@pytest.mark.parametrize("reply", ["<html>Log in</html>", {"data": "none"}, {"data": [{"b64_json": "?"}]}])
def test_a_reply_without_a_picture_fails_its_row_with_that_reason(
    tmp_path: Path, here: Callable[..., int], capsys: pytest.CaptureFixture[str], reply: Any
) -> None:
    with images_server(lambda _: (200, reply)) as (url, seen):
        assert here(write_prompts(tmp_path, 2), *options_for(url, tmp_path / "out")) == 3
        assert len(seen) == 2
    said = capsys.readouterr()
    assert "2 failed (no_image)" in said.out and "the same command tries them again" in said.err


def test_a_server_of_ones_own_is_sent_the_negative_prompt(tmp_path: Path, here: Callable[..., int]) -> None:
    out = tmp_path / "out"
    with images_server(painted) as (url, seen):
        assert here(write_prompts(tmp_path, 1), *options_for(url, out), "--negative-prompt", "fog") == 0
    assert seen[0]["negative_prompt"] == "fog"
    row = rows_of(out)[0]
    assert row.drawing is not None and row.drawing.negative_prompt == "fog"


def test_each_server_is_sent_its_own_key_only(
    tmp_path: Path, here: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "messages" not in body:
            return painted(body)
        text = json.dumps({"caption": "dots", "match": 0.9, "improved_prompt": ""})
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return 200, {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}

    for name in ("PICTURES_KEY", "CRITIC_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, f"the-{name}")
    prompts = write_prompts(tmp_path, 1)
    for given, name in ((["--critic-key-variable", "CRITIC_KEY"], "CRITIC_KEY"), ([], "OPENAI_API_KEY")):
        with images_server(answer) as (url, seen):
            options = [*options_for(url, tmp_path / name), "--key-variable", "PICTURES_KEY"]
            assert here(prompts, *options, "--critic", "m", "--critic-url", url, *given) == 0
        keys = {body["path"]: body["key"] for body in seen}
        assert keys == {
            "/v1/images/generations": "Bearer the-PICTURES_KEY",
            "/v1/chat/completions": f"Bearer the-{name}",
        }
