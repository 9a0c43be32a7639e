"""Running a stage: resume, staleness, failures, and who may hold up whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from data.errors import RowFailed, UserError
from data.records import Pair
from data.rows import Row, RowFile
from data.stage import Stage, StageMeta, current_rows, read_meta, read_stage, run_stage
from data.stage_chain import lacking, passed_on


def pairs(*names: str) -> list[Pair]:
    return [Pair(id=name, element=name, category="Violent", sub_category="Public Violence") for name in names]


class Scribe:
    """A stage function that notes whom it worked on, and fails on request."""

    def __init__(self, fails: Sequence[str] = ()) -> None:
        self.worked_on: list[str] = []
        self.fails = set(fails)

    async def each(self, pair: Pair) -> Pair:
        self.worked_on.append(pair.id)
        if pair.id in self.fails:
            raise RowFailed("server_error", "HTTP 500")
        return pair.replace(instruction=f"about {pair.element}")

    def batch(self, chunk: Sequence[Pair]) -> list[Pair]:
        self.worked_on += [pair.id for pair in chunk]
        if any(pair.id in self.fails for pair in chunk):
            raise ValueError("one of these is broken")
        return [pair.replace(instruction=f"about {pair.element}") for pair in chunk]


def run(stage: Stage[Pair, Pair], inputs: Sequence[Pair], folder: Path) -> StageMeta:
    return asyncio.run(run_stage(stage, inputs, folder))


def stage(scribe: Scribe, temperature: float = 0.7) -> Stage[Pair, Pair]:
    settings = {"author": {"model": "m", "temperature": temperature}}
    return Stage(name="rewrite", settings=settings, each=scribe.each)


def test_a_rerun_repeats_only_failed_rows(tmp_path: Path) -> None:
    first = Scribe(fails=["b"])
    meta = run(stage(first), pairs("a", "b", "c"), tmp_path)
    assert (meta.entered, meta.kept, meta.failed) == (3, 2, {"server_error": 1})
    assert [pair.id for pair in read_stage(tmp_path, "rewrite", Pair)] == ["a", "c"]
    second = Scribe()
    assert run(stage(second), pairs("a", "b", "c"), tmp_path).kept == 3
    assert second.worked_on == ["b"]


def test_a_changed_input_and_a_new_row_are_done_and_nothing_else(tmp_path: Path) -> None:
    run(stage(Scribe()), pairs("a", "b"), tmp_path)
    a, b, c = pairs("a", "b", "c")
    again = Scribe()
    run(stage(again), [a, b.replace(element="another element"), c], tmp_path)
    assert sorted(again.worked_on) == ["b", "c"]
    made = {pair.id: pair.instruction for pair in read_stage(tmp_path, "rewrite", Pair)}
    assert made == {"a": "about a", "b": "about another element", "c": "about c"}


def test_rows_of_inputs_that_are_gone_do_not_stay(tmp_path: Path) -> None:
    run(stage(Scribe()), pairs("a", "b", "c"), tmp_path)
    run(stage(Scribe()), pairs("c", "a"), tmp_path)
    assert [pair.id for pair in read_stage(tmp_path, "rewrite", Pair)] == ["c", "a"]


def test_rows_of_inputs_that_are_left_out_for_once_stay_where_a_stage_keeps_them(tmp_path: Path) -> None:
    keeping = replace(stage(Scribe(fails=["d"])), keeps_others=True)
    run(keeping, pairs("a", "b", "c", "d"), tmp_path)
    before = (tmp_path / "rewrite.jsonl").read_bytes()
    meta = run(keeping, pairs("a", "b"), tmp_path)
    assert (meta.entered, meta.kept, meta.failed) == (2, 2, {})  # the others are in no count
    assert (tmp_path / "rewrite.jsonl").read_bytes() == before


def test_only_rows_of_the_inputs_as_they_are_now_are_current(tmp_path: Path) -> None:
    run(stage(Scribe(fails=["b"])), pairs("a", "b", "c"), tmp_path)
    a, b, c = pairs("a", "b", "c")
    rows = current_rows(tmp_path, "rewrite", [a, b, c.replace(element="something else")])
    assert list(rows) == ["a", "b"] and rows["b"]["failed"] == "server_error"


def test_other_settings_are_refused_with_what_differs_and_what_to_do(tmp_path: Path) -> None:
    run(stage(Scribe()), pairs("a"), tmp_path)
    before = (tmp_path / "rewrite.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"author\.temperature: 0\.7 -> 0\.9.*--redo rewrite"):
        run(stage(Scribe(), temperature=0.9), pairs("a"), tmp_path)
    assert (tmp_path / "rewrite.jsonl").read_bytes() == before


def test_an_error_nobody_planned_for_fails_its_row_only(tmp_path: Path) -> None:
    async def each(pair: Pair) -> Pair:
        return pair.replace(instruction=str(1 / (pair.id != "b")))

    meta = run(Stage(name="rewrite", settings={}, each=each), pairs("a", "b", "c"), tmp_path)
    assert (meta.kept, meta.failed) == (2, {"error": 1})


def test_a_broken_batch_is_tried_row_by_row_so_that_only_the_guilty_fails(tmp_path: Path) -> None:
    scribe = Scribe(fails=["c"])
    draw = Stage(name="draw", settings={}, batch=scribe.batch, batch_size=3)
    meta = run(draw, pairs("a", "b", "c", "d"), tmp_path)
    assert (meta.kept, meta.failed) == (3, {"error": 1})


def test_rows_judged_together_are_judged_again_when_one_of_them_changes(tmp_path: Path) -> None:
    scribe = Scribe()
    audit = Stage(name="audit", settings={}, batch=scribe.batch)
    run(audit, pairs("a", "b"), tmp_path)
    run(audit, pairs("a", "b"), tmp_path)
    assert scribe.worked_on == ["a", "b"]
    run(audit, pairs("a", "b", "c"), tmp_path)
    assert scribe.worked_on == ["a", "b", "a", "b", "c"]


def without_repeats(chunk: Sequence[Pair]) -> list[Pair]:
    """Rejects a pair whose element an earlier one has, in any case."""
    seen: set[str] = set()
    judged = []
    for pair in chunk:
        repeats = pair.element.lower() in seen
        seen.add(pair.element.lower())
        judged.append(pair.reject("filter", "near_duplicate") if repeats else pair)
    return judged


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C comes instead of the append of this number, once."""
    append, counted = RowFile.append, iter(range(1, 1000))

    def killed(rows: RowFile, row: Row) -> None:
        if next(counted) == number:
            raise KeyboardInterrupt
        append(rows, row)

    monkeypatch.setattr(RowFile, "append", killed)


