"""Pages: whatever a stranger's text says, it stays text, and nothing but our own script runs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from audit.calibrations import Calibration, LeakFree
from audit.report import Settings
from audit.report import write_report as write_audit_report
from audit.summary import Audited, summarise
from construct.report import write_report as write_construction_report
from data.pages.page import count, json_block, percent, plural, policy
from data.pages.thumbnails import thumbnail, thumbnails
from data.records import Audit, Pair, Span, SubCategory
from data.rows import write_json
from data.sources.columns import Columns
from data.sources.reader import Note, Source, SourceRow
from data.stage_meta import StageMeta
from tests.browser import needs_chromium, visit
from tests.hostile import ACT, everything, strings

OWN_SCRIPTS = 2  # base.js and report.js; data blocks are not scripts that run


@pytest.fixture
def audit_page(tmp_path: Path, server: ThreadingHTTPServer) -> Path:
    """An audit report in which every text field is hostile."""
    text = everything(server.server_port)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "picture.png")
    rows, audits = [], []
    for place, one in enumerate([text, *strings(server.server_port)]):
        rows.append(
            SourceRow(id=f"{place} {one}", query=one, image_description=one, image_key=one, category=one,
                      sub_category=one, image=str(tmp_path / "picture.png") if place % 2 else None)
        )  # fmt: skip
        span = (Span(text=one, weight=0.7),)
        scored = Audit(leakage=0.9, text_harm=0.5, p_value=0.01, leaks=True, query_spans=span,
                       image_spans=span, content_from=one)  # fmt: skip
        audits.append(scored if place % 3 else Audit(unscored_because=one))
    note = Note(reason=text, rows=(text,), example=text)
    source = Source(
        name=text, columns=Columns(query=(text,)), rows=tuple(rows), notes=(note,), benchmark=text
    )
    calibration = Calibration(
        embedder=text,
        terms={},
        intercept=0,
        conformal={"author": LeakFree(scores=(0.1, 0.2), location=-2, spread=1)},
        provenance={text: text},
    )
    audited = [
        Audited(text, source, audits),
        Audited("b", source, audits),
    ]
    summaries = [summarise(each, 0.8, 0.05) for each in audited]
    path = tmp_path / "audit.html"
    write_audit_report(path, audited, summaries, Settings(text, calibration, 0.05))
    return path


@pytest.fixture
def construction_page(tmp_path: Path, server: ThreadingHTTPServer) -> Path:
    """A construction report in which every text field is hostile."""
    text = everything(server.server_port)
    run = tmp_path / "run"
    Image.new("RGB", (32, 32), "red").save(tmp_path / "outside.png")
    meta = StageMeta(stage="filter", fingerprint="x", settings={text: {text: text}}, finished=True, entered=4,
                     kept=2, rejected={text: 1}, failed={text: 1})  # fmt: skip
    write_json(run / "filter.meta.json", _without_half_pairs(meta.model_dump()))
    audit = Audit(leakage=0.2, query_spans=(Span(text=text, weight=1),), content_from="author")
    pair = Pair(id="a", category=text, sub_category=text, image_description=text, harmful_query=text,
                instruction=text, safety_reason=text, image_path="../outside.png", audit=audit)  # fmt: skip
    pairs = [pair, pair.replace(id="b", category="C"), pair.replace(id="c").reject("filter", "leak", text)]
    lines = [json.dumps(pair.model_dump()) for pair in pairs]  # half pairs as escapes
    (run / "filter.jsonl").write_text("\n".join(lines) + "\n")
    taxonomy = [SubCategory(id=text, category=text, sub_category=text, about=text, share=1.0)]
    return write_construction_report(run, ["filter"], taxonomy)


def _without_half_pairs(value: object) -> object:
    if isinstance(value, dict):
        return {_without_half_pairs(key): _without_half_pairs(each) for key, each in value.items()}
    return re.sub("[\ud800-\udfff]", "?", value) if isinstance(value, str) else value


class Tags(HTMLParser):
    """Collects the page's elements and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("fixture", ["audit_page", "construction_page"])
def test_hostile_text_makes_no_elements(fixture: str, request: pytest.FixtureRequest) -> None:
    html = request.getfixturevalue(fixture).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(html)
    running = [attributes for tag, attributes in tags.found if tag == "script" and not attributes.get("type")]
    assert len(running) == OWN_SCRIPTS
    assert not {tag for tag, _ in tags.found} & {
        "iframe",
        "object",
        "img",
        "form",
        "base",
        "template",
        "math",
    }
    for tag, attributes in tags.found:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not re.match(r"\s*(javascript|https?):", attributes.get("href") or attributes.get("src") or "")
        assert "style" not in attributes
    assert "{{ 7 * 7 }}" in html  # a template's language is no language to us
    for text in strings(0):
        if "<" in text and "127.0.0.1" not in text:
            assert text not in html


