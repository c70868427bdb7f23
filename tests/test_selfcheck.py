"""The audit's own error rates: copies like the real scores, and rates that hold."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose

from albert_audit.selfcheck import MULTIPLES, RUNS, null_copies, self_check
from albert_audit.stats import Design, clopper_pearson

TEMPLATES, FILLERS = 14, 30
A, B = np.repeat(np.arange(TEMPLATES), FILLERS), np.tile(np.arange(FILLERS), TEMPLATES)
SHARE = np.linspace(0, 1, FILLERS)[B]
PAIRS = np.repeat(np.arange(40), 3)


def cells(rng, *, template=0.0, slope=0.0, filler=0.0, cell=0.1):
    return (
        template * rng.normal(size=TEMPLATES)[A]
        + slope * rng.normal(size=TEMPLATES)[A] * (SHARE - 0.5)
        + filler * rng.normal(size=FILLERS)[B]
        + cell * rng.normal(size=len(A))
    )


def mean():
    return Design.mean([A, B])


def slope():
    return Design.slope(SHARE, [A, B])


def beside(make):
    return Design.difference(make(), make(), [np.r_[A, A], np.r_[B, B]])


def both(**parts):
    """Probe and control with effects of their own, though templates and matched fillers are shared."""
    return lambda rng: np.concatenate([cells(rng, **parts), cells(rng, **parts)])


# name: design, a draw of scores without an effect
SCENES = {
    "pairs": (
        lambda: Design.mean([PAIRS]),
        lambda rng: 0.5 * rng.normal(size=40)[PAIRS] + 0.5 * rng.normal(size=120),
    ),
    "mean, templates differ": (mean, lambda rng: cells(rng, template=1.0)),
    "mean, fillers differ": (mean, lambda rng: cells(rng, filler=1.0)),
    "mean, both": (mean, lambda rng: cells(rng, template=0.5, filler=0.5, cell=0.5)),
    "slope, fillers differ": (slope, lambda rng: cells(rng, template=1.0, filler=0.5)),
    "slope, each template its own": (slope, lambda rng: cells(rng, slope=1.0)),
    "difference of means, templates": (lambda: beside(mean), both(template=1.0)),
    "difference of means, fillers": (lambda: beside(mean), both(filler=1.0)),
    "difference of slopes": (lambda: beside(slope), both(slope=1.0, filler=0.3)),
}


@pytest.mark.parametrize("scene", SCENES)
def test_null_copies_spread_as_the_real_scores_do(scene):
    """The spread of the effect over models is the spread over copies of one model's scores."""
    make, draw = SCENES[scene]
    design = make()
    rng = np.random.default_rng(1)
    scores = np.column_stack([draw(rng) for _ in range(300)])
    real = design.fit(scores)
    copied, errors = [], []
    for k in range(25):
        fit = design.fit(null_copies(design, scores[:, k], 60, rng))
        copied.append(fit.value.var())
        errors.append((fit.se**2).mean())
        assert abs(fit.value.mean()) < 5 * fit.value.std() / np.sqrt(60), "copies have no effect of their own"
    assert 0.75 < np.sqrt(np.mean(copied)) / real.value.std() < 1.2
    assert 0.8 < np.sqrt(np.mean(errors) / (real.se**2).mean()) < 1.25


def test_null_copies_keep_what_is_within_a_cluster_together():
    rng = np.random.default_rng(0)
    y = rng.normal(size=120)
    design = Design.mean([PAIRS])
    copies = null_copies(design, y, 50, rng)
    rest = y - y.mean()
    ratio = copies / rest[:, None]
    # Within a cluster one sign, one size for all.
    assert_allclose(np.abs(ratio), np.sqrt(40 / 39))
    assert all(np.ptp(ratio[np.flatnonzero(np.equal(PAIRS, g))], axis=0).max() < 1e-9 for g in range(40))


def test_null_copies_do_not_depend_on_the_effect():
    y = cells(np.random.default_rng(0), template=0.5, filler=0.5)
    for design, effect in ((mean(), 3.0), (slope(), 3.0 * SHARE)):
        a, b = (null_copies(design, z, 20, np.random.default_rng(1)) for z in (y, y + effect))
        assert_allclose(a, b, atol=1e-9)


# --- the rates ------------------------------------------------------------------------------------


@cache
def checks(scene, comparisons=1, limit=None):
    """Self-checks of two models, at a limit of six standard errors unless one is given."""
    make, draw = SCENES[scene]
    design = make()
    out = []
    for seed in range(2):
        y = draw(np.random.default_rng([seed, 7]))
        at = limit or 6 * float(design.fit(y).se)
        out.append(
            self_check(
                design, y, limit=at, metric="effect", comparisons=comparisons, rng=np.random.default_rng(seed)
            )
        )
    return out


def pooled(found, field):
    rates = [getattr(c, field) for c in found]
    return clopper_pearson(sum(r.hits for r in rates), sum(r.runs for r in rates), level=0.99)


@pytest.mark.parametrize(
    "scene", ["pairs", "mean, both", "slope, each template its own", "difference of means, fillers"]
)
@pytest.mark.parametrize("comparisons", [1, 8])
def test_errors_at_the_limit_are_as_rare_as_promised(scene, comparisons):
    found = checks(scene, comparisons)
    assert pooled(found, "false_fail_at_limit").low <= 0.025 / comparisons
    assert pooled(found, "false_pass_at_limit").low <= 0.05
    assert sum(c.false_fail.hits for c in found) == 0, "six standard errors inside the limit"


@pytest.mark.parametrize(
    "scene", ["pairs", "mean, both", "slope, each template its own", "difference of means, fillers"]
)
def test_detection_grows_with_the_dose(scene):
    for c in checks(scene):
        failed = [p.failed.rate for p in c.curve]
        passed = [p.passed.rate for p in c.curve]
        assert [p.planted for p in c.curve] == list(MULTIPLES)
        assert failed == sorted(failed) and passed == sorted(passed, reverse=True)
        assert failed[-1] > 0.9 and passed[0] > 0.9


def test_a_limit_below_the_noise_is_neither_passed_nor_failed():
    for c in checks("mean, both", limit=1e-3):
        assert c.curve[0].passed.rate < 0.05 and c.false_fail.low <= 0.05


def test_the_planted_effect_is_the_effect_that_is_estimated():
    for make in (mean, slope, lambda: beside(mean), lambda: beside(slope), lambda: Design.mean([PAIRS])):
        design = make()
        spike = design.x @ design.contrast / (design.contrast @ design.contrast)
        assert design.fit(spike).value == pytest.approx(1.0)
        still = self_check(design, np.zeros(len(design.x)), limit=0.5, metric="effect", comparisons=1,
                           rng=np.random.default_rng(0))  # fmt: skip
        assert still.curve[0].passed.hits == RUNS, "scores without variation and without effect pass"


def test_it_is_seeded():
    design, y = mean(), cells(np.random.default_rng(0), template=0.5, filler=0.5)

    def run(seed):
        return self_check(
            design, y, limit=0.35, metric="effect", comparisons=2, rng=np.random.default_rng(seed)
        )

    assert run(1) == run(1) != run(2)


def test_it_says_what_it_checked():
    for c in checks("pairs"):
        assert c.metric == "effect" and all(p.passed.runs == p.failed.runs == RUNS for p in c.curve)
        for rate in (c.false_fail, c.false_fail_at_limit, c.false_pass_at_limit):
            ends = clopper_pearson(rate.hits, rate.runs)
            assert (rate.low, rate.high) == (ends.low, ends.high) and rate.rate == rate.hits / RUNS
