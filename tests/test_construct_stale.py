"""Never stale, never wasteful: after each kind of change, the server counts what is asked again."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

import construct.workshop
from construct.conductor import _run_steps
from construct.elements import list_elements
from construct.funnel import conclude
from construct.profile import Profile
from construct.rewrite import rewrite_query
from data.errors import RowFailed, UserError
from data.llm.cache import ResponseCache
from data.llm.chat import Asker, ChatRequest, Completion
from data.llm.prices import Bill
from data.records import Audit, Pair
from data.rows import read_rows
from data.stage import StageMeta, read_meta, read_stage
from data.taxonomy import load_taxonomy
from tests.fault_server import FaultServer, serving
from tests.llm_run import STAGES, LightWorkshop, make_images, profile, run_stages

ELEMENTS = 19  # calls: one batch brings all that is asked for
PAIRS = 19 * 2
IMAGES = 4


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with serving(FaultServer()) as server:
        yield server


@pytest.fixture
def finished(server: FaultServer, tmp_path: Path) -> Path:
    """A finished run; the server's counts begin after it."""
    images = make_images(tmp_path / "given", IMAGES)
    run_stages(profile(server.url, images, pairs=2), tmp_path / "run")
    calls = sum(server.completed.values())
    assert calls >= ELEMENTS + 3 * PAIRS + 3 * IMAGES
    server.asked.clear()
    return tmp_path


def throw_away(run: Path, *stages: str) -> None:
    for stage in stages:
        (run / f"{stage}.jsonl").unlink()
        (run / f"{stage}.meta.json").unlink()


def calls_after(server: FaultServer, folder: Path, wanted: Profile, *redo: str) -> int:
    throw_away(folder / "run", *redo)
    run_stages(wanted, folder / "run")
    return sum(server.asked.values())


def test_nothing_changed_and_a_stage_made_again_ask_nothing(server: FaultServer, finished: Path) -> None:
    same = profile(server.url, finished / "given", pairs=2)
    assert calls_after(server, finished, same) == 0
    assert calls_after(server, finished, same, *STAGES) == 0  # thrown away, and paid for already


@pytest.mark.parametrize(
    "change", [{"workers": 3}, {"timeout_seconds": 9.0}, {"requests_per_minute": 1e6}, {"input_price": 9.0}]
)
def test_what_changes_no_result_asks_nothing(
    server: FaultServer, finished: Path, change: dict[str, float]
) -> None:
    assert calls_after(server, finished, profile(server.url, finished / "given", pairs=2, **change)) == 0


def test_a_later_stage_recomputes_no_earlier_one(server: FaultServer, finished: Path) -> None:
    wanted = profile(server.url, finished / "given", pairs=2)
    other = wanted.model_copy(update={"rewrite": wanted.rewrite.model_copy(update={"further_tries": 0})})
    assert calls_after(server, finished, other, "rewrite") <= PAIRS + IMAGES  # a check here and there
    run = finished / "run"
    before = {name: (run / f"{name}.jsonl").stat().st_mtime_ns for name in STAGES[:3]}
    server.asked.clear()
    assert calls_after(server, finished, other) == 0
    assert {name: (run / f"{name}.jsonl").stat().st_mtime_ns for name in STAGES[:3]} == before


def test_an_image_more_is_looked_at_and_nothing_else(server: FaultServer, finished: Path) -> None:
    Image.new("RGB", (16, 16), (0, 200, 0)).save(finished / "given" / "new.png")
    calls = calls_after(server, finished, profile(server.url, finished / "given", pairs=2))
    assert 1 <= calls <= 1 + 9  # perceive; then drafts and checks, of this pair alone
    rows = list(read_rows(finished / "run" / "rewrite.jsonl"))
    assert len(rows) == len({row["id"] for row in rows}) == PAIRS + IMAGES + 1


