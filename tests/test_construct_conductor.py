"""What a person is told of a run, and that a command which is refused changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

import construct.conductor
import construct.stages
from construct.conductor import Commission, _plan, conduct
from construct.estimate import forecast
from construct.funnel import conclude
from construct.profile import EMBEDDED, ImagesSection, Profile, load_profile
from construct.stages import STEPS, Step, steps_of
from construct.workshop import Workshop
from data.benchmark.options import Options
from data.build import build_run
from data.errors import UserError
from data.llm.prices import Bill
from data.records import Pair
from data.rows import read_rows
from data.run_folder import read_plan
from data.stage import read_stage
from data.stage_meta import Spend, StageMeta, read_meta
from data.taxonomy import load_taxonomy
from tests.fault_server import Body, FaultServer, serving
from tests.light_run import KEY, Boxes, WholeLightWorkshop, write_profile
from tests.small_run import drawing

SUB_CATEGORIES = 19


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with serving(FaultServer()) as server:
        yield server


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(construct.conductor, "Workshop", WholeLightWorkshop)
    monkeypatch.setenv("TEST_KEY", KEY)


@pytest.fixture(scope="module")
def made(server: FaultServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a profile and a finished run of it."""
    folder = tmp_path_factory.mktemp("made")
    write_profile(folder / "mine.toml", server.url)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(construct.conductor, "Workshop", WholeLightWorkshop)
        patched.setenv("TEST_KEY", KEY)
        assert conduct(Commission(str(folder / "mine.toml"), folder / "run")) == 0
    return folder


