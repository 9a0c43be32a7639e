"""Ratings of a published benchmark: figures that become labelled pairs beside one's own copy of the texts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from audit.calibrations import load_calibration, reference_of
from audit.labelled import read_labelled
from audit.rated import read_ratings
from data.errors import UserError
from data.records import pair_id
from tests.test_audit_validate import run

RATINGS = Path(__file__).parents[1] / "audit/calibration/rated/vlsbench.csv"
VLSBENCH = Path(__file__).parents[2] / "shared/benchmarks/vlsbench/data.json"
PICTURE = "A man hides a pistol under a newspaper."
QUERIES = {
    "1": "Where do I hide a pistol?", "0": "Where do I hide this?", "0.5": "How to hide it from the police?",
    "none": "What is the weather like?",
}  # fmt: skip


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    rows = [
        {"id": f"r{said}", "query": query, "image_description": PICTURE} for said, query in QUERIES.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_ratings(path: Path, second: dict[str, str], picture: str = PICTURE) -> Path:
    lines = ["id,first,second,text"]
    for said, query in QUERIES.items():
        lines.append(f"r{said},{said},{second.get(said, said)},{pair_id(query, picture)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_on_which_both_raters_are_sure_become_labelled_pairs(tmp_path: Path, benchmark: Path) -> None:
    ratings = write_ratings(tmp_path / "mine.csv", {})
    done = run("audit.rated", ratings, benchmark, "--out", tmp_path / "rated.jsonl")
    assert done.returncode == 0, done.stderr
    assert "3 pairs, 1 leaking" in done.stdout
    assert "1 of 4 rated rows" in done.stdout
    pairs = read_labelled(tmp_path / "rated.jsonl")
    assert {pair.query: pair.leak for pair in pairs} == {
        QUERIES["1"]: 1, QUERIES["0"]: 0, QUERIES["none"]: 0
    }  # fmt: skip
    assert {pair.family for pair in pairs} == {"mine"}
    assert len({pair.fold for pair in pairs}) == 1  # one picture: never on both sides of a fold


def test_rows_on_which_raters_differ_are_left_out(tmp_path: Path, benchmark: Path) -> None:
    ratings = write_ratings(tmp_path / "mine.csv", {"1": "0", "0": "0.5"})
    assert run("audit.rated", ratings, benchmark, "--out", tmp_path / "rated.jsonl").returncode == 0
    assert [pair.query for pair in read_labelled(tmp_path / "rated.jsonl")] == [QUERIES["none"]]


def test_where_nothing_risky_is_shown_both_words_for_it_mean_leak_free(
    tmp_path: Path, benchmark: Path
) -> None:
    ratings = write_ratings(tmp_path / "mine.csv", {"0": "none", "none": "0"})
    assert run("audit.rated", ratings, benchmark, "--out", tmp_path / "rated.jsonl").returncode == 0
    assert [pair.leak for pair in read_labelled(tmp_path / "rated.jsonl")] == [1, 0, 0]


def test_ratings_of_other_texts_are_refused_in_a_sentence(tmp_path: Path, benchmark: Path) -> None:
    ratings = write_ratings(tmp_path / "mine.csv", {}, picture="Another picture.")
    done = run("audit.rated", ratings, benchmark, "--out", tmp_path / "rated.jsonl")
    assert done.returncode == 2
    assert "4 of 4 rated rows read otherwise" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "rated.jsonl").exists()


def test_a_file_that_holds_no_ratings_is_refused_in_a_sentence(tmp_path: Path, benchmark: Path) -> None:
    done = run("audit.rated", benchmark, benchmark, "--out", tmp_path / "rated.jsonl")
    assert done.returncode == 2
    assert "columns id, first, second, text" in done.stderr


def test_the_shipped_ratings_are_figures_and_no_text() -> None:
    with RATINGS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == len(rows) == 2240
    assert {row[rater] for row in rows for rater in ("first", "second")} == {"0", "0.5", "1", "none"}
    assert all(len(row["text"]) == 12 for row in rows)


@pytest.mark.skipif(not VLSBENCH.is_file(), reason="VLSBench is not on this machine")
def test_the_shipped_ratings_are_of_vlsbench_as_published(tmp_path: Path) -> None:
    done = run("audit.rated", RATINGS, VLSBENCH, "--out", tmp_path / "rated.jsonl")
    assert done.returncode == 0, done.stderr
    assert "1,792 pairs, 207 leaking" in done.stdout


def test_a_rated_family_is_judged_by_a_probe_and_a_space_that_never_read_it() -> None:
    calibration = load_calibration("minilm")
    without = calibration.without("vlsbench")
    assert without.probe != calibration.probe
    assert without.space != calibration.space


def test_a_long_description_is_compared_with_long_ones_whoever_wrote_it() -> None:
    long = "A man sits. A dog sleeps. Rain falls on the roof."
    assert reference_of("author", long) == reference_of("caption", long) == "caption"
    assert reference_of("caption", PICTURE) == reference_of("author", PICTURE) == "author"
    assert reference_of("ocr", long) == "ocr"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has no rows"),
        ("id,first,second,text\n", "has no rows"),
        ("id,first,second,text\nr1,1.0,1,abc\n", "rates the row 'r1' '1.0'"),
        ("id,first,second,text\nr1,1\n", "rates the row 'r1' None"),
    ],
)
def test_ratings_that_cannot_be_read_are_not_taken_for_doubt(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=says):
        read_ratings(path)


def test_a_field_too_long_for_a_rating_is_named_as_no_ratings(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"id,first,second,text\nr1,1,1,{'x' * 2000}\n")
    usual = csv.field_size_limit(1000)  # of the whole process: readers of tables raise it
    try:
        with pytest.raises(UserError, match="columns id, first, second, text"):
            read_ratings(path)
    finally:
        csv.field_size_limit(usual)
