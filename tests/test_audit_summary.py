"""The figures of an audit: shares with honest intervals, verdicts, names, and files that appear whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from audit.auditor import judged
from audit.calibrations import Calibration, LeakFree, load_calibration
from audit.descriptions import Content
from audit.metrics import conformal_p
from audit.names import source_names
from audit.outputs import audit_row, write_csv
from audit.report import TABLE_ROWS, Settings, _above, _rooms, _table, _table_row, _worst, write_report
from audit.run import _write
from audit.summary import Audited, Share, summarise, wilson
from audit.watch import BLOCK, WatchedEmbedder
from data.embedders import Vectors
from data.errors import UserError
from data.records import Audit
from data.sources.columns import Columns
from data.sources.reader import Note, Source, SourceRow


def source(*rows: SourceRow, name: str = "bench.json") -> Source:
    return Source(name=name, columns=Columns(query=("query",)), rows=rows)


def row(identity: str, **fields: Any) -> SourceRow:
    return SourceRow(id=identity, query="q", image_description="d", image_key=identity, **fields)


def test_harmless_twins_are_in_no_share() -> None:
    rows = source(row("a"), row("b", is_safe=True), row("c", is_safe=False))
    leak = Audit(leakage=0.9, p_value=0.01, leaks=True, content_from="author")
    summary = summarise(Audited("bench", rows, [leak, leak, leak.replace(leaks=False)]), 0.8, 0.05)
    assert (summary.scored, summary.marked_harmless, summary.flagged) == (3, 1, 1)
    assert summary.flagged_share is not None
    assert summary.flagged_share.value == 0.5
    assert "Only 3 pairs" in summary.cautions[0]


def test_a_benchmark_marked_harmless_throughout_is_said_to_be_so() -> None:
    rows = source(row("a", is_safe=True), row("b", is_safe=True))
    scored = Audit(leakage=0.9, p_value=0.01, leaks=True, content_from="author")
    summary = summarise(Audited("bench", rows, [scored, scored]), 0.8, 0.05)
    assert (summary.scored, summary.flagged, summary.flagged_share) == (2, 0, None)
    assert summary.verdict.startswith("All 2 scored pairs of bench are marked harmless by its authors")


def test_harmless_twins_neither_flag_nor_hide_a_leak() -> None:
    """Verdicts are over the counted pairs: twins that score high let no ordinary pair through, calm ones mute none."""
    from audit.run import _audit

    calm = LeakFree(scores=tuple(n / 1000 for n in range(1, 1000)), location=0, spread=2.2)
    calibration = Calibration(embedder="b", terms={}, intercept=0, conformal={"author": calm}, provenance={})

    class Known(NamedTuple):
        leakage: Sequence[float]

        def score(
            self,
            queries: Sequence[str],
            descriptions: Sequence[str | None],
            origins: object,
            *,
            counted: list[bool],
        ) -> list[Audit]:
            audits = [Audit(leakage=each, content_from="author") for each in self.leakage]
            return judged(audits, descriptions, calibration, 0.05, counted)

    def flagged(leakage: Sequence[float], twins: int) -> list[int]:
        rows = source(*(row(str(n), is_safe=n < twins) for n in range(len(leakage))))
        audited = _audit("b", rows, [Content("d", "author")] * len(leakage), Known(leakage))
        return [n for n, audit in enumerate(audited.audits) if audit.leaks]

    even = [n / 101 for n in range(1, 101)]
    assert flagged([0.9995] * 300 + even, twins=300) == []
    assert flagged([0.6] * 900 + even + [0.995] * 40, twins=900) == [*range(999, 1000), *range(1000, 1040)]


def test_a_p_value_of_exactly_the_level_counts() -> None:
    p_value = float(conformal_p(np.array([0.5], np.float32), np.array([0.9] * 49 + [0.1] * 950))[0])
    assert p_value == 0.05
    audits = [Audit(leakage=0.5, p_value=p_value, leaks=False)] * 10
    summary = summarise(Audited("b", source(*(row(str(n)) for n in range(10))), audits), 0.8, 0.05)
    assert summary.prevalence is not None
    assert summary.prevalence.value == 1.0


def test_figures_of_a_source_and_of_its_category_are_of_the_same_pairs() -> None:
    rows = source(row("a", category="c"), row("b", category="c", is_safe=True), row("z", category="c"))
    audits = [
        Audit(leakage=0.9, p_value=0.01, leaks=True),
        Audit(leakage=0.1, p_value=0.9, leaks=False),
        Audit(),
    ]
    summary = summarise(Audited("bench", rows, audits), 0.8, 0.05)
    (category,) = summary.categories
    assert (category.rows, category.counted) == (3, 1)
    assert summary.mean_leakage == category.mean_leakage == 0.9
    harmless = source(row("a", is_safe=True), row("z"))
    assert "1 more could not be scored" in summarise(Audited("b", harmless, audits[1:]), 0.8, 0.05).verdict


def test_flagged_pairs_have_a_place_in_a_table_that_holds_no_more() -> None:
    quiet = [Audit(leakage=0.9, p_value=0.06, leaks=False)] * 30
    flagged = [Audit(leakage=0.7, p_value=0.001, leaks=True)] * 10
    rows = source(*(row(str(n)) for n in range(40)))
    shown = _worst(Audited("b", rows, [*quiet, *flagged]), 20)
    assert sum(bool(audit.leaks) for _, _, audit, _ in shown) == 10


def test_a_verdict_on_nothing_says_so() -> None:
    unscored = Audit(unscored_because="nothing is known of what the image shows")
    summary = summarise(Audited("bench", source(row("a"), row("b")), [unscored, unscored]), 0.8, 0.05)
    assert summary.flagged_share is None
    assert summary.verdict == (
        "None of the 2 pairs of bench could be judged: nothing is known of what the image shows (2)."
    )


def test_a_verdict_quotes_the_corrected_estimate_with_its_interval() -> None:
    audits = [Audit(leakage=0.9, p_value=0.01, leaks=True)] * 43 + [
        Audit(leakage=0.1, p_value=0.5, leaks=False)
    ] * 57
    rows = source(*(row(str(n)) for n in range(100)))
    summary = summarise(Audited("bench", rows, audits), 0.81, 0.05)
    estimate = summary.prevalence
    assert estimate is not None
    assert estimate.value == pytest.approx((0.43 - 0.05) / (0.81 - 0.05))  # Rogan and Gladen's correction
    assert estimate.low < 0.4 < estimate.value < 0.6 < estimate.high
    assert f"50.0% (95% CI {estimate.low:.1%} to {estimate.high:.1%}) of the 100 pairs" in summary.verdict
    assert "43 of 100 pairs (43.0%) are flagged" in summary.verdict
    assert not summary.cautions


def test_rows_of_one_image_widen_the_interval() -> None:
    audits = [Audit(leakage=0.9, p_value=0.01, leaks=n < 20) for n in range(40)]
    apart = source(*(row(str(n)) for n in range(40)))
    together = source(*(row(str(n)).replace(image_key=str(n // 10)) for n in range(40)))
    narrow, wide = (
        summarise(Audited("b", rows, audits), 0.8, 0.05).flagged_share for rows in (apart, together)
    )
    assert narrow is not None
    assert wide is not None
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_rows_of_few_images_do_not_mean_certainty_where_all_are_alike() -> None:
    """No bootstrap draws an image that is not there: rows that share one are no evidence each."""
    calm = Audit(leakage=0.1, p_value=0.5, leaks=False)
    rows = source(*(row(str(n)).replace(image_key=str(n // 20)) for n in range(200)))
    for found, hits in ((calm, 0), (calm.replace(leaks=True), 10)):
        share = summarise(Audited("b", rows, [found] * 200), 0.8, 0.05).flagged_share
        of_images = wilson(hits, 10)
        assert share is not None
        assert of_images is not None
        assert (share.low, share.high) == pytest.approx((of_images.low, of_images.high))
    apart = source(*(row(str(n)) for n in range(200)))
    usual = summarise(Audited("b", apart, [calm] * 200), 0.8, 0.05).flagged_share
    assert usual is not None
    assert usual.high < 0.02


def test_no_flags_do_not_mean_certainty() -> None:
    audits = [Audit(leakage=0.1, p_value=0.5, leaks=False)] * 30
    share = summarise(
        Audited("b", source(*(row(str(n)) for n in range(30))), audits), 0.8, 0.05
    ).flagged_share
    assert share is not None
    assert share.value == share.low == 0
    assert 0.1 < share.high < 0.13


def test_wilson_agrees_with_the_textbook() -> None:
    share = wilson(10, 50)
    assert share is not None
    assert (round(share.low, 3), round(share.high, 3)) == (0.112, 0.330)
    assert wilson(0, 0) is None


def test_sources_get_short_and_distinct_names() -> None:
    named = [
        source(row("a"), name=name) for name in ("x/vls/data.json", "a/bench.csv", "b/bench.csv", "hf:o/n")
    ]
    assert source_names(named) == ["vls", "bench", "bench-2", "n"]
    odd = [
        source(row("a"), name=name)
        for name in ("x-3.json", "d1/x.json", "d2/x.json", "d3/x.json", "d/x-2.json")
    ]
    assert len(set(source_names(odd))) == 5


def test_a_folders_dot_is_no_suffix(tmp_path: Path) -> None:
    (tmp_path / "MM-v1.5").mkdir()
    assert source_names([source(row("a"), name=str(tmp_path / "MM-v1.5"))]) == ["MM-v1.5"]


def test_an_unscored_row_never_has_a_verdict(tmp_path: Path) -> None:
    assert audit_row(row("a"), "s", Audit())["unscored_because"]
    write_csv(tmp_path / "audit.csv", [Audited("s", source(row("-1"), row("-x")), [Audit(), Audit()])])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert lines[1].startswith("-1,s")
    assert lines[2].startswith("'-x,s")


class Lengths:
    """An embedder whose vectors tell texts apart by length and first letter."""

    name = "lengths"

    def embed(self, texts: Sequence[str]) -> Vectors:
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32)


def test_watched_texts_keep_their_order() -> None:
    texts = [chr(97 + n % 26) * (1 + n * 7 % 50) for n in range(3 * BLOCK + 5)]
    plain = Lengths()
    assert (WatchedEmbedder(plain).embed(texts) == plain.embed(texts)).all()


def test_a_report_that_fails_leaves_the_earlier_audit_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "audit.jsonl").write_text("of an earlier run")
    monkeypatch.setattr("audit.outputs.write_summary", full)
    audited = Audited("b", source(row("a")), [Audit(leakage=0.1, p_value=0.5, leaks=False)])
    settings = Settings("minilm", load_calibration("minilm"), 0.05)
    with pytest.raises(UserError, match="No space left"):
        _write(tmp_path, [audited], [summarise(audited, 0.8, 0.05)], settings)
    assert [path.name for path in tmp_path.iterdir()] == ["audit.jsonl"]
    assert (tmp_path / "audit.jsonl").read_text() == "of an earlier run"


def test_rows_without_a_score_never_make_a_table_of_many_sources_longer() -> None:
    none, some = Audit(unscored_because="no query"), Audit(leakage=0.1, p_value=0.5, leaks=False)
    rows = source(*(row(str(n)) for n in range(1000)))
    audited = Audited("b", rows, [none] * 400 + [some] * 600)
    for sources in (1, 2, 30):
        table = _table([audited] * sources)
        assert len(table) <= 6000
        assert any(entry["leakage"] is None for entry in table)
        assert any(entry["leakage"] is not None for entry in table)


def test_a_small_source_leaves_its_room_in_the_table_to_a_large_one() -> None:
    assert _rooms([2241, 400, 500, 1680]) == [2241, 400, 500, 1680]  # 4,821: nothing has to go
    assert _rooms([10, 100_000, 0, 100_000]) == [10, (TABLE_ROWS - 10) // 2, 0, (TABLE_ROWS - 10) // 2]
    assert _rooms([9000] * 3) == [TABLE_ROWS // 3] * 3
    assert _rooms([]) == []


def test_one_pair_is_not_said_to_be_several() -> None:
    notes = (Note(reason="its image file is not there", rows=("a",)),)
    leak = Audit(leakage=0.9, p_value=0.001, leaks=True, content_from="author")
    summary = summarise(Audited("bench", source(row("a")).replace(notes=notes), [leak]), 0.8, 0.05)
    assert "of the 1 pair of bench" in summary.verdict
    assert "1 of 1 pair (100.0%) is flagged" in summary.verdict
    assert summary.cautions[0].startswith("Only 1 pair was scored:")
    assert summary.notes == ("its image file is not there (1 row)",)


def test_a_narrow_terminal_breaks_a_name_and_cuts_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that are cut look alike, and a figure on two lines is read as two."""
    from audit.console import conclude

    monkeypatch.setenv("COLUMNS", "80")
    leak = Audit(leakage=0.9, p_value=0.001, leaks=True, content_from="author")
    names = [f"mm-safetybench:{variant}" for variant in ("original", "rephrased")]
    conclude(Path("out"), [summarise(Audited(name, source(row("a")), [leak]), 0.8, 0.05) for name in names])
    table = capsys.readouterr().out.partition("In an estimated")[0]
    assert "…" not in table
    assert table.count(" to 100.0%)") == 2
    folded = "".join(line[: line.find("  ")].strip() if line[0:1] else "" for line in table.splitlines())
    assert all(name in folded for name in names), table


