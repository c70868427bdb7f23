"""Areas, their differences and rates at a threshold, against brute force, sklearn, scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from albert_audit.stats import clopper_pearson
from albert_audit.stats.auc import auc as plain_auc
from albert_audit.stats.roc import advantage, auc, auc_difference, roc, tpr_at

steady = settings(max_examples=60, deadline=None, derandomize=True, database=None)
few = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=25)


def sides(high, low):
    return np.array([*high, *low], float), np.array([True] * len(high) + [False] * len(low))


def records(rng, people, *, shift=0.0, most=6):
    """People on one side each, with one to `most` records that share an effect."""
    sizes = rng.integers(1, most + 1, 2 * people)
    persons = np.repeat(np.arange(2 * people), sizes)
    member = persons < people
    scores = rng.normal(size=2 * people)[persons] + rng.normal(size=len(persons))
    return scores + shift * member * math.sqrt(2), member, persons


# --- the curve ------------------------------------------------------------------------------


@steady
@given(few, few)
def test_the_curve_is_sklearns_and_its_area_the_area(high, low):
    """Trap 11: equal scores move together, so that a constant score is the diagonal."""
    scores, member = sides(high, low)
    found = roc(scores, member)
    fpr, tpr, thresholds = metrics.roc_curve(member, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.fpr, fpr)
    np.testing.assert_allclose(found.tpr, tpr)
    np.testing.assert_array_equal(found.thresholds, thresholds)
    assert (found.fpr[0], found.tpr[0], found.fpr[-1], found.tpr[-1]) == (0, 0, 1, 1)
    assert auc(scores, member).value == pytest.approx(np.trapezoid(found.tpr, found.fpr))


@pytest.mark.parametrize(
    ("scores", "member", "said"),
    [
        ([1.0, np.nan], [1, 0], "finite"),
        ([1.0, 2.0], [1, 0, 0], "one length"),
        ([1.0, 2.0], [1, 1], "members and non-members"),
        ([1.0, 2.0], [1, -1], "true and false"),
    ],
)
def test_what_cannot_be_scored_is_refused(scores, member, said):
    for function in (roc, auc, lambda s, m: tpr_at(s, m, 0.1)):
        with pytest.raises(ValueError, match=said):
            function(scores, member)


def test_one_person_a_record_is_needed():
    with pytest.raises(ValueError, match="one person a record"):
        auc([1.0, 2.0], [1, 0], ["a"])


# --- the area -------------------------------------------------------------------------------


@steady
@given(st.integers(0, 10_000), st.floats(-2, 3))
def test_without_persons_it_is_delongs(seed, shift):
    rng = np.random.default_rng(seed)
    scores, member = sides(rng.normal(shift, 1, 30).round(1), rng.normal(0, 2, 22).round(1))
    one, other = auc(scores, member, comparisons=3), plain_auc(scores[member], scores[~member])
    assert one.value == pytest.approx(other.value) and one.se == pytest.approx(other.se)
    assert auc(scores, member, list(range(52))).se == pytest.approx(other.se)
    assert one.df == 21
    turned = auc(scores, ~member, comparisons=3)
    assert one.value + turned.value == pytest.approx(1)
    for level, i in one.intervals.items():
        assert 0 <= i.low <= one.value <= i.high <= 1
        assert turned.intervals[level].low == pytest.approx(1 - i.high, abs=1e-6)
    assert (one.p < 0.05) == (not one.intervals["0.95"].low <= 0.5 <= one.intervals["0.95"].high)


def obuchowski(scores, member, persons):
    """The formula of the paper, written out."""
    x, y = scores[member], scores[~member]
    psi = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    area, m, n = psi.mean(), len(x), len(y)
    names = sorted(set(persons))
    a = [(psi.mean(axis=1)[persons[member] == c] - area).sum() for c in names]
    b = [(psi.mean(axis=0)[persons[~member] == c] - area).sum() for c in names]
    i10, i01, i = len(set(persons[member])), len(set(persons[~member])), len(names)
    s10 = i10 / ((i10 - 1) * m) * np.square(a).sum()
    s01 = i01 / ((i01 - 1) * n) * np.square(b).sum()
    s11 = i / (i - 1) * np.dot(a, b)
    return math.sqrt(s10 / m + s01 / n + 2 * s11 / (m * n))


def test_with_persons_on_both_sides_it_is_obuchowskis():
    rng = np.random.default_rng(2)
    persons = np.repeat(np.arange(30), 4)
    member = rng.random(120) < 0.5
    scores = (rng.normal(size=30)[persons] + rng.normal(size=120)).round(1)
    assert auc(scores, member, persons).se == pytest.approx(obuchowski(scores, member, persons))


def test_copies_of_a_persons_records_add_nothing():
    """Trap 17: rows of one person are not independent."""
    rng = np.random.default_rng(0)
    scores, member = sides(rng.normal(0.5, 1, 40), rng.normal(0, 1, 40))
    once = auc(scores, member)
    five = auc(np.repeat(scores, 5), np.repeat(member, 5), np.repeat(np.arange(80), 5))
    assert five.value == pytest.approx(once.value)
    assert five.se == pytest.approx(once.se) and five.df == once.df
    assert five.intervals["0.95"].low == pytest.approx(once.intervals["0.95"].low, abs=0.01)
    assert auc(np.repeat(scores, 5), np.repeat(member, 5)).se < 0.6 * once.se  # what the trap would give


def test_an_area_below_one_half_stays_below():
    """Trap 5: an area is never turned round."""
    rng = np.random.default_rng(1)
    scores, member = sides(rng.normal(-1, 1, 100), rng.normal(0, 1, 100))
    found = auc(scores, member)
    assert found.value < 0.35 and found.intervals["0.95"].high < 0.5


def test_a_constant_score_is_one_half_with_a_width():
    """Trap 11."""
    found = auc(np.ones(120), np.arange(120) < 60)
    assert found.value == 0.5 and found.p == 1
    assert found.intervals["0.95"].low < 0.42 and found.intervals["0.95"].high > 0.58
    assert found.resolvability is not None


def test_perfect_separation_keeps_a_width_at_the_effective_sizes():
    scores, member = np.arange(120.0), np.arange(120) >= 60
    alone, five = auc(scores, member), auc(scores, member, np.arange(120) // 5)
    assert alone.value == five.value == 1 and alone.se == 0 and alone.p < 1e-6
    assert 0.9 < alone.intervals["0.95"].low < 0.99 and alone.intervals["0.95"].high == 1
    assert five.df == 11 and five.intervals["0.95"].low < alone.intervals["0.95"].low - 0.1


def test_few_persons_give_no_interval_however_many_records():
    rng = np.random.default_rng(4)
    found = auc(rng.normal(size=800), np.arange(800) < 400, np.arange(800) // 50)
    assert found.df == 7 and not found.intervals and found.p is None


@pytest.mark.parametrize(
    ("n", "half"), [(100, 0.080), (250, 0.051), (500, 0.036), (1000, 0.025), (2000, 0.018)]
)
def test_widths_under_the_null_are_the_known_ones(n, half):
    rng = np.random.default_rng(n)
    found = auc(rng.normal(size=2 * n), np.arange(2 * n) < n).intervals["0.95"]
    assert (found.high - found.low) / 2 == pytest.approx(half, abs=0.0025)


def misses(draw, truth, runs):
    ends = [draw().intervals["0.95"] for _ in range(runs)]
    return sum(i.low > truth for i in ends), sum(i.high < truth for i in ends)


def test_coverage_with_persons_of_several_records():
    """Trap 17: taken as rows, the same intervals miss one half in a quarter of the runs."""
    rng = np.random.default_rng(5)
    draws = [records(rng, 40) for _ in range(150)]
    clustered, rows = iter(draws), iter(draws)
    low, high = misses(lambda: auc(*next(clustered)), 0.5, 150)
    assert stats.binom.sf(low + high - 1, 150, 0.05) > 0.001
    low, high = misses(lambda: auc(*next(rows)[:2]), 0.5, 150)
    assert low + high > 20


# --- the difference -------------------------------------------------------------------------


def test_the_paired_difference_is_the_area_difference_with_delongs_paired_error():
    rng = np.random.default_rng(7)
    member = np.arange(90) < 40
    base = rng.normal(size=90)
    one, two = base + member, base + 0.3 * rng.normal(size=90)
    found = auc_difference(one, two, member)
    placed = []
    for s in (one, two):
        psi = s[member][:, None] > s[~member]
        placed.append((psi.mean(axis=1), psi.mean(axis=0)))
    cov = [np.cov(placed[0][i], placed[1][i]) / len(placed[0][i]) for i in (0, 1)]
    variance = sum(c[0, 0] + c[1, 1] - 2 * c[0, 1] for c in cov)
    assert found.value == pytest.approx(auc(one, member).value - auc(two, member).value)
    assert found.se == pytest.approx(math.sqrt(variance))
    half = stats.t.ppf(0.975, 39) * found.se
    assert found.intervals["0.95"].high - found.value == pytest.approx(half)
    assert found.p == pytest.approx(2 * stats.t.sf(found.value / found.se, 39))


def test_controls_keep_their_own_curves():
    """Controls on different scales: the mean of their areas is not the area of their mean score."""
    rng = np.random.default_rng(8)
    member = np.arange(200) < 100
    useful, noise = rng.normal(size=200) + 1.5 * member, 1000 * rng.normal(size=200)
    found = auc_difference(useful, np.array([useful, noise]), member)
    wanted = auc(useful, member).value - (auc(useful, member).value + auc(noise, member).value) / 2
    assert found.value == pytest.approx(wanted)


def test_an_attack_that_equals_its_control_shows_nothing():
    rng = np.random.default_rng(9)
    scores, member, persons = records(rng, 40, shift=2.0)
    found = auc_difference(scores, 3 * scores + 1, member, persons)
    assert found.value == 0 and found.se == 0 and found.p == 1
    assert found.intervals["0.95"].low <= 0 <= found.intervals["0.95"].high


def test_perfect_areas_keep_a_width():
    member = np.arange(60) >= 30
    perfect, constant = np.arange(60.0), np.ones(60)
    found = auc_difference(perfect, constant, member)
    i = found.intervals["0.95"]
    assert found.value == 0.5 and found.se == 0 and 0 < i.low < 0.5 < i.high and found.p < 0.001
    both = auc_difference(perfect, perfect**2, member)
    assert both.value == 0 and both.intervals["0.95"].low < -0.02 and both.intervals["0.95"].high > 0.02


def test_controls_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) or \(k, 3\)"):
        auc_difference([1.0, 2.0, 3.0], [1.0, 2.0], [1, 0, 0])


def test_few_persons_give_no_interval_of_the_difference():
    rng = np.random.default_rng(4)
    found = auc_difference(rng.normal(size=80), rng.normal(size=80), np.arange(80) < 40, np.arange(80) // 10)
    assert found.df == 3 and not found.intervals and found.p is None


@pytest.mark.parametrize(("shift", "base", "people"), [(0.0, 0.0, 40), (1.8, 1.8, 50), (3.0, 2.4, 20)])
def test_coverage_of_the_difference(shift, base, people):
    rng = np.random.default_rng(10)

    def draw():
        shared, member, persons = records(rng, people, most=4)

        def model(by):
            return shared + 0.7 * rng.normal(size=len(shared)) + by * member * math.sqrt(2.49)

        return auc_difference(model(shift), np.array([model(base), model(base)]), member, persons)

    truth = stats.norm.cdf(shift / math.sqrt(2)) - stats.norm.cdf(base / math.sqrt(2))
    low, high = misses(draw, truth, 80)
    assert stats.binom.sf(low - 1, 80, 0.025) > 0.001 and stats.binom.sf(high - 1, 80, 0.025) > 0.001


# --- rates at a threshold -------------------------------------------------------------------


@pytest.mark.parametrize(("fpr", "needed"), [(0.001, 3688), (0.01, 368), (0.1, 36)])
def test_how_many_non_members_a_rate_needs(fpr, needed):
    """About 3,700 for 0.1 %, held against Clopper-Pearson itself."""
    found = tpr_at(np.arange(50.0), np.arange(50) < 20, fpr)
    assert found.needed == needed
    assert clopper_pearson(0, needed).high < fpr <= clopper_pearson(0, needed - 1).high


@pytest.mark.parametrize(("n", "high"), [(100, 0.036), (500, 0.0074), (1000, 0.0037)])
def test_no_false_positive_still_allows_some(n, high):
    assert clopper_pearson(0, n).high == pytest.approx(high, rel=0.02)
    found = tpr_at(np.arange(2.0 * n), np.arange(2 * n) >= n, 0.001)
    assert not found.resolvable and found.tpr is None and found.fpr is None and found.threshold is None
    assert str(found.needed) in found.reason


@steady
@given(
    st.integers(0, 10_000),
    st.integers(40, 300),
    st.sampled_from([0.1, 0.2, 0.29, 0.07 + 0.03]),
    st.booleans(),
)
def test_the_rate_achieved_never_exceeds_the_one_wanted(seed, n, fpr, ties):
    """Trap 9: the threshold is a non-member's score, and nothing is interpolated."""
    rng = np.random.default_rng(seed)
    scores, member = rng.normal(size=n + 30), np.arange(n + 30) < 30
    scores = scores.round(0) if ties else scores
    found = tpr_at(scores, member, fpr)
    false = int((scores[~member] > found.threshold).sum())
    assert found.fpr.value == false / n <= fpr
    assert found.tpr.value == (scores[member] > found.threshold).mean()
    lower = scores[~member][scores[~member] < found.threshold]
    if len(lower):  # the next lower threshold would exceed it
        assert (scores[~member] >= found.threshold).mean() > fpr
    exact = clopper_pearson(round(found.tpr.value * 30), 30)
    assert found.tpr.interval.low == pytest.approx(exact.low) and found.tpr.interval.high == pytest.approx(
        exact.high
    )
    assert found.fpr.interval.low == pytest.approx(clopper_pearson(false, n).low)
    if not ties:
        assert found.fpr.interval.high == pytest.approx(clopper_pearson(false, n).high)


