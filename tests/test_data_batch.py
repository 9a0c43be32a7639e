"""Batch mode: half the price, and nothing submitted twice, whenever it is stopped."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import BaseModel

from data.errors import RowFailed, UserError
from data.llm.batch_api import BatchChat
from data.llm.cache import ResponseCache
from data.llm.chat import Asker
from data.llm.prices import Price
from data.rows import read_rows
from tests.fault_server import reply_to
from tests.llm_run import profile, run_stages

QUESTIONS = [f"which colour has {number}?" for number in range(40)]


class Colour(BaseModel):
    name: str


def named_by_its_hash(body: dict[str, Any]) -> str:
    asked = body["messages"][-1]["content"]
    return json.dumps({"name": hashlib.sha256(asked.encode()).hexdigest()})


@dataclass
class BatchServer:
    """Files and batches; a batch is done after some polls, perhaps with lines missing or failed."""

    polls: int = 2
    expires_after: float = 1.0  # the share of a first batch's lines that is answered
    reply: Callable[[dict[str, Any]], str] = named_by_its_hash
    lost_answers: int = 0  # so many batches are made without their maker hearing of it
    slow_seconds: float = 0.0  # after a batch is made, until that is said
    refused: str = ""  # why batches fail as a whole
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        file = form["file"]
        assert isinstance(file, web.FileField)
        name = f"file-{len(self.files)}"
        self.files[name] = file.file.read()
        return web.json_response({"id": name})

    async def download(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["name"]])

    async def create(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        name = f"batch-{len(self.batches)}"
        self.batches[name] = {"id": name, "status": "in_progress", "left": self.polls} | wanted
        await asyncio.sleep(self.slow_seconds)
        if len(self.batches) <= self.lost_answers:
            return web.json_response({"error": {"message": "upstream went away"}}, status=502)
        return web.json_response(self.batches[name])

    async def index(self, request: web.Request) -> web.Response:
        """Two to a page."""
        names = list(self.batches)
        start = names.index(request.query["after"]) + 1 if "after" in request.query else 0
        page = names[start : start + 2]
        more = start + 2 < len(names)
        listed = [self.batches[name] for name in page]
        return web.json_response({"data": listed, "has_more": more, "last_id": page[-1] if page else None})

    async def look(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["name"]]
        batch["left"] -= 1
        if batch["left"] == 0:
            self._finish(batch)
        return web.json_response(batch)

    def _finish(self, batch: dict[str, Any]) -> None:
        if self.refused:
            batch |= {"status": "failed", "errors": {"data": [{"message": self.refused}]}}
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        share = self.expires_after if batch["id"] == "batch-0" else 1.0
        done, failed = [], []
        for line in lines[: round(len(lines) * share)]:
            asked = line["body"]["messages"][-1]["content"]
            if "has 13?" in asked:
                error = {"status_code": 400, "body": {"error": {"message": "this one is broken"}}}
                failed.append({"custom_id": line["custom_id"], "response": error})
                continue
            self.answered[line["custom_id"]] += 1
            name = self.reply(line["body"])
            body = {"choices": [{"finish_reason": "stop", "message": {"content": name}}],
                    "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}  # fmt: skip
            done.append({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}})
        batch["status"] = "completed" if share == 1.0 else "expired"
        for kind, found in (("output_file_id", done), ("error_file_id", failed)):
            batch[kind] = f"file-{len(self.files)}"
            self.files[batch[kind]] = "\n".join(json.dumps(each) for each in found).encode()


@contextmanager
def serving(server: BatchServer) -> Iterator[BatchServer]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/files", server.upload)
        app.router.add_get("/v1/files/{name}/content", server.download)
        app.router.add_post("/v1/batches", server.create)
        app.router.add_get("/v1/batches", server.index)
        app.router.add_get("/v1/batches/{name}", server.look)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def ask_all(url: str, folder: Path, stop_after: float | None = None) -> tuple[list[Any], ResponseCache]:
    """Ask all questions at once; what each came to. `stop_after` seconds everything is cancelled."""
    cache = ResponseCache(folder / "responses.sqlite")

    async def work() -> list[Any]:
        chat = BatchChat("m", url, "NO_SUCH_KEY", 5, cache, poll_seconds=0.05, quiet_seconds=0.05)
        asker = Asker(chat, cache, price=Price(input=2.0, output=10.0))
        try:
            calls = [asker.ask("system", question, Colour) for question in QUESTIONS]
            return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), stop_after)
        finally:
            await chat.close()

    return asyncio.run(work()), cache


def check_all_but_the_broken(answers: list[Any], cache: ResponseCache) -> None:
    good = [answer for answer in answers if isinstance(answer, Colour)]
    bad = [answer for answer in answers if not isinstance(answer, Colour)]
    assert len({answer.name for answer in good}) == len(QUESTIONS) - 1
    assert [(type(each), each.reason) for each in bad] == [(RowFailed, "bad_request")]
    spent = cache.spent()
    assert spent.calls == len(QUESTIONS) - 1
    assert spent.cost == pytest.approx(spent.calls * (1000 * 2 + 100 * 10) / 1e6 / 2)  # half the price


def test_a_batch_answers_all_at_half_the_price(tmp_path: Path) -> None:
    with serving(BatchServer()) as server:
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
        assert len(server.batches) == 1
        check_all_but_the_broken(*ask_all(server.url, tmp_path))  # all from the cache
        assert len(server.batches) == 1


def test_stopped_between_submitting_and_collecting_it_submits_nothing_again(tmp_path: Path) -> None:
    with serving(BatchServer(polls=10**6)) as server:
        with pytest.raises(TimeoutError):
            ask_all(server.url, tmp_path, stop_after=1.0)
        assert len(server.batches) == 1
        server.batches["batch-0"]["left"] = 2
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
        assert len(server.batches) == 1
        assert set(server.answered.values()) == {1}


def test_a_batch_whose_answer_was_lost_is_found_and_not_made_again(tmp_path: Path) -> None:
    theirs = {f"theirs-{number}": {"id": f"theirs-{number}", "input_file_id": "other"} for number in range(5)}
    with serving(BatchServer(lost_answers=6, batches=theirs)) as server:
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
        assert len(server.batches) == 6
        assert set(server.answered.values()) == {1}


def test_stopped_while_a_batch_is_being_made_it_finds_it_again(tmp_path: Path) -> None:
    with serving(BatchServer(slow_seconds=30.0)) as server:
        with pytest.raises(TimeoutError):
            ask_all(server.url, tmp_path, stop_after=1.0)
        assert len(server.batches) == 1
        server.slow_seconds = 0.0
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
        assert len(server.batches) == 1
        assert set(server.answered.values()) == {1}


def test_a_batch_that_fails_as_a_whole_says_why_in_every_row(tmp_path: Path) -> None:
    with serving(BatchServer(refused="Enqueued token limit reached")) as server:
        answers, _ = ask_all(server.url, tmp_path)
    assert all(isinstance(each, RowFailed) and "Enqueued token limit" in each.detail for each in answers)


def test_what_a_batch_left_undone_goes_out_again_and_is_merged(tmp_path: Path) -> None:
    with serving(BatchServer(expires_after=0.6)) as server:
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
        assert len(server.batches) == 2
        assert set(server.answered.values()) == {1}


def test_a_server_without_a_batch_api_is_said(tmp_path: Path) -> None:
    with serving(BatchServer()) as server:
        elsewhere = server.url.replace("/v1", "/nothing")
        answers, _ = ask_all(elsewhere, tmp_path)
    assert isinstance(answers[0], UserError) and "has no Batch API: leave out --batch" in str(answers[0])


def test_whole_stages_run_through_batches_and_a_second_run_submits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = partial(BatchChat, poll_seconds=0.05, quiet_seconds=0.05)
    monkeypatch.setattr("data.llm.batch_api.BatchChat", quick)
    stages = ("elements", "describe", "rewrite")
    with serving(BatchServer(reply=lambda body: json.dumps(reply_to(body)))) as server:
        shop = run_stages(profile(server.url, pairs=2), tmp_path, stages, batch=True)
        rows = list(read_rows(tmp_path / "rewrite.jsonl"))
        assert len(rows) == 2 * 19
        assert all("failed" not in row and (row["instruction"] or row["rejected"]) for row in rows)
        assert len(server.batches) < sum(server.answered.values()) / 4  # many questions to a batch
        assert set(server.answered.values()) == {1}
        assert shop.cache.spent().cost > 0
        submitted = len(server.batches)
        run_stages(profile(server.url, pairs=2), tmp_path, stages, batch=True)
        assert len(server.batches) == submitted