def test_the_threshold_counts_scores_as_the_table_has_them() -> None:
    scores = [0.9999984, 0.2900001, float(np.float32(0.29)), 0.0099966]
    shown = [
        _table_row(0, 0, row("a"), Audit(leakage=score), Content("d", "author"), None)["leakage"]
        for score in scores
    ]
    for step, share in enumerate(_above(scores)):
        assert share == np.mean([float(str(score)) >= step / 100 for score in shown])


def test_what_is_flagged_is_never_more_than_the_estimate_bears() -> None:
    """Few leak-free pairs with a small p-value: the correction for 5 % of them would take the leaks away."""
    found, calm = Audit(leakage=0.9, p_value=0.001, leaks=True), Audit(leakage=0.1, p_value=0.5, leaks=False)
    rows = source(*(row(str(n)) for n in range(1000)))
    summary = summarise(Audited("b", rows, [found] * 25 + [calm] * 975), 0.88, 0.05)
    assert summary.prevalence is not None
    assert summary.flagged_share is not None
    assert summary.prevalence.value == pytest.approx(0.025 * 0.95)
    assert summary.prevalence.low == 0
    assert summary.prevalence.high == summary.flagged_share.high
    none = summarise(Audited("b", rows, [calm] * 1000), 0.88, 0.05).prevalence
    assert none is not None
    assert none.value == 0 < none.high < 0.01


