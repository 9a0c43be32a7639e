"""Batch mode: half the price, and nothing submitted twice, whenever it is stopped."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from PIL import Image
from pydantic import BaseModel

import construct.conductor
from construct.conductor import Commission, conduct
from data.errors import RowFailed, UserError
from data.llm.batch_api import BatchChat
from data.llm.batch_server import lacks_batch_api
from data.llm.cache import ResponseCache
from data.llm.chat import Asker, ChatRequest, Completion, Message, close_all
from data.llm.pictures import Picture, picture
from data.llm.prices import Price
from data.rows import read_rows
from generate_images.improve import Case, Review
from tests.fault_server import FaultServer, reply_to
from tests.fault_server import serving as serving_chat
from tests.light_run import KEY, WholeLightWorkshop, write_profile
from tests.llm_run import LightWorkshop, profile, run_stages

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
    refuse_line: Callable[[dict[str, Any]], tuple[int, str] | None] = lambda _: None  # status and why
    late: dict[str, int] = field(default_factory=dict)  # batch -> polls it takes instead
    busy: int = 0  # so many uploads meet an overloaded server
    hidden: set[str] = field(default_factory=set)  # batches of an account that is not the caller's
    looks: int = 0
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)

    async def upload(self, request: web.Request) -> web.Response:
        if self.busy:
            self.busy -= 1
            return web.json_response({"error": {"message": "busy"}}, status=503)
        form = await request.post()
        assert form["purpose"] == "batch"
        file = form["file"]
        assert isinstance(file, web.FileField)
        name = f"file-{len(self.files)}"
        self.files[name] = file.file.read()
        return web.json_response({"id": name})

    async def download(self, request: web.Request) -> web.Response:
        if request.match_info["name"] not in self.files:
            return web.json_response({"error": {"message": "No such File object"}}, status=404)
        return web.Response(body=self.files[request.match_info["name"]])

    async def create(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        name = f"batch-{len(self.batches)}"
        left = self.late.get(name, self.polls)
        self.batches[name] = {"id": name, "status": "in_progress", "left": left} | wanted
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
        self.looks += 1
        if request.match_info["name"] in self.hidden:
            return web.json_response({"error": {"message": "No such Batch object"}}, status=404)
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
            refusal = (400, "this one is broken") if "has 13?" in asked else self.refuse_line(line["body"])
            if refusal is not None:
                error = {"status_code": refusal[0], "body": {"error": {"message": refusal[1]}}}
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


def batch_chat(url: str, cache: ResponseCache) -> BatchChat:
    return BatchChat("m", url, "NO_SUCH_KEY", 5, cache, poll_seconds=0.05, quiet_seconds=0.05)


def ask_all(
    url: str,
    folder: Path,
    stop_after: float | None = None,
    questions: Sequence[str] = QUESTIONS,
    shown: Sequence[Path] = (),
) -> tuple[list[Any], ResponseCache]:
    """Ask all questions at once; what each came to. `stop_after` seconds everything is cancelled.

    `shown`: the pictures that go with the questions, one each.
    """
    cache = ResponseCache(folder / "responses.sqlite")

    async def work() -> list[Any]:
        chat = batch_chat(url, cache)
        asker = Asker(chat, cache, price=Price(input=2.0, output=10.0))
        pictures: list[tuple[Picture, ...]] = [(picture(path),) for path in shown] or [()] * len(questions)
        try:
            calls = [
                asker.ask("system", question, Colour, pictures=seen)
                for question, seen in zip(questions, pictures, strict=True)
            ]
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


def always_red(_: dict[str, Any]) -> str:
    return json.dumps({"name": "red"})


def paint(folder: Path, count: int) -> list[Path]:
    """Pictures that differ, of noise: as large on disk as in memory."""
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.frombytes("RGB", (100, 100), random.Random(number).randbytes(30_000)).save(path)
    return paths


def test_a_picture_that_cannot_be_read_fails_its_own_row_alone(tmp_path: Path) -> None:
    shown = paint(tmp_path, 6)
    shown[3].write_bytes(shown[3].read_bytes()[:60])
    with serving(BatchServer(reply=always_red)) as server:
        answers, _ = ask_all(server.url, tmp_path, questions=QUESTIONS[:6], shown=shown)
    assert [isinstance(each, Colour) for each in answers] == [True] * 3 + [False] + [True] * 2
    assert isinstance(answers[3], RowFailed) and answers[3].reason == "unreadable_image"


def test_no_file_of_requests_is_larger_than_a_server_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.llm.batch_api.MOST_BYTES", 100_000)
    with serving(BatchServer(reply=always_red)) as server:
        answers, _ = ask_all(server.url, tmp_path, questions=QUESTIONS[:6], shown=paint(tmp_path, 6))
    assert all(isinstance(each, Colour) for each in answers)
    sent = [server.files[batch["input_file_id"]] for batch in server.batches.values()]
    assert [file.count(b"\n") for file in sent] == [2, 2, 2]
    assert max(map(len, sent)) <= 100_000
    assert set(server.answered.values()) == {1}


def test_an_account_that_ran_empty_keeps_what_was_paid_for_and_goes_on_when_filled(tmp_path: Path) -> None:
    def out_of_credit(body: dict[str, Any]) -> tuple[int, str] | None:
        empty = body["messages"][-1]["content"] in QUESTIONS[20:]
        return (429, "You exceeded your current quota: insufficient_quota") if empty else None

    with serving(BatchServer(refuse_line=out_of_credit)) as server:
        answers, _ = ask_all(server.url, tmp_path)
        stopped = [each for each in answers if isinstance(each, UserError)]
        assert len(stopped) == 20 and "no credit left" in str(stopped[0])
        assert sum(isinstance(each, Colour) for each in answers) == 19
        server.refuse_line = lambda _: None
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
        assert set(server.answered.values()) == {1}


def test_results_that_the_server_has_deleted_are_asked_for_again(tmp_path: Path) -> None:
    with serving(BatchServer(polls=10**6)) as server:
        with pytest.raises(TimeoutError):
            ask_all(server.url, tmp_path, stop_after=1.0)
        gone = {"status": "completed", "output_file_id": "deleted", "left": 0}
        server.batches["batch-0"] |= gone
        server.polls = 2
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
        assert len(server.batches) == 2


def test_a_batch_of_another_account_is_named_and_does_not_stop_other_requests(tmp_path: Path) -> None:
    with serving(BatchServer(polls=10**6)) as server:
        with pytest.raises(TimeoutError):
            ask_all(server.url, tmp_path, stop_after=1.0)
        server.hidden, server.polls = {"batch-0"}, 2
        answers, _ = ask_all(server.url, tmp_path)
        assert isinstance(answers[0], UserError) and "does not know the batch batch-0" in str(answers[0])
        answers, _ = ask_all(server.url, tmp_path, questions=["another question?"])
        assert isinstance(answers[0], Colour)
        server.hidden = set()
        server.batches["batch-0"]["left"] = 1
        answers, _ = ask_all(server.url, tmp_path)
        assert sum(isinstance(each, Colour) for each in answers) == len(QUESTIONS) - 1
        assert len(server.batches) == 2


def test_an_overloaded_server_is_sent_the_file_again(tmp_path: Path) -> None:
    with serving(BatchServer(busy=2)) as server:
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
    assert len(server.batches) == 1


def picky(body: dict[str, Any]) -> tuple[int, str] | None:
    """A server's line on requests that are not phrased as it wants them."""
    if "max_tokens" in body:
        return 400, "Unsupported parameter: 'max_tokens', use 'max_completion_tokens'"
    return (400, "Unsupported value: 'temperature'") if "temperature" in body else None


