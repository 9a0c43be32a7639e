"""Pictures from an Images-API server: what it refuses, what fails, and what is paid for once."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from data.errors import UserError
from tests.draw_run import COMMAND, ENVIRONMENT, REPOSITORY, here, rows_of, write_prompts

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


def test_an_images_server_draws_with_the_pairs_seed_and_refusals_are_rejections(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "1 red" in body["prompt"]:
            return 400, {"error": {"message": "no", "type": "t", "code": "content_policy_violation"}}
        if "2 red" in body["prompt"]:
            return 501, {"error": {"message": "no", "type": "t", "code": "c"}}
        return painted(body)

    out, prompts = tmp_path / "out", write_prompts(tmp_path, 4)
    options = ["--generator", "openai-images:sd-server", "--width", "64", "--height", "64", "--out", out]
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
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


def test_what_is_under_way_when_the_key_is_refused_is_kept(tmp_path: Path) -> None:
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


def test_an_account_without_credit_is_one_sentence_and_not_asked_again(tmp_path: Path) -> None:
    def answer(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        time.sleep(0.05)
        return refused(429, "You exceeded your current quota", "insufficient_quota")

    with images_server(answer) as (url, seen):
        with pytest.raises(UserError, match="has no credit left"):
            here(write_prompts(tmp_path, 40), *options_for(url, tmp_path / "out"))
        assert len(seen) <= 8  # those of four workers, and what they began before they were stopped


@pytest.mark.parametrize("reply", ["<html>Log in</html>", {"data": "none"}, {"data": [{"b64_json": "?"}]}])
def test_a_reply_without_a_picture_fails_its_row_with_that_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reply: Any
) -> None:
    with images_server(lambda _: (200, reply)) as (url, seen):
        assert here(write_prompts(tmp_path, 2), *options_for(url, tmp_path / "out")) == 3
        assert len(seen) == 2
    said = capsys.readouterr()
    assert "2 failed (no_image)" in said.out and "the same command tries them again" in said.err


def test_a_first_few_undo_nothing_of_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "4 red" in body["prompt"]:
            return refused(400, "no", "content_policy_violation")
        return refused(400, "prompt too long", "c") if "5 red" in body["prompt"] else painted(body)

    out, prompts = tmp_path / "out", write_prompts(tmp_path, 6)
    with images_server(answer) as (url, seen):
        assert here(prompts, *options_for(url, out)) == 3
        rows = (out / "draw.jsonl").read_bytes()
        capsys.readouterr()
        assert here(prompts, *options_for(url, out), "--limit", "2", "--contact-sheet") == 0
        assert capsys.readouterr().out == f"2 of 2 pictures in {out / 'images'}\n"
        with Image.open(out / "contact-sheet.png") as sheet:
            assert sheet.width < 3 * 252
        assert here(prompts, *options_for(url, out)) == 3
        assert len(seen) == 6 and (out / "draw.jsonl").read_bytes() == rows


def test_ctrl_c_while_a_critic_judges_is_one_sentence(tmp_path: Path) -> None:
    judging, ended = threading.Semaphore(0), threading.Event()

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "messages" not in body:
            return painted(body)
        judging.release()
        ended.wait(60)
        return refused(503, "no", "c")

    with images_server(answer) as (url, _):
        options = [*options_for(url, tmp_path / "out"), "--critic", "m", "--critic-url", url]
        command = list(map(str, [*COMMAND, write_prompts(tmp_path, 20), *options]))
        running = subprocess.Popen(
            command, cwd=REPOSITORY, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        for _ in range(8):  # all that are asked at once
            assert judging.acquire(timeout=60)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
        ended.set()
    assert running.returncode == 130
    assert said.splitlines()[1:] == [
        "", "Stopped. Everything finished so far is kept; the same command goes on from here.",
    ]  # fmt: skip


def test_a_server_of_ones_own_is_sent_the_negative_prompt(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with images_server(painted) as (url, seen):
        assert here(write_prompts(tmp_path, 1), *options_for(url, out), "--negative-prompt", "fog") == 0
    assert seen[0]["negative_prompt"] == "fog"
    row = rows_of(out)[0]
    assert row.drawing is not None and row.drawing.negative_prompt == "fog"


def test_each_server_is_sent_its_own_key_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("model", ["gpt-image-2", "chatgpt-image-latest"])
def test_models_that_know_one_format_only_are_not_told_which(model: str, tmp_path: Path) -> None:
    options = ["--generator", f"openai-images:{model}", "--width", "64", "--height", "64"]
    with images_server(painted) as (url, seen):
        prompts = write_prompts(tmp_path, 1)
        assert here(prompts, *options, "--out", tmp_path / "out", "--base-url", url) == 0
    assert len(seen) == 1 and "response_format" not in seen[0]


def test_a_transparent_background_becomes_white(tmp_path: Path) -> None:
    def clear(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        pixels = np.zeros((64, 64, 4), np.uint8)
        pixels[16:48, 16:48] = (200, 30, 30, 255)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return 200, {"created": 0, "data": [{"b64_json": base64.b64encode(buffer.getvalue()).decode()}]}

    options = ["--generator", "openai-images:m", "--width", "64", "--height", "64", "--out", tmp_path / "out"]
    with images_server(clear) as (url, _):
        assert here(write_prompts(tmp_path, 1), *options, "--base-url", url) == 0
    (row,) = rows_of(tmp_path / "out")
    with Image.open(tmp_path / "out" / row.image_path) as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255) and picture.getpixel((32, 32)) == (200, 30, 30)
