"""Asking a chat model over real HTTP: structure, faults, and what is paid for."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from PIL import Image
from pydantic import BaseModel

from data.errors import RowFailed, UserError
from data.llm.cache import ResponseCache
from data.llm.chat import Asker, ChatRequest, Completion
from data.llm.limits import Pace, Window
from data.llm.openai_chat import OpenAIChat
from data.llm.pictures import data_url, picture
from data.llm.prices import Ledger, Price, find_price
from data.llm.replies import Unreadable, read_reply
from tests.openai_server import Answer, OpenAIServer, completion, failure, says, serve


class Colour(BaseModel):
    name: str


def ask(server: OpenAIServer, folder: Path, *questions: str) -> list[Colour]:
    """Ask each question once, with a client and a cache opened for the purpose."""

    async def all_of_them() -> list[Colour]:
        cache = ResponseCache(folder / "responses.sqlite")
        chat = OpenAIChat("m", server.url, "NO_SUCH_KEY", timeout_seconds=5, memory=cache)
        try:
            return [await Asker(chat, cache).ask("system", question, Colour) for question in questions]
        finally:
            await chat.close()
            cache.close()

    return asyncio.run(all_of_them())


def test_an_answer_is_validated_and_the_schema_sent(tmp_path: Path) -> None:
    with serve(says({"name": "red"})) as server:
        assert ask(server, tmp_path, "which?") == [Colour(name="red")]
    sent = server.seen[0]["response_format"]["json_schema"]
    assert (sent["name"], list(sent["schema"]["properties"])) == ("Colour", ["name"])


def test_a_paid_call_is_not_made_again_by_another_process_run(tmp_path: Path) -> None:
    with serve(says({"name": "red"})) as server:
        ask(server, tmp_path, "which?")
        ask(server, tmp_path, "which?", "another")
    assert len(server.seen) == 2


def test_an_invalid_answer_goes_back_with_what_is_wrong(tmp_path: Path) -> None:
    answers = iter([completion('{"colour": "red"}'), completion('Sure! ```json\n{"name": "red"}\n```')])
    with serve(lambda _: next(answers)) as server:
        assert ask(server, tmp_path, "which?") == [Colour(name="red")]
    assert "name: Field required" in server.seen[1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: completion("", refusal="I cannot help with that."), "refused"),
        (lambda _: completion("", finish_reason="content_filter"), "blocked"),
        (lambda _: completion('{"name": "re', finish_reason="length"), "truncated"),
        (lambda _: completion("no json at all"), "invalid_reply"),
        (lambda _: completion("So: " + '{"a":' * 20_000 + "1" + "}" * 20_000), "invalid_reply"),
        (lambda _: completion(""), "empty_reply"),
        (lambda _: completion("I'm sorry, but I can't help with that."), "refused"),
        (lambda _: completion('{"name": "I cannot assist with that request."}'), "refused"),
        (lambda _: failure(400), "bad_request"),
        (lambda _: failure(400, message="rejected by our content management policy"), "blocked"),
    ],
)
def test_what_is_no_answer_becomes_a_failure_with_its_reason(
    tmp_path: Path, answer: Answer, reason: str
) -> None:
    with serve(answer) as server, pytest.raises(RowFailed) as failed:
        ask(server, tmp_path, "which?")
    assert failed.value.reason == reason


TAGGED = '{"name": "what </think> means"}'


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TAGGED, "what </think> means"),
        (f"Here it is:\n```json\n{TAGGED}\n```", "what </think> means"),
        (f"<think>a tag, then</think>{TAGGED}", "what </think> means"),
        ('<think>perhaps {"name": "red"}</think>{"name": "blue"}', "blue"),
        ('perhaps {"name": "red"}, no</think>\n{"name": "blue"}', "blue"),
    ],
)
def test_thinking_is_left_out_and_a_tag_that_a_reply_speaks_of_is_not(text: str, name: str) -> None:
    assert read_reply(text, Colour).name == name


def test_an_object_quoted_behind_a_tag_does_not_stand_for_the_reply_it_is_quoted_in() -> None:
    with pytest.raises(Unreadable):
        read_reply('{"because": "it says </think>", "quoted": {"name": "red"}}', Colour)


HALF = "\ud83d"  # of a surrogate pair, as a server sends it that cuts its texts by the wrong count


def test_half_a_surrogate_pair_in_an_answer_is_paid_for_once_and_replaced(tmp_path: Path) -> None:
    with serve(lambda _: completion(f'{{"name": "red {HALF}"}}')) as server:
        assert ask(server, tmp_path, "which?") == [Colour(name="red \ufffd")]
        assert ask(server, tmp_path, "which?") == [Colour(name="red \ufffd")]
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "answer", [lambda _: failure(400, message=f"bad {HALF}"), lambda _: completion("", refusal=f"no {HALF}")]
)
def test_half_a_surrogate_pair_in_a_failure_is_replaced_and_remembered(
    tmp_path: Path, answer: Answer
) -> None:
    with serve(answer) as server:
        with pytest.raises(RowFailed, match="\ufffd"):
            ask(server, tmp_path, "which?")
        asked = len(server.seen)
        with pytest.raises(RowFailed, match="\ufffd"):
            ask(server, tmp_path, "which?")
    assert len(server.seen) == asked


def test_a_passing_fault_is_retried(tmp_path: Path) -> None:
    answers = iter([failure(503), failure(429, {"Retry-After": "0.05"}), completion('{"name": "red"}')])
    with serve(lambda _: next(answers)) as server:
        assert ask(server, tmp_path, "which?") == [Colour(name="red")]
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (401, "bad key", "refused the API key"),
        (404, "no such model", "knows no model 'm'"),
        (429, "You exceeded your current quota: insufficient_quota", "no credit left"),
        (402, "insufficient_funds", "no credit left"),
        (402, "This request requires more credits, or fewer max_tokens", "no credit left"),
    ],
)
def test_what_no_row_would_survive_stops_everything_at_once_with_one_sentence(
    tmp_path: Path, status: int, message: str, said: str
) -> None:
    with serve(lambda _: failure(status, message=message)) as server:
        with pytest.raises(UserError, match=said):
            ask(server, tmp_path, "which?")
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    "message",
    [
        "Rate limit reached on requests per min. Visit https://example.org/account/billing to add a payment method.",
        "You exceeded your current quota, please check your plan and billing details. Please retry in 33.8s.",
    ],
)
def test_a_limit_per_minute_that_speaks_of_billing_is_waited_for(tmp_path: Path, message: str) -> None:
    answers = iter([failure(429, message=message), completion('{"name": "red"}')])
    with serve(lambda _: next(answers)) as server:
        assert ask(server, tmp_path, "which?") == [Colour(name="red")]


def test_a_server_that_is_not_there_is_said_within_seconds(tmp_path: Path) -> None:
    with serve(says({})) as server:
        pass  # it has gone
    with pytest.raises(UserError, match="No server answers at 127"):
        ask(server, tmp_path, "which?")


def test_a_host_that_nobody_knows_is_said_within_seconds(tmp_path: Path) -> None:
    server = OpenAIServer(says({}), url="http://no-such-host.invalid/v1")
    with pytest.raises(UserError, match=r"No server answers at no-such-host\.invalid: start it, or mend"):
        ask(server, tmp_path, "which?")


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "http:///v1", "http://localhost:99999/v1", "http://[::1/v1", "ftp://host/v1"]
)
def test_what_is_no_address_is_named_before_anything_is_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"base_url '.*' is no server's address: it is written http"):
        ask(OpenAIServer(says({}), url=url), tmp_path, "which?")


@pytest.mark.parametrize(("supported", "asked"), [(["json_object", "text"], 2), (["text"], 3)])
def test_a_server_without_json_schema_is_asked_more_simply_and_remembered(
    tmp_path: Path, supported: list[str], asked: int
) -> None:
    def answer(body: dict[str, Any]) -> web.Response:
        kind = body.get("response_format", {}).get("type", "text")
        fenced = completion('Here it is:\n```json\n{"name": "red"}\n```')
        return fenced if kind in supported else failure(400, message=f"{kind} is not supported")

    with serve(answer) as server:
        assert ask(server, tmp_path, "which?") == [Colour(name="red")]
        assert len(server.seen) == asked
        ask(server, tmp_path, "another?", "a third?")  # with a client of its own, as after a restart
        assert len(server.seen) == asked + 2


def test_a_server_that_knows_another_name_for_the_token_limit_is_asked_in_its_words(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> web.Response:
        if "max_tokens" in body:
            return failure(400, message="Unsupported parameter: 'max_tokens', use 'max_completion_tokens'")
        if "temperature" in body:
            return failure(400, message="Unsupported value: 'temperature' does not support 0.7")
        return completion('{"name": "red"}')

    with serve(answer) as server:
        assert ask(server, tmp_path, "which?") == [Colour(name="red")]
    assert server.seen[-1]["response_format"]["type"] == "json_schema"


def test_a_broken_row_is_asked_once_and_does_not_change_how_others_are_asked(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> web.Response:
        broken = "broken" in body["messages"][1]["content"]
        return failure(400) if broken else completion('{"name": "red"}')

    with serve(answer) as server:
        with pytest.raises(RowFailed, match="bad_request"):
            ask(server, tmp_path, "good", "broken")
        assert len(server.seen) == 2
        with pytest.raises(RowFailed, match="bad_request"):
            ask(server, tmp_path, "broken")  # remembered
        assert len(server.seen) == 2


def test_no_error_tells_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_SUCH_KEY", "sk-very-secret-123")

    def echo(_: dict[str, Any]) -> web.Response:
        return failure(400, message="you sent Authorization: Bearer sk-very-secret-123 and sk-other-9999999")

    with serve(echo) as server, pytest.raises(RowFailed) as failed:
        ask(server, tmp_path, "which?")
    wrong_key = failure(401, message="Incorrect key sk-very-secret-123")
    with serve(lambda _: wrong_key) as server, pytest.raises(UserError) as stopped:
        ask(server, tmp_path, "another?")
    everything = f"{failed.value} {stopped.value} {stopped.value.__cause__}"
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("responses.sqlite*"))
    assert "secret" not in everything and b"secret" not in stored
    assert "Bearer sk" not in everything and "9999999" not in everything


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    answers = iter([failure(429, {"Retry-After": "1"}), completion('{"name": "red"}')])
    with serve(lambda _: next(answers)) as server:
        started = time.monotonic()
        ask(server, tmp_path, "which?")
    assert 1.0 <= time.monotonic() - started < 3.0


def test_the_same_question_asked_twice_at_once_is_paid_for_once(tmp_path: Path) -> None:
    async def both(url: str) -> None:
        chat, cache = OpenAIChat("m", url, "NO_SUCH_KEY", 5), ResponseCache(tmp_path / "r.sqlite")
        asker = Asker(chat, cache)
        await asyncio.gather(*(asker.ask("system", "which?", Colour) for _ in range(5)))
        await chat.close()

    with serve(says({"name": "red"})) as server:
        asyncio.run(both(server.url))
    assert len(server.seen) == 1


def test_a_large_picture_is_downscaled_for_the_call_and_kept_as_it_is(tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    Image.new("RGB", (32, 16), "red").save(small)
    Image.new("RGBA", (4000, 2000), (255, 0, 0, 128)).save(large)
    before = large.read_bytes()
    assert base64.b64decode(data_url(picture(small)).partition(",")[2]) == small.read_bytes()
    sent = Image.open(io.BytesIO(base64.b64decode(data_url(picture(large)).partition(",")[2])))
    assert (sent.size, sent.format) == ((1536, 768), "JPEG")
    assert large.read_bytes() == before
    (tmp_path / "no.png").write_text("not a picture")
    with pytest.raises(RowFailed, match="unreadable_image"):
        data_url(picture(tmp_path / "no.png"))


def test_a_price_is_found_under_a_dated_name_and_cached_input_is_cheaper() -> None:
    price = find_price("gpt-4o-2024-08-06")
    assert price is not None and price == find_price("gpt-4o")
    assert price.of(1_000_000, 100_000) == pytest.approx(3.5)
    assert price.of(1_000_000, 0, cached_tokens=1_000_000) == pytest.approx(1.25)
    assert find_price("a-model-of-my-own") is None


class Foreign:
    """A chat model that counts one token per byte of text and 2,500 per picture, as some do."""

    model = "m"

    async def complete(self, request: ChatRequest) -> Completion:
        await asyncio.sleep(0.01)
        text = "".join(message.text for message in request.messages) + json.dumps(request.schema)
        shown = sum(len(message.pictures) for message in request.messages)
        tokens = len(text.encode()) + 2500 * shown
        return Completion(text='{"name": "red"}', input_tokens=tokens, output_tokens=10)

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("with_picture", [False, True])
def test_a_budget_holds_with_many_calls_in_flight_for_other_scripts_and_pictures(
    tmp_path: Path, with_picture: bool
) -> None:
    Image.new("RGB", (32, 16), "red").save(tmp_path / "red.png")
    shown = (picture(tmp_path / "red.png"),) if with_picture else ()
    ledger = Ledger(budget=0.1)
    cache = ResponseCache(tmp_path / "r.sqlite")
    asker = Asker(Foreign(), cache, max_tokens=10, price=Price(input=2.5, output=10.0), ledger=ledger)

    async def ask_at_once() -> list[Colour | BaseException]:
        calls = (asker.ask("", "色" * 500 + str(each), Colour, pictures=shown) for each in range(64))
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(ask_at_once())
    assert 0.05 < ledger.spent.cost <= 0.1
    assert {type(each) for each in answers} == {Colour, UserError}


def test_the_window_shrinks_on_429_and_grows_back() -> None:
    async def play() -> tuple[float, float]:
        window = Window()
        tickets = [await window.enter() for _ in range(64)]
        for ticket in tickets[:32]:  # one burst of refusals is one cut
            window.refused(ticket)
        shrunk = window.size
        for _ in range(2000):
            window.answered()
        return shrunk, window.size

    shrunk, grown = asyncio.run(play())
    assert 40 <= shrunk <= 48
    assert grown > 64


def test_a_pace_is_kept_slowed_and_regained() -> None:
    async def play() -> float:
        pace = Pace(per_minute=1200)
        started = time.monotonic()
        for _ in range(30):  # twenty at once, then twenty a second
            await pace.take(1)
        assert time.monotonic() - started == pytest.approx(0.5, abs=0.3)
        pace.refused()
        slowed = pace.rate
        for _ in range(100):
            pace.answered()
        assert pace.rate == 1200
        return slowed

    assert asyncio.run(play()) == pytest.approx(840)


def test_a_file_that_is_no_cache_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    path.write_text("this is a diary, not a database, and it is long enough to look at " * 20)
    before = path.read_bytes()
    with pytest.raises(UserError, match="not a response cache"):
        ResponseCache(path)
    assert path.read_bytes() == before
