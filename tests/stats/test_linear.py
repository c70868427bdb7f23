"""The clustered contrasts, each against an oracle that is computed another way."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from statsmodels.stats.sandwich_covariance import cov_cluster, cov_cluster_2groups

from albert_audit.stats import Design

steady = settings(max_examples=60, deadline=None, derandomize=True, database=None)


# --- oracles ----------------------------------------------------------------------------------


def jackknife(x, c, labels, y):
    """Squared changes of the contrast as each cluster is left out: CR3 by brute force."""
    full = c @ np.linalg.lstsq(x, y, rcond=None)[0]
    changes = []
    for g in np.unique(labels):
        keep = labels != g
        changes.append(c @ np.linalg.lstsq(x[keep], y[keep], rcond=None)[0] - full)
    return float(np.sum(np.square(changes)))


def dense(x, c, labels):
    """Columns a_g = (I - H_gg)^-1 X_g (X'X)^-1 c, and the residual maker, as full matrices."""
    bread = np.linalg.inv(x.T @ x)
    hat = x @ bread @ x.T
    groups = np.unique(labels)
    a = np.zeros((len(x), len(groups)))
    for j, g in enumerate(groups):
        rows = np.flatnonzero(labels == g)
        block = np.eye(len(rows)) - hat[np.ix_(rows, rows)]
        a[rows, j] = np.linalg.solve(block, x[rows] @ bread @ c)
    return a, np.eye(len(x)) - hat


def dense_variance(x, c, labels, y):
    a, maker = dense(x, c, labels)
    return float(np.sum((a.T @ maker @ y) ** 2))


def dense_df(x, c, labels):
    """Bell and McCaffrey by eigenvalues: those of A' M A, the working covariance being the identity."""
    a, maker = dense(x, c, labels)
    eigen = np.linalg.eigvalsh(a.T @ maker @ a)
    return float(eigen.sum() ** 2 / (eigen**2).sum())


def cells(a, b):
    return np.array([f"{i}|{j}" for i, j in zip(a, b, strict=True)])


def problem(seed, *, n=60, k=3, clusters=7, unbalanced=True):
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, k - 1))])
    weights = np.arange(1, clusters + 1) if unbalanced else np.ones(clusters)
    a = rng.choice(clusters, n, p=weights / weights.sum())
    b = rng.choice(clusters + 2, n)
    a[:clusters], b[: clusters + 2] = np.arange(clusters), np.arange(clusters + 2)
    y = x.sum(axis=1) + rng.normal(size=clusters)[a] + rng.normal(size=clusters + 2)[b] + rng.normal(size=n)
    return x, rng.normal(size=k), a, b, y


def crossed(templates, fillers):
    return np.repeat(np.arange(templates), fillers), np.tile(np.arange(fillers), templates)


# --- value, variance, degrees of freedom --------------------------------------------------------


@steady
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(40, 90),
    k=st.integers(1, 4),
    clusters=st.integers(6, 12),
    unbalanced=st.booleans(),
)
def test_one_way_is_the_jackknife(seed, n, k, clusters, unbalanced):
    x, c, a, _, y = problem(seed, n=n, k=k, clusters=clusters, unbalanced=unbalanced)
    design = Design(x, c, [a])
    fit = design.fit(y)
    assert_allclose(fit.value, c @ np.linalg.lstsq(x, y, rcond=None)[0], rtol=1e-9, atol=1e-9)
    assert_allclose(fit.se**2, jackknife(x, c, a, y), rtol=1e-6, atol=1e-12)
    assert_allclose(fit.se**2, dense_variance(x, c, a, y), rtol=1e-6, atol=1e-12)
    assert_allclose(fit.df, dense_df(x, c, a), rtol=1e-6)