@pytest.mark.parametrize("polls", [2, 30])
def test_a_batch_in_old_words_that_ends_late_goes_out_again_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polls: int
) -> None:
    monkeypatch.setattr("data.llm.batch_api.MOST_REQUESTS", 20)
    with serving(BatchServer(refuse_line=picky, late={"batch-1": polls})) as server:
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
    assert set(server.answered.values()) == {1}


def test_requests_that_a_server_wants_in_other_words_go_out_again_in_those(tmp_path: Path) -> None:
    with serving(BatchServer(refuse_line=picky)) as server:
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
        assert len(server.batches) == 3
        assert set(server.answered.values()) == {1}
        answers, _ = ask_all(server.url, tmp_path, questions=["another question?"])  # as after a restart
        assert isinstance(answers[0], Colour)
        assert len(server.batches) == 4


def test_a_batch_of_broken_rows_is_not_asked_in_other_words(tmp_path: Path) -> None:
    with serving(BatchServer()) as server:
        answers, _ = ask_all(server.url, tmp_path, questions=["which colour has 13?"])
    assert [each.reason for each in answers] == ["bad_request"] and len(server.batches) == 1


def test_two_chats_with_one_model_do_not_forget_each_others_batches(tmp_path: Path) -> None:
    async def write_and_look(url: str) -> None:
        cache = ResponseCache(tmp_path / "responses.sqlite")
        author, viewer = batch_chat(url, cache), batch_chat(url, cache)
        await Asker(viewer, cache).ask("system", "look", Colour)
        server.polls = 10**6
        try:
            await asyncio.wait_for(Asker(author, cache).ask("system", "write", Colour), 1.0)
        finally:
            await close_all([author, viewer])

    with serving(BatchServer()) as server:
        with pytest.raises(TimeoutError):
            asyncio.run(write_and_look(server.url))
        server.batches["batch-1"]["left"] = 1
        answers, _ = ask_all(server.url, tmp_path, questions=["write"])
        assert isinstance(answers[0], Colour)
        assert len(server.batches) == 2