def test_rows_judged_together_stay_so_when_a_kill_came_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sieve = Stage(name="filter", settings={}, batch=without_repeats)
    kill_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        run(sieve, pairs("a", "b", "A", "B"), tmp_path)
    assert run(sieve, pairs("a", "b", "A", "B"), tmp_path).kept == 2
    kept = [pair.id for pair in read_stage(tmp_path, "filter", Pair) if pair.rejected is None]
    assert kept == ["a", "b"]


def test_a_stage_that_is_being_made_again_is_unfinished_and_read_without_old_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one = Stage(name="rewrite", settings={}, each=Scribe().each, workers=1)
    run(one_by_one, pairs("a", "b", "c"), tmp_path)
    changed = [pair.replace(element=pair.element.upper()) for pair in pairs("a", "b", "c")]
    kill_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        run(one_by_one, changed, tmp_path)
    meta = read_meta(tmp_path, "rewrite")
    assert meta is not None and not meta.finished
    read = sorted(pair.instruction for pair in read_stage(tmp_path, "rewrite", Pair))
    assert read == ["about A", "about B", "about c"]
    assert run(one_by_one, changed, tmp_path).finished


def test_an_input_given_twice_is_paid_once_and_two_of_one_id_are_refused(tmp_path: Path) -> None:
    scribe = Scribe()
    run(stage(scribe), pairs("a", "b", "a"), tmp_path)
    assert scribe.worked_on == ["a", "b"]
    a, other = pairs("a", "b")
    with pytest.raises(UserError, match="two different rows with the id 'a'"):
        run(stage(Scribe()), [a, other.replace(id="a")], tmp_path)


