"""p-values that hold in benchmarks whose leak-free pairs score otherwise than those of the calibration."""

import numpy as np
import pytest

from audit.auditor import judged
from audit.calibrations import Calibration, LeakFree
from audit.empirical_null import EXTREME, Null, as_usual, log_odds
from audit.leak_free import Scored, references
from audit.metrics import Array
from audit.report import _reference
from audit.summary import Audited, nulls_of, summarise
from data.records import Audit
from data.sources.columns import Columns
from data.sources.reader import Source, SourceRow

USUAL = Null(-4.0, 1.5)
NORMAL_SPREAD = 1.349  # interquartile range of a standard normal


def odds(rng: np.random.Generator, location: float, spread: float, count: int) -> Array:
    return rng.normal(location, spread / NORMAL_SPREAD, count)


def leakage(odds: Array) -> Array:
    return 1 / (1 + np.exp(-odds))


@pytest.fixture(scope="module")
def leak_free() -> LeakFree:
    scores = leakage(np.sort(odds(np.random.default_rng(0), *USUAL, 1000)))
    return LeakFree(scores=tuple(scores), location=USUAL.location, spread=USUAL.spread, sensitivity=0.95)


def small_p(leak_free: LeakFree, free: Array, leaking: Array) -> Array:
    """(n,) which pairs of one benchmark, leak-free ones first, have p <= 0.05."""
    both = leakage(np.concatenate([free, leaking]))
    return leak_free.p_values(both, leak_free.own_null(both)) <= 0.05


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35])
@pytest.mark.parametrize(("location", "spread"), [(-5.0, 1.5), (-4.4, 1.2), (-4.0, 1.0), (-5.2, 1.8)])
def test_leak_free_pairs_that_score_lower_or_spread_less_have_p_values_that_hold(
    leak_free: LeakFree, share: float, location: float, spread: float
) -> None:
    rng = np.random.default_rng(1)
    free = odds(rng, location, spread, 2000)
    leaking = odds(rng, 3.0, 2.0, int(2000 * share / (1 - share)))
    assert (leak_free.p_values(leakage(free), leak_free.null) <= 0.05).mean() < 0.025
    assert 0.035 <= small_p(leak_free, free, leaking)[:2000].mean() <= 0.07


@pytest.mark.parametrize(("location", "spread"), [(-3.0, 1.5), (-4.0, 2.2), (-3.2, 1.0)])
def test_pairs_that_score_higher_are_taken_for_leak_free_in_part(
    leak_free: LeakFree, location: float, spread: float
) -> None:
    """They may as well be leaks: the null follows them, and never all the way."""
    free = odds(np.random.default_rng(1), location, spread, 2000)
    plain = (leak_free.p_values(leakage(free), leak_free.null) <= 0.05).mean()
    assert 0.05 <= small_p(leak_free, free, np.array([])).mean() <= 0.85 * plain


def test_leaks_stay_found_where_most_or_all_pairs_leak(leak_free: LeakFree) -> None:
    rng = np.random.default_rng(2)
    for free in (0, 100):
        leaking = odds(rng, 1.5, 2.0, 900)
        assert small_p(leak_free, odds(rng, *USUAL, free), leaking)[free:].mean() >= 0.9


def test_few_pairs_say_little_of_their_null(leak_free: LeakFree) -> None:
    assert leak_free.own_null(leakage(np.array([-9.0]))) == pytest.approx(USUAL, abs=0.2)
    assert leak_free.own_null(np.array([])) == USUAL


def test_scores_moved_there_and_back_are_the_same() -> None:
    own = Null(-3.0, 2.5)
    some = np.array([-9.0, -3.0, 0.0, 4.0])
    assert as_usual(as_usual(some, own, USUAL), USUAL, own) == pytest.approx(some)
    assert as_usual(some, USUAL, USUAL).tolist() == some.tolist()