def test_answers_nobody_asks_for_do_not_hasten_the_polls(tmp_path: Path) -> None:
    with serving(BatchServer(polls=10**6)) as server:
        with pytest.raises(TimeoutError):
            ask_all(server.url, tmp_path, stop_after=1.0)
        server.batches["batch-0"]["left"] = 1
        server.looks = 0
        with pytest.raises(TimeoutError):
            ask_all(server.url, tmp_path, stop_after=2.0, questions=[QUESTIONS[0], "a new one?"])
    assert server.looks <= 2.0 / 0.05


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


def test_an_answer_handed_out_but_not_stored_is_collected_again_and_not_submitted_again(
    tmp_path: Path,
) -> None:
    request = ChatRequest("m", (Message("user", "red?"),), "", {}, 0.7, 100)

    async def stopped_before_storing(url: str) -> Completion:
        chat = batch_chat(url, ResponseCache(tmp_path / "responses.sqlite"))
        try:
            return await chat.complete(request)
        finally:
            await chat.close()

    with serving(BatchServer(reply=always_red)) as server:
        for _ in range(2):
            assert "red" in asyncio.run(stopped_before_storing(server.url)).text
        assert len(server.batches) == 1


def test_a_filled_account_goes_on_also_where_an_answer_of_the_batch_is_not_asked_for(tmp_path: Path) -> None:
    def out_of_credit(body: dict[str, Any]) -> tuple[int, str] | None:
        return (429, "insufficient_quota") if body["messages"][-1]["content"] == "poor" else None

    with serving(BatchServer(polls=10**6, refuse_line=out_of_credit)) as server:
        with pytest.raises(TimeoutError):
            ask_all(server.url, tmp_path, stop_after=1.0, questions=["poor", "no longer asked"])
        server.batches["batch-0"]["left"], server.polls = 1, 2
        answers, _ = ask_all(server.url, tmp_path, questions=["poor"])
        assert isinstance(answers[0], UserError)
        server.refuse_line = lambda _: None
        answers, _ = ask_all(server.url, tmp_path, questions=["poor"])
        assert isinstance(answers[0], Colour)
        answers, _ = ask_all(server.url, tmp_path, questions=["no longer asked"])  # after all
        assert isinstance(answers[0], Colour) and len(server.batches) == 2


class CutShort(BatchServer):
    """Its first result file lacks the end, as does a download that broke."""

    def _finish(self, batch: dict[str, Any]) -> None:
        super()._finish(batch)
        if batch["id"] == "batch-0":
            self.files[batch["output_file_id"]] = self.files[batch["output_file_id"]][:-20]


