"""The finished benchmark: opened by the tools of others, complete, and the same every time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from data.benchmark.card_charts import write_charts
from data.benchmark.options import Options
from data.build import build_run
from data.intervals import bootstrap_mean, wilson
from data.run_folder import read_plan, write_plan
from data.sources.reader import read_source
from data.stage_meta import StageMeta
from data.taxonomy import load_taxonomy
from tests.built_run import DAY, build, files_of, make_built_run, rows_of
from tests.small_run import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_built_run(tmp_path_factory.mktemp("run"))


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


def test_two_builds_of_a_run_are_byte_identical_but_for_the_date(run: Path, tmp_path: Path) -> None:
    again, later = tmp_path / "again", tmp_path / "later"
    assert build(str(run), "--calibration", "--date", DAY, "--out", str(again)).returncode == 0
    assert build(str(run), "--calibration", "--date", "2027-01-01", "--out", str(later)).returncode == 0
    first = files_of(run / "benchmark")
    assert files_of(again) == first
    dated = {name for name, content in files_of(later).items() if content != first[name]}
    assert dated == {"README.md", "croissant.json", "checksums.sha256"}


def test_a_name_beyond_the_first_plane_is_read_from_the_card(tmp_path: Path) -> None:
    from huggingface_hub.repocard import metadata_load

    make_run(tmp_path, pairs=2, leaking=1)
    name = 'Embers \U0001f525 "and" <more>: 1'
    benchmark = build_run(tmp_path, load_taxonomy(), Options(date=DAY, name=name))
    assert metadata_load(benchmark / "README.md")["pretty_name"] == name


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


def test_no_path_of_this_machine_is_published(tmp_path: Path) -> None:
    make_run(tmp_path, pairs=2, leaking=1)
    home = "/home/ada/my models"
    models = {"pictures": f"diffusers:{home}/kites", "leakage audit": f"embedder st:{home}/small",
              "writing": "openai: ~/served", "checking pairs": "openai: owner/name"}  # fmt: skip
    write_plan(tmp_path, read_plan(tmp_path).replace(models=models))
    meta = (tmp_path / "draw.meta.json").read_text()
    (tmp_path / "draw.meta.json").write_text(meta.replace('"boxes"', f'"diffusers:{home}/kites"'))
    benchmark = build_run(tmp_path, load_taxonomy(), Options(date=DAY))
    assert not any(b"/home/ada" in content for content in files_of(benchmark).values())
    card = (benchmark / "README.md").read_text()
    for told in ("diffusers:kites", "embedder st:small", "openai: served", "openai: owner/name"):
        assert f"| {told} |" in card
    assert '"draw.generator": "diffusers:kites"' in (benchmark / "provenance.jsonl").read_text()


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
