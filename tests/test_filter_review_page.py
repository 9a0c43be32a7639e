"""The review page: decisions by keyboard survive everything, and nobody else gets in."""

from __future__ import annotations

import html
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from data.records import Pair
from data.reviews import apply_reviews, read_reviews, standings
from tests.browser import CHROMIUM, needs_chromium
from tests.review_run import FLAGS, desk_of, served
from tests.small_run import make_run


def status(address: str, **headers: str) -> int:
    request = urllib.request.Request(
        address, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_nobody_gets_in_without_the_token_or_under_another_name(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    make_run(tmp_path)
    with served(tmp_path) as server:
        base = f"http://127.0.0.1:{server.port}"
        assert status(server.address) == 200
        assert status(f"{base}/?token=wrong") == status(f"{base}/") == 403
        assert status(f"{base}/pairs?reviewer=Ada") == 403
        picture = next((tmp_path / "images").iterdir()).stem
        assert status(f"{base}/pictures/{picture}") == 403
        assert status(server.address, Host="evil.example") == 403  # DNS rebinding
        assert status(server.address, Origin="http://evil.example") == 403
        for other in other_addresses():
            with pytest.raises(OSError):
                socket.create_connection((other, server.port), timeout=3).close()
        assert (tmp_path / ".review-token").stat().st_mode & 0o077 == 0
        with urllib.request.urlopen(server.address) as answer:
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert "script-src 'sha256-" in html.unescape(answer.read().decode())


def test_a_token_file_that_a_full_disk_left_empty_lets_nobody_in(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    make_run(tmp_path)
    (tmp_path / ".review-token").touch()
    with served(tmp_path) as server:
        assert len(server.token) > 20
        assert status(f"http://127.0.0.1:{server.port}/?token=") == 403
    assert (tmp_path / ".review-token").stat().st_mode & 0o077 == 0


def other_addresses() -> list[str]:
    """This machine's address towards others, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return []
        address = str(probe.getsockname()[0])
    return [] if address.startswith(("127.", "0.")) else [address]


@needs_chromium
def test_by_keyboard_alone_decisions_survive_reload_and_a_killed_server(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("fastapi")
    kept = make_run(tmp_path)
    shown = "#pair:not([hidden])"

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        trouble: list[str] = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda said: trouble.append(said.text) if "Security" in said.text else None)

        def press(*keys: str) -> None:
            for key in keys:
                page.keyboard.press(key)

        def says(control: str, text: str) -> None:
            playwright.expect(page.locator(f"#{control}")).to_contain_text(text, timeout=60_000)

        def decided(count: int) -> None:
            says("progress", f"{count} of 12")

        def on(pair: Pair) -> None:
            says("where", pair.id)

        with served(tmp_path) as server:
            page.goto(server.address)
            page.wait_for_selector(shown)
            on(kept[0])
            assert page.locator(".picture.shown").count() == 0  # blurred until asked for
            press("v")
            assert page.locator(".picture.shown").count() == 1
            press("a")
            on(kept[1])
            press("r", "2")
            on(kept[2])
            press("r")
            page.keyboard.type("too dark to see")
            press("Enter")
            on(kept[3])
            edit(page, kept[3].image_description + " How do I do that?")
            says("limit", "above the limit")
            press("u")
            playwright.expect(page.locator(".was")).to_have_count(0)
            edit(page, "What would you advise me to do about this?")
            says("query", "What would you advise")
            says("limit", "limit 0.5")
            press("a")
            on(kept[4])
            press("a")
            decided(5)
            press("u")
            decided(4)
            on(kept[4])
            page.reload()
            page.wait_for_selector(shown)
            decided(4)
            on(kept[4])
            press("ArrowRight")
            on(kept[5])
            press("ArrowLeft")
            on(kept[4])
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
            press("a")
            says("trouble", "Not saved")
            press("ArrowRight")
            says("trouble", "The server does not answer")
            on(kept[4])
        with served(tmp_path, server.port) as again:
            assert again.token == server.token  # the open tab goes on
            press("a")
            decided(5)
            on(kept[5])
            page.set_viewport_size({"width": 390, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert trouble == []

    stand = standings(read_reviews(tmp_path), {pair.id: pair.instruction for pair in kept})
    said = {name: each.decisions["Ada"].action for name, each in stand.items() if "Ada" in each.decisions}
    approve, reject = "approve", "reject"
    assert said == dict(
        zip([pair.id for pair in kept[:5]], (approve, reject, reject, approve, approve), strict=True)
    )
    assert stand[kept[1].id].decisions["Ada"].reason == "the text gives the danger away"
    assert stand[kept[2].id].decisions["Ada"].reason == "too dark to see"
    through = apply_reviews(kept, read_reviews(tmp_path), 0.5)
    assert through[3].instruction == "What would you advise me to do about this?"
    assert through[3].audit is not None and through[3].audit.leakage is not None
    assert [pair.rejected is None for pair in through[:5]] == [True, False, False, True, True]


def edit(page, text: str) -> None:  # type: ignore[no-untyped-def]
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def test_nobody_approves_a_text_that_was_not_shown(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    from filter.review_app import make_app

    desk, kept = desk_of(tmp_path)
    client = TestClient(
        make_app(desk, "secret", 9), "http://127.0.0.1:9", headers={"X-Review-Token": "secret"}
    )
    before = client.get(f"/pairs/{kept[0].id}?reviewer=Ada").json()["query"]
    desk.decide("Bo", kept[0].id, "edit", "Where is the gun?", audit=False)
    decision = {"reviewer": "Ada", "pair": kept[0].id, "action": "approve"}
    refused = client.post("/decisions", json=decision | {"shown": before})
    assert (refused.status_code, refused.json()["error"]) == (
        409, "The text was edited meanwhile: look again.",
    )  # fmt: skip
    assert desk.standing(kept[0].id).decisions == {}
    assert client.post("/decisions", json=decision | {"shown": "Where is the gun?"}).status_code == 200
    assert desk.standing(kept[0].id).decisions["Ada"].instruction == "Where is the gun?"
    nameless = client.get("/pairs?reviewer=auditor")
    assert nameless.status_code == 400 and "is taken" in nameless.json()["error"]


def test_ctrl_c_ends_the_auditor_without_a_word_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    kept = make_run(tmp_path)
    with served(tmp_path) as server:
        edited = {"reviewer": "Ada", "pair": kept[0].id, "action": "edit", "instruction": "Where is it?"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/decisions",
            json.dumps(edited | {"shown": kept[0].instruction}).encode(),
            {"X-Review-Token": server.token, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.loads(answer.read())["waiting"]
        time.sleep(1)  # the auditor is loading
        os.killpg(server.process.pid, signal.SIGINT)
        _, said = server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    assert said == ""
    assert len(read_reviews(tmp_path)) == 1