def test_a_share_that_rounding_would_lower_is_allowed():
    """0.29 x 100 is 28.999… in floating point, yet 29 of 100 are at most 0.29."""
    scores, member = np.arange(130.0), np.arange(130) >= 100
    assert tpr_at(scores, member, 0.29).fpr.value == 0.29


def test_a_constant_score_calls_nobody_a_member():
    found = tpr_at(np.ones(200), np.arange(200) < 100, 0.1)
    assert found.tpr.value == found.fpr.value == 0
    assert found.fpr.interval.high == pytest.approx(clopper_pearson(10, 100).high)


def test_the_interval_of_the_rate_achieved_holds_although_it_was_chosen():
    rng = np.random.default_rng(11)
    missed = 0
    for _ in range(400):
        found = tpr_at(rng.uniform(size=150), np.arange(150) < 30, 0.05 + 0.05)
        true = 1 - found.threshold
        missed += not found.fpr.interval.low <= true <= found.fpr.interval.high
    assert stats.binom.sf(missed - 1, 400, 0.05) > 0.001


def test_persons_make_rates_less_certain_and_may_leave_them_unresolved():
    """Trap 17."""
    rng = np.random.default_rng(12)
    persons = np.repeat(np.arange(200), 5)
    member = persons < 100
    scores = np.repeat(rng.normal(size=200), 5) + 0.01 * rng.normal(size=1000)
    rows, people = tpr_at(scores, member, 0.1), tpr_at(scores, member, 0.1, persons)
    assert people.tpr.value == rows.tpr.value and people.threshold == rows.threshold
    assert rows.tpr.size == 500 and 80 < people.tpr.size < 130

    def width(rate):
        return rate.interval.high - rate.interval.low

    assert width(people.tpr) > 1.8 * width(rows.tpr) and width(people.fpr) > 1.8 * width(rows.fpr)
    assert tpr_at(scores, member, 0.01).resolvable and not tpr_at(scores, member, 0.01, persons).resolvable