@steady
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(60, 90), k=st.integers(1, 3), clusters=st.integers(6, 10)
)
def test_two_way_is_the_sum_less_the_cells_with_a_floor(seed, n, k, clusters):
    x, c, a, b, y = problem(seed, n=n, k=k, clusters=clusters)
    fit = Design(x, c, [a, b]).fit(y)
    v_a, v_b, v_ab = (dense_variance(x, c, labels, y) for labels in (a, b, cells(a, b)))
    assert_allclose(fit.se**2, max(v_a, v_b, v_a + v_b - v_ab), rtol=1e-6, atol=1e-12)
    assert_allclose(fit.df, min(dense_df(x, c, a), dense_df(x, c, b)), rtol=1e-6)


def test_the_two_way_variance_is_never_below_either_side():
    """Effects that cancel within both clusterings make the sum less the cells negative."""
    a, b = crossed(10, 10)
    y = np.where((a + b) % 2, 1.0, -1.0)
    assert dense_variance(np.ones((100, 1)), np.ones(1), a, y) < 1e-20
    both = Design.mean([a, b]).fit(y)
    assert both.se == 0.0
    y = y + np.random.default_rng(0).normal(scale=0.1, size=100)
    x, c = np.ones((100, 1)), np.ones(1)
    v_a, v_b, v_ab = (dense_variance(x, c, labels, y) for labels in (a, b, cells(a, b)))
    assert v_a + v_b - v_ab < 0
    assert_allclose(Design.mean([a, b]).fit(y).se ** 2, max(v_a, v_b))


def test_nested_clusterings_give_the_outer_one():
    rng = np.random.default_rng(1)
    inner = np.repeat(np.arange(40), 3)
    outer = inner // 4
    y = rng.normal(size=10)[outer] + rng.normal(size=120)
    one, two = Design.mean([outer]).fit(y), Design.mean([outer, inner]).fit(y)
    assert_allclose(two.se, max(one.se, Design.mean([inner]).fit(y).se))


@pytest.mark.parametrize("seed", range(5))
def test_equals_statsmodels_hc3_when_every_row_is_a_cluster(seed):
    x, c, _, _, y = problem(seed, n=40)
    covariance = sm.OLS(y, x).fit(cov_type="HC3").cov_params()
    assert_allclose(Design(x, c, [np.arange(40)]).fit(y).se ** 2, c @ covariance @ c, rtol=1e-9)


def test_equals_statsmodels_clusters_of_a_balanced_mean_up_to_the_known_factor():
    """With G equal clusters, CR3 of a mean is the uncorrected sandwich times (G / (G - 1))^2."""
    rng = np.random.default_rng(2)
    a, b = crossed(12, 15)
    y = rng.normal(size=12)[a] + rng.normal(size=15)[b] + rng.normal(size=180)
    ols = sm.OLS(y, np.ones((180, 1))).fit()
    for labels, g in ((a, 12), (b, 15)):
        plain = cov_cluster(ols, labels, use_correction=False).item()
        assert_allclose(Design.mean([labels]).fit(y).se ** 2, plain * (g / (g - 1)) ** 2)
    _, s_a, s_b = cov_cluster_2groups(ols, a, b, use_correction=False)
    s_ab = cov_cluster(ols, np.arange(180), use_correction=False).item()
    expected = s_a.item() * (12 / 11) ** 2 + s_b.item() * (15 / 14) ** 2 - s_ab * (180 / 179) ** 2
    assert_allclose(Design.mean([a, b]).fit(y).se ** 2, expected)


