"""Benchmarks that mean harm or are broken: read safely, or refused in one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import UserError
from data.sources.reader import read_source
from tests.source_files import WRITERS, make_bench, png, read


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return make_bench(tmp_path / "bench")


ESCAPES = {
    "../secret.png": "leaves the data folder",
    "imgs/../../secret.png": "leaves the data folder",
    "..\\secret.png": "leaves the data folder",
    "/etc/passwd": "leaves the data folder",
    "link.png": "leaves the data folder",
    "links/secret.png": "leaves the data folder",
    "loop.png": "not there",
    "pipe.png": "not there",
    "imgs": "not there",
    "no.png": "not there",
    "a\0.png": "NUL",
    "x" * 300 + ".png": "too long",
    "a/" * 3000 + "b.png": "too long",
    "https://example.org/a.png": "an address",
    "file:///etc/passwd": "an address",
    "\ud800.png": "not valid text",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_an_image_path_never_leaves_the_data_folder(bench: Path, name: str) -> None:
    (bench / "link.png").symlink_to(bench.parent / "secret.png")
    (bench / "links").symlink_to(bench.parent)
    (bench / "loop.png").symlink_to(bench / "loop.png")
    os.mkfifo(bench / "pipe.png")
    source = read(bench / "b.json", [{"id": 1, "query": "x", "image": name}])
    assert source.rows[0].image is None
    assert ESCAPES[name] in source.notes[0].reason
    assert source.notes[0].rows == ("1",)


def test_absolute_paths_and_links_inside_the_folder_are_followed(bench: Path) -> None:
    (bench / "alias.png").symlink_to("imgs/a.png")
    rows = [
        {"query": "x", "image": image} for image in (str(bench / "imgs/a.png"), "alias.png", "imgs\\a.png")
    ]
    assert {row.image for row in read(bench / "b.json", rows).rows} == {str(bench / "imgs/a.png")}


def test_a_data_file_that_links_out_of_its_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("query\nx\n")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/data.csv").symlink_to(tmp_path / "other.csv")
    with pytest.raises(UserError, match="link out of"):
        read_source(str(tmp_path / "bench"))


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty.json": (b"", "empty"),
    "empty.csv": (b"\n\n", "empty"),
    "empty.jsonl": (b" \n", "holds no rows"),
    "none.json": (b"[]", "holds no rows"),
    "header.csv": (b"query,image\n", "holds no rows"),
    "scalar.json": (b'"hello"', "is not a table"),
    "numbers.json": (b"[1, 2]", "is not a table"),
    "ragged.json": (b'{"query": ["x", "y"], "image": ["a.png"]}', "equally long columns"),
    "two.json": (b'{"a": [{"query": "x"}], "b": [{"query": "x"}]}', r"several tables \(a, b\)"),
    "torn.json": (b'[{"query": "x"},\n{"query"', r"line 2"),
    "torn.jsonl": (b'{"query": "x"}\n{"query', "Line 2 of"),
    "list.jsonl": (b'{"query": "x"}\n["query"]\n', "Line 2 of .* is not a row"),
    "deep.json": (b"[" * 100_000, "nested too deeply"),
    "deep.jsonl": (b'{"query": ' + b"[" * 100_000, "Line 1"),
    "long.json": (b'[{"query": ' + b"9" * 5000 + b"}]", "not valid JSON"),
    "cells.csv": (b"id,query\n1,a\n2,b,c\n", r"Line 3 of .* has 3 cells under 2 columns"),
    "quote.csv": (b'id,query\n1,"a\n2,b\n', "not a readable CSV file"),
    "photo.csv": (png(), "not a text file"),
    "photo.json": (png(), "not a text file"),
    "photo.parquet": (png(), "not a readable Parquet file"),
    "photo.xlsx": (png(), "not a readable XLSX file"),
    "photo.arrow": (png(), "not a readable Arrow file"),
    "empty.parquet": (b"", "not a readable Parquet file"),
    "empty.xlsx": (b"", "not a readable XLSX file"),
    "rows.pkl": (b"cos\nsystem\n(S'true'\ntR.", "stranger's code"),
    "rows.zip": (b"PK", "unpack it first"),
    "rows.docx": (b"PK", r"known are \.parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    content, says = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        read_source(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.csv", "a\0b.csv", "x" * 5000, ""])
def test_a_path_that_is_none_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        read_source(str(tmp_path / "missing" / name))


def test_names_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    source = read(tmp_path / "b.json", [{"query": "x", "query\ud83d": "y", "image\ud83d": 1}])
    assert (source.columns.query, source.columns.image) == (("query",), ())
    folder = tmp_path / os.fsdecode(b"b\xff")
    (folder / os.fsdecode(b"i\xff")).mkdir(parents=True)
    for name in (b"a\xff.csv", b"b.csv"):
        (folder / os.fsdecode(name)).write_text("query,image\nx,a.png\n")
    (folder / "a.png").write_bytes(png())
    source = read_source(str(folder))
    assert [row.id for row in source.rows] == ["a\ufffd-0", "b-0"]
    assert [row.image for row in source.rows] == [None, None]


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[" * 100_000,
        "7",
        '{"info": {"features": 7}}',
        '{"info": {"features": {"category": 7}}}',
        '{"info": {"features": {"category": {"_type": "ClassLabel", "names": 7}}}}',
        '{"info": {"features": {"category": {"_type": "ClassLabel", "names": [[7]]}, "elsewhere": {}}}}',
    ],
)
def test_nonsense_about_classes_is_nothing(tmp_path: Path, said: str) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"query": ["x"], "category": [5]}).replace_schema_metadata({"huggingface": said})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert read_source(str(tmp_path / "t.parquet")).rows[0].category == "5"


def read_or_refuse(path: Path) -> None:
    """Rows or one of our own errors: nothing else may come out."""
    try:
        rows = read_source(str(path)).rows
    except UserError as error:
        assert "\n" not in str(error)
    else:
        root = os.path.realpath(path.parent)
        assert rows
        assert len({row.id for row in rows}) == len(rows)
        assert all(row.image is None or row.image.startswith(root) for row in rows)


CALM = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
QUIET = settings(max_examples=200, deadline=5000, suppress_health_check=CALM)
LONG = settings(max_examples=5_000, deadline=5000, suppress_health_check=CALM)  # four tests: 20,000 inputs
TEXT = st.text(max_size=30) | st.sampled_from([*ESCAPES, "<image>", "query"])
KEYS = st.sampled_from(["query", "image", "id", "data", "role", "text", "caption"]) | TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
CONTENT = st.binary(max_size=300) | TEXT.map(lambda text: f"query,image\n{text}".encode(errors="replace"))
SUFFIXES = st.sampled_from([".json", ".jsonl", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow"])


@QUIET
@given(value=JSON, suffix=st.sampled_from([".json", ".jsonl"]))
def test_any_json_is_read_or_refused(tmp_path: Path, value: object, suffix: str) -> None:
    path = tmp_path / f"b{suffix}"
    path.write_text(json.dumps(value))
    read_or_refuse(path)


@QUIET
@given(content=CONTENT, suffix=SUFFIXES)
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"b{suffix}"
    path.write_bytes(content)
    read_or_refuse(path)


@pytest.mark.parametrize("name", ["sheet.xlsx", "table.parquet", "commas.csv", "rows.json"])
@QUIET
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8), end=st.floats(0, 1))
def test_any_damage_to_a_good_file_is_read_or_refused(
    tmp_path: Path, name: str, flips: list[tuple[float, int]], end: float
) -> None:
    good = tmp_path / f"good-{name}"
    if not good.exists():
        WRITERS[name](good)
    path = tmp_path / name
    path.write_bytes(damaged(good.read_bytes(), flips, end))
    read_or_refuse(path)


@pytest.mark.slow
@LONG
@given(value=JSON, suffix=st.sampled_from([".json", ".jsonl"]))
def test_5000_jsons_are_read_or_refused(tmp_path: Path, value: object, suffix: str) -> None:
    path = tmp_path / f"b{suffix}"
    path.write_text(json.dumps(value))
    read_or_refuse(path)


@pytest.mark.slow
@LONG
@given(content=CONTENT, suffix=SUFFIXES)
def test_5000_contents_are_read_or_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"b{suffix}"
    path.write_bytes(content)
    read_or_refuse(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sheet.xlsx", "table.parquet"])
@LONG
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8), end=st.floats(0, 1))
def test_5000_damages_to_a_good_file_are_read_or_refused(
    tmp_path: Path, name: str, flips: list[tuple[float, int]], end: float
) -> None:
    good = tmp_path / f"good-{name}"
    if not good.exists():
        WRITERS[name](good)
    path = tmp_path / name
    path.write_bytes(damaged(good.read_bytes(), flips, end))
    read_or_refuse(path)


def damaged(content: bytes, flips: list[tuple[float, int]], end: float) -> bytes:
    """The content with some bytes changed, and in half of the cases cut off."""
    changed = bytearray(content)
    for where, byte in flips:
        changed[int(where * (len(changed) - 1))] = byte
    return bytes(changed[: max(1, int(end * len(changed)))] if end < 0.5 else changed)
