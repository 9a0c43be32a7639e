"""The construction report: its funnel and shares add up, and it says what it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from construct.report import write_report
from data.errors import UserError
from data.records import Audit, Pair, Span, SubCategory
from data.rows import write_json
from data.stage_meta import Spend, StageMeta

TAXONOMY = [
    SubCategory(id="a", category="First", sub_category="Part A", about="", share=0.75),
    SubCategory(id="b", category="Second", sub_category="Part B", about="", share=0.25),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two sub-categories became five drafts; one failed, one leaked, one was surplus, two stayed."""
    folder = tmp_path / "demo"
    for meta in (
        StageMeta(stage="elements", fingerprint="1", settings={}, finished=True, entered=2, kept=2),
        StageMeta(stage="describe", fingerprint="2", settings={"author": {"model": "bank"}}, finished=True,
                  entered=5, kept=4, failed={"invalid_reply": 1}, repaired={"leak": 2},
                  spend=Spend(calls=7, input_tokens=4000, output_tokens=1000, cost=0.25)),
        StageMeta(stage="filter", fingerprint="3", settings={"filter": {"max_leakage": 0.5}}, finished=True,
                  entered=4, kept=2, rejected={"leak": 1, "surplus": 1}),
    ):  # fmt: skip
        write_json(folder / f"{meta.stage}.meta.json", meta.model_dump())
    (folder / "images").mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "images" / "1.png")
    leaking = Audit(leakage=0.9, query_spans=(Span(text="revolver", weight=0.9),), content_from="author")
    pairs = [_pair("1", "images/1.png"), _pair("2", ""), _pair("3", "").replace(audit=leaking)]
    pairs = [
        *pairs[:2],
        pairs[2].reject("filter", "leak", "0.90"),
        _pair("4", "").reject("filter", "surplus"),
    ]
    (folder / "filter.jsonl").write_text("".join(pair.model_dump_json() + "\n" for pair in pairs))
    return folder


def _pair(identity: str, image: str) -> Pair:
    return Pair(id=identity, category="First", sub_category="Part A", instruction=f"query {identity}",
                image_description="a revolver", image_path=image, audit=Audit(leakage=0.1))  # fmt: skip


def test_the_report_holds_funnel_shares_and_pairs(run: Path) -> None:
    page = write_report(run, ["elements", "describe", "filter"], TAXONOMY)
    assert page == run / "report.html"
    html = page.read_text(encoding="utf-8")
    assert "of 2 sub-categories" in html
    for chip in ("failed: invalid reply 1", "leak 1", "surplus 1", "mended: leak 2", "0.25 USD"):
        assert chip in html
    assert "1 of 2" in html  # sub-categories covered
    assert "75.0%" in html  # the target of Part A
    assert "author.model" in html
    assert "data:image/webp" in html


def test_drafted_pairs_are_those_that_either_branch_began(run: Path) -> None:
    stages = ["elements", "describe", "filter"]
    for number, (stage, entered) in enumerate((("elements", 19), ("perceive", 3))):
        meta = StageMeta(stage=stage, fingerprint=str(number), settings={}, entered=entered, kept=entered)
        write_json(run / f"{stage}.meta.json", meta.model_dump())
    html = write_report(run, stages, TAXONOMY).read_text(encoding="utf-8")
    assert "of 5 drafted" in html and "of 19 sub-categories" in html  # a run with a --limit
    stages.insert(2, "perceive")
    assert "of 8 drafted" in write_report(run, stages, TAXONOMY).read_text(encoding="utf-8")


def test_a_leak_in_the_picture_is_a_leak_as_it_is_on_the_card(run: Path) -> None:
    for path in (run / "filter.jsonl", run / "filter.meta.json"):
        path.write_text(path.read_text().replace('"leak"', '"leak_in_image"'))
    html = write_report(run, ["filter"], TAXONOMY).read_text(encoding="utf-8")
    assert "Rejected for leaking (1)" in html and "Rejected for something else (1)" in html


def test_the_report_is_the_same_whenever_it_is_written(run: Path) -> None:
    first = write_report(run, ["elements", "describe", "filter"], TAXONOMY).read_bytes()
    assert write_report(run, ["elements", "describe", "filter"], TAXONOMY).read_bytes() == first


def test_a_run_that_has_not_come_that_far_says_so(run: Path) -> None:
    with pytest.raises(UserError, match="'build' first"):
        write_report(run, ["elements", "describe", "filter", "build"], TAXONOMY)


def test_a_run_that_kept_nothing_still_has_a_report(run: Path) -> None:
    lines = (run / "filter.jsonl").read_text().splitlines()
    (run / "filter.jsonl").write_text("\n".join(lines[2:]) + "\n")
    html = write_report(run, ["filter"], TAXONOMY).read_text(encoding="utf-8")
    assert "0 of 2" in html
