"""What sources are called: a label stays the user's, a benchmark built here is not VLSBench, a path may hold `=`."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.benchmarks import guess_benchmark, read_benchmark
from audit.names import Given, parse_given, source_names
from data.errors import UserError
from data.sources.columns import Columns
from data.sources.reader import Source, SourceRow
from tests.benchmark_layouts import vlsbench


def source(name: str, benchmark: str | None = None) -> Source:
    row = SourceRow(id="a", query="q", image_description="d", image_key="a")
    return Source(name=name, columns=Columns(query=("query",)), rows=(row,), benchmark=benchmark)


def built(folder: Path) -> Path:
    """A benchmark in VLSBench's layout with the files that `data.build` puts beside it."""
    vlsbench(folder)
    (folder / "data").mkdir()
    for name in ("provenance.jsonl", "checksums.sha256", "data/test-00000-of-00001.parquet"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("here", Given("", "", "here")),
        ("demo=here", Given("demo", "", "here")),
        ("my demo=here", Given("my demo", "", "here")),
        ("figstep=here", Given("", "figstep", "here")),
        ("figstep:tiny=here", Given("", "figstep:tiny", "here")),
        ("figstep=nowhere", Given("", "figstep", "nowhere")),  # whose error names what is missing
        ("ours=vlsbench=here", Given("ours", "vlsbench", "here")),
        ("ours=vlsbench=hf:owner/name", Given("ours", "vlsbench", "hf:owner/name")),
        ("ours=hf:owner/name/config:test", Given("ours", "", "hf:owner/name/config:test")),
        ("hf:owner/name", Given("", "", "hf:owner/name")),
        ("hf:owner/name=here", Given("", "", "hf:owner/name=here")),
        ("lr=0.1.json", Given("", "", "lr=0.1.json")),  # exists, as the next ones do
        ("figstep=old.json", Given("", "", "figstep=old.json")),
        ("in/lr=0.1.json", Given("", "", "in/lr=0.1.json")),
        ("first=lr=0.1.json", Given("first", "", "lr=0.1.json")),
        ("in/lr=here", Given("", "", "in/lr=here")),
        ("demo=nowhere", Given("", "", "demo=nowhere")),
        ("=here", Given("", "", "=here")),
        ("demo=", Given("", "", "demo=")),
        ("demo=" + "x" * 5000, Given("", "", "demo=" + "x" * 5000)),
    ],
)
def test_what_stands_before_the_sign_is_a_benchmark_a_label_or_part_of_a_path(
    given: str, means: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("here", "in"):
        Path(name).mkdir()
    for name in ("lr=0.1.json", "figstep=old.json", "in/lr=0.1.json"):
        Path(name).touch()
    assert parse_given(given) == means


def test_a_misspelt_benchmark_with_a_variant_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Unknown benchmark 'figstp'; choose from: vlsbench, figstep"):
        parse_given(f"figstp:tiny={tmp_path}")


def test_a_benchmark_built_here_is_called_after_its_run_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (("runs/demo/benchmark", "demo"), ("runs/demo2/benchmark-extended", "demo2-extended"),
                         ("published", "published")):  # fmt: skip
        place = built(tmp_path / folder)
        assert guess_benchmark(place) == "vlsbench"
        for given in (place, place / "data.json"):
            assert source_names([read_benchmark("vlsbench", given)]) == [name]
        assert source_names([source(str(place / "data/test-00000-of-00001.parquet"))]) == [
            "test-00000-of-00001"
        ]
    assert source_names([source(str(tmp_path / "runs/demo"), "vlsbench:all")]) == ["demo"]
    monkeypatch.chdir(tmp_path / "runs/demo/benchmark")
    assert source_names([source("."), source("data.json", "vlsbench:all")]) == ["demo", "demo-2"]


def test_vlsbench_itself_keeps_its_name(tmp_path: Path) -> None:
    vlsbench(tmp_path / "benchmark")
    read = read_benchmark("vlsbench", tmp_path / "benchmark")
    assert source_names([read, source("hf:owner/name", "vlsbench:all"), source("x", "figstep:tiny")]) == [
        "vlsbench", "vlsbench-2", "figstep:tiny",
    ]  # fmt: skip


def test_a_label_is_kept_whatever_another_source_is_called(tmp_path: Path) -> None:
    first, second = built(tmp_path / "demo/benchmark"), built(tmp_path / "second/benchmark")
    read = [read_benchmark("vlsbench", place) for place in (first, second)]
    assert source_names(read, ["", "demo"]) == ["demo-2", "demo"]
    assert source_names(read, ["same", "same"]) == ["same", "same-2"]
    assert source_names(read) == ["demo", "second"]
