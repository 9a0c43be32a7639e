"""The human check: what reviewers decide, how edits are audited, and how far reviewers agree."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.errors import UserError
from data.records import Audit, Check
from data.reviews import Review, agreements, apply_reviews, cohens_kappa, read_reviews, standings
from filter.rescore import AuditorProcess
from filter.review import print_agreement
from filter.review_desk import Desk
from tests.review_run import REPOSITORY, Scorer, desk_of
from tests.small_run import make_run


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


def test_an_edit_that_the_auditor_flags_does_not_enter_though_its_score_is_below_the_limit(
    tmp_path: Path,
) -> None:
    desk, kept = desk_of(tmp_path)
    edited = [
        Review(id="0", pair=kept[0].id, reviewer="Ada", action="edit", instruction="How?"),
        Review(id="1", pair=kept[0].id, reviewer="auditor", action="audit", instruction="How?",
               audit=Audit(leakage=0.4, p_value=0.01, leaks=True)),
    ]  # fmt: skip
    flagged = apply_reviews(kept, edited, desk.max_leakage)[0]
    assert desk.max_leakage == 0.5 and flagged.rejected is not None
    assert flagged.rejected.reason == "edit_leaks"
    assert flagged.rejected.detail == "the edited text leaks: the auditor flags it, p = 0.010"
    found = flagged.check("leak")
    assert found is not None and found.passed is False and found.score == 0.4


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


def test_after_a_damaged_line_was_deleted_an_undo_withdraws_its_own_decision_alone(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    for pair in kept[:2]:
        desk.decide("Ada", pair.id, "approve")
    desk.decide("Bo", kept[2].id, "approve")
    desk.close()
    log = tmp_path / "reviews.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[1:]))
    again = Desk(tmp_path, Scorer())
    again.decide("Ada", kept[3].id, "reject", reason="tame")
    assert again.undo("Ada") == kept[3].id
    stand = standings(read_reviews(tmp_path), {pair.id: pair.instruction for pair in kept})
    assert {name: list(each.decisions) for name, each in stand.items() if each.decisions} == {
        kept[1].id: ["Ada"], kept[2].id: ["Bo"],
    }  # fmt: skip


def test_a_text_a_hair_above_the_limit_is_shown_above_it(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    just_above = Audit(leakage=desk.max_leakage + 0.0004)
    assert desk.leakage(kept[0].replace(audit=just_above)) == just_above.leakage


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
