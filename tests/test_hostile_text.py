"""Strangers' texts in the pages that are not reports of ours alone: evaluation, review, dataset card, charts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest

from data.build import build_run
from data.records import Pair, Span, SubCategory
from data.run_folder import read_plan, write_plan
from data.stage import read_stage
from tests.browser import needs_chromium, visit
from tests.hostile import everything, strings
from tests.review_run import FLAGS, served
from tests.small_run import make_run, put_on_record

REPOSITORY = Path(__file__).resolve().parents[1]


def whole(port: int) -> list[str]:
    """The corpus without half a surrogate pair, which no file of ours can hold."""
    return [
        text for text in strings(port) if text.isascii() or text == text.encode("utf-8", "ignore").decode()
    ]


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory, server: ThreadingHTTPServer) -> Path:
    """A filtered run in which every text field of every pair is hostile."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    kept = make_run(folder, pairs=len(whole(0)), leaking=1)
    pairs = [_hostile(pair, text) for pair, text in zip(kept, whole(server.server_port), strict=False)]
    for name in (*read_plan(folder).stages,):
        (folder / f"{name}.jsonl").unlink()
        (folder / f"{name}.meta.json").unlink()
    put_on_record(folder, pairs)
    text = " ".join(whole(server.server_port)).replace("\0", "")
    write_plan(folder, read_plan(folder).replace(name=text, license=text, models={text: text}))
    return folder


def _hostile(pair: Pair, text: str) -> Pair:
    assert pair.drawing is not None and pair.audit is not None
    spans = (Span(text=text, weight=0.5),)
    return pair.replace(
        element=text, category=text, sub_category=text, source=text, image_description=text, harmful_query=text,
        instruction=text, safety_reason=text, audit=pair.audit.replace(query_spans=spans, image_spans=spans),
        drawing=pair.drawing.replace(generator=text, prompt=text, note=text, revision=text),
        checks=tuple(check.replace(by=text, reason=text) for check in pair.checks),
    )  # fmt: skip


@needs_chromium
def test_the_evaluations_report_executes_nothing(tmp_path: Path, server: ThreadingHTTPServer) -> None:
    rows = [
        dict.fromkeys(
            ("instruction", "category", "sub_category", "source", "image_description", "safety_reason"), text
        )
        | {"instruction_id": place, "image_path": text}
        for place, text in enumerate([everything(server.server_port), *strings(server.server_port)])
    ]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    done = subprocess.run(
        [sys.executable, "-m", "eval.run", "--arch", "blind", "--judge", "refusal", "--arms", "text_only,caption",
         "--data", str(tmp_path), "--out", str(tmp_path / "out")],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = visit(tmp_path / "out/report.html", tmp_path / "profile")
    assert seen.title not in ("", "acted")
    assert seen.console == []
    assert server.asked == []  # type: ignore[attr-defined]


@needs_chromium
def test_the_review_page_executes_nothing_and_asks_nobody_else(
    hostile_run: Path, server: ThreadingHTTPServer
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("fastapi")
    trouble: list[str] = []
    asked: set[str] = set()
    with playwright.sync_playwright() as driver, served(hostile_run) as desk:
        browser = driver.chromium.launch(args=FLAGS, executable_path=_chromium())
        page = browser.new_page()
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: trouble.append(dialog.message))
        page.on("request", lambda request: asked.add(request.url.split("/")[2]))
        page.goto(desk.address)
        page.wait_for_selector("#pair:not([hidden])")
        for _ in whole(0):
            page.keyboard.press("v")
            page.keyboard.press("c")
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(30)
        assert page.title() != "acted"
        browser.close()
    assert trouble == []
    assert asked == {f"127.0.0.1:{desk.port}"}
    assert server.asked == []  # type: ignore[attr-defined]


def _chromium() -> str:
    from tests.browser import CHROMIUM

    assert CHROMIUM
    return CHROMIUM


@pytest.fixture(scope="module")
def hostile_benchmark(hostile_run: Path) -> Path:
    text = whole(0)[0]
    taxonomy = [SubCategory(id=text, category=text, sub_category=text, about=text, share=1.0)]
    return build_run(hostile_run, taxonomy)


@needs_chromium
def test_a_card_rendered_with_raw_html_allowed_executes_nothing(
    hostile_benchmark: Path, tmp_path: Path, server: ThreadingHTTPServer
) -> None:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
    _, header, body = (hostile_benchmark / "README.md").read_text().split("---\n", 2)
    yaml = pytest.importorskip("yaml")
    assert {"license", "pretty_name", "tags", "configs"} <= yaml.safe_load(header).keys()
    page = tmp_path / "card.html"
    page.write_text(f"<!doctype html><title>card</title><meta charset=utf-8>{markdown.render(body)}")
    assert "alert" not in page.read_text() and "<script" not in page.read_text()
    seen = visit(page, tmp_path / "profile")
    assert seen.title == "card"
    assert server.asked == []  # type: ignore[attr-defined]
    ours = {"taxonomy.svg", "leakage.svg", "funnel.svg"}
    assert {part.split('"')[0].rpartition("/")[2] for part in page.read_text().split("<img src=")[1:]} <= {
        "", *ours,
    }  # fmt: skip


def test_charts_hold_text_and_no_markup_of_strangers(hostile_benchmark: Path) -> None:
    for chart in (hostile_benchmark / "charts").iterdir():
        for element in ElementTree.parse(chart).iter():
            assert element.tag.rpartition("}")[2] in {"svg", "g", "path", "rect", "line", "text", "tspan",
                                                      "title", "style", "desc", "circle", "polyline"}  # fmt: skip
            assert not [name for name in element.attrib if name.startswith("on") or "href" in name]


def test_what_was_built_reads_back_as_the_same_texts(hostile_run: Path, hostile_benchmark: Path) -> None:
    kept = [pair for pair in read_stage(hostile_run, "filter", Pair) if pair.rejected is None]
    rows = json.loads((hostile_benchmark / "data.json").read_text())
    assert [row["instruction"] for row in rows] == [pair.instruction for pair in kept]
    assert {os.path.dirname(row["image_path"]) for row in rows} == {"imgs"}  # noqa: PTH120
