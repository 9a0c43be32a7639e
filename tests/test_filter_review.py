"""The human check: decisions survive everything, edits are audited, nobody else gets in."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from data.errors import UserError
from data.records import Audit, Check, Pair
from data.reviews import Review, agreements, apply_reviews, cohens_kappa, read_reviews, standings
from filter.rescore import AuditorProcess
from filter.review import print_agreement
from filter.review_desk import Desk
from filter.review_table import export_table, import_table
from tests.browser import CHROMIUM, needs_chromium
from tests.small_run import make_run

REPOSITORY = Path(__file__).resolve().parents[1]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Scorer:
    """Scores by a word, so that a test knows the score; counts what it is asked."""

    asked = 0

    def score(self, queries: object, descriptions: object, origins: object = None) -> list[Audit]:
        assert isinstance(queries, list)
        self.asked += len(queries)
        return [Audit(leakage=0.9 if "gun" in query else 0.1) for query in queries]


class Server(NamedTuple):
    process: subprocess.Popen[str]
    address: str
    port: int
    token: str


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[Server]:
    """`filter.review` as a user starts it, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "filter.review", str(folder), "--port", str(port), "--reviewer", "Ada"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        address = process.stdout.readline().strip()
        asked = urlsplit(address)
        yield Server(process, address, asked.port or 0, parse_qs(asked.query)["token"][0])
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


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


def desk_of(folder: Path) -> tuple[Desk, list[Pair]]:
    kept = make_run(folder)
    return Desk(folder, Scorer()), kept