def test_an_image_changed_under_its_old_name_is_looked_at_again(server: FaultServer, finished: Path) -> None:
    def kept() -> dict[str, str]:
        pairs = read_stage(finished / "run", "rewrite", Pair)
        return {pair.element: pair.image_path for pair in pairs if pair.source == "mine"}

    before, changed = kept(), finished / "given" / "0.png"
    Image.new("RGB", (16, 16), (0, 0, 200)).save(changed)
    server.keep_bodies = True
    calls_after(server, finished, profile(server.url, finished / "given", pairs=2))
    looked = [body for body in server.bodies if "image_url" in str(body)]
    assert len(looked) == 1
    # Even where the model says the same of it, later stages are told: what they found was of another picture.
    assert {name for name, path in kept().items() if path != before[name]} == {changed.name}
    assert (finished / "run" / kept()[changed.name]).read_bytes() == changed.read_bytes()


def test_a_changed_row_is_made_again_with_what_follows_from_it(server: FaultServer, finished: Path) -> None:
    path = finished / "run" / "describe.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace("a street with", "a square with")
    path.write_text("".join(lines))
    calls = calls_after(server, finished, profile(server.url, finished / "given", pairs=2))
    assert 2 <= calls <= 8  # this pair's drafts and checks


@pytest.mark.parametrize("key", ["temperature", "max_tokens", "model"])
def test_other_settings_are_refused_until_asked_for_and_then_ask_everything(
    server: FaultServer, finished: Path, key: str
) -> None:
    value = {"temperature": 0.1, "max_tokens": 500, "model": "another"}[key]
    wanted = profile(server.url, finished / "given", pairs=2, **{key: value})
    with pytest.raises(UserError, match=rf"author\.{key}: .* -> {value}.*--redo elements"):
        run_stages(wanted, finished / "run", ["elements"])
    assert sum(server.asked.values()) == 0
    throw_away(finished / "run", "describe")
    run_stages(wanted, finished / "run", ["describe"])
    assert sum(server.asked.values()) == PAIRS  # all of this stage, none of the others