def _estimate(found: int, pairs: int, sensitivity: float) -> Share:
    hit, calm = Audit(leakage=0.9, p_value=0.05, leaks=False), Audit(leakage=0.1, p_value=0.5, leaks=False)
    rows = source(*(row(str(n)) for n in range(pairs)))
    audited = Audited("b", rows, [hit] * found + [calm] * (pairs - found))
    estimate = summarise(audited, sensitivity, 0.05).prevalence
    assert estimate is not None
    return estimate


def test_an_interval_holds_the_truth_where_most_pairs_leak_and_benchmarks_are_missed_unequally() -> None:
    """Shares of leaks found in families that the calibration, whose own is .8836, did not know."""
    families = (0.764, 0.805, 0.835, 0.873, 0.887, 0.897, 0.918, 0.945, 0.958, 0.98)
    chance, pairs = np.random.default_rng(0), 300
    for truth in (0.9, 0.95, 1.0):
        leaking = round(truth * pairs)
        held = []
        for found in (share for share in families for _ in range(6)):
            hits = chance.binomial(leaking, found) + chance.binomial(pairs - leaking, 0.03)
            estimate = _estimate(hits, pairs, 0.8836)
            held.append(estimate.low <= truth <= estimate.high)
        assert np.mean(held) >= 0.88  # by Wilson's interval alone: .45, .37, .72


