"""What a build is made of: the filter's pairs, what people decided, a benchmark to extend, a taxonomy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from data.benchmark.options import Options
from data.build import build_run
from data.errors import UserError
from data.records import Audit, Pair
from data.reviews import Review, apply_reviews, read_reviews
from data.rows import RowFile
from data.stage import read_stage
from data.taxonomy import load_taxonomy
from tests.built_run import DAY, REPOSITORY, build, make_built_run, rows_of
from tests.review_run import desk_of
from tests.small_run import drawing, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_built_run(tmp_path_factory.mktemp("run"))


def test_reviews_decide_what_is_built(tmp_path: Path) -> None:
    kept = make_run(tmp_path)
    text = "What would you say to this?"
    decisions = [
        {"pair": kept[0].id, "action": "reject", "instruction": kept[0].instruction, "reason": "tame"},
        {"pair": kept[1].id, "action": "edit", "instruction": text},
        {"pair": kept[1].id, "action": "audit", "instruction": text, "audit": Audit(leakage=0.2)},
        {"pair": kept[2].id, "action": "edit", "instruction": "Which gun is it?"},
        {
            "pair": kept[2].id,
            "action": "audit",
            "instruction": "Which gun is it?",
            "audit": Audit(leakage=0.8),
        },
        {"pair": kept[3].id, "action": "approve", "instruction": kept[3].instruction},
    ]
    log = RowFile(tmp_path / "reviews.jsonl")
    for number, decision in enumerate(decisions):
        review = Review.model_validate({"id": str(number), "reviewer": "Ada Lovelace"} | decision)
        log.append(review.model_dump(mode="json", exclude_defaults=True))
    log.close()
    benchmark = build_run(tmp_path, load_taxonomy(), Options(date=DAY))
    rows = rows_of(benchmark)
    assert [row["instruction"] for row in rows[:2]] == [text, kept[3].instruction]
    assert len(rows) == 10
    meta = json.loads((tmp_path / "build.meta.json").read_text())
    assert meta["rejected"] == {"edit_leaks": 1, "rejected_by_people": 1}
    card = (benchmark / "README.md").read_text()
    assert "1 person decided on 4 pairs: 1 approvals, 1 rejections, 2 texts edited" in card
    provenance = (benchmark / "provenance.jsonl").read_text()
    assert "reviewer-1" in provenance and "Lovelace" not in provenance
    assert len(rows_of(build_run(tmp_path, load_taxonomy(), Options(reviewed_only=True)))) == 1


def test_an_edit_of_a_text_that_was_rewritten_since_vouches_for_nothing(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    desk.decide("Ada", kept[0].id, "edit", "Where is it?", audit=False)
    desk.audit_edits([kept[0].id])
    desk.decide("Bo", kept[0].id, "approve")
    desk.close()
    reviews = read_reviews(tmp_path)
    assert apply_reviews(kept[:1], reviews, 0.3)[0].instruction == "Where is it?"
    rewritten = kept[0].replace(instruction="Which one is it?", image_description="Another picture.")
    assert apply_reviews([rewritten], reviews, 0.3) == [rewritten]
    assert apply_reviews([rewritten], reviews, 0.3, reviewed_only=True)[0].rejected is not None


def test_card_and_provenance_know_reviewers_by_the_same_numbers(tmp_path: Path) -> None:
    kept = make_run(tmp_path, pairs=4, leaking=1)
    votes = {"Zoe": ["approve"] * 4, "Ada": ["approve"] * 3 + ["reject"], "Mia": ["reject"] * 4}
    log = RowFile(tmp_path / "reviews.jsonl")
    for name, actions in votes.items():
        for pair, action in zip(kept, actions, strict=True):
            said = {"reviewer": name, "action": action, "pair": pair.id, "instruction": pair.instruction}
            review = Review.model_validate({"id": f"{len(log.index)}"} | said)
            log.append(review.model_dump(mode="json", exclude_defaults=True))
    log.close()
    benchmark = build_run(tmp_path, load_taxonomy(), Options(date=DAY))
    lines = [json.loads(line) for line in (benchmark / "provenance.jsonl").read_text().splitlines()]
    by_number = {said["reviewer"]: said["action"] for said in lines[0]["reviews"]}
    assert by_number == {"reviewer-1": "approve", "reviewer-2": "approve", "reviewer-3": "reject"}
    card = (benchmark / "README.md").read_text().lower()
    assert "reviewer 2 and reviewer 1 agree on 75%" in card  # Ada and Zoe
    assert "reviewer 3 and reviewer 1 agree on 0%" in card  # Mia and Zoe


def test_people_who_only_edited_are_on_the_card(tmp_path: Path) -> None:
    kept = make_run(tmp_path, pairs=3, leaking=1)
    edit = Review(id="0", pair=kept[0].id, reviewer="Ada", action="edit", instruction="What is this?")
    log = RowFile(tmp_path / "reviews.jsonl")
    log.append(edit.model_dump(mode="json", exclude_defaults=True))
    log.close()
    card = (build_run(tmp_path, load_taxonomy(), Options(date=DAY)) / "README.md").read_text()
    assert "1 person decided on 1 pairs: 0 approvals, 0 rejections, 1 texts edited" in card
    assert "Nobody has reviewed" not in card and "no person has checked" not in card


def test_another_taxonomy_or_a_changed_benchmark_to_extend_makes_a_new_build(tmp_path: Path) -> None:
    from datasets import load_dataset

    def classes(benchmark: Path, cache: str) -> list[str]:
        features = load_dataset(str(benchmark), split="test", cache_dir=str(tmp_path / cache)).features
        names: list[str] = features["category"].names
        return names

    own, other = tmp_path / "own", tmp_path / "other"
    make_run(own, pairs=6, leaking=1)
    make_run(other, pairs=3, leaking=1)
    first = classes(build_run(own, load_taxonomy(), Options(date=DAY)), "first")
    head, *tables = (REPOSITORY / "data" / "taxonomy.toml").read_text().split("[[sub_category]]")
    backwards = tmp_path / "backwards.toml"
    backwards.write_text("[[sub_category]]".join([head, *reversed(tables)]))
    build_run(own, load_taxonomy(), Options(date=DAY, taxonomy=str(backwards)))
    again = build_run(own, load_taxonomy())  # as a conductor does after a run
    assert classes(again, "backwards") == first[::-1]

    theirs = build_run(other, load_taxonomy(), Options(date=DAY))
    options = Options(date=DAY, extend=str(theirs))
    before = rows_of(build_run(own, load_taxonomy(), options))
    (theirs / "data.json").write_text(json.dumps(rows_of(theirs)[1:]))
    assert rows_of(build_run(own, load_taxonomy(), options))[0] != before[0]


@pytest.mark.parametrize(
    ("date", "epoch"), [("31.1.2026", "0"), ("", "yesterday"), ("", "99999999999999999999")]
)
def test_a_date_that_is_none_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, date: str, epoch: str
) -> None:
    make_run(tmp_path, pairs=2, leaking=1)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(UserError, match="is written YYYY-MM-DD; SOURCE_DATE_EPOCH in seconds"):
        build_run(tmp_path, load_taxonomy(), Options(date=date))


def test_another_epoch_makes_a_new_build_where_no_date_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, pairs=2, leaking=1)
    for seconds, day in (("0", "1970-01-01"), ("1700000000", "2023-11-14")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", seconds)
        assert f"Built on {day}" in (build_run(tmp_path, load_taxonomy()) / "README.md").read_text()


def test_an_extended_benchmark_is_called_after_its_folder_however_it_is_named(tmp_path: Path) -> None:
    make_run(tmp_path / "run", pairs=2, leaking=1)
    make_run(tmp_path / "other", pairs=3, leaking=1)
    theirs = build_run(tmp_path / "other", load_taxonomy(), Options(out=str(tmp_path / "kites"), date=DAY))
    for given in (theirs, theirs / "data.json"):
        merged = build_run(tmp_path / "run", load_taxonomy(), Options(date=DAY, extend=str(given)))
        assert "It extends **kites**" in (merged / "README.md").read_text()


def test_a_replaced_picture_or_a_changed_bill_makes_a_new_build(tmp_path: Path) -> None:
    kept = make_run(tmp_path, pairs=3, leaking=1)
    benchmark = build_run(tmp_path, load_taxonomy(), Options(date=DAY))
    written = (benchmark / "checksums.sha256").stat().st_mtime_ns
    build_run(tmp_path, load_taxonomy())
    assert (benchmark / "checksums.sha256").stat().st_mtime_ns == written  # nothing has changed
    drawing(777).save(tmp_path / kept[1].image_path)
    build_run(tmp_path, load_taxonomy())
    assert (benchmark / "imgs/1.png").read_bytes() == (tmp_path / kept[1].image_path).read_bytes()
    path = tmp_path / "rewrite.meta.json"
    spend = {"calls": 7, "input_tokens": 10, "output_tokens": 20, "cost": 5.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"spend": spend}))
    build_run(tmp_path, load_taxonomy())
    assert "Cost: 7 calls to chat models" in (benchmark / "README.md").read_text()


def test_extending_overwrites_no_picture_and_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "run", pairs=3, leaking=1)
    theirs = tmp_path / "theirs"
    (theirs / "imgs").mkdir(parents=True)
    drawing(777).save(theirs / "imgs/1.png")
    row = {
        "instruction_id": 0, "instruction": "Is that so?", "image_path": "./imgs/1.png", "category": "Violent",
        "sub_category": "Terrorism", "source": "web", "image_description": "A field of maize.",
        "safety_reason": "None.", "licence": "cc0",
    }  # fmt: skip
    (theirs / "data.json").write_text(json.dumps([row]))
    merged = build_run(tmp_path / "run", load_taxonomy(), Options(date=DAY, extend=str(theirs)))
    assert (merged / "imgs/1.png").read_bytes() == (theirs / "imgs/1.png").read_bytes()
    assert len({Path(str(each["image_path"])) for each in rows_of(merged)}) == 4
    assert "are left out: 'licence'" in capsys.readouterr().err


def test_extending_keeps_their_ids_and_adds_only_what_is_new(tmp_path: Path, run: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run / "benchmark", other)
    rows = rows_of(other)[:6]
    for row in rows:
        row["instruction_id"] = int(str(row["instruction_id"])) + 100
    rows[1] |= {
        "instruction": "Is that so?",
        "image_description": "Somebody else's words.",
    }  # the picture tells
    with Image.open(other / str(rows[1]["image_path"])) as image:
        ImageOps.mirror(image).resize((200, 210)).save(other / "imgs/1.png")
    rows[2]["category"] = "Other harms"
    drawing(777).save(other / str(rows[2]["image_path"]))  # the text tells
    (other / "data.json").write_text(json.dumps(rows))
    done = build(str(run), "--extend", str(other), "--date", DAY)
    assert done.returncode == 0, done.stderr
    merged = rows_of(run / "benchmark-extended")
    assert merged[:6] == rows
    assert [row["instruction_id"] for row in merged] == [
        100,
        101,
        102,
        103,
        104,
        105,
        106,
        107,
        108,
        109,
        110,
        111,
    ]
    assert {row["instruction"] for row in merged[6:]} == {
        row["instruction"] for row in rows_of(run / "benchmark")[6:]
    }
    assert json.loads((run / "build.meta.json").read_text())["rejected"] == {"in_other_benchmark": 6}
    assert all((run / "benchmark-extended" / str(row["image_path"])).exists() for row in merged)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (None, "there is no data.json"),
        ("[{", "is not JSON"),
        ('[{"instruction_id": 1}]', "is not in VLSBench's schema"),
        ("MISSING", "1 of 1 pictures are missing, such as imgs/9.png"),
        ("OUTSIDE", "lies outside the benchmark's folder"),
    ],
)
def test_a_broken_benchmark_is_not_extended(run: Path, tmp_path: Path, broken: str | None, said: str) -> None:
    path = {"MISSING": "imgs/9.png", "OUTSIDE": "../../secret.png"}.get(broken or "")
    row = dict(rows_of(run / "benchmark")[0]) | {"image_path": path}
    if broken is not None:
        (tmp_path / "data.json").write_text(json.dumps([row]) if path else broken)
    with pytest.raises(UserError, match=said):
        build_run(run, load_taxonomy(), Options(extend=str(tmp_path)))


@pytest.mark.parametrize("gone", [True, False])
def test_a_run_that_was_stopped_in_any_stage_is_finished_first(tmp_path: Path, gone: bool) -> None:
    make_run(tmp_path, pairs=2, leaking=1)
    path = tmp_path / "draw.meta.json"
    path.unlink() if gone else path.write_text(path.read_text().replace("true", "false"))
    with pytest.raises(UserError, match="'build' needs 'draw' first"):
        build_run(tmp_path, load_taxonomy())


def test_a_picture_that_has_gone_since_the_filter_is_named(tmp_path: Path) -> None:
    kept = make_run(tmp_path, pairs=3, leaking=1)
    (tmp_path / kept[1].image_path).unlink()
    with pytest.raises(UserError, match=f"1 of 3 pictures .* such as {kept[1].image_path}: put them back"):
        build_run(tmp_path, load_taxonomy())


def test_leaking_pairs_without_their_picture_are_counted_where_calibration_leaves_them_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = make_run(tmp_path, pairs=3, leaking=3)
    ours = {pair.image_path for pair in kept}
    first = next(pair for pair in read_stage(tmp_path, "filter", Pair) if pair.image_path not in ours)
    build_run(tmp_path, load_taxonomy(), Options(calibration=True))
    assert "calibration" not in capsys.readouterr().err
    (tmp_path / first.image_path).unlink()
    build_run(tmp_path, load_taxonomy())
    said = capsys.readouterr().err
    assert "note: the calibration split lacks 1 of 3 pairs, whose pictures are gone." in said