def test_an_edited_text_enters_only_after_it_passed_the_auditor(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    for pair, text in zip(kept, ("Where is it?", "Where is the gun?", "Where was it?"), strict=False):
        desk.decide("Ada", pair.id, "edit", text)
    deadline = time.monotonic() + 20
    while desk.unaudited() and time.monotonic() < deadline:
        time.sleep(0.02)
    never = [
        review for review in read_reviews(tmp_path) if review.pair != kept[2].id or review.action != "audit"
    ]
    through = apply_reviews(kept, never, desk.max_leakage)
    assert [pair.rejected.reason if pair.rejected else None for pair in through[:4]] == [
        None, "edit_leaks", "edit_not_audited", None,
    ]  # fmt: skip
    assert through[0].instruction == "Where is it?" and through[0].audit == Audit(leakage=0.1)


def test_an_edit_that_is_harmful_on_its_own_does_not_enter(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    check = Check(gate="still_harmful", passed=True, score=0.1, limit=0.95, by="auditor")
    pairs = [pair.replace(checks=(*pair.checks, check)) for pair in kept]
    edited = [
        Review(id="0", pair=kept[0].id, reviewer="Ada", action="edit", instruction="How?"),
        Review(id="1", pair=kept[0].id, reviewer="auditor", action="audit", instruction="How?",
               audit=Audit(leakage=0.1, text_harm=0.99)),
    ]  # fmt: skip
    through = apply_reviews(pairs, edited, desk.max_leakage)
    assert through[0].rejected is not None and through[0].rejected.reason == "edit_harmful"
    mild = [edited[0], edited[1].replace(audit=Audit(leakage=0.1, text_harm=0.3))]
    passed = apply_reviews(pairs, mild, desk.max_leakage)[0]
    assert passed.rejected is None
    found = passed.check("still_harmful")
    assert found is not None and found.score == 0.3  # the old text's figure is none of the new one


def test_a_decision_on_a_text_that_was_edited_since_counts_no_more(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    desk.decide("Ada", kept[0].id, "approve")
    desk.decide("Bo", kept[0].id, "edit", "Where is it?")
    assert desk.standing(kept[0].id).decisions == {}
    assert desk.undo("Bo") == kept[0].id
    assert desk.standing(kept[0].id).decisions["Ada"].action == "approve"
    assert desk.undo("Bo") is None


def test_a_pair_goes_when_no_majority_is_for_it(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    for reviewer, action in (("Ada", "approve"), ("Bo", "reject")):
        desk.decide(reviewer, kept[0].id, action, reason="tame" if action == "reject" else "")  # type: ignore[arg-type]
        desk.decide(reviewer, kept[1].id, "approve")
    through = apply_reviews(kept, read_reviews(tmp_path), 0.5)
    assert through[0].rejected is not None and through[0].rejected.detail == "1 against, 1 for: tame"
    assert through[1].rejected is None and through[2].rejected is None
    strict = apply_reviews(kept, read_reviews(tmp_path), 0.5, reviewed_only=True)
    assert [pair.id for pair in strict if pair.rejected is None] == [kept[1].id]


def test_kappa_is_cohens() -> None:
    votes = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert cohens_kappa(votes) == (pytest.approx(0.7), pytest.approx(0.4))  # the textbook's example
    assert cohens_kappa([(True, True)] * 3) == (1.0, None)


def test_two_reviewers_agreement_counts_the_pairs_both_decided(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    for place, pair in enumerate(kept[:6]):
        desk.decide("Ada", pair.id, "approve" if place % 2 else "reject", reason="tame")
    for place, pair in enumerate(kept[:4]):
        desk.decide("Bo", pair.id, "approve" if place % 2 else "reject", reason="tame")
    (found,) = agreements(desk.stand)
    assert (found.one, found.other, found.pairs, found.share, found.kappa) == ("Ada", "Bo", 4, 1.0, 1.0)
    assert desk.card(kept[5].id, "Bo")["others"] == []  # not before Bo has decided
    assert desk.card(kept[0].id, "Bo")["others"] != []


def test_a_torn_last_line_costs_that_line_alone(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    desk.decide("Ada", kept[0].id, "approve")
    desk.close()
    with open(tmp_path / "reviews.jsonl", "ab") as file:
        file.write(b'{"id": "000001", "pair": "')
    again = Desk(tmp_path, Scorer())
    again.decide("Ada", kept[1].id, "approve")
    assert [review.pair for review in read_reviews(tmp_path)] == [kept[0].id, kept[1].id]


def test_a_spreadsheet_goes_out_and_comes_back(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    path = tmp_path / "pairs.csv"
    export_table(desk, path)
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [pair.id for pair in kept]
    rows[0]["decision"] = "Approve"
    rows[1] |= {"decision": "reject", "reason": "off topic"}
    rows[2] |= {"decision": "approve", "new_instruction": "Where is it?"}
    with open(path, "w", encoding="utf-8-sig", newline="") as file:  # as a European Excel saves it
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    assert import_table(desk, path, "Cy") == 4
    assert import_table(desk, path, "Cy") == 0
    assert desk.standing(kept[1].id).decisions["Cy"].reason == "off topic"
    assert desk.text(kept[2].id) == "Where is it?"
    path.write_text(path.read_text(encoding="utf-8-sig").replace("Approve", "perhaps"))
    with pytest.raises(UserError, match="Line 2: 'perhaps' is no decision"):
        import_table(desk, path, "Cy")


def write_table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("id,decision,new_instruction", *lines)) + "\n")
    return path


def test_an_imported_edit_is_audited_once(tmp_path: Path) -> None:
    kept, scorer = make_run(tmp_path), Scorer()
    desk = Desk(tmp_path, scorer)
    lines = [f"{pair.id},approve,Where is it {number}?" for number, pair in enumerate(kept[:6])]
    assert import_table(desk, write_table(tmp_path / "pairs.csv", *lines), "Cy") == 12
    time.sleep(0.2)
    assert scorer.asked == 0
    desk.audit_edits(desk.unaudited())
    audits = [review for review in read_reviews(tmp_path) if review.action == "audit"]
    assert scorer.asked == len(audits) == 6


def test_a_table_holds_no_decisions_but_its_reviewers(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    for pair in kept[:4]:
        desk.decide("Bo", pair.id, "reject", reason="tame")
    desk.decide("Ada", kept[0].id, "approve", reason="fine")
    path = tmp_path / "pairs.csv"

    def decided(reviewer: str | None) -> list[tuple[str, str]]:
        export_table(desk, path, reviewer)
        with open(path, encoding="utf-8-sig", newline="") as file:
            return [(row["decision"], row["reason"]) for row in csv.DictReader(file)]

    assert set(decided(None)) == {("", "")}
    assert decided("Ada")[:2] == [("approve", "fine"), ("", "")]
    assert import_table(desk, path, "Ada") == 0  # nobody else's became hers


def test_a_table_shows_the_leakage_of_the_text_as_it_stands(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    desk.decide("Bo", kept[0].id, "edit", "Where is the gun?", audit=False)
    desk.audit_edits([kept[0].id])
    desk.decide("Bo", kept[1].id, "edit", "Where is it?", audit=False)
    export_table(desk, tmp_path / "pairs.csv")
    with open(tmp_path / "pairs.csv", encoding="utf-8-sig", newline="") as file:
        assert [row["leakage"] for row in csv.DictReader(file)][:3] == ["0.900", "", "0.040"]


def test_a_table_with_a_mistake_in_it_is_refused_whole(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    path, (first, second, *_) = tmp_path / "pairs.csv", [pair.id for pair in kept]
    twice = write_table(path, f"{second},approve,", f"{first},approve,", f"{first},reject,")
    with pytest.raises(UserError, match="Line 4: an earlier line says something else"):
        import_table(desk, twice, "Cy")
    with pytest.raises(UserError, match="is a quotation mark left open"):
        import_table(desk, write_table(path, f'{first},approve,"oops', *["x,y,z"] * 30_000), "Cy")
    with pytest.raises(UserError, match="name 'auditor' is taken"):
        import_table(desk, write_table(path, f"{first},approve,"), "auditor")
    export_table(desk, path)
    path.write_text(path.read_text(encoding="utf-8-sig").replace(",yes,,", ",yes,approve,"))
    desk.decide("Bo", second, "edit", "Where is it?", audit=False)
    with pytest.raises(UserError, match=r"Line 3: the text of .* was edited meanwhile"):
        import_table(desk, path, "Cy")
    assert {review.reviewer for review in read_reviews(tmp_path)} == {"Bo"}


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


def test_a_card_tells_that_the_auditor_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = make_run(tmp_path)
    desk = Desk(tmp_path, AuditorProcess(tmp_path / "nowhere.jsonl", "minilm"))
    desk.decide("Ada", kept[0].id, "edit", "Where is it?")
    assert desk.card(kept[0].id, "Ada")["waiting"]
    deadline = time.monotonic() + 60
    while desk.card(kept[0].id, "Ada")["waiting"] and time.monotonic() < deadline:
        time.sleep(0.05)
    card = desk.card(kept[0].id, "Ada")
    assert (card["waiting"], card["unaudited"]) == (False, True)
    said = capsys.readouterr().err
    assert "error: The auditor does not answer" in said and "Traceback" not in said
    desk.close()
    again = Desk(tmp_path, Scorer())
    again.audit_edits(again.unaudited())
    assert again.leakage(kept[0]) == 0.1


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


def test_two_who_rejected_everything_are_not_told_that_nobody_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk, kept = desk_of(tmp_path)
    for reviewer in ("Ada", "Bo"):
        desk.decide(reviewer, kept[0].id, "reject", reason="tame")
    print_agreement(desk)
    assert "not defined: both said the same of all" in capsys.readouterr().err


def test_an_undone_decision_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    desk.decide("Ada", kept[0].id, "approve")
    desk.decide("Ada", kept[1].id, "edit", "Where is it?", audit=False)
    desk.decide("Bo", kept[1].id, "approve")
    assert desk.undo("Ada") == kept[1].id
    texts = {pair.id: pair.instruction for pair in kept}
    known = {name: standing for name, standing in desk.stand.items() if standing.decisions}
    assert known.keys() == {kept[0].id}
    assert standings(read_reviews(tmp_path), texts)[kept[0].id] == known[kept[0].id]


def test_a_run_whose_filter_was_stopped_is_not_reviewed(tmp_path: Path) -> None:
    make_run(tmp_path)
    meta = tmp_path / "filter.meta.json"
    meta.write_text(meta.read_text().replace('"finished": true', '"finished": false'))
    with pytest.raises(UserError, match="has not been filtered to the end"):
        Desk(tmp_path, Scorer())


def test_a_cell_that_begins_like_a_formula_is_harmless_in_a_spreadsheet(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    desk.pairs[kept[0].id] = kept[0].replace(instruction='=HYPERLINK("http://evil.example")')
    path = tmp_path / "pairs.csv"
    export_table(desk, path)
    assert "'=HYPERLINK" in path.read_text(encoding="utf-8-sig")
    assert import_table(desk, path, "Cy") == 0


def test_a_review_line_names_no_unknown_action() -> None:
    with pytest.raises(ValueError):
        Review(id="0", pair="p", reviewer="Ada", action="maybe")  # type: ignore[arg-type]


def test_nobody_reviews_under_the_auditors_name(tmp_path: Path) -> None:
    make_run(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "filter.review", str(tmp_path), "--reviewer", " auditor "],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: The name 'auditor' is taken by the program: choose another.\n"


@pytest.mark.parametrize("module", ["filter.review", "filter.run"])
def test_a_folder_that_is_no_run_is_one_sentence_and_exit_code_2(tmp_path: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"error: .* is not the folder of a run .*\n", done.stderr)