def test_a_line_of_results_that_cannot_be_read_costs_its_own_request_alone(tmp_path: Path) -> None:
    with serving(CutShort()) as server:
        check_all_but_the_broken(*ask_all(server.url, tmp_path))
        assert sorted(server.answered.values()) == [1] * (len(QUESTIONS) - 2) + [2]


class Obliging(BatchServer):
    """Knows no files and no batches, and says so with status 200, as LM Studio does."""

    async def upload(self, request: web.Request) -> web.Response:
        return web.json_response({"error": f"Unexpected endpoint or method. ({request.method})"})

    index = upload


def test_a_server_that_says_200_to_everything_is_told_from_one_with_a_batch_api(tmp_path: Path) -> None:
    with serving(Obliging()) as server:
        answers, _ = ask_all(server.url, tmp_path)
        assert isinstance(answers[0], UserError) and "Unexpected endpoint" in str(answers[0])
        assert asyncio.run(lacks_batch_api(server.url, "NO_SUCH_KEY"))
    assert not asyncio.run(lacks_batch_api(server.url, "NO_SUCH_KEY"))  # it has gone: nobody knows
    with serving(BatchServer()) as server:
        assert not asyncio.run(lacks_batch_api(server.url, "NO_SUCH_KEY"))
        assert asyncio.run(lacks_batch_api(server.url.replace("/v1", "/nothing"), "NO_SUCH_KEY"))


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """`construct.run` with nothing that takes long to load, in quick batches."""
    quick = partial(BatchChat, poll_seconds=0.05, quiet_seconds=0.05)
    monkeypatch.setattr("data.llm.batch_api.BatchChat", quick)
    monkeypatch.setattr(construct.conductor, "Workshop", WholeLightWorkshop)
    monkeypatch.setenv("TEST_KEY", KEY)


@pytest.mark.usefixtures("light")
def test_a_model_without_a_batch_api_is_asked_one_by_one_beside_one_in_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answering = BatchServer(reply=lambda body: json.dumps(reply_to(body)))
    with serving(answering) as batches, serving_chat(FaultServer()) as chat:
        path = write_profile(tmp_path / "mine.toml", chat.url, pairs=1, workers=3)
        text = path.read_text().replace('model = "m"', 'model = "eye"').replace(
            f'model = "eye"\nbase_url = "{chat.url}"', f'model = "pen"\nbase_url = "{batches.url}"', 1
        )  # fmt: skip
        path.write_text(text)
        chat.most_in_flight = 3  # the workers of the profile, not as many as a batch holds
        assert conduct(Commission(str(path), tmp_path / "run", batch=True)) == 0
    said = capsys.readouterr().err
    assert "note: the server of eye has no Batch API: it is asked one by one, at its full price" in said
    assert "pen has no Batch API" not in said
    assert sum(chat.asked.values()) == sum(chat.completed.values()) > 0  # no 429
    assert set(batches.answered.values()) == {1}


@pytest.mark.usefixtures("light")
def test_batches_are_refused_before_the_run_where_no_server_has_them(tmp_path: Path) -> None:
    with serving_chat(FaultServer()) as chat:
        path = write_profile(tmp_path / "mine.toml", chat.url)
        with pytest.raises(UserError, match="No server that this profile names has a Batch API: leave out"):
            conduct(Commission(str(path), tmp_path / "run", batch=True))
        assert not chat.asked and not list((tmp_path / "run").glob("*.json*"))


@pytest.mark.usefixtures("light")
def test_a_critic_has_all_pictures_it_is_shown_in_one_batch(tmp_path: Path) -> None:
    cases = [Case(path, "a scene", "a prompt", 0) for path in paint(tmp_path, 6)]
    review = json.dumps({"caption": "noise", "match": 0.5, "improved_prompt": "less"})
    with serving(BatchServer(reply=lambda _: review)) as server:
        wanted = profile(server.url, workers=2)
        wanted = wanted.model_copy(update={"draw": wanted.draw.model_copy(update={"critic": True})})
        shop = LightWorkshop(wanted, tmp_path / "run", batch=True)
        assert shop.critic is not None
        try:
            reviews = shop.critic.review(cases)
        finally:
            shop.critic.close()
        assert all(isinstance(each, Review) for each in reviews)
        assert len(server.batches) == 1
