"""The evaluation's statistics against scipy, statsmodels, krippendorff, published values and simulation."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import statistics as ours


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 0), (10, 21), (121, 59), (1200, 1300)])
def test_mcnemar_is_statsmodels_exact_test(first: int, second: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    theirs = mcnemar([[7, first], [second, 9]], exact=True).pvalue
    assert ours.mcnemar_exact(first, second) == pytest.approx(min(theirs, 1.0), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_statsmodels_holm(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert ours.holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_alpha_is_krippendorffs_published_example() -> None:
    """Krippendorff 2011, example C: four observers, twelve units, missing data; nominal alpha .743."""
    gap = None
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, gap, gap, gap],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, gap, 3],
        [gap, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, gap],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, gap],
    ]
    assert ours.krippendorff_alpha(list(zip(*observers, strict=True))) == pytest.approx(0.743, abs=5e-4)


def test_alpha_is_the_krippendorff_packages() -> None:
    import krippendorff

    random = np.random.default_rng(3)
    truth = random.integers(1, 4, 300)
    raters = np.array(
        [np.where(random.random(300) < 0.7, truth, random.integers(1, 4, 300)) for _ in range(3)]
    )
    raters = np.where(random.random(raters.shape) < 0.2, np.nan, raters)
    units = [[None if np.isnan(value) else int(value) for value in unit] for unit in raters.T]
    theirs = krippendorff.alpha(raters, level_of_measurement="nominal")
    assert ours.krippendorff_alpha(units) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("ratings", [[], [[1, None]], [[1, 1], [1, 1]]])
def test_alpha_says_nothing_where_nothing_can_be_said(ratings: list[list[int | None]]) -> None:
    assert ours.krippendorff_alpha(ratings) is None


def test_ranks_and_correlation_are_scipys() -> None:
    from scipy import stats

    random = np.random.default_rng(5)
    x = random.integers(0, 12, 400) / 12
    y = (x + random.normal(0, 0.5, 400) > 0.5).astype(float)
    found = ours.rank_correlation(x, y, list(range(400)))
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found.low < found.value < found.high
    assert ours.ranks(x) * 400 == pytest.approx(stats.rankdata(x))


def test_auroc_is_scikit_learns() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(6)
    scores, flags = random.integers(0, 9, 200) / 9, random.random(200) < 0.4
    assert ours.auroc(scores, list(flags)) == pytest.approx(roc_auc_score(flags, scores))
    assert ours.auroc(scores, [True] * 200) is None


def clustered_rows(random: np.random.Generator, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Yes-or-no rows, one to four per image, alike within an image; the true rate is .3."""
    sizes = random.integers(1, 5, clusters)
    rates = random.beta(0.6, 1.4, clusters)
    image = np.repeat(np.arange(clusters), sizes)
    return (random.random(len(image)) < rates[image]).astype(float), image


def coverage(simulations: int, clusters: int, by_image: bool) -> float:
    random = np.random.default_rng(11)
    hits = 0
    for _ in range(simulations):
        values, image = clustered_rows(random, clusters)
        found = ours.mean_interval(values, list(image) if by_image else list(range(len(values))), draws=500)
        assert found is not None
        hits += found.low <= 0.3 <= found.high
    return hits / simulations


def test_a_95_percent_interval_covers_the_truth_93_to_97_percent_of_the_time() -> None:
    assert 0.93 <= coverage(600, 150, by_image=True) <= 0.97


def test_resampling_rows_instead_of_images_covers_too_little() -> None:
    assert coverage(200, 150, by_image=False) < 0.91


def test_a_ratios_interval_covers_the_truth() -> None:
    """Refusal without the image over refusal with it: the true ratio is 2/3."""
    random, hits = np.random.default_rng(12), 0
    for _ in range(300):
        image = np.arange(200)
        with_image = random.random(200) < 0.6
        without = with_image & (random.random(200) < 0.5) | ~with_image & (random.random(200) < 0.25)
        found = ours.ratio_interval(without, with_image, list(image), draws=500)
        assert found is not None
        hits += found.low <= 2 / 3 <= found.high
    assert 0.92 <= hits / 300 <= 0.98