def test_few_members_are_no_rate():
    found = tpr_at(np.arange(205.0), np.arange(205) >= 200, 0.1)
    assert not found.resolvable and "members" in found.reason


def test_a_false_positive_rate_lies_between_0_and_1():
    with pytest.raises(ValueError, match="between 0 and 1, found 0"):
        tpr_at([1.0, 2.0], [0, 1], 0.0)


# --- advantage ------------------------------------------------------------------------------


def test_an_attack_that_separates_has_an_advantage_of_nearly_one():
    found = advantage(np.arange(200.0), np.arange(200) >= 100, rng=np.random.default_rng(0))
    assert found.value > 0.95 and found.intervals["0.95"].low > 0.85


def test_a_threshold_is_never_chosen_on_the_records_it_is_scored_on():
    """Trap 9: the largest difference over thresholds lies far above 0 on average; this one does not."""
    rng = np.random.default_rng(13)
    member = np.arange(200) < 100
    found, best, above = [], [], 0
    for _ in range(400):
        scores = rng.normal(size=200)
        e = advantage(scores, member, rng=rng)
        curve = roc(scores, member)
        found.append(e.value)
        best.append((curve.tpr - curve.fpr).max())
        above += e.intervals["0.95"].low > 0
    assert abs(np.mean(found)) < 4 * np.std(found) / 20
    assert np.mean(best) > 0.07
    assert stats.binom.sf(above - 1, 400, 0.025) > 0.001


def test_a_person_is_never_in_both_halves():
    """Trap 10: a person's records carry one arbitrary value; a threshold that knew it would profit."""
    rng = np.random.default_rng(14)
    persons = np.repeat(np.arange(40), 10)
    values = [
        advantage(rng.normal(size=40)[persons], persons < 20, persons, rng=rng).value for _ in range(300)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(300)


def test_an_attack_worse_than_chance_has_no_advantage():
    """Trap 5: turning the score round would give 1."""
    found = advantage(-np.arange(200.0), np.arange(200) >= 100, rng=np.random.default_rng(0))
    assert abs(found.value) < 0.05


def test_one_person_a_side_cannot_be_halved():
    with pytest.raises(ValueError, match="at least two persons"):
        advantage([1.0, 2.0, 3.0], [1, 0, 0], ["a", "b", "b"], rng=np.random.default_rng(0))