def test_a_balanced_mean_by_hand():
    """G equal clusters: the variance of the cluster means over G - 1, on G - 1 degrees of freedom."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=(11, 4))
    fit = Design.mean([np.repeat(np.arange(11), 4)]).fit(y.ravel())
    assert_allclose(fit.value, y.mean())
    assert_allclose(fit.se**2, y.mean(axis=1).var(ddof=1) / 10)
    assert_allclose(fit.df, 10)


# --- constructors -------------------------------------------------------------------------------


def test_slope_is_the_regression_slope():
    rng = np.random.default_rng(4)
    z, y = rng.uniform(size=50), rng.normal(size=50)
    labels = rng.choice(9, 50)
    labels[:9] = np.arange(9)
    fit = Design.slope(z, [labels]).fit(y)
    assert_allclose(fit.value, np.polyfit(z, y, 1)[0])
    x = np.column_stack([np.ones(50), z])
    assert_allclose(fit.se**2, jackknife(x, np.array([0.0, 1.0]), labels, y))
    assert_allclose(fit.df, dense_df(x, np.array([0.0, 1.0]), labels))


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e5, 1e8])
def test_units_of_the_covariate_do_not_matter(scale):
    """Pay in cents is as good a covariate as a share between 0 and 1."""
    rng = np.random.default_rng(5)
    a, b = crossed(12, 30)
    z = rng.uniform(size=30)[b]
    y = rng.normal(size=360) + rng.normal(size=12)[a] * z + rng.normal(size=30)[b]
    one, other = Design.slope(z, [a, b]).fit(y), Design.slope(z * scale, [a, b]).fit(y)
    assert_allclose(other.value * scale, one.value, rtol=1e-6)
    assert_allclose(other.se * scale, one.se, rtol=1e-6)
    assert_allclose(other.df, one.df, rtol=1e-6)


def test_difference_of_unrelated_means_adds_the_variances():
    rng = np.random.default_rng(6)
    a, b = np.repeat(np.arange(10), 3), np.repeat(np.arange(100, 115), 2)
    first, second = Design.mean([a]), Design.mean([b])
    design = Design.difference(first, second, [np.concatenate([a, b])])
    y = rng.normal(size=60)
    one, two, both = first.fit(y[:30]), second.fit(y[30:]), design.fit(y)
    assert_allclose(both.value, one.value - two.value)
    assert_allclose(both.se**2, one.se**2 + two.se**2)


@pytest.mark.parametrize("shared", ["clusters shared", "partly shared", "own"])
def test_difference_is_the_jackknife_over_whole_clusters(shared):
    rng = np.random.default_rng(7)
    (a, f), (b, g) = crossed(9, 12), crossed(9, 10)
    offset = {"clusters shared": 0, "partly shared": 5, "own": 50}[shared]
    b = b + offset
    z, w = rng.uniform(size=12)[f], rng.uniform(size=10)[g]
    design = Design.difference(Design.slope(z, [a, f]), Design.slope(w, [b, g]), [np.concatenate([a, b])])
    y = rng.normal(size=len(a) + len(b)) + np.concatenate([a * z, b * w])
    x = np.zeros((len(y), 4))
    x[: len(a), 0], x[: len(a), 1], x[len(a) :, 2], x[len(a) :, 3] = 1, z, 1, w
    c = np.array([0.0, 1.0, 0.0, -1.0])
    fit = design.fit(y)
    assert_allclose(fit.value, c @ np.linalg.lstsq(x, y, rcond=None)[0])
    assert_allclose(fit.se**2, jackknife(x, c, np.concatenate([a, b]), y))


def test_what_two_parts_share_cancels_from_their_difference():
    rng = np.random.default_rng(8)
    a, f = crossed(10, 8)
    design = Design.difference(
        Design.mean([a, f]), Design.mean([a, f]), [np.tile(a, 2), np.concatenate([f, f + 8])]
    )
    y = rng.normal(size=160)
    common = 100 * rng.normal(size=10)[np.tile(a, 2)]
    assert_allclose(design.fit(y + common).value, design.fit(y).value, atol=1e-9)
    assert_allclose(design.fit(y + common).se, design.fit(y).se)


def test_a_difference_has_no_more_degrees_of_freedom_than_either_part():
    """Three large control clusters must not hide behind eighty small ones.

    Under the identity working covariance the difference would get 16.6 degrees of freedom, and with
    a correlation of 0.5 within clusters its nominal 95 % interval covered 89 %.
    """
    a, b = np.repeat(np.arange(80), 5), np.repeat(np.arange(100, 103), 400)
    first, second = Design.mean([a]), Design.mean([b])
    design = Design.difference(first, second, [np.concatenate([a, b])])
    assert_allclose(second.df, 2)
    assert design.df <= 2 + 1e-9
    assert design.fit(np.arange(1600.0)).df <= 2 + 1e-9


# --- clusters that determine what is asked ------------------------------------------------------


def test_a_cluster_that_alone_determines_the_contrast_leaves_no_degrees_of_freedom():
    """Its deviation cannot be told from the effect: the interval that ignored it covered 18 %."""
    a, b = crossed(12, 20)
    only = (b == 3).astype(float)
    assert Design.slope(only, [a, b]).df == 0.0
    assert Design.slope(only, [b]).df == 0.0
    assert Design.slope(only, [a]).df == pytest.approx(11)


def test_a_control_of_one_cluster_leaves_no_degrees_of_freedom():
    a, b = crossed(12, 20)
    one = (np.arange(12), np.full(12, 99))
    labels = [np.concatenate([a, one[0]]), np.concatenate([b, one[1]])]
    assert Design.difference(Design.mean([a, b]), Design.mean(list(one)), labels).df == 0.0


def test_a_cluster_that_alone_determines_another_coefficient_does_no_harm():
    """A dummy of one cluster only removes it: the same as leaving its rows out."""
    rng = np.random.default_rng(9)
    a = np.repeat(np.arange(12), 5)
    y = rng.normal(size=60) + rng.normal(size=12)[a]
    x = np.column_stack([np.ones(60), a == 4]).astype(float)
    fit, without = Design(x, [1.0, 0.0], [a]).fit(y), Design.mean([a[a != 4]]).fit(y[a != 4])
    assert_allclose([fit.value, fit.se, fit.df], [without.value, without.se, without.df])


def test_a_nearly_determined_contrast_has_about_one_degree_of_freedom():
    a, b = crossed(12, 20)
    z = np.where(b == 3, 1.0, 1e-3 * np.arange(20)[b])
    assert Design.slope(z, [a, b]).df < 1.5


def test_one_cluster_has_no_degrees_of_freedom():
    fit = Design.mean([["w"] * 10]).fit(np.arange(10.0))
    assert fit.df == 0.0
    assert np.isfinite(fit.se)


def test_nine_equal_clusters_have_eight_degrees_of_freedom_and_no_less():
    """The least that gets an interval: rounding must not take it away for some sizes."""
    assert all(Design.mean([np.repeat(np.arange(9), size)]).df == 8.0 for size in range(1, 80))


def test_a_dominant_cluster_costs_degrees_of_freedom():
    labels = np.concatenate([np.zeros(100, dtype=int), np.arange(1, 101)])
    assert Design.mean([labels]).df < 2.5
    assert Design.mean([np.arange(200)]).df == pytest.approx(199)


# --- invariances --------------------------------------------------------------------------------


@steady
@given(seed=st.integers(0, 2**32 - 1))
def test_labels_are_only_names_and_row_order_is_free(seed):
    x, c, a, b, y = problem(seed)
    rng = np.random.default_rng(seed)
    reference = Design(x, c, [a, b]).fit(y)
    names = np.array([f"writer-{i}" for i in rng.permutation(20)])
    order = rng.permutation(len(y))
    renamed = Design(x[order], c, [list(names[a][order]), -b[order] * 1.5]).fit(y[order])
    swapped = Design(x, c, [b, a]).fit(y)
    for fit in (renamed, swapped):
        assert_allclose([fit.value, fit.se, fit.df], [reference.value, reference.se, reference.df], rtol=1e-8)


@steady
@given(seed=st.integers(0, 2**32 - 1), times=st.integers(2, 10))
def test_duplicating_every_row_narrows_nothing(seed, times):
    x, c, a, b, y = problem(seed, n=40)
    for labels in ([a], [a, b]):
        one = Design(x, c, labels).fit(y)
        many = Design(np.tile(x, (times, 1)), c, [np.tile(s, times) for s in labels]).fit(np.tile(y, times))
        assert_allclose([many.value, many.se, many.df], [one.value, one.se, one.df], rtol=1e-7)


@steady
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-50, 50), scale=st.floats(0.01, 50))
def test_scores_shift_and_scale(seed, shift, scale):
    _, _, a, b, y = problem(seed)
    one, other = Design.mean([a, b]).fit(y), Design.mean([a, b]).fit(shift + scale * y)
    assert_allclose(other.value, shift + scale * one.value, atol=1e-9)
    assert_allclose(other.se, scale * one.se, rtol=1e-7)


def test_many_columns_are_many_fits():
    x, c, a, b, _ = problem(10)
    y = np.random.default_rng(11).normal(size=(60, 5))
    design = Design(x, c, [a, b])
    together = design.fit(y)
    assert together.value.shape == together.se.shape == (5,)
    assert design.residuals(y).shape == (60, 5)
    for j in range(5):
        alone = design.fit(y[:, j])
        assert alone.value.shape == alone.se.shape == ()
        assert_allclose([together.value[j], together.se[j], together.df], [alone.value, alone.se, alone.df])
        assert_allclose(design.residuals(y)[:, j], design.residuals(y[:, j]))


def test_residuals_are_those_of_least_squares():
    x, c, a, _, y = problem(12)
    expected = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    assert_allclose(Design(x, c, [a]).residuals(y), expected, atol=1e-10)


# --- no variation -------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [0.0, 0.1, 0.5, 1 / 3, 1.0, -7.3, 1e-6, 1e6])
@pytest.mark.parametrize(("templates", "fillers"), [(7, 7), (12, 5), (20, 5), (24, 72), (11, 137)])
def test_tied_scores_have_a_variance_of_exactly_zero(tied, templates, fillers):
    """Rounding must not pass for variation: 60 scores of 0.1 once had p = 7e-168."""
    a, b = crossed(templates, fillers)
    y = np.full(len(a), tied)
    for labels in ([a], [a, b]):
        fit = Design.mean(labels).fit(y)
        assert fit.se == 0.0
        assert_allclose(fit.value, tied, rtol=1e-12)
    slope = Design.slope(np.arange(fillers)[b], [a, b]).fit(y)
    assert slope.value == 0.0
    assert slope.se == 0.0


def test_tied_columns_beside_varied_ones():
    a, b = crossed(12, 9)
    y = np.column_stack([np.full(108, 0.1), np.random.default_rng(13).normal(size=108) * 1e6])
    fit = Design.mean([a, b]).fit(y)
    assert fit.se[0] == 0.0
    assert fit.se[1] > 0


def test_small_but_real_variation_is_kept():
    rng = np.random.default_rng(14)
    a, b = crossed(12, 9)
    noise = rng.normal(size=108)
    large, small = Design.mean([a, b]).fit(noise), Design.mean([a, b]).fit(1 + 1e-6 * noise)
    assert_allclose(small.se, 1e-6 * large.se, rtol=1e-6)


# --- refusals and what is printed ---------------------------------------------------------------


def test_counts_are_clusters_and_effective_clusters():
    a, b = crossed(6, 9)
    design = Design.mean([a, b])
    (count_a, effective_a), (count_b, effective_b) = design.counts
    assert (count_a, count_b) == (6, 9)
    assert_allclose([effective_a, effective_b], [6, 9])
    assert design.df == pytest.approx(5)


@pytest.mark.parametrize(
    ("x", "contrast", "clusters", "message"),
    [
        (np.ones(4), [1.0], [range(4)], "must be"),
        (np.ones((4, 1)), [1.0, 2.0], [range(4)], "must be"),
        (np.ones((4, 2)), [1.0, 0.0], [range(4)], "collinear"),
        (np.column_stack([np.ones(4), np.zeros(4)]), [1.0, 0.0], [range(4)], "collinear"),
        (np.ones((0, 1)), [1.0], [[]], "collinear"),
        (np.ones((4, 1)), [1.0], [range(3)], "one label a row"),
        (np.ones((4, 1)), [1.0], [], "one or two clusterings"),
        (np.ones((4, 1)), [1.0], [range(4)] * 3, "one or two clusterings"),
    ],
)
def test_refuses(x, contrast, clusters, message):
    with pytest.raises(ValueError, match=message):
        Design(x, contrast, clusters)


def test_refuses_a_covariate_that_does_not_vary():
    with pytest.raises(ValueError, match="collinear"):
        Design.slope(np.full(20, 0.3), [np.arange(20)])