@pytest.fixture
def finished(made: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def with_profile(folder: Path, before: str, after: str) -> str:
    """The folder's profile with one line changed; its path."""
    text = (folder / "mine.toml").read_text()
    assert before in text
    (folder / "other.toml").write_text(text.replace(before, after))
    return str(folder / "other.toml")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_refused_command_changes_nothing_and_names_all_stale_stages(finished: Path) -> None:
    other = with_profile(finished, "per_sub_category = 2", "per_sub_category = 3\nleast_new = 0.5")
    text = (
        Path(other).read_text().replace('read_pictures = "off"', 'read_pictures = "off"\nmax_leakage = 0.4')
    )
    Path(other).write_text(text)
    before = contents(finished / "run")
    with pytest.raises(UserError, match=r"'elements', 'filter' .*--redo elements --redo filter") as error:
        conduct(Commission(other, finished / "run", redo=["describe", "draw"]))
    assert "per_sub_category: 2 -> 3" in str(error.value) and "max_leakage: 0.3 -> 0.4" in str(error.value)
    assert contents(finished / "run") == before


def test_a_stage_whose_predecessor_would_be_thrown_away_is_refused_before_that(finished: Path) -> None:
    before = contents(finished / "run")
    with pytest.raises(UserError, match="'rewrite' needs 'describe' first"):
        conduct(Commission(str(finished / "mine.toml"), finished / "run", "rewrite", redo=["describe"]))
    with pytest.raises(UserError, match="'build' needs 'filter' first"):
        conduct(Commission(str(finished / "mine.toml"), finished / "run", "build", redo=["filter"]))
    assert contents(finished / "run") == before


def test_redo_throws_nothing_away_that_is_not_made_again(finished: Path) -> None:
    before = contents(finished / "run")
    for stage, redo in (("elements", "filter"), ("elements", "build"), ("all", "perceive")):
        with pytest.raises(UserError, match=f"--redo {redo} goes with --stage {redo} or all"):
            conduct(Commission(str(finished / "mine.toml"), finished / "run", stage, redo=[redo]))
    assert contents(finished / "run") == before
    assert conduct(Commission(str(finished / "mine.toml"), finished / "run", redo=["build"])) == 0


def test_a_build_made_again_is_made_by_the_options_of_the_last_and_told_where_it_lies(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = finished / "run", finished / "elsewhere"
    build_run(run, load_taxonomy(), Options(calibration=True, out=str(out), date="2026-01-31"))
    before, written = contents(out), (out / "data.json").stat().st_mtime_ns
    capsys.readouterr()
    assert conduct(Commission(str(finished / "mine.toml"), run, redo=["build"])) == 0
    assert contents(out) == before and (out / "data.json").stat().st_mtime_ns > written
    assert f"benchmark  {out}\n" in capsys.readouterr().out


def test_where_nothing_is_left_the_report_says_so_and_the_benchmark_of_before_is_not_named(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = with_profile(finished, 'read_pictures = "off"', 'read_pictures = "off"\nmax_text_harm = 0.0')
    capsys.readouterr()
    with pytest.raises(UserError, match="nothing to build"):
        conduct(Commission(other, finished / "run", redo=["filter"]))
    said = capsys.readouterr().out
    assert "benchmark  " not in said and "report     " in said and "\n build" not in said
    assert "filter.max_text_harm" in (report := (finished / "run" / "report.html").read_text())
    assert "of 38 drafted" in report and "0 of 19" in report


def test_a_profile_that_gives_a_run_another_licence_is_said_to(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "run" / "run.plan.json").write_text((finished / "run" / "run.plan.json").read_text() + " ")
    assert conduct(Commission(str(finished / "mine.toml"), finished / "run", "build")) == 0
    assert "note: this profile" not in capsys.readouterr().err
    assert conduct(Commission("offline", finished / "run", "build")) == 0
    said = capsys.readouterr().err
    assert "license: other -> apache-2.0; name: Light benchmark -> Offline demo benchmark" in said
    (finished / "run" / "run.plan.json").write_text("{")
    assert conduct(Commission(str(finished / "mine.toml"), finished / "run", "build")) == 0


def test_the_card_names_who_made_the_rows_not_whom_the_build_would_ask(finished: Path) -> None:
    other = with_profile(finished, 'generator = "sketch"', 'generator = "diffusers:another/model"')
    Path(other).write_text(Path(other).read_text().replace('model = "m"', 'model = "another"'))
    assert conduct(Commission(other, finished / "run", "build")) == 0
    models = read_plan(finished / "run").models
    assert models == {
        "writing": "openai: m", "checking pairs": "openai: m", "pictures": "sketch", "leakage audit": "embedder minilm",
    }  # fmt: skip
    assert "another" not in (finished / "run" / "benchmark" / "README.md").read_text()


def test_the_card_names_every_task_of_a_model_and_no_other(tmp_path: Path) -> None:
    def tasks(profile: Profile) -> set[str]:
        return set(_plan(profile, tmp_path).models) - {"writing", "pictures", "leakage audit"}

    offline = load_profile("offline")
    assert tasks(offline) == {"checking pairs"}
    unchecked = changed(offline, "filter", verify=False)
    assert tasks(unchecked) == set()
    assert tasks(changed(unchecked, "draw", critic=True)) == {"judging pictures"}
    section = ImagesSection(path=".", source="mine", kind="normal")
    assert tasks(offline.model_copy(update={"images": (section,)})) == {"looking at images", "checking pairs"}


def test_rows_without_their_meta_file_are_refused_before_anything_is_asked(finished: Path) -> None:
    (finished / "run" / "filter.meta.json").unlink()
    before = contents(finished / "run")
    with pytest.raises(UserError, match=r"filter\.jsonl is without its meta file.*--redo filter"):
        conduct(Commission(str(finished / "mine.toml"), finished / "run", redo=["describe"]))
    assert contents(finished / "run") == before


def test_a_deleted_stage_file_whose_meta_remains_is_said_in_a_sentence(finished: Path) -> None:
    (finished / "run" / "elements.jsonl").unlink()
    with pytest.raises(UserError, match="'describe' needs 'elements' first"):
        conduct(Commission(str(finished / "mine.toml"), finished / "run", "describe"))
    assert conduct(Commission(str(finished / "mine.toml"), finished / "run", estimate=True)) == 0


def test_pictures_that_no_later_stage_has_seen_are_neither_filtered_nor_built(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, run = str(finished / "mine.toml"), finished / "run"
    assert conduct(Commission(mine, run, "draw", redo=["draw"])) == 0
    assert conduct(Commission(mine, run, "build")) == 0  # it drew what was there before
    monkeypatch.setattr(Boxes, "name", "other boxes")
    assert conduct(Commission(mine, run, "draw", redo=["draw"])) == 0
    before = contents(run)
    again = "needs 'audit' again, for what comes before it has changed since"
    for stage in ("verify", "filter", "build"):
        with pytest.raises(UserError, match=f"{stage!r} {again}: run it, or --stage all"):
            conduct(Commission(mine, run, stage))
    with pytest.raises(UserError, match=again):
        build_run(run, load_taxonomy())
    assert contents(run) == before
    assert conduct(Commission(mine, run)) == 0
    assert conduct(Commission(mine, run, "build")) == 0


def test_a_picture_that_is_drawn_anew_as_another_is_looked_at_anew(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = count()  # of a generator that takes none
    monkeypatch.setattr(Boxes, "draw", lambda _, prompts, __: [drawing(next(seeds), 128) for _ in prompts])
    mine, run = str(write_profile(tmp_path / "mine.toml", server.url, pairs=1)), tmp_path / "run"
    assert conduct(Commission(mine, run)) == 0
    pair, *_ = read_stage(run, "filter", Pair)
    before, asked = (run / pair.image_path).read_bytes(), sum(server.asked.values())
    assert conduct(Commission(mine, run, redo=["draw"])) == 0
    assert (run / pair.image_path).read_bytes() == before and sum(server.asked.values()) == asked
    (run / pair.image_path).unlink()
    assert conduct(Commission(mine, run, redo=["draw"])) == 0  # as the build advises
    assert (now := (run / pair.image_path).read_bytes()) != before
    assert sum(server.asked.values()) == asked + 1  # the MLLM has seen this picture
    pair, *_ = read_stage(run, "filter", Pair)
    assert pair.drawing is not None and pair.drawing.sha256 == hashlib.sha256(now).hexdigest()


def test_a_refused_command_leaves_no_folder_that_was_not_there(tmp_path: Path) -> None:
    for stage in ("audit", "build"):
        with pytest.raises(UserError, match="needs 'elements' first"):
            conduct(Commission(run=tmp_path / "runs" / "typo", stage=stage))
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="needs 'elements' first"):
        conduct(Commission(run=tmp_path / "mine", stage="audit"))
    assert (tmp_path / "mine").exists()


def test_where_nothing_is_left_the_funnel_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = FaultServer(refuse=lambda body: 400 if "shows this element" in str(body) else 0)
    with serving(refusing) as server:
        profile = write_profile(tmp_path / "mine.toml", server.url)
        with pytest.raises(UserError, match="nothing to build"):
            conduct(Commission(str(profile), tmp_path / "run"))
    told = capsys.readouterr()
    assert "38 bad_request" in told.out and "--retry-failed asks again" in told.err


def test_failures_of_a_stage_the_profile_no_longer_has_do_not_count(finished: Path) -> None:
    meta = read_meta(finished / "run", "verify")
    assert meta is not None
    failed = meta.model_copy(update={"failed": {"refused": 1}})
    (finished / "run" / "verify.meta.json").write_text(failed.model_dump_json())
    other = with_profile(finished, 'read_pictures = "off"', 'read_pictures = "off"\nverify = false')
    assert conduct(Commission(other, finished / "run", redo=["filter"])) == 0


def test_a_limit_below_what_there_is_is_said_beforehand(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conduct(Commission(str(finished / "mine.toml"), finished / "run", limit=5)) == 0
    told = capsys.readouterr().err
    assert told.index("--limit 5 is less than") < told.index("describe  ")
    assert f"{2 * SUB_CATEGORIES} of describe" in told
    assert len(list(read_rows(finished / "run" / "describe.jsonl"))) == 5
    capsys.readouterr()
    assert conduct(Commission(str(finished / "mine.toml"), finished / "run", limit=5)) == 0
    assert "--limit" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "said"),
    [("verify", r"needs an \[mllm\] table"), ("perceive", r"a source under \[\[images\]\]")],
)
def test_a_stage_the_profile_leaves_out_says_what_it_takes(tmp_path: Path, stage: str, said: str) -> None:
    text = (EMBEDDED / "offline.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace('[mllm]\nkind = "offline"', ""))
    with pytest.raises(UserError, match=said):
        conduct(Commission(str(tmp_path / "mine.toml"), tmp_path / "run", stage))


def test_redo_takes_stages_and_a_budget_is_a_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown stage to --redo 'all'; choose from: elements,"):
        conduct(Commission(run=tmp_path / "run", redo=["all"]))
    with pytest.raises(UserError, match="--budget takes a sum of money, not nan"):
        conduct(Commission(run=tmp_path / "run", budget=float("nan")))
    assert not (tmp_path / "run").exists()


def test_the_funnel_fits_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    spend = Spend(calls=12345, input_tokens=24_000_000, output_tokens=512_000, cost=65.12)
    metas = [
        StageMeta(stage=step.name, fingerprint="", settings={}, entered=22800, kept=20456, spend=spend,
                  rejected={"still_harmful": 123}, repaired={"leak": 456, "still_harmful": 78})
        for step in STEPS
    ]  # fmt: skip
    conclude(tmp_path, metas, Bill())
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80  # paths are not broken
    assert all("65.12 USD" in line for line in lines if line.strip().startswith(tuple(s.name for s in STEPS)))


def changed(profile: Profile, section: str, **keys: object) -> Profile:
    return profile.model_copy(update={section: getattr(profile, section).model_copy(update=keys)})


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(load_profile("offline"), tmp_path)


def noticed(before: Workshop, after: Workshop) -> set[str]:
    """The stages that would be made again."""
    return {
        step.name for step in STEPS if step.stage(before).fingerprint != step.stage(after).fingerprint
    }  # fmt: skip


def test_another_embedder_is_noticed_by_all_that_goes_by_it(shop: Workshop) -> None:
    other = Workshop(changed(shop.profile, "audit", embedder="st:other"), shop.folder)
    other.calibration = shop.calibration
    assert noticed(shop, other) == {"elements", "rewrite", "audit", "filter"}


def test_another_calibration_of_the_same_name_is_noticed_by_all_that_scores(shop: Workshop) -> None:
    other = Workshop(shop.profile, shop.folder)
    other.calibration = shop.calibration.replace(intercept=shop.calibration.intercept + 1)
    assert noticed(shop, other) == {"rewrite", "audit", "filter"}


def test_another_taxonomy_is_noticed_by_all_that_sorts(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {step.name: step.stage(shop).fingerprint for step in STEPS}
    first, *others = construct.stages.load_taxonomy()
    moved = (first.replace(share=first.share / 2), *others)
    monkeypatch.setattr(construct.stages, "load_taxonomy", lambda: moved)
    after = {step.name: step.stage(shop).fingerprint for step in STEPS}
    assert {name for name in before if before[name] != after[name]} == {"perceive", "filter"}


def test_a_stage_added_after_one_the_profile_leaves_out_is_not_passed_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def shorten(pair: Pair, shop: Workshop) -> Pair:
        return pair

    profile = load_profile("offline").model_copy(update={"mllm": None})
    for after in ("verify", "audit"):
        added = Step("shorten", "", (after,), each=shorten)
        table = (*STEPS[:-1], added, replace(STEPS[-1], after=("shorten",)))
        monkeypatch.setattr(construct.stages, "STEPS", table)
        order = {step.name: step.after for step in steps_of(profile)}
        assert (order["filter"], order["shorten"]) == (("shorten",), ("audit",))
        assert "verify" not in order


def estimated(profile: Path, folder: Path, batch: bool = False) -> dict[str, tuple[int, float]]:
    """Rows to come and their cost, by stage."""
    foreseen = forecast(load_profile(str(profile)), folder, "all", None, batch)
    return {each.stage: (each.rows, each.bill.cost) for each in foreseen}


def test_the_estimate_counts_rows_of_other_settings_and_what_follows_from_them(finished: Path) -> None:
    run, mine = finished / "run", finished / "mine.toml"
    assert {rows for rows, _ in estimated(mine, run).values()} == {0}
    other = Path(with_profile(finished, "read_pictures", "verify = true\nread_pictures"))
    Path(other).write_text(other.read_text() + "\n[rewrite]\nfurther_tries = 1\n")
    rows = {stage: rows for stage, (rows, _) in estimated(other, run).items()}
    assert rows == {"elements": 0, "describe": 0, "rewrite": 2 * SUB_CATEGORIES, "verify": 2 * SUB_CATEGORIES}
    other.write_text(mine.read_text().replace("per_sub_category = 2", "per_sub_category = 7"))
    assert estimated(other, run)["describe"][0] == 7 * SUB_CATEGORIES


def test_the_estimate_of_a_finished_run_is_nothing_however_many_rows_it_lost(tmp_path: Path) -> None:
    def some(body: Body) -> int:
        asked = str(body["messages"])
        return 400 if "shows this element" in asked and sum(asked.encode()) % 4 == 0 else 0

    with serving(FaultServer(refuse=some)) as server:
        mine = write_profile(tmp_path / "mine.toml", server.url)
        assert conduct(Commission(str(mine), tmp_path / "run")) == 3
        meta = read_meta(tmp_path / "run", "describe")
        asked = sum(server.asked.values())
        assert conduct(Commission(str(mine), tmp_path / "run")) == 3
        assert sum(server.asked.values()) == asked
    assert meta is not None and (lost := meta.failed["bad_request"]) > 0
    assert {rows for rows, _ in estimated(mine, tmp_path / "run").values()} == {0}
    path = tmp_path / "run" / "audit.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    rejected = {**json.loads(first), "rejected": {"stage": "audit", "reason": "leak"}}
    path.write_text("".join([json.dumps(rejected) + "\n", *others]))
    (tmp_path / "run" / "verify.jsonl").unlink()
    assert estimated(mine, tmp_path / "run")["verify"][0] == len(others)
    again = forecast(load_profile(str(mine)), tmp_path / "run", "describe", None, retry_failed=True)
    assert [each.rows for each in again] == [lost]


def test_the_estimate_passes_over_a_line_that_a_kill_cut_off(finished: Path) -> None:
    path = finished / "run" / "describe.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert estimated(finished / "mine.toml", finished / "run")["describe"][0] == 1


def test_the_estimate_of_a_batch_is_half(finished: Path) -> None:
    whole = estimated(finished / "mine.toml", finished / "new")
    half = estimated(finished / "mine.toml", finished / "new", batch=True)
    assert whole["describe"][1] > 0
    for stage, (rows, cost) in whole.items():
        assert half[stage] == (rows, pytest.approx(cost / 2))


def test_an_estimate_is_refused_where_the_run_would_be(finished: Path) -> None:
    text = (finished / "mine.toml").read_text()
    mllm = text[text.index("[mllm]") : text.index("[elements]")]
    images = f'\n[[images]]\npath = "{finished}"\nsource = "mine"\nkind = "normal"\n'
    (finished / "mine.toml").write_text(text.replace(mllm, "") + images)
    with pytest.raises(UserError, match=r"add an \[mllm\] table"):
        conduct(Commission(str(finished / "mine.toml"), finished / "run", estimate=True))


@pytest.mark.parametrize(
    ("section", "keys", "said"),
    [
        ("balance", {"shares": {"Privvacy": 0.5}}, "'Privvacy'"),
        ("draw", {"similarity": "/nowhere"}, r"draw\.similarity: there is no folder /nowhere"),
        ("filter", {"image_embedder": "no/such/clip"}, r"filter\.image_embedder: there is no folder"),
    ],
)
def test_what_a_late_stage_would_refuse_is_refused_at_the_start(
    shop: Workshop, section: str, keys: dict[str, object], said: str
) -> None:
    shop.check()
    with pytest.raises(UserError, match=said):
        Workshop(changed(shop.profile, section, **keys), shop.folder).check()


@pytest.mark.parametrize(
    ("budget", "stages", "said"), [(20.0, STEPS, 1), (None, STEPS, 0), (20.0, STEPS[:2], 0)]
)
def test_a_budget_that_does_not_count_the_pictures_of_a_server_says_so(
    capsys: pytest.CaptureFixture[str], budget: float | None, stages: Sequence[Step], said: int
) -> None:
    bought = changed(load_profile("paper"), "draw", generator="openai-images:gpt-image-1", critic=False)
    construct.conductor._say_uncounted(bought, stages, budget)
    construct.conductor._say_uncounted(load_profile("paper"), stages, budget)  # draws by itself
    note = "what openai-images:gpt-image-1 takes for its pictures is not counted"
    assert capsys.readouterr().err.count(note) == said
