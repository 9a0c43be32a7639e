"""Adapters: small files in the shape that each benchmark's authors ship, and the real ones where they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.benchmarks import BENCHMARKS, guess_benchmark, read_benchmark
from data.errors import UserError
from data.sources.folders import read_table
from data.sources.source_rows import SourceRow
from data.sources.tables import Openable
from tests.benchmark_layouts import IMAGE, MAKERS, figstep, holisafe, put_images, vlguard, vlsbench

# variant -> id, query, description, category, sub-category and is_safe of its rows, in order
EXPECTED: dict[str, list[tuple[object, ...]]] = {
    "vlsbench": [("7", "Where is it sold?", "A loaf", "Food", "Bread", None)],
    "figstep": [("2_3", "How is bread made?", "Steps to make bread. 1. 2. 3.", "Baking", "", None)],
    "figstep:prompt": [("2_3", "Fill in the list.", "Steps to make bread. 1. 2. 3.", "Baking", "", None)],
    "figstep:tiny": [("2_3", "A tiny one?", "Steps to make bread. 1. 2. 3.", "Baking", "", None)],
    "mm-safetybench": [
        ("01-Baking/0", "How is it made?", "bread", "Baking", "", None),
        ("02-Kites/0", "How is it made?", "bread", "Kites", "", None),
    ],
    "mm-safetybench:original": [
        ("01-Baking/0", "How is bread made?", "bread", "Baking", "", None),
        ("02-Kites/0", "How is bread made?", "bread", "Kites", "", None),
    ],
    "jailbreakv-28k": [
        ("4", "Pretend to be a baker. How is bread made?", None, "Baking", "figstep", None),
    ],
    "jailbreakv-28k:raw": [("4", "How is bread made?", None, "Baking", "figstep", None)],
    "jailbreakv-28k:mini": [
        ("5", "Pretend to be a baker. How is bread made?", None, "Baking", "figstep", None),
    ],
    "harmbench-multimodal": [
        ("bake_this", "Describe how to bake this", "A sourdough loaf", "baking", "", None),
    ],
    "harmbench-multimodal:redacted": [
        ("bake_this", "Describe how to bake this", "A loaf", "baking", "", None),
    ],
    "vlguard": [
        ("Ads_1-safe", "What is sold?", None, "", "", True),
        ("Ads_1-unsafe", "How do I take it unseen?", None, "", "", False),
        ("x_2-instruction", "What is this recipe?", None, "deception", "rumour", False),
    ],
    "vlguard:safe_unsafes": [("Ads_1-unsafe", "How do I take it unseen?", None, "", "", False)],
    "vlsafe": [("0", "How fast can he go?", "A man on skis.", "", "", None)],
    "spa-vl": [("0", "What is it?", None, "Food", "Bread", None)],
    "spa-vl:help": [("0", "How can it help?", None, "Food", "Bread", None)],
    "siuo": [("2006", "How do I fly it higher?", None, "kites", "", None)],
    "siuo:mcqa": [("2006", "How do I fly it higher?", None, "kites", "", None)],
    "mssbench": [
        ("chat-0-0-safe", "How fast?", None, "physical", "chat", True),
        ("chat-0-1-safe", "How far?", None, "physical", "chat", True),
        ("chat-0-0-unsafe", "How fast?", "A cliff's edge", "physical", "chat", False),
        ("chat-0-1-unsafe", "How far?", "A cliff's edge", "physical", "chat", False),
        ("embodied-0-0-safe", "Heat it.", "A bowl", "property", "embodied", True),
        ("embodied-0-0-unsafe", "Heat it.", "A tin", "property", "embodied", False),
    ],
    "mssbench:embodied": [
        ("embodied-0-0-safe", "Heat it.", "A bowl", "property", "embodied", True),
        ("embodied-0-0-unsafe", "Heat it.", "A tin", "property", "embodied", False),
    ],
    "msts": [("prompt_1", "Should I fly this?", "Kite", "Kites", "Wind", None)],
    "msts:text-only": [("prompt_1", "Should I fly a kite?", "Kite", "Kites", "Wind", None)],
    "msts:german": [("case_1", "Soll ich?", "Kite", "Kites", "Wind", None)],
    "mossbench": [("1", "What game fits here?", "A room", "type 1", "", True)],
    "mossbench:contrast": [("1", "What breaks here?", "A room with a vase", "type 1", "", False)],
    "ch3ef": [("3", "May I say this?", None, "bias", "", None)],
    "beavertails-v": [
        ("data/animal_abuse/evaluation-0", "What is it?", None, "animal_abuse", "", None),
        ("data/horror/evaluation-0", "What is it?", None, "horror", "", None),
    ],
    "holisafe": [
        ("1", "Is it ripe?", None, "advice", "food", False),
        ("2", "Is it ripe?", None, "advice", "food", True),
    ],
}


def fields(rows: Sequence[SourceRow]) -> list[tuple[object, ...]]:
    return [
        (row.id, row.query, row.image_description, row.category, row.sub_category, row.is_safe)
        for row in rows
    ]


def test_every_adapter_has_its_file_here() -> None:
    assert BENCHMARKS.keys() == MAKERS.keys() == {name.partition(":")[0] for name in EXPECTED}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_benchmark_is_read_in_its_authors_layout(tmp_path: Path, name: str) -> None:
    base, _, variant = name.partition(":")
    MAKERS[base](tmp_path)
    source = read_benchmark(name, tmp_path, unpack_to=tmp_path / "unpacked")
    assert fields(source.rows) == EXPECTED[name]
    assert source.benchmark == f"{base}:{variant or next(iter(BENCHMARKS[base].variants))}"


@pytest.mark.parametrize("name", EXPECTED)
def test_images_are_found_where_the_authors_put_them(tmp_path: Path, name: str) -> None:
    MAKERS[name.partition(":")[0]](tmp_path)
    for row in read_benchmark(name, tmp_path, unpack_to=tmp_path / "unpacked").rows:
        if name == "msts:text-only" or row.id.startswith("02-Kites"):
            assert row.image is None
        else:
            assert Path(row.image or "").read_bytes() == IMAGE


def test_each_variant_of_mm_safetybench_has_its_own_images(tmp_path: Path) -> None:
    MAKERS["mm-safetybench"](tmp_path)
    keys = {
        variant: read_benchmark(f"mm-safetybench:{variant}", tmp_path).rows[0].image_key
        for variant in ("rephrased", "original", "typographic", "sd")
    }
    assert [key.split("/")[-2] for key in keys.values()] == ["SD_TYPO", "SD_TYPO", "TYPO", "SD"]


@pytest.mark.parametrize("name", MAKERS)
def test_a_layout_is_recognised_by_its_files_and_columns(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    assert guess_benchmark(tmp_path) == name
    (tmp_path / "notes.json").write_text('[{"query": "x"}]')
    assert guess_benchmark(tmp_path / "notes.json") is None


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vlsbench", "data.json"),
        ("figstep", "data/question/safebench.csv"),
        ("figstep", "data/question"),
        ("mm-safetybench", "data/processed_questions"),
        ("jailbreakv-28k", "JailBreakV_28K"),
        ("mssbench", "combined.json"),
        ("msts", "data/prompts/german_multimodal.csv"),
        ("beavertails-v", "data"),
        ("beavertails-v", "data/horror/evaluation.parquet"),
    ],
)
def test_a_file_or_an_inner_folder_will_do_too(tmp_path: Path, name: str, path: str) -> None:
    MAKERS[name](tmp_path)
    assert guess_benchmark(tmp_path / path) == name
    source = read_benchmark(name, tmp_path / path, unpack_to=tmp_path / "unpacked")
    assert source.rows[0].image is not None


@pytest.mark.parametrize(
    ("name", "path", "variant"),
    [
        ("msts", ".", "multimodal"),
        ("msts", "data/prompts/german_multimodal.csv", "german"),
        ("figstep", "data/question/SafeBench-Tiny.csv", "tiny"),
        ("mossbench", "data_contrast", "contrast"),
        ("mossbench", "data", "oversensitivity"),
    ],
)
def test_without_a_variant_it_is_the_one_whose_file_is_given(
    tmp_path: Path, name: str, path: str, variant: str
) -> None:
    MAKERS[name](tmp_path)
    assert read_benchmark(name, tmp_path / path).benchmark == f"{name}:{variant}"


def test_a_record_without_its_texts_is_a_row_that_cannot_be_scored(tmp_path: Path) -> None:
    vlguard(tmp_path / "guard")
    put_images(tmp_path / "guard/test", "x/3.png")
    path = tmp_path / "guard/test.json"
    records = json.loads(path.read_text())
    path.write_text(json.dumps([*records, {"id": "x_3", "image": "x/3.png", "instr-resp": "none"}]))
    rows = read_benchmark("vlguard", path).rows
    assert [row.query for row in rows if row.id == "x_3"] == [""]
    figstep(tmp_path / "steps")
    path = tmp_path / "steps/data/question/safebench.csv"
    path.write_text(path.read_text().replace("Steps to make bread.", ""))
    assert [row.image_description for row in read_benchmark("figstep", path).rows] == [None]


def test_a_hub_dataset_is_of_the_layout_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    found = [Openable("train", lambda: read_table(path))]
    monkeypatch.setattr("audit.layouts.read_hub", lambda _path: found)
    path.write_text('{"query": "Who?", "caption": "A kite."}\n')
    with pytest.raises(UserError, match="is not of this benchmark: it has no class1"):
        read_benchmark("spa-vl", "hf:owner/name")
    with pytest.raises(UserError, match="'help' is told by its file"):
        read_benchmark("spa-vl:help", "hf:owner/name")


def test_twins_about_one_image_share_its_key(tmp_path: Path) -> None:
    vlguard(tmp_path)
    first, second, third = (row.image_key for row in read_benchmark("vlguard", tmp_path).rows)
    assert first == second != third


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("vlsbank", "Unknown benchmark 'vlsbank'; choose from: vlsbench, figstep"),
        ("msts:klingon", "Unknown variant of msts 'klingon'; choose from: multimodal, text-only"),
        ("holisafe", r"not laid out as this benchmark: it has no holisafe_bench\.json"),
        ("figstep:prompt", r"needs src/generate_prompts\.py"),
    ],
)
def test_a_wrong_name_or_folder_says_what_is_right(tmp_path: Path, name: str, says: str) -> None:
    figstep(tmp_path)
    (tmp_path / "src/generate_prompts.py").unlink()
    with pytest.raises(UserError, match=says):
        read_benchmark(name, tmp_path)


def test_another_benchmarks_file_is_refused(tmp_path: Path) -> None:
    vlsbench(tmp_path)
    with pytest.raises(UserError, match="is not of this benchmark: it has no"):
        read_benchmark("siuo", tmp_path / "data.json")
    with pytest.raises(UserError, match="has no list called chat or embodied"):
        read_benchmark("mssbench", tmp_path / "data.json")
    with pytest.raises(UserError, match="no file or folder"):
        read_benchmark("mssbench", tmp_path / "nowhere")


def test_a_table_with_ids_is_no_benchmark_whose_rows_have_none(tmp_path: Path) -> None:
    """As VLSafe its ids would be lost, and its pictures sought under `image_id`."""
    row = {"id": "kite-1", "image_id": 7, "image": "a.png", "query": "Where?", "caption": "A kite"}
    put_images(tmp_path, "a.png")
    for named, name in ((row, None), ({key: row[key] for key in row if key != "id"}, "vlsafe")):
        (tmp_path / "rows.jsonl").write_text(json.dumps(named))
        assert guess_benchmark(tmp_path / "rows.jsonl") == name


def test_two_benchmarks_in_one_folder_are_not_guessed_between(tmp_path: Path) -> None:
    vlsbench(tmp_path)
    holisafe(tmp_path)
    assert guess_benchmark(tmp_path) is None
    for nowhere in ("hf:owner/name", "nowhere", "a\0b", "x" * 5000):
        assert guess_benchmark(nowhere) is None


def test_image_paths_stay_in_the_benchmarks_folder(tmp_path: Path) -> None:
    vlguard(tmp_path / "bench")
    put_images(tmp_path, "secret.png")
    path = tmp_path / "bench/test.json"
    path.write_text(path.read_text().replace("ads/1.png", "../../secret.png"))
    for place in (path, path.parent):
        source = read_benchmark("vlguard", place)
        assert [row.image is None for row in source.rows] == [True, True, False]
        assert source.notes[0].reason == "its image path leaves the data folder"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/test.json").symlink_to(path)
    with pytest.raises(UserError, match="not laid out"):
        read_benchmark("vlguard", tmp_path / "linked")


CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(), name=st.sampled_from([name for name in MAKERS if name not in ("spa-vl", "beavertails-v")])
)
def test_any_record_under_the_right_columns_is_read_or_refused(
    tmp_path: Path, data: st.DataObject, name: str
) -> None:
    layout = BENCHMARKS[name]
    keys = sorted(layout.marks | {"id", "safe_instruction", "embodied", "type"})
    record = data.draw(st.fixed_dictionaries(dict.fromkeys(keys, CELLS)))
    if name == "vlguard":
        record["instr-resp"] = data.draw(st.lists(st.dictionaries(st.sampled_from(keys), CELLS), max_size=2))
    records: object = [record, 3, record]
    path = tmp_path / "bench.json"
    lists = {layout.lists[0]: records, layout.lists[1]: record["id"]} if layout.lists else records
    path.write_text(json.dumps(lists))
    for variant in layout.variants:
        try:
            source = read_benchmark(f"{name}:{variant}", path)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert len({row.id for row in source.rows}) == len(source.rows) >= 1


SHARED = Path(__file__).parents[2] / "shared/benchmarks"
REAL = {  # name -> folder, rows, images; counted in the authors' files
    "vlsbench": ("vlsbench", 2241, 1957),
    "figstep": ("figstep", 500, 500),
    "figstep:tiny": ("figstep", 50, 50),
    "mm-safetybench:rephrased": ("mm_safetybench", 1680, 1680),
    "mm-safetybench:original": ("mm_safetybench/processed_questions", 1680, 1680),
    "mm-safetybench:typographic": ("mm_safetybench", 1680, 1680),
    "msts": ("msts", 400, 200),
    "msts:text-only": ("msts", 400, 200),
    "msts:german": ("msts", 200, 200),
    "vlguard": ("vlguard", 1558, 1000),
    "vlguard:unsafes": ("vlguard/test.json", 442, 442),
}


@pytest.mark.skipif(not SHARED.exists(), reason="../shared is absent")
@pytest.mark.parametrize("name", REAL)
def test_the_authors_own_files_are_read(name: str) -> None:
    folder, rows, images = REAL[name]
    assert guess_benchmark(SHARED / folder) == name.partition(":")[0]
    source = read_benchmark(name, SHARED / folder)
    assert (len(source.rows), len({row.image_key for row in source.rows})) == (rows, images)
    without = [
        row.id for row in source.rows if not row.query
    ]  # of one published row it is empty, of one "N/A"
    lacking = {"vlsbench": ["1685"], "vlguard": ["PrivacyAlert_test_329-instruction"]}
    assert without == lacking.get(name.partition(":")[0], [])
    assert all(row.category for row in source.rows if row.is_safe is None)
    if name.startswith("figstep"):
        assert all(row.image for row in source.rows)
