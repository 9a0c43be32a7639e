"""The second branch's images: a folder, a list of any format, a dataset, all found and never twice."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from construct.images import GivenImage, given_images
from construct.perceive import keep_original
from construct.profile import ImagesSection
from data.errors import RowFailed, UserError
from tests.small_run import drawing

NAMES = ["boat.png", "shop.png", "park.png"]


def pictures(folder: Path) -> Path:
    (folder / "imgs").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        drawing(number).save(folder / "imgs" / name)
    return folder


def rows() -> list[dict[str, str]]:
    return [{"image": f"imgs/{name}", "note": "x"} for name in NAMES]


def json_list(folder: Path) -> Path:
    (folder / "list.json").write_text(json.dumps(rows()))
    return folder / "list.json"


def jsonl_list(folder: Path) -> Path:
    (folder / "list.jsonl").write_text("\n".join(json.dumps(row) for row in rows()))
    return folder / "list.jsonl"


def csv_list(folder: Path) -> Path:
    with open(folder / "list.csv", "w", newline="") as file:
        table = csv.DictWriter(file, ["image", "note"])
        table.writeheader()
        table.writerows(rows())
    return folder / "list.csv"


def parquet_list(folder: Path) -> Path:
    import pyarrow as arrow
    from pyarrow import parquet

    parquet.write_table(arrow.Table.from_pylist(rows()), folder / "list.parquet")
    return folder / "list.parquet"


def saved_dataset(folder: Path) -> Path:
    from datasets import Dataset, Image

    files = [str(folder / "imgs" / name) for name in NAMES]
    made = Dataset.from_dict({"image": files, "note": ["x"] * 3}).cast_column("image", Image())
    made.map(lambda row: row).save_to_disk(str(folder / "saved"))  # embeds what the paths point to
    return folder / "saved"


def image_folder(folder: Path) -> Path:
    return folder / "imgs"


@pytest.mark.parametrize(
    "kind",
    [image_folder, json_list, jsonl_list, csv_list, parquet_list, saved_dataset],
    ids=lambda it: it.__name__,
)
def test_images_are_found_in_a_source_of_any_kind(tmp_path: Path, kind: Callable[[Path], Path]) -> None:
    source = kind(pictures(tmp_path))
    section = ImagesSection(path=str(source), source="mine", kind="risky")
    found = list(given_images([section, section], tmp_path / "run"))
    assert len(found) == len({each.id for each in found}) == len(NAMES)
    assert {each.source for each in found} == {"mine"} and {each.kind for each in found} == {"risky"}
    assert all(each.sha256 and Path(each.path).is_file() for each in found)


def test_a_list_that_names_no_image_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([{"title": "a boat"}]))
    section = ImagesSection(path=str(tmp_path / "list.json"), source="mine", kind="normal")
    with pytest.raises(UserError, match="set image_column"):
        list(given_images([section], tmp_path / "run"))


def found(path: object, folder: Path, column: str | None = None) -> list[str]:
    section = ImagesSection(path=str(path), source="mine", kind="normal", image_column=column)
    return [each.name for each in given_images([section], folder / "run")]


def test_a_list_of_something_else_beside_pictures_does_not_hide_them(tmp_path: Path) -> None:
    folder = pictures(tmp_path) / "imgs"
    (folder / "notes.json").write_text('{"by": "Ada"}')
    assert found(folder, tmp_path) == sorted(NAMES)


def test_a_path_from_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pictures(tmp_path)))
    assert found("~/imgs", tmp_path) == sorted(NAMES)


def test_what_is_wrong_with_a_source_is_said_as_it_is(tmp_path: Path) -> None:
    json_list(pictures(tmp_path))
    with pytest.raises(UserError, match=r"mine: There is no file or folder .*none"):
        found(tmp_path / "none", tmp_path)
    with pytest.raises(UserError, match=r"boat\.png is of no known kind"):
        found(tmp_path / "imgs/boat.png", tmp_path)
    with pytest.raises(UserError, match="has no column 'pic' for image_column: it has image, note"):
        found(tmp_path / "list.json", tmp_path, "pic")
    (tmp_path / "list.json").write_text(json.dumps([{"image": "imgs/gone.png"}]))
    with pytest.raises(UserError, match=r"names 'imgs/gone\.png', and its image file is not there"):
        found(tmp_path / "list.json", tmp_path)


def test_two_images_of_one_source_and_name_are_refused_not_dropped(tmp_path: Path) -> None:
    first, second = pictures(tmp_path / "first") / "imgs", pictures(tmp_path / "second") / "imgs"
    both = [ImagesSection(path=str(folder), source="mine", kind="normal") for folder in (first, second)]
    assert len(list(given_images(both, tmp_path / "run"))) == len(NAMES)  # the same pictures count once
    drawing(9).save(second / NAMES[1])
    with pytest.raises(UserError, match=r"shop\.png and .*shop\.png are two images of one source and name"):
        list(given_images(both, tmp_path / "run"))
    apart = [both[0], both[1].model_copy(update={"source": "others"})]
    assert len(list(given_images(apart, tmp_path / "run"))) == 2 * len(NAMES)


def test_images_that_a_list_loses_or_leaves_out_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path) / "imgs"
    named = [{"image": name} for name in (*NAMES[:2], "gone.png", "../away.png", "")]
    (folder / "list.json").write_text(json.dumps(named))
    assert found(folder, tmp_path) == NAMES[:2]
    said = capsys.readouterr().err
    assert "[[images]] mine: 3 of 5 rows have no image" in said
    assert "1 where its image file is not there, such as 'gone.png'" in said
    assert (
        "1 of the folder's 3 images are not in the list beside them and left out, such as 'park.png'" in said
    )
    (folder / "list.json").write_text(json.dumps([{"image": name} for name in NAMES]))
    assert found(folder, tmp_path) == NAMES
    assert not capsys.readouterr().err


def test_pictures_in_hidden_folders_do_not_count(tmp_path: Path) -> None:
    folder = pictures(tmp_path) / "imgs"
    shutil.copytree(pictures(tmp_path / "small"), folder / ".thumbnails")
    assert found(folder, tmp_path) == sorted(NAMES)


def test_a_full_disk_is_no_images_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pictures(tmp_path) / "imgs" / NAMES[0]
    given = GivenImage(
        id="a", path=str(path), name=NAMES[0], source="mine", kind="normal", sha256="0123456789"
    )

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert keep_original(given, tmp_path / "run") == "images/a-01234567.png"
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(UserError, match="The disk is full"):
        keep_original(given, tmp_path / "run")
    with pytest.raises(RowFailed, match="unreadable_image"):
        keep_original(given.replace(path=str(tmp_path / "gone.png")), tmp_path / "run")