def test_a_slow_row_holds_up_only_itself(tmp_path: Path) -> None:
    finished: list[str] = []

    async def each(pair: Pair) -> Pair:
        await asyncio.sleep(0.3 if pair.id == "p0" else 0.001)
        finished.append(pair.id)
        return pair

    run(
        Stage(name="rewrite", settings={}, each=each, workers=2),
        pairs(*(f"p{n}" for n in range(50))),
        tmp_path,
    )
    assert finished[-1] == "p0"


def test_results_stand_in_input_order_however_they_finished(tmp_path: Path) -> None:
    async def each(pair: Pair) -> Pair:
        await asyncio.sleep(0.002 * (5 - int(pair.id)))
        return pair

    run(Stage(name="rewrite", settings={}, each=each, workers=5), pairs(*"01234"), tmp_path)
    assert [pair.id for pair in read_stage(tmp_path, "rewrite", Pair)] == list("01234")


def test_an_error_the_user_must_mend_stops_the_run_and_keeps_what_is_done(tmp_path: Path) -> None:
    async def each(pair: Pair) -> Pair:
        if pair.id == "b":
            raise UserError("The server refused the API key (HTTP 401).")
        return pair

    with pytest.raises(UserError, match="refused the API key"):
        run(Stage(name="rewrite", settings={}, each=each, workers=1), pairs("a", "b", "c"), tmp_path)
    assert (tmp_path / "rewrite.jsonl").read_text().count("\n") == 1


CHAIN = ("one", "two", "three")


def run_link(folder: Path, name: str, inputs: Sequence[Pair], scribe: Scribe, *before: str) -> None:
    made_of = partial(passed_on, folder, before)
    run(Stage(name=name, settings={}, each=scribe.each, made_of=made_of), inputs, folder)


def run_chain(folder: Path, *names: str) -> None:
    """Three stages, each of the rows of the one before."""
    run_link(folder, "one", pairs(*names), Scribe())
    for before, name in pairwise(CHAIN):
        run_link(folder, name, list(read_stage(folder, before, Pair)), Scribe(), before)


def test_rows_of_other_rows_than_the_stage_before_now_holds_are_noticed(tmp_path: Path) -> None:
    assert lacking(tmp_path, CHAIN) == "'one' first"
    run_chain(tmp_path, "a", "b")
    assert lacking(tmp_path, CHAIN) is None
    run_link(tmp_path, "one", pairs("a", "b", "c"), Scribe(fails=["c"]))
    assert lacking(tmp_path, CHAIN) is None  # a row that failed is passed on to nobody
    run_link(tmp_path, "one", pairs("a", "b", "c"), Scribe())
    assert lacking(tmp_path, CHAIN) == "'two' again, for what comes before it has changed since"
    assert lacking(tmp_path, CHAIN[:1]) is None
    run_link(tmp_path, "two", list(read_stage(tmp_path, "one", Pair)), Scribe(), "one")
    assert (said := lacking(tmp_path, CHAIN)) is not None and said.startswith("'three' again")
    run_chain(tmp_path, "a", "b", "c")
    assert lacking(tmp_path, CHAIN) is None


def test_a_stage_that_came_or_went_makes_those_after_it_due(tmp_path: Path) -> None:
    run_chain(tmp_path, "a")
    run_link(tmp_path, "between", list(read_stage(tmp_path, "two", Pair)), Scribe(), "two")
    said = "'three' again, for what comes before it has changed since"
    assert lacking(tmp_path, ("one", "two", "between", "three")) == said
    assert lacking(tmp_path, ("one", "three")) == said


def test_rows_that_do_not_say_what_they_were_made_of_pass_for_current(tmp_path: Path) -> None:
    for name in CHAIN:
        run(Stage(name=name, settings={}, each=Scribe().each), pairs("a"), tmp_path)
    run_link(tmp_path, "three", pairs("a"), Scribe(), "two")
    assert lacking(tmp_path, CHAIN) is None


def test_a_damaged_meta_file_names_no_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "build.meta.json").write_text("{")
    with pytest.raises(UserError, match=r"build\.meta\.json is damaged: delete it to run"):
        read_meta(tmp_path, "build")
    for name in ("draw.meta.json", "draw.jsonl"):
        (tmp_path / name).write_text("{")
    with pytest.raises(UserError, match=r"delete it and draw\.jsonl to run"):
        read_meta(tmp_path, "draw")