def test_certain_probabilities_have_finite_odds() -> None:
    assert log_odds(np.array([0.0, 0.5, 1.0])) == pytest.approx([-EXTREME, 0.0, EXTREME])


def test_each_kind_of_description_has_a_null_of_its_own(leak_free: LeakFree) -> None:
    """Captioned pairs of a benchmark score higher than its labels; neither bears on the other's p-values."""
    calibration = Calibration(
        embedder="b",
        terms={},
        intercept=0,
        conformal={"author": leak_free, "caption": leak_free},
        provenance={},
    )
    rng = np.random.default_rng(3)
    short, long = leakage(odds(rng, -5.5, 1.5, 500)), leakage(odds(rng, -4.0, 1.5, 500))
    audits = [Audit(leakage=float(each), content_from="author") for each in (*short, *long)]
    shown = ["A kite."] * 500 + ["A kite flies. A dog sleeps. Rain falls on the roof."] * 500
    p_values = [audit.p_value or 0.0 for audit in judged(audits, shown, calibration, 0.05)]
    for part in (p_values[:500], p_values[500:]):
        assert 0.02 <= np.mean(np.array(part) <= 0.05) <= 0.08


def test_one_pair_judged_alone_has_the_same_p_value_among_any_others(leak_free: LeakFree) -> None:
    calibration = Calibration(
        embedder="b", terms={}, intercept=0, conformal={"author": leak_free}, provenance={}
    )
    one, other = Audit(leakage=0.3, content_from="author"), Audit(leakage=0.001, content_from="author")
    alone = judged([one], ["A kite."], calibration, 0.05, alone=True)[0]
    among = judged([one] + [other] * 200, ["A kite."] * 201, calibration, 0.05, alone=True)[0]
    assert alone.p_value == among.p_value


def test_summary_and_report_say_where_leak_free_pairs_are_taken_to_lie(leak_free: LeakFree) -> None:
    """Harmless twins have no part in it; the report's leak-free curve is the one that p-values come from."""
    calibration = Calibration(
        embedder="b", terms={}, intercept=0, conformal={"author": leak_free}, provenance={}
    )
    scores = leakage(odds(np.random.default_rng(4), -5.5, 1.0, 400))
    rows = tuple(
        SourceRow(id=str(n), query="Who is it?", image_description="A kite.", image_key="", is_safe=n >= 300)
        for n in range(400)
    )
    source = Source(name="b", columns=Columns(query=("query",)), rows=rows, notes=())
    audits = [Audit(leakage=float(each), content_from="author") for each in scores]
    counted = [row.is_safe is not True for row in rows]
    audited = Audited("b", source, judged(audits, ["A kite."] * 400, calibration, 0.05, counted))
    (null,) = nulls_of(audited, calibration)
    assert (null.kind, null.pairs, null.usual_location) == ("author", 300, USUAL.location)
    assert null.location == pytest.approx(-5.5, abs=0.3)
    summary = summarise(audited, leak_free.sensitivity, 0.05).replace(nulls=(null,))
    curve = _reference([summary], calibration)
    p_values = [audit.p_value or 0.0 for audit in audited.audits]
    for one, p_value in zip(scores[:20], p_values, strict=False):
        assert np.mean(np.array(curve) >= one) == pytest.approx(p_value, abs=0.003)


def test_leak_free_pairs_that_score_next_to_nothing_keep_their_odds() -> None:
    """Four decimals would make zeros of them, and p-values of leaks of every pair that is like them."""
    rng = np.random.default_rng(5)
    free, fresh = odds(rng, -12.0, 1.0, 400), odds(rng, -12.0, 1.0, 400)
    scored = Scored("toy", "toy", "author", leakage(free), np.zeros(400), 1.0)
    leak_free = dict(references([scored]))["author"]
    assert 0.02 <= (leak_free.p_values(leakage(fresh), leak_free.null) <= 0.05).mean() <= 0.08