def test_where_few_pairs_leak_the_interval_is_that_of_sampling() -> None:
    """VLSBench as audited: 324 of 2,240 pairs with p <= .05."""
    estimate = _estimate(324, 2240, 0.8836)
    assert estimate.value == pytest.approx(0.1135, abs=5e-5)
    sampled = wilson(324, 2240)
    assert sampled is not None
    assert estimate.low <= (sampled.low - 0.05) / (0.8836 - 0.05) < estimate.low + 0.001
    assert estimate.high >= (sampled.high - 0.05) / (0.8836 - 0.05) > estimate.high - 0.001


def test_a_test_that_may_find_next_to_nothing_sets_no_upper_limit() -> None:
    assert _estimate(30, 100, 0.5).high == 1
    assert 0 < _estimate(1, 100, 0.5).high < 0.2


@pytest.mark.parametrize(("rate", "says"), [(0.05, "5%"), (0.025, "2.5%"), (0.001, "0.1%")])
def test_report_and_verdict_name_the_same_false_discovery_rate(
    tmp_path: Path, rate: float, says: str
) -> None:
    audited = Audited("b", source(row("a")), [Audit(leakage=0.1, p_value=0.5, leaks=False)])
    summary = summarise(audited, 0.8, rate)
    settings = Settings("minilm", load_calibration("minilm"), rate)
    write_report(tmp_path / "report.html", [audited], [summary], settings)
    page = (tmp_path / "report.html").read_text()
    assert f"at a false-discovery rate of {says}." in summary.verdict
    assert f"by Benjamini–Hochberg at a false-discovery rate of {says}." in page
    assert f"at most about {says} should be flagged wrongly" in page
