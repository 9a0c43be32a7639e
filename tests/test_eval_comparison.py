"""Models side by side: paired differences, the alignment table, the paper's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.errors import UserError
from eval.comparison import align_runs, alignment_table, compare, compare_runs, read_table
from eval.ledger import write_ledger
from eval.published import published
from eval.records import Label, LedgerRow
from eval.runs import names_of, read_run
from tests.ledger_rows import evaluation, row


def test_models_are_compared_pair_by_pair_with_holm() -> None:
    base = [row(at, 3) for at in range(60)]
    better = [row(at, 1 if at < 20 else 3) for at in range(60)]
    same = [row(at, 3 if at else None) for at in range(60)]
    found = compare([("base", base), ("better", better), ("same", same)])
    by_names = {(each.first, each.second): each for each in found}
    gain = by_names["base", "better"]
    assert gain.difference.value == pytest.approx(1 / 3) and gain.only_second == 20 and gain.only_first == 0
    assert gain.p == pytest.approx(2 * 0.5**20) and gain.p_holm == pytest.approx(3 * gain.p)
    nothing = by_names["base", "same"]
    assert (nothing.pairs, nothing.p) == (59, 1.0)
    assert nothing.difference.low == -nothing.difference.high < 0


def test_different_benchmarks_are_not_compared_by_their_row_numbers() -> None:
    mine = [row(at, 3, question=f"q{at}", image_sha256=f"p{at}") for at in range(20)]
    others = {
        "question": [row(at, 1, question=f"other {at}", image_sha256=f"p{at}") for at in range(20)],
        "picture": [row(at, 1, question=f"q{at}", image_sha256=f"other {at}") for at in range(20)],
    }
    for theirs in others.values():
        with pytest.raises(UserError, match=r"a and b are of different benchmarks.*20 of 20"):
            compare([("a", mine), ("b", theirs)])
    moved = [row(at, 1, question=f"q{at}", image_sha256=f"p{at}", image=f"pictures/{at}") for at in range(20)]
    assert compare([("a", mine), ("b", moved)])[0].only_second == 20


def test_runs_of_one_model_are_told_apart_by_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(at, 3 if at % 2 else 1) for at in range(10)]
    first, second = (evaluation(tmp_path / name / "out", rows, name) for name in ("one", "two"))
    assert names_of([read_run(first), read_run(second)]) == ["one/out", "two/out"]
    assert compare_runs([first, second], tmp_path / "c") == 0
    assert "The judges differ (one/out: one; two/out: two)" in capsys.readouterr().out
    assert "The judges differ (one/out: one; two/out: two)" in (tmp_path / "c/report.html").read_text()
    with pytest.raises(UserError, match="is named twice"):
        compare_runs([first, first], None)


def test_two_forms_of_one_benchmark_are_compared_in_every_arm() -> None:
    """In VLSBench's layout a picture has a file's name, embedded in Parquet a digest: its content tells."""

    def ledger(form: str, label: Label, contents: str = "p") -> list[LedgerRow]:
        return [
            row(
                at,
                label,
                arm,
                f"{form}{at}",
                question=f"q{at}",
                image_sha256=f"{contents}{at}" * (arm == "image"),
            )
            for arm in ("image", "text_only")
            for at in range(20)
        ]

    found = compare([("a", ledger("imgs/", 3)), ("b", ledger("digest", 1))])
    assert [(each.arm, each.only_second) for each in found] == [("image", 20), ("text_only", 20)]
    with pytest.raises(UserError, match="different benchmarks"):
        compare([("a", ledger("imgs/", 3)), ("b", ledger("imgs/", 1, contents="other"))])
    texts = [each for each in ledger("imgs/", 1) if each.arm == "text_only"]
    assert compare([("a", ledger("imgs/", 3)), ("b", texts)])[0].only_second == 20


def test_a_comparison_says_whose_rows_lack_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = evaluation(tmp_path / "whole", [row(at, 3, model="whole") for at in range(20)])
    few = evaluation(tmp_path / "few", [row(at, None if at else 1, model="few") for at in range(20)])
    assert compare_runs([whole, few], None) == 0
    printed = capsys.readouterr().out
    assert "few: more than 3 % of an arm's rows have no verdict" in printed and "whole: more" not in printed


def test_a_report_goes_into_no_file(tmp_path: Path) -> None:
    rows = [row(at, 3 if at % 2 else 1) for at in range(10)]
    first, second = (evaluation(tmp_path / name, rows) for name in ("one", "two"))
    (tmp_path / "report.html").write_text("mine")
    (tmp_path / "t.toml").write_text('[[row]]\nbase = "L"\nalignment = "base"\n')
    for compared in (
        lambda out: compare_runs([first, second], out),
        lambda out: align_runs(tmp_path / "t.toml", out),
    ):
        with pytest.raises(UserError, match="Cannot write to"):
            compared(tmp_path / "report.html")


def test_the_alignment_table_gives_bounds_where_rows_have_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ledger(tmp_path / "half/ledger.jsonl", [row(at, 1 if at < 50 else None) for at in range(100)])
    write_ledger(tmp_path / "none/ledger.jsonl", [row(at, None) for at in range(100)])
    (tmp_path / "t.toml").write_text(
        '[[row]]\nbase = "L"\nalignment = "base"\nleak_free = { V = "half", W = "none" }\n'
    )
    assert align_runs(tmp_path / "t.toml", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "100.0 [92.9, 100.0] (50.0 to 100.0)" in printed and "- (0.0 to 100.0)" in printed
    (table,) = json.loads((tmp_path / "alignment.json").read_text())
    assert (table["V"]["judged"], table["V"]["lowest"], table["W"]["value"]) == (50, 0.5, None)


@pytest.mark.parametrize("content", [b"\xff[[row]]\n", b"row = 3\n", b"[[row]\n", b"x = 1\n"])
def test_a_table_that_is_none_is_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_bytes(content)
    with pytest.raises(UserError, match="is no table of runs"):
        read_table(tmp_path / "t.toml")


def test_the_alignment_table_is_made_of_the_runs_a_toml_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # some library sets it to 80 in passing
    for name, safe in (("vls", 10), ("fig", 50)):
        (tmp_path / name).mkdir()
        write_ledger(tmp_path / name / "ledger.jsonl", [row(at, 1 if at < safe else 3) for at in range(100)])
    (tmp_path / "table.toml").write_text(
        '[[row]]\nbase = "L"\nalignment = "textual"\n'
        'leaking = { FigStep = "fig" }\nleak_free = { VLSBench = "vls" }\n'
    )
    (table,) = alignment_table(read_table(tmp_path / "table.toml"), tmp_path)
    assert table["FigStep"]["value"] == 0.5 and table["VLSBench"]["value"] == 0.1  # type: ignore[index]
    assert align_runs(tmp_path / "table.toml", None) == 0
    printed = capsys.readouterr().out
    assert "FigStep (VSIL)" in printed and "VLSBench (VSIL)" not in printed
    assert "Qwen2-VL + VLGuard" in printed  # the paper's own table stands below
    (tmp_path / "bad.toml").write_text('[[row]]\nbase = "L"\nalignment = "none"\n')
    with pytest.raises(UserError, match="is no table of runs"):
        read_table(tmp_path / "bad.toml")


def test_the_papers_tables_add_up() -> None:
    facts = published()
    assert (len(facts.models), len(facts.aligned), len(facts.with_leakage), len(facts.vsil)) == (
        14,
        10,
        12,
        4,
    )
    for model in (*facts.models, *facts.aligned):
        assert sum(model.rates[:2]) == pytest.approx(model.rates[2], abs=0.02)