def test_a_changed_prompt_asks_its_own_stage_again(
    server: FaultServer, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = finished / "prompts"
    shutil.copytree(construct.workshop.PROMPTS, prompts)
    text = (prompts / "describe.md").read_text()
    (prompts / "describe.md").write_text(text.replace("# system\n", "# system\nBe brief.\n"))
    monkeypatch.setattr(construct.workshop, "PROMPTS", prompts)
    wanted = profile(server.url, finished / "given", pairs=2)
    with pytest.raises(UserError, match="prompt describe"):
        run_stages(wanted, finished / "run", ["describe"])
    throw_away(finished / "run", "describe")
    run_stages(wanted, finished / "run", ["describe"])
    assert sum(server.asked.values()) == PAIRS


def test_a_request_differs_by_everything_it_is_made_of() -> None:
    from data.llm.chat import ChatRequest, Message
    from data.llm.pictures import Picture

    def request(**changes: object) -> ChatRequest:
        usual = {"model": "m", "messages": (Message("user", "hello"),), "schema_name": "Reply",
                 "schema": {"type": "object"}, "temperature": 0.7, "max_tokens": 10}  # fmt: skip
        return ChatRequest(**(usual | changes))  # type: ignore[arg-type]

    seen = Picture(Path("a.png"), "00"), Picture(Path("b.png"), "00"), Picture(Path("a.png"), "01")
    one, moved, other = (request(messages=(Message("user", "hello", (each,)),)) for each in seen)
    assert one.key() == moved.key() != other.key()
    variants = [
        request(), one, other, request(model="n"), request(messages=(Message("system", "hello"),)),
        request(schema={"type": "array"}), request(temperature=0.0), request(max_tokens=11),
        request(attempt=1), request(again=1),
    ]  # fmt: skip
    assert len({variant.key() for variant in variants}) == len(variants)


def refuse_some(body: dict[str, object]) -> int:
    return 400 if hash_of(body) % 20 == 0 and "shows this element" in str(body) else 0


def hash_of(body: dict[str, object]) -> int:
    return sum(str(body["messages"]).encode())


def test_permanent_failures_stay_until_asked_for_again(server: FaultServer, tmp_path: Path) -> None:
    wanted, run = profile(server.url, pairs=10), tmp_path / "run"
    healthy: Callable[[dict[str, object]], int] = server.refuse
    server.refuse = refuse_some
    run_stages(wanted, run, ["elements", "describe"])
    failed = {row["id"]: row["failed"] for row in read_rows(run / "describe.jsonl") if "failed" in row}
    assert set(failed.values()) == {"bad_request"}
    assert 2 <= len(failed) <= 20
    assert max(server.asked.values()) <= 3  # each asked once, or once per way of phrasing at the very start
    server.refuse = healthy
    server.asked.clear()
    run_stages(wanted, run, ["describe"])
    assert sum(server.asked.values()) == 0  # remembered
    throw_away(run, "describe")
    run_stages(wanted, run, ["describe"])
    assert sum(server.asked.values()) == 0  # even when the rows are gone
    run_stages(wanted, run, ["describe"], retry_failed=True)
    assert sum(server.asked.values()) == len(failed)
    assert not any("failed" in row for row in read_rows(run / "describe.jsonl"))
    throw_away(run, "describe")
    server.asked.clear()
    run_stages(wanted, run, ["describe"])
    assert sum(server.asked.values()) == 0  # the second answer is the one that is kept
    assert not any("failed" in row for row in read_rows(run / "describe.jsonl"))


def test_a_budget_stops_the_run_before_it_is_exceeded_and_a_higher_one_goes_on(
    server: FaultServer, tmp_path: Path
) -> None:
    wanted, run = profile(server.url, pairs=10, max_tokens=200), tmp_path / "run"
    with pytest.raises(UserError, match=r"budget of 0\.05"):
        run_stages(wanted, run, ["elements", "describe"], budget=0.05)
    spent = ResponseCache(run / "responses.sqlite").spent()
    assert 0.04 < spent.cost <= 0.05
    assert spent.calls == sum(server.completed.values())  # what was paid for is kept
    shop = run_stages(wanted, run, ["describe"], budget=10.0)
    assert sum(server.completed.values()) == len(server.completed) == shop.cache.spent().calls


class Author:
    """A chat model that answers by what it is asked and how often it was."""

    model = "author"

    def __init__(self, reply: Callable[[ChatRequest, int], Completion]) -> None:
        self._reply = reply
        self.asked: list[int] = []  # which attempt at it each request was

    async def complete(self, request: ChatRequest) -> Completion:
        self.asked.append(request.attempt)
        return self._reply(request, len(self.asked))

    async def close(self) -> None:
        """Nothing is open."""


def shop_of(folder: Path, author: Author, pairs: int = 2, retry_failed: bool = False) -> LightWorkshop:
    shop = LightWorkshop(profile("http://127.0.0.1:1", pairs=pairs), folder, retry_failed=retry_failed)
    shop.author = Asker(author, shop.cache, ledger=shop.ledger, retry_failed=retry_failed)
    return shop


def listed(*elements: str) -> Completion:
    return Completion(text=json.dumps({"elements": elements}))


def test_a_later_batch_that_is_refused_ends_the_list_and_loses_none_of_it(tmp_path: Path) -> None:
    def reply(_: ChatRequest, number: int) -> Completion:
        if number > 2:
            return Completion(refusal="I cannot list more of these.")
        return listed(*(f"thing {number}-{place}" for place in range(25)))

    shop = shop_of(tmp_path, Author(reply), pairs=100)
    found = asyncio.run(list_elements(load_taxonomy()[0], shop))
    assert len(found.elements) == 50
    assert found.repaired is not None and found.repaired.reason == "refused"


def test_a_list_cut_short_is_said_and_asked_on_for_as_that_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(refuses: bool, retry_failed: bool = False) -> tuple[int, StageMeta]:
        def reply(request: ChatRequest, number: int) -> Completion:
            if refuses and "none yet" not in request.messages[1].text:
                return Completion(refusal="I cannot list more of these.")
            return listed(*(f"thing {number}-{place}" for place in range(25)))

        author = Author(reply)
        asyncio.run(_run_steps(shop_of(tmp_path, author, 50, retry_failed), "elements", None))
        meta = read_meta(tmp_path, "elements")
        assert meta is not None
        return len(author.asked), meta

    calls, meta = run(refuses=True)
    assert (calls, meta.repaired) == (2 * ELEMENTS, {"refused": ELEMENTS})
    assert conclude(tmp_path, [meta], Bill()) == 0
    assert "19 refused): --redo elements --retry-failed asks on" in capsys.readouterr().err
    throw_away(tmp_path, "elements")
    calls, meta = run(refuses=False, retry_failed=True)
    assert (calls, meta.repaired) == (ELEMENTS, {})  # the first batches are not paid for again
    assert conclude(tmp_path, [meta], Bill()) == 0
    assert "cut short" not in capsys.readouterr().err


@pytest.mark.parametrize("refusal", ["", "I cannot list any."])
def test_a_list_that_does_not_even_begin_fails(tmp_path: Path, refusal: str) -> None:
    author = Author(lambda *_: Completion(refusal=refusal) if refusal else listed("  "))
    with pytest.raises(RowFailed, match="refused" if refusal else "invalid_reply"):
        asyncio.run(list_elements(load_taxonomy()[0], shop_of(tmp_path, author)))


def test_a_list_that_a_passing_failure_interrupts_is_asked_for_again(tmp_path: Path) -> None:
    def reply(_: ChatRequest, number: int) -> Completion:
        if number == 2:
            raise RowFailed("timeout", "no answer")
        return listed(*(f"thing {number}-{place}" for place in range(25)))

    author = Author(reply)
    for _ in range(2):
        try:
            found = asyncio.run(list_elements(load_taxonomy()[0], shop_of(tmp_path, author, pairs=50)))
        except RowFailed as failed:
            assert failed.reason == "timeout"
    assert len(found.elements) == 50 and len(author.asked) == 3  # the first batch is not paid for twice


def test_an_empty_list_heals_once_the_model_has_something_to_say(tmp_path: Path) -> None:
    asyncio.run(_run_steps(shop_of(tmp_path, Author(lambda *_: listed())), "elements", None))
    meta = read_meta(tmp_path, "elements")
    assert meta is not None and meta.failed == {"invalid_reply": ELEMENTS}
    healed = Author(lambda *_: listed("a knife", "a rope"))
    asyncio.run(_run_steps(shop_of(tmp_path, healed, retry_failed=True), "elements", None))
    meta = read_meta(tmp_path, "elements")
    assert meta is not None and not meta.failed and meta.kept == ELEMENTS


def test_an_empty_later_batch_is_the_last(tmp_path: Path) -> None:
    author = Author(lambda _, number: listed("a knife", "a rope", "a match") if number == 1 else listed())
    found = asyncio.run(list_elements(load_taxonomy()[0], shop_of(tmp_path, author, pairs=10)))
    assert len(found.elements) == 3 and found.repaired is None and len(author.asked) == 2


def test_a_batch_without_anything_new_is_the_last_even_where_no_share_is_too_small(tmp_path: Path) -> None:
    author = Author(lambda *_: listed("a knife", "a rope"))
    shop = shop_of(tmp_path, author, pairs=10)
    elements = shop.profile.elements.model_copy(update={"least_new": 0.0})
    shop.profile = shop.profile.model_copy(update={"elements": elements})
    found = asyncio.run(asyncio.wait_for(list_elements(load_taxonomy()[0], shop), timeout=10))
    assert len(found.elements) == len(author.asked) == 2


def test_a_draft_that_comes_again_is_asked_anew(tmp_path: Path) -> None:
    class Leaks:
        async def score(self, query: str, description: str) -> Audit:
            return Audit(leakage=0.9 if query == "same" else 0.0)

    def reply(request: ChatRequest, number: int) -> Completion:
        if request.schema_name == "CheckReply":
            return Completion(text='{"because": "plain", "verdict": "good"}')
        return Completion(text=json.dumps({"instruction": "same" if number <= 3 else "What now?"}))

    author = Author(reply)
    shop = shop_of(tmp_path, author)
    shop.leak_scorer = Leaks()
    pair = Pair(id="a", category="c", sub_category="s", image_description="d", harmful_query="h")
    rewritten = asyncio.run(rewrite_query(pair, shop))
    assert rewritten.instruction == "What now?" and rewritten.repaired
    assert author.asked == [0, 0, 1, 2, 0]  # drafts as a cache would know them, the last a check
