"""The finished benchmark: opened by the tools of others, complete, the same every time, and never sent by mistake."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image, ImageOps

from data.benchmark.assembly import Options
from data.benchmark.card_charts import write_charts
from data.benchmark.publish import Terms, describe_push, push
from data.build import build_run
from data.errors import UserError
from data.intervals import bootstrap_mean, wilson
from data.records import Audit
from data.reviews import Review, apply_reviews, read_reviews
from data.rows import RowFile
from data.run_folder import locked
from data.sources.reader import read_source
from data.stage_meta import StageMeta
from data.taxonomy import load_taxonomy
from tests.review_run import desk_of
from tests.small_run import drawing, make_run

REPOSITORY = Path(__file__).resolve().parents[1]
DAY = "2026-01-31"


def build(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "data.build", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a benchmark built of it, with its calibration split."""
    folder = tmp_path_factory.mktemp("run")
    make_run(folder)
    build_run(folder, load_taxonomy(), Options(calibration=True, date=DAY))
    return folder


def rows_of(benchmark: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads((benchmark / "data.json").read_text())
    return rows


def test_datasets_opens_it_with_typed_columns_and_both_splits(run: Path, tmp_path: Path) -> None:
    from datasets import ClassLabel, load_dataset

    splits = load_dataset(str(run / "benchmark"), cache_dir=str(tmp_path))
    assert (len(splits["test"]), len(splits["calibration"])) == (12, 3)
    for split in splits.values():
        assert isinstance(split.features["category"], ClassLabel)
        assert all(row["image"].size == (256, 256) for row in split)
    names = splits["test"].features["sub_category"]
    told = [(row["instruction"], names.int2str(row["sub_category"])) for row in splits["test"]]
    assert told == [(row["instruction"], row["sub_category"]) for row in rows_of(run / "benchmark")]
    numbers = splits["test"]["instruction_id"][:] + splits["calibration"]["instruction_id"][:]
    assert numbers == list(range(15))


def test_a_vlsbench_reader_finds_its_rows_and_pictures(run: Path) -> None:
    data_root = run / "benchmark"
    for number, item in enumerate(
        json.load(open(data_root / "data.json"))
    ):  # as the paper's eval.py reads it
        assert list(item) == [
            "instruction_id", "instruction", "image_path", "category", "sub_category", "source",
            "image_description", "safety_reason",
        ]  # fmt: skip
        assert item["instruction_id"] == number and item["image_path"] == f"imgs/{number}.png"
        Image.open(data_root / item["image_path"]).convert("RGB")


def test_mlcroissant_validates_the_metadata_and_reads_rows_by_it(run: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(jsonld=run / "benchmark" / "croissant.json")
    assert not dataset.metadata.issues.errors and not dataset.metadata.issues.warnings
    for split, count in (("test", 12), ("calibration", 3)):
        rows = list(dataset.records(f"{split}-00000-of-00001"))
        assert len(rows) == count
        assert rows[0][f"{split}-00000-of-00001/image"].size == (256, 256)
    names = [row["sub_category_names/name"] for row in dataset.records("sub_category_names")]
    assert names == [entry.sub_category for entry in load_taxonomy()]


def test_the_hubs_library_reads_the_cards_header(run: Path) -> None:
    from huggingface_hub import DatasetCard
    from huggingface_hub.repocard import metadata_load

    card = DatasetCard.load(run / "benchmark" / "README.md")
    header = metadata_load(run / "benchmark" / "README.md")
    assert header == card.data.to_dict()
    assert header["license"] == "apache-2.0" and header["size_categories"] == ["n<1K"]
    files = header["configs"][0]["data_files"]
    assert all(list((run / "benchmark").glob(each["path"])) for each in files)
    for section in ("Content warning", "Intended use", "Limitations", "Datasheet", "Cost:", "95 % interval"):
        assert section in card.text
    for chart in ("taxonomy", "funnel", "leakage"):
        assert f"(charts/{chart}.svg)" in card.text
        ET.parse(run / "benchmark" / "charts" / f"{chart}.svg")


def test_the_hub_itself_accepts_the_card(run: Path) -> None:
    from huggingface_hub import DatasetCard
    from huggingface_hub.errors import HfHubHTTPError

    try:
        DatasetCard.load(run / "benchmark" / "README.md").validate()
    except (OSError, *HfHubHTTPError.__bases__) as error:
        pytest.skip(f"the Hub, which alone can validate a card, is out of reach: {type(error).__name__}")


def test_every_files_checksum_is_right_and_every_rows_origin_is_told(run: Path) -> None:
    benchmark = run / "benchmark"
    done = subprocess.run(["sha256sum", "--check", "--quiet", "checksums.sha256"], cwd=benchmark, check=False)
    assert done.returncode == 0
    listed = {line.split("  ")[1] for line in (benchmark / "checksums.sha256").read_text().splitlines()}
    there = {path.relative_to(benchmark).as_posix() for path in benchmark.rglob("*") if path.is_file()}
    assert listed == there - {"checksums.sha256"}
    lines = [json.loads(line) for line in (benchmark / "provenance.jsonl").read_text().splitlines()]
    assert [line["split"] for line in lines] == ["test"] * 12 + ["calibration"] * 3
    for line in lines[:12]:
        assert line["sha256"] == hashlib.sha256((benchmark / line["image_path"]).read_bytes()).hexdigest()
        assert line["drawing"]["seed"] and line["checks"] and line["harmful_query"]
        assert line["made_by"]["rewrite"] == {
            "author.model": "scene-bank",
            "prompt rewrite": "0123456789abcdef",
        }


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_builds_of_a_run_are_byte_identical_but_for_the_date(run: Path, tmp_path: Path) -> None:
    again, later = tmp_path / "again", tmp_path / "later"
    assert build(str(run), "--calibration", "--date", DAY, "--out", str(again)).returncode == 0
    assert build(str(run), "--calibration", "--date", "2027-01-01", "--out", str(later)).returncode == 0
    first = files_of(run / "benchmark")
    assert files_of(again) == first
    dated = {name for name, content in files_of(later).items() if content != first[name]}
    assert dated == {"README.md", "croissant.json", "checksums.sha256"}


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


def test_a_name_beyond_the_first_plane_is_read_from_the_card(tmp_path: Path) -> None:
    from huggingface_hub.repocard import metadata_load

    make_run(tmp_path, pairs=2, leaking=1)
    name = 'Embers \U0001f525 "and" <more>: 1'
    benchmark = build_run(tmp_path, load_taxonomy(), Options(date=DAY, name=name))
    assert metadata_load(benchmark / "README.md")["pretty_name"] == name


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


class Hub:
    """Keeps what it is asked to do, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return lambda *_, **fields: self.asked.append((name, fields)) or "hub/owner/name"


def test_a_push_is_private_and_gated_before_a_file_goes(run: Path) -> None:
    hub = Hub()
    push(run / "benchmark", "owner/name", Terms(), hub)  # type: ignore[arg-type]
    assert [name for name, _ in hub.asked] == ["create_repo", "update_repo_settings", "upload_folder"]
    assert hub.asked[0][1]["private"] is True
    assert (hub.asked[1][1]["private"], hub.asked[1][1]["gated"]) == (True, "manual")


def test_a_push_leaves_no_shard_and_no_picture_of_an_earlier_build(run: Path) -> None:
    from huggingface_hub.utils import filter_repo_objects

    hub = Hub()
    push(run / "benchmark", "owner/name", Terms(), hub)  # type: ignore[arg-type]
    there = [
        "data/test-00001-of-00002.parquet",
        "imgs/99.png",
        "charts/old.svg",
        ".gitattributes",
        "NOTES.md",
    ]
    gone = filter_repo_objects(there, allow_patterns=hub.asked[2][1]["delete_patterns"])  # type: ignore[arg-type]
    assert list(gone) == there[:3]


class StrictHub(BaseHTTPRequestHandler):
    """Knows the dataset and finds fault with its card."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.path == "/api/validate-yaml"
        body = {"url": "hub/owner/name", "errors": [{"message": '"license" must be one of [mit]'}]}
        content = json.dumps([] if "/tree/" in self.path else body).encode()
        self.send_response(400 if fault else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_a_card_that_the_hub_does_not_take_is_one_sentence(run: Path) -> None:
    from huggingface_hub import HfApi

    hub = ThreadingHTTPServer(("127.0.0.1", 0), StrictHub)
    Thread(target=hub.serve_forever, daemon=True).start()
    api = HfApi(endpoint=f"http://127.0.0.1:{hub.server_port}", token="none")
    try:
        with pytest.raises(UserError, match=r'does not take the card .*"license" must be one of'):
            push(run / "benchmark", "owner/name", Terms(), api)
    finally:
        hub.shutdown()
        hub.server_close()


def test_a_hub_out_of_reach_is_one_sentence(run: Path) -> None:
    from huggingface_hub import HfApi

    with pytest.raises(UserError, match=r"The Hub cannot be reached .* resumes later"):
        push(run / "benchmark", "owner/name", Terms(), HfApi(endpoint="http://127.0.0.1:9", token="none"))


def test_a_dry_run_says_what_would_go_and_sends_nothing(run: Path) -> None:
    said = describe_push(run / "benchmark", "owner/name", Terms())
    count = sum(path.is_file() for path in (run / "benchmark").rglob("*"))
    assert said.startswith(f"Would push {count} files") and "private, gated" in said
    with pytest.raises(UserError, match="takes owner/name"):
        describe_push(run / "benchmark", "https://example.org/name", Terms())


def test_a_build_never_replaces_a_folder_that_is_none(run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("four years of work")
    done = build(str(run), "--out", str(tmp_path))
    assert done.returncode == 2 and "holds something that is no build" in done.stderr
    assert (tmp_path / "thesis.tex").exists()
    assert build(str(tmp_path)).returncode == 2


def test_a_build_takes_nothing_with_it_that_was_put_beside_an_earlier_one(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "clone"
    build_run(run, load_taxonomy(), Options(out=str(target), date=DAY))
    (target / ".git").mkdir()
    (target / ".git" / "HEAD").write_text("ref: refs/heads/main")
    before = files_of(target)
    with pytest.raises(UserError, match=r"such as \.git/HEAD: move that away"):
        build_run(run, load_taxonomy(), Options(out=str(target), date="2026-02-01"))
    assert files_of(target) == before
    shutil.rmtree(target / ".git")
    (target / "imgs" / ".DS_Store").write_bytes(b"left by a file manager")
    build_run(run, load_taxonomy(), Options(out=str(target), date="2026-02-01"))
    assert "2026-02-01" in (target / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["clone"]


def test_an_earlier_build_stays_when_the_new_one_cannot_take_its_place(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = build_run(run, load_taxonomy(), Options(out=str(tmp_path / "out"), date=DAY))
    before = files_of(target)

    def refuse(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match=r"Cannot replace .*out \(Device or resource busy\)"):
        build_run(run, load_taxonomy(), Options(out=str(tmp_path / "out"), date="2026-02-01"))
    assert files_of(target) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "FILE"), "is a file: name an empty or a new --out folder"),
        (("--out", "FILE/inside"), "name another folder with --out"),
        (("--out", "."), "you are in it: name another --out folder"),
        (("--push", "nonsense"), "--push takes owner/name, not 'nonsense'"),
        (("--push", "a--b/c.git", "--dry-run"), "the Hub allows letters"),
        (("--dry-run",), "add --push OWNER/NAME"),
        (("--public",), "add --push OWNER/NAME"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence_and_builds_nothing(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    make_run(tmp_path / "run", pairs=2, leaking=1)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "data.build", "../run", *(each.replace("FILE", "../file") for each in arguments)],
        cwd=tmp_path / "here", env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "build.meta.json").exists()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_picture_that_has_gone_since_the_filter_is_named(tmp_path: Path) -> None:
    kept = make_run(tmp_path, pairs=3, leaking=1)
    (tmp_path / kept[1].image_path).unlink()
    with pytest.raises(UserError, match=f"1 of 3 pictures .* such as {kept[1].image_path}: put them back"):
        build_run(tmp_path, load_taxonomy())


def test_a_run_at_work_is_said_in_the_commands_own_words(tmp_path: Path) -> None:
    make_run(tmp_path, pairs=2, leaking=1)
    with locked(tmp_path):
        done = build(str(tmp_path))
    assert done.returncode == 2 and done.stderr.endswith("wait for it, or name another RUN.\n")


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_our_own_benchmark_is_read_without_its_calibration_split_and_with_its_categories(
    run: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    load = datasets.load_dataset
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda _name, _config, split: load(
            str(run / "benchmark"), split=split, cache_dir=str(tmp_path / "c")
        ),
    )
    source = "hf:owner/name" if place == "hub" else str(run / "benchmark")
    read = read_source(source, unpack_to=tmp_path / "unpacked")
    assert [row.query for row in read.rows] == [row["instruction"] for row in rows_of(run / "benchmark")]
    assert [row.category for row in read.rows] == [row["category"] for row in rows_of(run / "benchmark")]
    assert any("the split calibration was left out" in note.reason for note in read.notes)
    named = (
        "hf:owner/name:calibration"
        if place == "hub"
        else str(run / "benchmark" / "data" / "calibration-00000-of-00001.parquet")
    )
    assert len(read_source(named, unpack_to=tmp_path / "unpacked").rows) == 3


def test_intervals_hold_at_the_ends() -> None:
    assert wilson(0, 164) == (0.0, pytest.approx(0.0229, abs=1e-4))
    assert wilson(5, 10) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    low, high = bootstrap_mean([0.0, 1.0] * 200)
    assert 0.44 < low < 0.47 and 0.53 < high < 0.56
    assert bootstrap_mean([0.3]) == (0.3, 0.3)


def test_many_reasons_wrap_under_their_bar(tmp_path: Path) -> None:
    many = {f"a_rather_long_reason_{number}": 3 for number in range(12)}
    meta = StageMeta(stage="filter", fingerprint="", settings={}, entered=100, kept=64, rejected=many)
    write_charts(tmp_path, {"Violent": {"Weapon-Related Violence": 64}}, [meta], [])
    texts = [
        element.text or ""
        for element in ET.parse(tmp_path / "funnel.svg").iter()
        if element.tag.endswith("text")
    ]
    assert max(map(len, texts)) <= 88 and sum("rather long" in text for text in texts) > 3


def test_help_answers_at_once() -> None:
    import time

    def seconds(module: str) -> float:
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=REPOSITORY, capture_output=True, check=True
        )
        return time.monotonic() - started

    for module in ("data.build", "filter.run", "filter.review"):
        assert min(seconds(module) for _ in range(4)) < 0.5
