"""The auditor's maths: every feature on arrays small enough to check by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from audit import features, metrics
from audit.features import FEATURES, PairArrays
from audit.pool import most_of_each, shrunken_spread


def pair(**changes: object) -> PairArrays:
    """One pair: two query spans, the first risky; three image spans, the last one padding."""
    made = PairArrays(
        cosine=np.array([0.5], np.float32),
        pool_mean=np.array([0.1], np.float32),
        pool_std=np.array([0.1], np.float32),
        similarity=np.array([[[0.9, 0.2, 1.0], [0.1, 0.4, 1.0]]], np.float32),
        query_mask=np.array([[True, True]]),
        image_mask=np.array([[True, True, False]]),
        query_margin=np.array([[0.3, -0.3]], np.float32),
        image_margin=np.array([[0.2, -0.2, 0.5]], np.float32),
        harm=np.array([0.2], np.float32),
        agreement=np.array([0.7], np.float32),
        risk_cosine=np.array([0.8], np.float32),
        risk_mean=np.array([0.2], np.float32),
        risk_std=np.array([0.2], np.float32),
        risk_nearest=np.array([0.9], np.float32),
        joint=np.array([1.5], np.float32),
        sentences=np.array([2]),
        recall=np.array([0.25], np.float32),
    )
    return replace(made, **changes)


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_is_finite_and_one_number_per_pair(name: str) -> None:
    value = FEATURES[name](pair())
    assert value.shape == (1,)
    assert np.isfinite(value).all()


@pytest.mark.parametrize("name", FEATURES)
def test_a_pair_without_spans_has_finite_features(name: str) -> None:
    none = pair(query_mask=np.zeros((1, 2), bool), image_mask=np.zeros((1, 3), bool))
    assert np.isfinite(FEATURES[name](none)).all()


@pytest.mark.parametrize("name", FEATURES)
def test_what_stands_in_the_padding_changes_nothing(name: str) -> None:
    other = pair().similarity.copy()
    other[:, :, 2] = -0.7
    changed = pair(
        similarity=other,
        image_margin=np.array([[0.2, -0.2, -0.9]], np.float32),
    )
    assert FEATURES[name](changed) == pytest.approx(FEATURES[name](pair()))


def test_risky_match_is_the_riskiest_thing_both_sides_share() -> None:
    assert features.risky_match(pair())[0] == pytest.approx(
        0.9 * features.riskiness(np.float32(0.3)), rel=1e-5
    )


def test_harmless_overlap_is_no_risky_match() -> None:
    harmless = pair(query_margin=np.full((1, 2), -0.3, np.float32))
    assert features.risky_match(harmless)[0] < 0.05
    assert features.late_interaction(harmless)[0] == pytest.approx(0.65)


def test_a_harmful_query_about_another_image_counts_for_nothing() -> None:
    elsewhere = pair(cosine=np.array([0.1], np.float32))
    assert features.harm_about_image(elsewhere)[0] == 0
    assert features.harm_about_image(pair())[0] > 0.5


def test_risk_recall_asks_for_the_risky_spans_of_the_image() -> None:
    unnamed_risk = pair(image_margin=np.array([[-0.2, 0.2, 0.5]], np.float32))
    assert features.risk_recall(pair())[0] == pytest.approx(0.9, abs=0.01)
    assert features.risk_recall(unnamed_risk)[0] == pytest.approx(0.4, abs=0.01)


def test_standing_out_in_the_risk_space_counts_as_far_as_the_query_is_harmful() -> None:
    assert features.risk_z(pair())[0] == pytest.approx((0.8 - 0.2) / 0.2 / features.Z_CEILING)
    harmless = pair(harm=np.array([-0.5], np.float32))
    assert features.harm_about_risk(harmless)[0] < 0.01 < features.harm_about_risk(pair())[0]
    assert features.harm_cosine(pair(cosine=np.array([-0.3], np.float32)))[0] == 0.0
    assert features.harm_agreement(pair())[0] == pytest.approx(
        0.7 * features.riskiness(np.float32(0.2)), rel=1e-5
    )


def test_the_risk_space_gives_unit_rows_and_nothing_for_its_center() -> None:
    center = np.array([0.5, 0.5], np.float32)
    mapped = features.in_risk_space(
        np.array([[1.0, 0.0], [0.5, 0.5]], np.float32), np.eye(2, dtype=np.float32), center
    )
    assert np.linalg.norm(mapped[0]) == pytest.approx(1.0, abs=1e-6)
    assert not mapped[1].any()


def test_risk_margin_is_positive_near_risk_and_negative_near_its_absence() -> None:
    axes = np.eye(3, dtype=np.float32)
    margins = features.risk_margin(axes[:2], risk=axes[:1], benign=axes[1:2])
    assert margins == pytest.approx([1.0, -1.0])


def test_agreement_is_one_for_the_same_text_and_small_for_another_risk() -> None:
    axes = np.eye(3, dtype=np.float32)
    assert features.risk_agreement(axes[:1], axes[:1], axes)[0] == pytest.approx(1.0)
    assert features.risk_agreement(axes[:1], axes[1:2], axes)[0] < 0.01


def test_a_pool_of_one_falls_back_to_the_reference() -> None:
    own = np.array([0.9], np.float32)
    reference = np.array([[0.1, 0.3]], np.float32)
    mean, deviation = shrunken_spread(own[:, None], reference, own, np.array([True]))
    assert mean == pytest.approx([0.2])
    assert deviation == pytest.approx([0.1])


def test_a_large_pool_outweighs_the_reference() -> None:
    cosines = np.tile(np.array([0.4, 0.6], np.float32), 5000)[None]
    mean, deviation = shrunken_spread(
        cosines, np.zeros((1, 5), np.float32), np.zeros(1, np.float32), np.array([False])
    )
    assert mean == pytest.approx([0.5], abs=0.005)
    assert deviation == pytest.approx([0.1], abs=0.01)


def test_conformal_p_counts_the_leak_free_scores_at_least_as_high() -> None:
    p_values = metrics.conformal_p(np.array([0.0, 0.5, 2.0]), np.array([0.1, 0.5, 0.9]))
    assert p_values == pytest.approx([1.0, 0.75, 0.25])


def test_conformal_p_is_uniform_on_leak_free_scores() -> None:
    chance = np.random.default_rng(0)
    p_values = metrics.conformal_p(chance.normal(size=20000), chance.normal(size=1000))
    assert (p_values <= 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_benjamini_hochberg_matches_the_textbook() -> None:
    p_values = np.array([0.01, 0.04, 0.03, 0.5, 0.005], np.float32)
    assert metrics.benjamini_hochberg(p_values, 0.05).tolist() == [True, True, True, False, True]
    assert not metrics.benjamini_hochberg(np.array([0.06, 0.2], np.float32), 0.05).any()
    assert metrics.benjamini_hochberg(np.array([], np.float32), 0.05).shape == (0,)


def test_auroc_counts_ties_half() -> None:
    labels = np.array([0.0, 0, 1, 1])
    assert metrics.auroc(labels, np.array([0.1, 0.4, 0.4, 0.9])) == pytest.approx(0.875)
    assert metrics.auroc(np.zeros(3), np.arange(3.0)) is None


def test_tpr_at_five_percent_allows_at_most_five_percent_false_positives() -> None:
    chance = np.random.default_rng(1)
    labels = np.repeat([0.0, 1.0], 8000)
    scores = np.concatenate([chance.normal(0, 1, 8000), chance.normal(2, 1, 8000)])
    threshold = metrics.threshold_at(labels, scores, 0.05)
    assert (scores[:8000] > threshold).mean() <= 0.05
    assert metrics.tpr_at(labels, scores) == pytest.approx(0.64, abs=0.04)


def test_calibration_error_is_the_gap_of_score_and_share() -> None:
    assert metrics.calibration_error(np.array([1.0, 0, 0, 0]), np.full(4, 0.25)) == pytest.approx(0.0)
    assert metrics.calibration_error(np.array([1.0, 1, 1, 1]), np.full(4, 0.25)) == pytest.approx(0.75)


def test_prevalence_is_corrected_for_error_rates_and_clustered_by_image() -> None:
    flags = [True] * 30 + [False] * 70
    rows_apart = metrics.prevalence(flags, [str(row) for row in range(100)], 0.9, 0.05)
    rows_together = metrics.prevalence(flags, [str(row // 10) for row in range(100)], 0.9, 0.05)
    assert rows_apart[0] == rows_together[0] == pytest.approx((0.3 - 0.05) / 0.85)
    assert rows_together[2] - rows_together[1] > 2 * (rows_apart[2] - rows_apart[1])


def test_prevalence_of_nothing_is_unknown() -> None:
    assert metrics.prevalence([], [], 0.9, 0.05) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(("sentences", "share"), [(1, 0.0), (2, 1 / 3), (4, 1.0), (9, 1.0)])
def test_reading_both_texts_counts_more_beside_a_long_description(sentences: int, share: float) -> None:
    long = replace(pair(), sentences=np.array([sentences]))
    assert FEATURES["joint_of_long"](long)[0] == pytest.approx(share * (1.5 - 1.0))


@pytest.mark.parametrize(("nearest", "behind"), [(0.9, -0.1), (0.8, 0.0), (0.5, 0.0)])
def test_a_pair_falls_behind_the_image_that_the_query_fits_best(nearest: float, behind: float) -> None:
    among = replace(pair(), risk_nearest=np.array([nearest], np.float32))
    assert FEATURES["risk_behind"](among)[0] == pytest.approx(behind, abs=1e-6)


def test_an_image_is_as_near_as_its_nearest_sentence() -> None:
    rows = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    starts = np.array([0, 1, 4, 6])
    assert np.array_equal(most_of_each(rows, starts), np.maximum.reduceat(rows, starts, axis=0))


def test_a_p_value_on_its_limit_is_flagged_however_the_quotients_are_rounded() -> None:
    """0.05 * 43 / 43 is less than 0.05 in floating point; of 999 calibration scores many a p-value lies on a limit."""
    assert metrics.benjamini_hochberg(np.full(43, 0.05), 0.05).all()
    for n in range(20, 400):
        ranks = np.arange(1, n + 1)
        on_limit = ranks[ranks * 1000 % (20 * n) == 0]
        for rank in on_limit.tolist():
            p_values = np.repeat([rank * 1000 // (20 * n) / 1000, 1.0], [rank, n - rank])
            assert metrics.benjamini_hochberg(p_values, 0.05).sum() == rank
