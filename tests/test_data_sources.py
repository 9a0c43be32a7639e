"""Reading anyone's benchmark: formats, columns, images, folders, the Hub."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from data.errors import UserError
from data.sources.reader import read_source
from tests.source_files import ROWS, WRITERS, make_bench, png, read


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return make_bench(tmp_path / "bench")


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(bench: Path, name: str) -> None:
    WRITERS[name](bench / name)
    source = read_source(str(bench / name))
    assert [(row.id, row.query, row.image_description) for row in source.rows] == [
        (row["id"], row["query"], row["image_description"]) for row in ROWS
    ]
    assert [row.image for row in source.rows] == [str(bench / row["image"]) for row in ROWS]
    assert [row.image_key for row in source.rows] == ["imgs/a.png", "imgs/b.png"]
    assert source.notes == ()


@pytest.mark.parametrize(
    ("columns", "query", "description", "image"),
    [
        (("Question", "caption", "img_path"), "Question", "caption", "img_path"),
        (("instruction", "text", "imagePath"), "instruction", None, "imagePath"),
        (("Prompt ", "Image Description", "file_name"), "Prompt ", "Image Description", "file_name"),
        (("query", "question", "description", "caption"), "query", "description", None),
        (("messages", "image"), "messages", None, "image"),
    ],
)
def test_usual_column_names_need_no_flags(
    tmp_path: Path, columns: tuple[str, ...], query: str, description: str | None, image: str | None
) -> None:
    found = read(tmp_path / "b.json", [dict.fromkeys(columns, "x")]).columns
    assert found.query == (query,)
    assert found.image_description == ((description,) if description else ())
    assert found.image == ((image,) if image else ())


def test_a_flag_wins_over_a_known_name_and_reaches_into_nested_columns(tmp_path: Path) -> None:
    rows = [{"query": "no", "meta": {"ask": "yes"}, "caption": "c", "look": "l", "n": 7}]
    source = read(
        tmp_path / "b.json", rows, query_column="meta.ask", description_column="look", id_column="n"
    )
    assert (source.rows[0].id, source.rows[0].query, source.rows[0].image_description) == ("7", "yes", "l")


@pytest.mark.parametrize(
    ("row", "columns", "says"),
    [
        ({"question": "q", "instruction": "i"}, {}, r"any of question, instruction: .*--query-column"),
        ({"Query": "q", "query ": "i"}, {}, "could be any of"),
        ({"picture": "p", "score": 1}, {}, r"--query-column, one of picture, score"),
        ({"query": "q"}, {"image_column": "photo"}, r"no column 'photo' for --image-column: it has query"),
    ],
)
def test_an_unclear_column_is_asked_for(
    tmp_path: Path, row: object, columns: dict[str, str], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        read(tmp_path / "b.json", [row], **columns)


def test_a_row_without_a_query_is_read_and_noted(tmp_path: Path) -> None:
    source = read(tmp_path / "b.json", [{"id": 1, "query": "  "}, {"id": 2, "query": "x"}, {"id": 3}])
    assert [row.query for row in source.rows] == ["", "x", ""]
    assert [(note.reason, note.rows) for note in source.notes] == [("it has no query", ("1", "3"))]


def test_ids_are_unique_and_a_changed_one_is_noted(tmp_path: Path) -> None:
    source = read(tmp_path / "b.json", [{"id": i, "query": "x"} for i in ("a", "a#2", "a", None, "a")])
    assert [row.id for row in source.rows] == ["a", "a#2", "a#3", "3", "a#4"]
    assert source.notes[0].rows == ("a#3", "a#4")


def test_a_conversation_is_read_as_the_users_first_turn(tmp_path: Path) -> None:
    turns = [
        {"from": "system", "value": "Be kind."},
        {"from": "human", "value": "<image>\nWhat is this?"},
        {"from": "gpt", "value": "A kite."},
    ]
    parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And this?"}]}]
    as_columns = {
        key: [turn[key] for turn in turns] for key in turns[0]
    }  # what `datasets` makes of a sequence
    rows = [{"conversations": each} for each in (turns, parts, as_columns)]
    source = read(tmp_path / "b.json", rows)
    assert [row.query for row in source.rows] == ["What is this?", "And this?", "What is this?"]


def test_rows_that_share_an_image_or_only_its_description_share_a_key(tmp_path: Path) -> None:
    with_images = [{"query": q, "image": f"{i}.png"} for q, i in (("x", 1), ("y", 1), ("z", 2))]
    keys = [row.image_key for row in read(tmp_path / "a.json", with_images).rows]
    assert keys == ["1.png", "1.png", "2.png"]
    described = [{"query": q, "caption": c} for q, c in (("x", "kite"), ("y", "kite"), ("z", "loaf"))]
    keys = [row.image_key for row in read(tmp_path / "b.json", described).rows]
    assert keys[0] == keys[1] != keys[2]


def test_a_wider_root_must_be_given_by_hand(bench: Path) -> None:
    path = bench / "b.json"
    path.write_text(json.dumps([{"query": "x", "image": "../secret.png"}]))
    source = read_source(str(path), data_root=bench.parent)
    assert source.rows[0].image == str(bench.parent / "secret.png")


def test_images_that_lie_elsewhere_are_found_in_the_folder_that_is_named(bench: Path, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    path = tmp_path / "rows/b.json"
    names = ["imgs/a.png", "b.png", "../secret.png", "none.png", "../rows/b.png"]
    path.write_text(json.dumps([{"query": "x", "image": name} for name in names]))
    (tmp_path / "rows/b.png").write_bytes(png())
    source = read_source(str(path), data_root=bench)
    found = [row.image for row in source.rows]
    assert found == [str(bench / "imgs/a.png"), str(bench / "imgs/b.png"), None, None, None]
    assert {note.reason: note.rows for note in source.notes} == {
        "its image path leaves the data folder": ("2", "4"), "its image file is not there": ("3",),
    }  # fmt: skip


def test_bare_names_are_found_in_the_usual_image_folder_and_without_suffix(bench: Path) -> None:
    rows = [{"query": "x", "image": "a.png"}, {"query": "y", "image": "b"}]
    found = [row.image for row in read(bench / "b.json", rows).rows]
    assert found == [str(bench / "imgs/a.png"), str(bench / "imgs/b.png")]


def test_embedded_images_are_written_out_once_where_a_folder_is_given(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = [{"query": q, "image": {"bytes": b, "path": "../x.png"}} for q, b in (("x", png()), ("y", png()))]
    rows.append({"query": "z", "image": {"bytes": b"?", "path": ""}})
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    unread = read_source(str(tmp_path / "t.parquet"))
    assert [row.image for row in unread.rows] == [None, None, None]
    assert [note.reason for note in unread.notes] == [
        "its embedded image was not written to a file",
        "its embedded image is of no known kind",
    ]
    source = read_source(str(tmp_path / "t.parquet"), unpack_to=tmp_path / "out")
    (file,) = (tmp_path / "out").iterdir()
    assert [row.image for row in source.rows] == [str(file), str(file), None]
    assert file.read_bytes() == png()
    assert source.rows[0].image_key == source.rows[1].image_key == unread.rows[0].image_key


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.encodebytes])  # on one line, and on many
@pytest.mark.parametrize("spelling", ["{}", "data:image/png;base64,{}", "\n{}"])
def test_base64_images_are_images(
    tmp_path: Path, spelling: str, encode: Callable[[bytes], bytes], kind: str
) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 50).save(buffer, kind)
    image = spelling.format(encode(buffer.getvalue()).decode())
    (tmp_path / "b.json").write_text(json.dumps([{"query": "x", "image": image}]))
    source = read_source(str(tmp_path / "b.json"), unpack_to=tmp_path / "out")
    path = Path(source.rows[0].image or "")
    assert path.read_bytes() == buffer.getvalue()
    assert path.suffix == {"PNG": ".png", "TIFF": ".tif"}[kind]


def test_a_parquet_column_is_read_whatever_blanks_surround_its_name(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"query ": ["How?", "Why?"]}), tmp_path / "b.parquet")
    assert [row.query for row in read_source(str(tmp_path / "b.parquet")).rows] == ["How?", "Why?"]


def test_an_image_named_by_a_number_is_found_though_a_table_wrote_a_fraction(bench: Path) -> None:
    (bench / "12.png").write_bytes(png())
    (row,) = read(bench / "b.json", [{"query": "x", "image_id": 12.0}]).rows
    assert row.image == str(bench / "12.png")


def test_an_image_folder_with_metadata_is_a_source(bench: Path) -> None:
    (bench / "metadata.csv").write_text("file_name,query,caption\nimgs/a.png,Where?,A kite\n")
    source = read_source(str(bench))
    (row,), notes = source.rows, source.notes
    assert notes == ()
    assert (row.query, row.image_description, row.image) == ("Where?", "A kite", str(bench / "imgs/a.png"))


def test_captions_beside_images_are_descriptions_unless_said_to_be_queries(bench: Path) -> None:
    with pytest.raises(UserError, match=r"metadata\.csv or one \.txt"):
        read_source(str(bench))
    (bench / "imgs/a.txt").write_text("A red kite")
    (bench / "imgs/b.txt").symlink_to("/etc/passwd")
    source = read_source(str(bench))
    assert [(row.id, row.query, row.image_description) for row in source.rows] == [
        ("imgs/a", "", "A red kite"),
        ("imgs/b", "", None),
    ]
    assert "--query-column caption" in source.notes[0].reason
    assert read_source(str(bench), query_column="caption").rows[0].query == "A red kite"


def test_captioned_images_are_found_by_a_relative_path(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench / "imgs/a.txt").write_text("A red kite")
    monkeypatch.chdir(bench.parent)
    source = read_source("bench")
    assert [row.image for row in source.rows] == [str(bench / "imgs/a.png"), str(bench / "imgs/b.png")]
    assert [row.image_key for row in source.rows] == ["imgs/a.png", "imgs/b.png"]


@pytest.mark.parametrize("splits", [False, True])
def test_a_saved_dataset_is_read_without_decoding_its_images(tmp_path: Path, splits: bool) -> None:
    import datasets

    features = datasets.Features({"question": datasets.Value("string"), "image": datasets.Image()})
    rows = {"question": ["x"], "image": [{"bytes": png(), "path": None}]}
    saved = datasets.Dataset.from_dict(rows, features=features)
    (datasets.DatasetDict({"test": saved, "val": saved}) if splits else saved).save_to_disk(tmp_path / "d")
    source = read_source(str(tmp_path / "d"), unpack_to=tmp_path / "out")
    assert source.notes == ()
    assert [row.query for row in source.rows] == ["x"] * (1 + splits)
    assert all(Path(row.image or "").read_bytes() == png() for row in source.rows)
    assert len({row.id for row in source.rows}) == 1 + splits


def test_what_an_earlier_save_left_in_the_folder_is_not_read_again(tmp_path: Path) -> None:
    import datasets

    saved = datasets.Dataset.from_dict({"question": ["x", "y", "z"]})
    for shards in (3, 1):
        saved.save_to_disk(tmp_path / "d", num_shards=shards)
    assert len(list((tmp_path / "d").glob("*.arrow"))) == 4
    source = read_source(str(tmp_path / "d"))
    assert [row.query for row in source.rows] == ["x", "y", "z"]
    assert [note.reason.split(":")[0] for note in source.notes] == ["not read beside the data"]


def test_classes_are_read_by_name_and_a_calibration_split_only_when_named(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"question": datasets.Value("string"), "category": datasets.ClassLabel(names=["Hateful", "Violent"])}
    )
    saved = datasets.Dataset.from_dict(
        {"question": ["x", "y", "z"], "category": [1, -1, None]}, features=features
    )
    datasets.DatasetDict({"test": saved, "calibration": saved}).save_to_disk(tmp_path / "d")
    saved.to_parquet(tmp_path / "calibration.parquet")
    source = read_source(str(tmp_path / "d"))
    assert [row.category for row in source.rows] == ["Violent", "", ""]
    assert [note.reason.split(",")[0] for note in source.notes] == ["the split calibration was left out"]
    for named in (tmp_path / "d/calibration", tmp_path / "calibration.parquet"):
        alone = read_source(str(named))
        assert [row.category for row in alone.rows] == ["Violent", "", ""] and alone.notes == ()


def test_a_folder_is_read_by_the_first_kind_of_file_that_fits_and_the_rest_is_noted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "scores.jsonl").write_text('{"score": 1}\n')
    (tmp_path / "more.tsv").write_text("prompt\tn\nWhen?\t1\n")
    for part in "12":
        (tmp_path / f"data/part{part}.csv").write_text("prompt\nWhere?\n")
    source = read_source(str(tmp_path))
    assert [row.id for row in source.rows] == ["data/part1-0", "data/part2-0"]
    reasons = [note.reason for note in source.notes]
    assert reasons[0].startswith("left out: No column of scores.jsonl")
    assert reasons[1:] == ["not read beside the data: more.tsv"]


def test_what_a_folder_holds_packed_is_said(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl.gz").write_bytes(b"packed")
    with pytest.raises(UserError, match=r"train\.jsonl\.gz cannot be read as it is: unpack it first"):
        read_source(str(tmp_path))
    source = read(tmp_path / "test.jsonl", [{"query": "x"}])
    assert source.notes == ()
    (note,) = read_source(str(tmp_path)).notes
    assert note.reason == "not read beside the data: train.jsonl.gz"


def test_a_snapshot_of_the_hubs_cache_may_link_into_its_own_download(tmp_path: Path) -> None:
    download = tmp_path / "datasets--owner--name"
    snapshot = download / "snapshots/abc"
    (download / "blobs").mkdir(parents=True)
    (snapshot / "imgs").mkdir(parents=True)
    (download / "blobs/1").write_text('{"query": "x", "image": "imgs/a.png"}\n')
    (download / "blobs/2").write_bytes(png())
    (snapshot / "data.jsonl").symlink_to("../../blobs/1")
    (snapshot / "imgs/a.png").symlink_to("../../../blobs/2")
    assert read_source(str(snapshot)).rows[0].image == str(download / "blobs/2")


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hf:owner/name"):
        read_source("hf:nobody")
    code = "from data.sources.reader import *\nfrom data.errors import run_cli\nrun_cli(lambda: read_source('hf:a/b'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: Cannot load a/b from the Hub (")
    assert "Traceback" not in done.stderr


def test_a_hub_dataset_is_read_split_by_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    part = datasets.Dataset.from_dict({"question": ["x"], "image": [None]})
    asked: list[object] = []

    def load(*args: object, split: object) -> object:
        asked.append((*args, split))
        return part if split else datasets.DatasetDict({"harm": part, "help": part})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert [row.id for row in read_source("hf:a/b/test").rows] == ["harm-0", "help-0"]
    assert [row.id for row in read_source("hf:a/b:harm").rows] == ["0"]
    assert asked == [("a/b", "test", None), ("a/b", None, "harm")]


def test_a_hub_row_with_a_list_of_images_has_the_first_as_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "images": datasets.List(datasets.Image()),
            "category": datasets.ClassLabel(names=["Hateful", "Violent"]),
        }
    )
    images = [{"bytes": each, "path": None} for each in (png("red"), b"no picture at all")]
    part = datasets.Dataset.from_dict(
        {"question": ["x"], "images": [images], "category": [1]}, features=features
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, split: datasets.DatasetDict({"test": part}))
    (row,) = read_source("hf:a/b", unpack_to=tmp_path / "out").rows
    assert Path(row.image or "").read_bytes() == png("red")
    assert row.category == "Violent"


def test_other_encodings_are_read_and_said(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes("query,caption\nOù ça ?,Café\n".encode("latin-1"))
    source = read_source(str(tmp_path / "b.csv"))
    assert source.rows[0].query == "Où ça ?"
    assert "Latin-1" in source.notes[0].reason


def test_the_quotes_of_windows_are_quotes(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes("query\nWhat’s “this”?\n".encode("cp1252"))
    assert read_source(str(tmp_path / "b.csv")).rows[0].query == "What’s “this”?"


def test_what_a_file_holds_beside_its_rows_is_noted(tmp_path: Path) -> None:
    from openpyxl import Workbook

    rows = [{"query": "x"}]
    found = {
        "test": read(tmp_path / "lists.json", {"data": rows, "test": rows, "authors": ["A"]}),
        "later": None,
        "query 2": None,
    }
    book = Workbook()
    for title in ("first", "later"):
        sheet = book.active if title == "first" else book.create_sheet(title)
        sheet.append(["query"])
        sheet.append(["x"])
    book.save(tmp_path / "sheets.xlsx")
    found["later"] = read_source(str(tmp_path / "sheets.xlsx"))
    (tmp_path / "doubles.csv").write_text("query,query\nx,y\n")
    found["query 2"] = read_source(str(tmp_path / "doubles.csv"))
    for name, source in found.items():
        assert source is not None
        assert [row.query for row in source.rows] == ["x"]
        (note,) = source.notes
        assert note.reason.endswith(f" {name}")


@pytest.mark.parametrize("size", ["A1", "A1:A2", "A1:XFD1048576"])
def test_a_sheet_is_read_whole_whatever_it_says_of_its_size(tmp_path: Path, size: str) -> None:
    WRITERS["sheet.xlsx"](tmp_path / "whole.xlsx")
    with (
        zipfile.ZipFile(tmp_path / "whole.xlsx") as whole,
        zipfile.ZipFile(tmp_path / "b.xlsx", "w") as changed,
    ):
        for name in whole.namelist():
            content = whole.read(name)
            if name.endswith("sheet1.xml"):
                content, count = re.subn(
                    rb'dimension ref="[^"]+"', f'dimension ref="{size}"'.encode(), content
                )
                assert count == 1
            changed.writestr(name, content)
    source = read_source(str(tmp_path / "b.xlsx"))
    assert [row.query for row in source.rows] == [row["query"] for row in ROWS]


def test_a_mark_for_an_empty_cell_is_no_text(tmp_path: Path) -> None:
    rows = [{"query": "x", "caption": mark} for mark in ("nan", "None", "N/A", "None of them smile")]
    source = read(tmp_path / "b.json", [*rows, {"query": "null", "caption": "A kite"}])
    assert [row.image_description for row in source.rows] == [None] * 3 + ["None of them smile", "A kite"]
    assert source.rows[4].query == ""
    assert {note.reason: (note.rows, note.example) for note in source.notes} == {
        "its description says that there is none": (("0", "1", "2"), "nan"),
        "it has no query": (("4",), "null"),
    }


def test_what_a_spreadsheet_writes_for_a_broken_formula_is_no_query(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("query\n#NAME?\n<NA>\n#REF!\n#1 of what?\n")
    source = read_source(str(tmp_path / "b.csv"))
    assert [row.query for row in source.rows] == ["", "", "", "#1 of what?"]
    assert [(note.reason, note.rows) for note in source.notes] == [("it has no query", ("0", "1", "2"))]


def test_a_table_as_pandas_writes_it_is_read_row_by_row(tmp_path: Path) -> None:
    columns = {"id": {"0": 7, "1": 8}, "question": {"0": "x", "1": "y"}}
    found = read(tmp_path / "b.json", columns)
    assert [(row.id, row.query) for row in found.rows] == [("7", "x"), ("8", "y")]
    rows = {"7": {"question": "x"}, "8": {"question": "y"}}
    assert read(tmp_path / "rows.json", rows).rows == found.rows


def test_queries_that_are_joined_are_noted(tmp_path: Path) -> None:
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}
    source = read(tmp_path / "b.json", [{"query": ["x", "y"]}, {"query": ["x"]}, {"query": [turn, turn]}])
    assert [row.query for row in source.rows] == ["x\ny", "x", "x"]
    (note,) = source.notes
    assert "joined" in note.reason and note.rows == ("0",)


def test_a_header_of_merged_cells_is_said(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["id", "text", None, "image"])
    book.active.merge_cells("B1:C1")
    book.active.append([None, "question", "caption", None])
    book.save(tmp_path / "merged.xlsx")
    (note,) = read_source(str(tmp_path / "merged.xlsx")).notes
    assert "no name for column 3 in its first line" in note.reason


def test_a_label_that_is_neither_true_nor_false_is_noted(tmp_path: Path) -> None:
    labels = ["safe", "1.0", "no", None, "unsafe"]
    source = read(
        tmp_path / "b.json", [{"query": "x", "label": each} for each in labels], safe_column="label"
    )
    assert [row.is_safe for row in source.rows] == [None, True, False, None, None]
    (note,) = source.notes
    assert "neither true nor false" in note.reason
    assert (note.rows, note.example) == (("0", "4"), "safe")


def test_rows_read_by_other_columns_than_those_that_are_named_are_noted(tmp_path: Path) -> None:
    for name, header in (("a", "query,caption"), ("b", "prompt,description"), ("c", "query,caption")):
        (tmp_path / f"{name}.csv").write_text(f"{header}\nWhere?,A kite\n")
    source = read_source(str(tmp_path))
    assert source.columns.spelt() == "query = query, image_description = caption"
    (note,) = source.notes
    assert note.reason == "read by other columns: query = prompt, image_description = description"
    assert (note.rows, note.example) == (("b-0",), "b")


def test_an_image_in_no_known_form_is_noted_and_an_empty_one_in_a_list_is_passed_over(bench: Path) -> None:
    images = [[None, "imgs/a.png"], ["", "imgs/a.png", "imgs/b.png"], [None], {"href": "imgs/a.png"}, [["a"]]]
    source = read(bench / "b.json", [{"query": "x", "image": image} for image in images])
    assert [row.image for row in source.rows] == [str(bench / "imgs/a.png")] * 2 + [None] * 3
    assert {note.reason: note.rows for note in source.notes} == {
        "it has several images: the first is used": ("1",),
        "its image is neither a path nor embedded": ("3", "4"),
    }


def test_awkward_text_survives(tmp_path: Path) -> None:
    long = "word " * 200_000
    rows = [{"query": text} for text in (long, "nul \0 inside", "half \ud83d pair", "\u2028line", "🙂")]
    queries = [row.query for row in read(tmp_path / "b.json", rows).rows]
    assert queries == [long.strip(), "nul \0 inside", "half \ufffd pair", "line", "🙂"]
    (tmp_path / "b.tsv").write_text(f'query\tid\n"Hello" he said {long}\t1\n')
    assert read_source(str(tmp_path / "b.tsv")).rows[0].query.startswith('"Hello" he said')


def test_spreadsheet_numbers_and_missing_cells_become_plain_text(tmp_path: Path) -> None:
    rows = [{"id": 12.0, "query": 7, "caption": float("nan"), "is_safe": True}, {"query": {"text": "nested"}}]
    first, second = read(tmp_path / "b.json", rows).rows
    assert (first.id, first.query, first.image_description, first.is_safe) == ("12", "7", None, True)
    assert (second.id, second.query, second.is_safe) == ("1", "nested", None)


SHARED = Path(__file__).parents[2] / "shared"


@pytest.mark.skipif(not SHARED.exists(), reason="../shared is absent")
def test_labelled_files_are_read_without_flags() -> None:
    source = read_source(str(SHARED / "labelled/figstep.jsonl"), data_root=SHARED)
    assert (len(source.rows), len({row.image_key for row in source.rows})) == (1000, 500)
    assert all(row.image and row.query and row.image_description for row in source.rows)