def test_a_rate_of_none_or_all_still_has_an_interval() -> None:
    from scipy import stats

    none = ours.mean_interval([0.0] * 40, list(range(40)))
    all_ = ours.mean_interval([1.0] * 40, [at // 2 for at in range(40)])
    exact = stats.binomtest(0, 40).proportion_ci(method="exact")
    assert none is not None and all_ is not None
    assert (none.low, none.high) == pytest.approx((exact.low, exact.high))
    assert all_.low == pytest.approx(0.025 ** (1 / 20))
    assert ours.mean_interval([], []) is None


def test_bounds_hold_whatever_the_unknown_rows_are() -> None:
    assert ours.safety_bounds(0, 0, 7) == (0.0, 1.0)
    assert ours.safety_bounds(3, 5, 2) == (0.3, 0.5)
    assert ours.safety_bounds(0, 0, 0) == (0.0, 1.0)


def test_a_ratio_over_nothing_is_no_number() -> None:
    assert ours.ratio_interval([1, 0], [0, 0], [1, 2]) is None
    wild = ours.ratio_interval([1, 1, 1], [1, 0, 0], [1, 2, 3])
    assert wild is not None and wild.high == float("inf")


def test_losses_are_the_mirror_of_gains() -> None:
    images = list(range(20))
    gain, loss = (ours.difference_interval([sign] * 20, images) for sign in (1, -1))
    assert gain is not None and loss is not None
    assert (loss.value, loss.low, loss.high) == (-1.0, -1.0, -gain.low) and -1 < loss.high < 0


def test_one_picture_says_nothing_of_others() -> None:
    one = ["a"] * 8
    mixed = [1, 0] * 4
    assert ours.mean_interval(mixed, one) == (0.5, 0.0, 1.0)
    assert ours.difference_interval([1, -1] * 4, one) == (0.0, -1.0, 1.0)
    assert ours.ratio_interval(mixed, [1] * 8, one) == (0.5, 0.0, float("inf"))
    assert ours.rank_correlation(range(20), [0, 1] * 10, ["a"] * 20) is None


def test_pictures_that_are_all_alike_leave_a_mean_uncertain() -> None:
    """One of two queries refused beside each of 20 pictures: resampling pictures would show no spread."""
    pictures = [at // 2 for at in range(40)]
    others = 1 - 0.025 ** (1 / 20)  # the share of other pictures that 20 alike ones leave possible
    found = ours.mean_interval([1, 0] * 20, pictures)
    assert found == pytest.approx((0.5, 0.5 * (1 - others), 0.5 * (1 + others)))
    assert ours.difference_interval([1, -1] * 20, pictures) == pytest.approx((0.0, -others, others))
    gains = ours.difference_interval([1] * 40, pictures)
    assert gains == pytest.approx((1.0, 1 - 2 * others, 1.0))  # other pictures may be losses, not just draws


def test_pictures_that_are_all_alike_leave_a_ratio_uncertain() -> None:
    """With its picture both queries are refused, without it one, beside each of 20 pictures."""
    pictures = [at // 2 for at in range(40)]
    others = 1 - 0.025 ** (1 / 20)
    found = ours.ratio_interval([1, 0] * 20, [1] * 40, pictures)
    assert found == pytest.approx((0.5, 0.5 * (1 - others), 0.5 * (1 + others)))
    crossed = ours.ratio_interval([1, 0] * 20, [0, 1] * 20, pictures)
    assert crossed is not None and crossed.low < crossed.value == 1.0 < crossed.high


def test_a_ratio_of_nothing_has_an_honest_upper_end() -> None:
    from scipy import stats

    with_image = [1] * 40 + [0] * 60
    found = ours.ratio_interval([0] * 100, with_image, list(range(100)))
    assert found is not None and (found.value, found.low) == (0.0, 0.0)
    exact = stats.binomtest(0, 40).proportion_ci(method="exact").high  # were all others known to be answered
    assert exact <= found.high < 2 * exact


def test_rows_that_all_agree_leave_a_ratio_uncertain() -> None:
    """Five of five harmful pairs whose text is harmful too: as uncertain as five of five anything."""
    five = ours.ratio_interval([1] * 5, [1] * 5, list(range(5)))
    share = ours.mean_interval([1] * 5, list(range(5)))
    assert five is not None and share is not None
    assert five == pytest.approx((1.0, share.low, 1.0))
    both = [1] * 26 + [0] * 137
    found = ours.ratio_interval(both, both, list(range(163)))
    assert found is not None and found == pytest.approx((1.0, 0.868, 1.140), abs=1e-3)


def test_a_ratio_near_1_is_covered_where_few_rows_can_differ() -> None:
    random, hits = np.random.default_rng(13), 0
    for _ in range(300):
        harmful = np.ones(12)
        both = random.random(12) < 0.9
        found = ours.ratio_interval(both, harmful, list(range(12)), draws=300)
        assert found is not None
        hits += found.low <= 0.9 <= found.high
    assert hits / 300 >= 0.9


def test_a_rank_correlation_needs_five_rows_on_either_side() -> None:
    def correlation(refused: int) -> ours.Interval | None:
        return ours.rank_correlation(
            np.arange(100), [at >= 100 - refused for at in range(100)], list(range(100))
        )

    assert correlation(4) is None and correlation(96) is None
    assert correlation(5) is not None and correlation(95) is not None


def test_a_rank_correlation_needs_its_five_rows_on_five_pictures() -> None:
    def correlation(rows_per_picture: int) -> ours.Interval | None:
        pictures = [at // rows_per_picture for at in range(100)]
        return ours.rank_correlation(np.arange(100), [at >= 80 for at in range(100)], pictures)

    assert correlation(4) is not None and correlation(5) is None
    halves = ["a"] * 6 + ["b"] * 6
    assert ours.rank_correlation([*range(6), *range(10, 16)], [0] * 6 + [1] * 6, halves) is None


def test_a_large_benchmark_is_resampled_in_blocks_to_the_same_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sums = np.random.default_rng(4).random((50, 2))
    whole = ours.resampled(sums, 101)
    monkeypatch.setattr(ours, "WEIGHTS_AT_ONCE", 50 * 7)
    assert ours.resampled(sums, 101) == pytest.approx(whole)


def test_twenty_thousand_pictures_take_little_memory() -> None:
    tracemalloc.start()
    ours.resampled(np.ones((20_000, 2)), 500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000


def test_mcnemar_is_quick_on_many_rows() -> None:
    from scipy import stats

    started = time.monotonic()
    found = ours.mcnemar_exact(4900, 5100)
    assert time.monotonic() - started < 1
    assert found == pytest.approx(stats.binomtest(4900, 10_000).pvalue, rel=1e-6)
    assert ours.mcnemar_exact(5000, 5000) == 1.0


def test_the_corrected_rate_is_rogan_gladens() -> None:
    assert ours.rogan_gladen(0.3, 0.9, 0.8) == pytest.approx((0.3 + 0.8 - 1) / 0.7)
    assert ours.rogan_gladen(0.1, 0.9, 0.8) == 0.0
    assert ours.rogan_gladen(0.5, 0.5, 0.5) is None