@needs_chromium
@pytest.mark.parametrize("fixture", ["audit_page", "construction_page"])
def test_hostile_pages_open_and_only_our_script_runs(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path, server: ThreadingHTTPServer
) -> None:
    seen = visit(request.getfixturevalue(fixture), tmp_path / "profile")
    assert 'class="row"' in seen.dom or 'class="card"' in seen.dom  # our own script ran
    assert seen.title not in ("", "acted")
    assert seen.console == []
    assert server.asked == []  # type: ignore[attr-defined]


@needs_chromium
def test_the_policy_stops_a_script_that_got_in(audit_page: Path, tmp_path: Path) -> None:
    html = audit_page.read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(html.replace("<main>", f"<main><script>{ACT}</script><img src=x onerror={ACT}>"))
    seen = visit(broken, tmp_path / "profile")
    assert seen.title != "acted"
    assert any("Content Security Policy" in line for line in seen.console)


@needs_chromium
def test_without_the_policy_the_same_script_would_act(audit_page: Path, tmp_path: Path) -> None:
    html = re.sub(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", audit_page.read_text(encoding="utf-8")
    )
    broken = tmp_path / "broken.html"
    broken.write_text(html.replace("<main>", f"<main><script>{ACT}</script>"))
    assert visit(broken, tmp_path / "profile").title == "acted"


@needs_chromium
def test_what_is_hidden_is_not_seen_and_text_runs_its_own_way(audit_page: Path, tmp_path: Path) -> None:
    """No category is named: there is none to choose. A Hebrew question has its mark at its left end."""
    html = audit_page.read_text(encoding="utf-8")
    probe = """<div class="tools"><label id="gone" hidden>Category</label></div><p class="text" id="asked"><b>\u05d0</b>
        \u05d1<i>?</i></p><script>const left = (one) => document.querySelector(one).getBoundingClientRect().left;
        document.title = [getComputedStyle(document.getElementById("gone")).display,
                          left("#asked i") < left("#asked b")].join(" ");</script>"""
    html = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", html).replace(
        "</main>", probe + "</main>"
    )
    page = tmp_path / "probed.html"
    page.write_text(html, encoding="utf-8")
    assert visit(page, tmp_path / "profile").title == "none true"


def test_pictures_outside_of_the_run_stay_outside(construction_page: Path) -> None:
    assert "data:image" not in construction_page.read_text(encoding="utf-8")


def test_the_policy_allows_nothing_but_what_it_names() -> None:
    rules = dict(rule.split(" ", 1) for rule in policy(["a"], ["b"]).split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules["script-src"])
    assert "unsafe" not in policy(["a"], ["b"])


def test_data_cannot_close_its_block() -> None:
    block = json_block(["</script><script>", "<!--", "&", "'"], '"><b>')
    assert block.count("</script>") == 1
    assert "<!--" not in block
    assert "<b>" not in block


def test_thumbnails_stop_at_their_budget_and_survive_what_is_no_picture(tmp_path: Path) -> None:
    Image.effect_noise((400, 300), 80).save(tmp_path / "real.png")
    (tmp_path / "page.png").write_text("<svg onload=alert(1)>")
    (tmp_path / "torn.png").write_bytes((tmp_path / "real.png").read_bytes()[:400])
    assert thumbnail(tmp_path / "page.png", 64) is None
    assert thumbnail(tmp_path / "torn.png", 64) is None
    assert thumbnail(tmp_path / "missing.png", 64) is None
    one = thumbnail(tmp_path / "real.png", 64)
    assert one
    assert one.startswith("data:image/webp;base64,")
    made = thumbnails([tmp_path / "real.png"] * 200, 64, budget_bytes=10 * len(one))
    assert [uri is not None for uri in made] == [True] * 10 + [False] * 190


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "I;16", "RGBA", "1", "F", "YCbCr"])
def test_every_kind_of_picture_has_a_thumbnail(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    image = Image.new("L", (90, 60), 128) if mode != "I;16" else Image.new("I;16", (90, 60), 30000)
    (image if mode == "I;16" else image.convert(mode)).save(path)
    assert thumbnail(path, 64)


def test_numbers_read_well() -> None:
    assert (percent(0.0423), percent(None), count(12345)) == ("4.2%", "–", "12,345")
    assert (plural(1, "pair"), plural(2, "pair"), plural(3, "category", "categories")) == (
        "1 pair", "2 pairs", "3 categories",
    )  # fmt: skip
