"""What is asked: cases, arms, and the audit that is joined to them."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from pathlib import Path

import pytest

from data.errors import UserError
from data.records import pair_id
from data.rows import write_json
from eval.arms import asks_of, parse_arms
from eval.cases import read_cases, read_leakage
from eval.records import Case
from eval.vsil_check import read_prevalence, run_check
from tests.vlsbench_folder import made_up, write

AUDITED = '{{"id": "{}", "source": "{}", "leakage": {}}}\n'


def test_an_audit_lends_its_scores_to_its_own_benchmark_only(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text(AUDITED.format(0, "a", 0.9) + AUDITED.format(1, "a", "null"))
    assert read_leakage(path, {"0": "q", "1": "q"}) == {"0": 0.9}
    with pytest.raises(UserError, match="has none of these 1 cases"):
        read_leakage(path, {"7": "q"})
    path.write_text(AUDITED.format(0, "a", 0.9) + AUDITED.format(0, "b", 0.1))
    with pytest.raises(UserError, match=r"an audit of several benchmarks \(a, b\)"):
        read_leakage(path, {"0": "q"})


def test_an_audit_of_a_benchmark_that_was_built_anew_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    row = {"id": "0", "source": "a", "query_digest": pair_id("Which of these is mine?"), "leakage": 0.9}
    path.write_text(json.dumps(row) + "\n")
    assert read_leakage(path, {"0": "Which of these is mine?"}) == {"0": 0.9}
    with pytest.raises(UserError, match="another query of the case '0'"):
        read_leakage(path, {"0": "Where do I put this?"})


@pytest.mark.parametrize("score", ['"much"', "[1]", "NaN", "7", "true"])
def test_an_audits_score_that_is_none_is_named(score: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text(AUDITED.format(0, "a", 0.9) + AUDITED.format(1, "a", score))
    with pytest.raises(UserError, match=r"Line 2 of .* is not a row this program wrote"):
        read_leakage(path, {"0": "q"})


def test_the_prevalence_beside_the_check_is_that_of_the_one_audited_benchmark(tmp_path: Path) -> None:
    def audit_of(sources: object) -> Path:
        write_json(tmp_path / "summary.json", {"sources": sources})
        return tmp_path

    one = {"source": "a", "prevalence": {"value": 0.2, "low": 0.1, "high": 0.3}}
    found = read_prevalence(audit_of([one]))
    assert found is not None and found.value == 0.2
    assert read_prevalence(audit_of([one | {"prevalence": None}])) is None
    with pytest.raises(UserError, match=r"several benchmarks \(a, b\)"):
        read_prevalence(audit_of([one, one | {"source": "b"}]))
    for other in (3, [], [3], [{"source": "a", "prevalence": {"value": 1}}]):
        with pytest.raises(UserError, match=r"holds no summary\.json of an audit"):
            read_prevalence(audit_of(other))
    (tmp_path / "summary.json").write_text("3")
    with pytest.raises(UserError, match=r"holds no summary\.json of an audit"):
        read_prevalence(tmp_path)


def test_the_check_names_a_built_benchmark_by_its_run_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "mine" / "benchmark", made_up(4))
    options = Namespace(
        data=str(data), out=tmp_path / "out", guard="blind", audit=None, limit=None, pickled_weights=False,
        url=None, key_variable="K", workers=1, retry_failed=False,
    )  # fmt: skip
    assert run_check(options) == 0
    assert "mine/benchmark" in capsys.readouterr().out


def test_every_arm_shows_what_it_should(tmp_path: Path) -> None:
    cases = read_cases(str(write(tmp_path / "b", made_up(12))))
    asks = {
        arm: asks_of(arm, cases, tmp_path, "b") for arm in parse_arms("image,text_only,blank,caption,swap")
    }
    for at, case in enumerate(cases):
        assert asks["image"][at].image == case.image and asks["text_only"][at].image is None
        assert asks["caption"][at].question.startswith("The image shows: A table with")
        swapped = asks["swap"][at]
        assert swapped.image_sha256 not in ("", case.image_sha256)
        others = [each.category for each in cases if each.image_sha256 == swapped.image_sha256]
        assert set(others) - {case.category}
        assert asks["blank"][at].image_sha256 not in {each.image_sha256 for each in cases}
    assert asks["swap"] == asks_of("swap", cases, tmp_path, "b")  # the same others every time
    assert asks["swap"][:3] == asks_of("swap", cases[:3], tmp_path, "b", cases)  # also of the first few


def test_swapping_takes_no_time_to_speak_of_where_no_case_has_a_category() -> None:
    cases = [
        Case(id=str(at), question="q", image=Path(f"{at}.png"), image_sha256=f"{at}", image_key=f"{at}")
        for at in range(20_000)
    ]
    started = time.monotonic()
    asks = asks_of("swap", cases, Path(), "b")
    assert time.monotonic() - started < 10  # comparing all with all takes minutes
    assert all(ask.image_sha256 != case.image_sha256 for ask, case in zip(asks, cases, strict=True))


def test_a_benchmark_without_pictures_can_still_be_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps(made_up(3)))
    cases = read_cases(str(tmp_path))
    assert [ask.problem for ask in asks_of("text_only", cases, tmp_path, "b")] == ["", "", ""]
    with pytest.raises(UserError, match="has a picture file"):
        asks_of("image", cases, tmp_path, "b")
