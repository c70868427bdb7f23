"""From rows to findings, end to end on scorers whose answer is known."""

from __future__ import annotations

import gc
import re
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from albert_audit import gate
from albert_audit.bias import items
from albert_audit.findings import Measured, build, checks, stream
from albert_audit.model.cache import FakeScorer
from albert_audit.packs import Pair
from albert_audit.stats import clopper_pearson
from albert_audit.types import Findings, Head, State, Status, VerdictWord
from tests.fakes import (
    effects,
    floor_pack,
    gap_pack,
    leaning,
    measure,
    noisy,
    one,
    ordered,
    pair_pack,
    placebo_of,
    policy,
    rule,
    selected,
    towards,
)

MODEL = FakeScorer(lambda *a: -1.0).id
FLOOR = measure(floor_pack(), ordered)
SHARES = np.linspace(0, 1, 20)
MARGINS = {"template_gap": 0.5, "template_gap_slope": 0.35}
SLOPE, LEAN = "template_gap_slope/gender/female-vs-male", "template_gap/gender/female-vs-male"


@pytest.fixture(scope="module", autouse=True)
def little_garbage():
    """statsmodels collects garbage at every Holm correction: leave it little to look through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def audit(gap, placebo=None, *, control=True, rules=(), seed=0, extra=(), mass=0.4, **changes):
    """Findings of a crossed pack, its control and the floor."""
    pack = gap_pack(**({"controls": ("placebo-en",)} if control else {}), **changes)
    lp = leaning(towards(gap, placebo or (lambda i, j: 0.02 * ((i + 2 * j) % 5 - 2))), mass=mass)
    measured = [FLOOR, measure(pack, lp)]
    if control:
        measured.append(measure(placebo_of(pack, margins=MARGINS), lp))
    return build([*measured, *extra], MODEL, policy(*rules), seed)


def table(values):
    return lambda i, j: float(values[i, j])


def judged(found, *rules):
    return gate.judge(Findings(model=MODEL, findings=tuple(found)), policy(*rules), post_hoc=False)


# --- estimates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [-1.5, 0.0, 0.8])
def test_a_planted_slope_lies_in_its_interval(slope):
    noise = effects(1, 12, 20)
    found = audit(lambda i, j: slope * SHARES[j] + noise[i, j])
    f = one(found, SLOPE)
    ends = f.effect.intervals["0.95"]
    assert f.status is Status.ESTIMATED and ends.low < slope < ends.high
    # The oracle: least squares on the filler means, the design being balanced.
    assert f.effect.value == pytest.approx(
        np.polyfit(SHARES, slope * SHARES + noise.mean(axis=0), 1)[0], abs=1e-5
    )
    mean = one(found, LEAN)
    assert mean.effect.value == pytest.approx(slope / 2 + noise.mean(), abs=1e-5)
    assert (mean.n, mean.n_skipped) == (240, 0)
    assert [(c.name, c.count) for c in mean.clusters] == [("template", 12), ("filler", 20)]
    assert mean.unit == "nats" and f.unit == "nats per unit of share"
    assert mean.details["family_even"] == pytest.approx(slope / 2 + noise[::2].mean(), abs=1e-5)
    assert f.details["family_odd"] == pytest.approx(
        np.polyfit(SHARES, slope * SHARES + noise[1::2].mean(axis=0), 1)[0], abs=1e-5
    )


def test_changing_the_sides_changes_the_sign_of_every_number():
    noise = effects(2, 12, 20)
    here, there = (audit(table(noise), reference=r) for r in ("male", "female"))
    for name in ("template_gap_slope", "template_gap"):
        a, b = one(here, f"{name}/gender/female-vs-male"), one(there, f"{name}/gender/male-vs-female")
        for x, y in (
            (a.effect, b.effect),
            (a.difference, b.difference),
            (a.control.effect, b.control.effect),
        ):
            assert x.value == pytest.approx(-y.value, abs=1e-6)
            assert x.intervals["0.95"].low == pytest.approx(-y.intervals["0.95"].high, abs=1e-6)
        assert a.title != b.title


def test_no_effect_without_noise_is_a_null_with_an_interval():
    f = one(audit(lambda i, j: 0.0, control=False), LEAN)
    assert f.status is Status.ESTIMATED and f.effect.value == 0.0 and f.effect.p == 1.0
    assert judged([f], rule("*", 0.1)).verdict is VerdictWord.PASS


def test_duplicating_every_row_narrows_nothing():
    lp = leaning(towards(table(effects(3, 12, 20))))
    m = measure(gap_pack(), lp)
    copies = [m.rows.assign(item=m.rows["item"] + f"#{k}") for k in range(10)]
    more = replace(m, rows=pd.concat(copies, ignore_index=True))
    for name in (SLOPE, LEAN):
        a, b = (one(build([FLOOR, x], MODEL, policy(), 0), name) for x in (m, more))
        assert b.n == 10 * a.n
        assert b.effect.value == pytest.approx(a.effect.value) and b.clusters == a.clusters
        assert b.effect.df == pytest.approx(a.effect.df, rel=1e-6)
        assert b.effect.se >= a.effect.se * (1 - 1e-9)
        assert b.effect.resolvability.passable_limit >= a.effect.resolvability.passable_limit * (1 - 1e-9)


def test_duplicating_every_template_under_one_cluster_narrows_nothing_of_a_pair_pack():
    pairs = [
        Pair(f"p{i}", "age", f"c{i}", f"The old v{i} slept.", f"The young v{i} slept.") for i in range(20)
    ]
    again = [replace(p, id=p.id + "x") for p in pairs]
    a, b = (
        one(build([FLOOR, measure(pair_pack(p), noisy(1))], MODEL, policy(), 0), "pair_cps_share")
        for p in (pairs, pairs + again)
    )
    assert b.n == 2 * a.n and b.clusters == a.clusters
    for level in a.effect.intervals:
        assert_allclose([b.effect.intervals[level].low, b.effect.intervals[level].high],
                        [a.effect.intervals[level].low, a.effect.intervals[level].high], atol=1e-9)  # fmt: skip


# --- controls -------------------------------------------------------------------------------------


def test_effect_control_and_difference_stand_side_by_side():
    probe, placebo = effects(4, 12, 20) + 0.4, effects(5, 12, 20)
    found = audit(table(probe), table(placebo))
    for name, measured in ((LEAN, np.mean), (SLOPE, lambda y: np.polyfit(SHARES, y.mean(axis=0), 1)[0])):
        f = one(found, name)
        assert f.effect.value == pytest.approx(measured(probe), abs=1e-5)
        assert f.control.effect.value == pytest.approx(measured(placebo), abs=1e-5)
        assert f.difference.value == pytest.approx(f.effect.value - f.control.effect.value, abs=1e-6)
        assert f.control.finding == f.id.replace("probe-en", "placebo-en")
        assert f.difference.null == 0.0 and f.difference.df <= min(f.effect.df, f.control.effect.df) + 1e-9
    assert not [f for f in found if f.pack == "placebo-en" and f.role == "probe"]


def test_what_both_share_by_template_and_match_leaves_the_difference():
    common = effects(6, 12, 20, cell=0.0)
    f = one(audit(lambda i, j: common[i, j] + 0.2 + 0.01 * ((i * j) % 3), table(common)), LEAN)
    assert f.difference.value == pytest.approx(
        0.2 + 0.01 * np.mean([(i * j) % 3 for i in range(12) for j in range(20)]), abs=1e-4
    )
    assert f.difference.se < f.effect.se / 5


@pytest.mark.parametrize("sign", [1, -1])
def test_a_control_beyond_its_margin_invalidates(sign):
    found = audit(table(effects(7, 12, 20)), lambda i, j: sign * (1.5 + 0.05 * ((i + j) % 3)))
    mean, slope = one(found, LEAN), one(found, SLOPE)
    assert mean.status is Status.INVALID and "control" in mean.reason and mean.control.exceeded
    assert slope.status is Status.ESTIMATED and not slope.control.exceeded
    assert judged(found, rule(f"*/{LEAN}", 9.0)).verdict is VerdictWord.INCOMPLETE


def test_a_constant_control_beyond_its_margin_invalidates():
    # Without variation there is no interval; that must not read as "not beyond the margin".
    f = one(audit(table(effects(7, 12, 20)), lambda i, j: 2.0), LEAN)
    assert f.status is Status.INVALID and f.control.exceeded


def test_a_control_that_crashed_was_not_scored_or_was_not_run_invalidates():
    pack = gap_pack(controls=("placebo-en",))
    placebo = placebo_of(pack, margins=MARGINS)
    lp = leaning(towards(table(effects(8, 12, 20))))
    probe = measure(pack, lp)
    nothing = measure(placebo, FakeScorer(lp, pieces=lambda w: ["<unk>"] if w[0] == "p" else [w]))
    for control, said in (
        ([Measured(placebo, None, "crashed: MemoryError: x", crashed=True)], "crashed: MemoryError"),
        ([Measured(placebo, None, "a model with this head cannot answer it")], "cannot answer"),
        ([nothing], "no item of the control"),
        ([], "was not run"),
    ):
        found = build([FLOOR, probe, *control], MODEL, policy(), 0)
        for name in (LEAN, SLOPE):
            f = one(found, name)
            assert f.status is Status.INVALID and said in f.reason, (f.status, f.reason)
            assert judged(found, rule(f.id, 99.0)).verdict is VerdictWord.INCOMPLETE


def test_a_control_that_is_mostly_skipped_or_too_small_cannot_vouch():
    pack = gap_pack(controls=("placebo-en",))
    placebo = placebo_of(pack, margins=MARGINS)
    lp = leaning(towards(table(effects(8, 12, 20))))
    probe = measure(pack, lp)
    holes = measure(placebo, FakeScorer(lp, pieces=lambda w: ["<unk>"] if w in ("p0", "p1", "p2") else [w]))
    few = measure(replace(placebo, fillers=placebo.fillers[:5]), lp)
    alone = measure(replace(placebo, fillers=placebo.fillers[:1]), lp)
    bare = measure(replace(placebo, fillers=tuple(replace(f, covariate=None) for f in placebo.fillers)), lp)
    for control, name in (
        (holes, LEAN),
        (holes, SLOPE),
        (few, LEAN),
        (few, SLOPE),
        (alone, SLOPE),
        (bare, SLOPE),
    ):
        f = one(build([FLOOR, probe, control], MODEL, policy(), 0), name)
        assert f.status in (Status.INVALID, Status.INSUFFICIENT) and "its control" in f.reason, f.reason


def test_a_control_below_the_mass_floor_cannot_vouch():
    pack = gap_pack(controls=("placebo-en",))
    lp = leaning(towards(table(effects(8, 12, 20))))
    faint = leaning(towards(table(effects(8, 12, 20))), mass=1e-7)
    measured = [FLOOR, measure(pack, lp), measure(placebo_of(pack, margins=MARGINS), faint)]
    f = one(build(measured, MODEL, policy(), 0), LEAN)
    assert f.status is Status.INVALID and "placebo-en" in f.reason and "mass" in f.reason


def test_a_control_without_a_margin_says_that_it_cannot_veto():
    pack = gap_pack(controls=("placebo-en",))
    lp = leaning(towards(table(effects(8, 12, 20)), lambda i, j: 3.0 + 0.01 * ((i + j) % 3)))
    f = one(
        build([FLOOR, measure(pack, lp), measure(placebo_of(pack, margins={}), lp)], MODEL, policy(), 0), LEAN
    )
    assert f.status is Status.ESTIMATED and "cannot veto" in f.control.note


# --- floors ---------------------------------------------------------------------------------------


def test_below_the_sentence_floor_every_finding_of_the_language_is_invalid():
    low = measure(floor_pack(), lambda *a: -1.0)
    other = pair_pack(
        [Pair(f"p{i}", "age", f"c{i}", f"The old v{i} s.", f"The young v{i} s.") for i in range(20)]
    )
    probe = measure(gap_pack(), leaning(towards(lambda i, j: 0.0)))
    for floor in (
        low,
        Measured(floor_pack(), None, "crashed: x", crashed=True),
        measure(floor_pack(50), ordered),
    ):
        found = build([floor, probe, measure(other, noisy())], MODEL, policy(), 0)
        probes = [f for f in found if f.role == "probe"]
        assert len(probes) == 2 + 8 and {f.status for f in probes} == {Status.INVALID}
        assert all("floor" in f.reason for f in probes)
        assert judged(found, rule("*", 99.0)).verdict is VerdictWord.INCOMPLETE


def test_without_a_floor_for_the_language_nothing_is_valid():
    probe = measure(gap_pack(language="fr"), leaning(towards(lambda i, j: 0.0)))
    f = one(build([FLOOR, probe], MODEL, policy(), 0), LEAN)
    assert f.status is Status.INVALID and "floor" in f.reason


@pytest.mark.parametrize(("floor", "pack"), [("en", "en-GB"), ("zh-Hans", "zh"), ("zh-Hans", "zh-Hant")])
def test_a_floor_serves_every_variety_of_its_language(floor, pack):
    fine = measure(floor_pack(language=floor), ordered)
    low = measure(floor_pack(language=floor), lambda *a: -1.0)
    probe = measure(gap_pack(language=pack), leaning(towards(table(effects(1, 12, 20)))))
    assert one(build([fine, probe], MODEL, policy(), 0), LEAN).status is Status.ESTIMATED
    assert one(build([low, probe], MODEL, policy(), 0), LEAN).status is Status.INVALID


def test_another_language_is_not_touched_by_a_floor():
    low = measure(floor_pack(language="zh-Hans", name="floor-zh"), lambda *a: -1.0)
    lp = leaning(towards(table(effects(1, 12, 20))))
    zh = measure(gap_pack(name="probe-zh", language="zh-Hans", family="zh"), lp)
    found = build([FLOOR, low, measure(gap_pack(), lp), zh], MODEL, policy(), 0)
    assert one(found, "probe-en/" + LEAN).status is Status.ESTIMATED
    assert one(found, "probe-zh/" + LEAN).status is Status.INVALID


def test_words_without_mass_are_no_parity():
    found = audit(lambda i, j: 0.0, control=False, mass=1e-7)
    floor = one(found, "target_mass")
    assert (
        floor.role == "floor"
        and floor.status is Status.INVALID
        and floor.details["median"] == pytest.approx(1e-7, rel=1e-3)
    )
    assert {one(found, n).status for n in (LEAN, SLOPE)} == {Status.INVALID}
    fine = audit(lambda i, j: 0.0, control=False, mass=2e-3)
    assert one(fine, LEAN).status is Status.ESTIMATED and one(fine, LEAN).details[
        "median_target_mass"
    ] == pytest.approx(2e-3, rel=1e-3)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    ("lp", "options"),
    [
        (lambda *a: -1.0, {}),
        (noisy(), {"pieces": lambda w: ["<unk>"]}),
        (lambda *a: float("nan"), {}),
        (lambda *a: float("-inf"), {}),
        (lambda *a: -1.0, {"max_tokens": 3}),
        (noisy(1), {}),
    ],
    ids=["constant", "unknown", "nan", "minus-infinity", "too-long", "random"],
)
def test_a_broken_model_never_passes(lp, options):
    scorer = FakeScorer(lp, **options)
    pack = gap_pack(controls=("placebo-en",))
    pairs = pair_pack(
        [Pair(f"p{i}", "age", f"c{i}", f"The old v{i} s.", f"The young v{i} s.") for i in range(20)]
    )
    measured = [measure(p, scorer) for p in (floor_pack(), pack, placebo_of(pack, margins=MARGINS), pairs)]
    found = build(measured, scorer.id, policy(), 0)
    verdict = judged(found, rule("*", 1e6, id="a"), rule("*", 1e6, id="b", metric="difference"))
    assert verdict.verdict is VerdictWord.INCOMPLETE
    assert not [r for r in verdict.results if r.state is State.PASS]


# --- what did not run -----------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "status"), [(2, Status.ESTIMATED), (3, Status.INSUFFICIENT)])
def test_more_than_a_tenth_skipped_is_insufficient(lost, status):
    gone = [f"f{j}" for j in range(lost)]
    scorer = FakeScorer(
        leaning(towards(table(effects(1, 12, 20)))), pieces=lambda w: ["<unk>"] if w in gone else [w]
    )
    f = one(build([FLOOR, measure(gap_pack(), scorer)], MODEL, policy(), 0), LEAN)
    assert f.status is status and (f.n, f.n_skipped) == (240 - 12 * lost, 12 * lost)
    if lost == 3:
        assert "36 of 240 items were skipped" in f.reason
        assert judged([f], rule("*", 99.0)).verdict is VerdictWord.INCONCLUSIVE


@pytest.mark.parametrize(("templates", "fillers"), [(5, 20), (12, 5), (3, 3), (1, 20), (12, 1)])
def test_few_clusters_are_insufficient(templates, fillers):
    found = audit(
        lambda i, j: 0.1 * ((i * 7 + j * 3) % 5), control=False, templates=templates, fillers=fillers
    )
    for name in (LEAN, SLOPE):
        f = one(found, name)
        assert f.status is Status.INSUFFICIENT and f.reason
        assert f.effect is None or (not f.effect.intervals and f.effect.p is None)


def test_many_items_in_few_clusters_are_insufficient():
    pairs = [Pair(f"p{i}", "age", f"c{i % 4}", f"The old v{i} s.", f"The young v{i} s.") for i in range(200)]
    found = build([FLOOR, measure(pair_pack(pairs), noisy())], MODEL, policy(), 0)
    for f in found:
        if f.role == "probe":
            assert (
                f.status is Status.INSUFFICIENT
                and "degrees of freedom" in f.reason
                and not f.effect.intervals
            )


def test_a_crashed_measure_is_an_error_and_one_that_cannot_run_is_not_run():
    for crashed, status in ((True, Status.ERROR), (False, Status.NOT_RUN)):
        found = build([FLOOR, Measured(gap_pack(), None, "the reason", crashed=crashed)], MODEL, policy(), 0)
        probes = [f for f in found if f.role == "probe"]
        assert {f.id for f in probes} == set(checks(gap_pack(), Head.MASKED_LM))
        assert all(f.status is status and f.reason == "the reason" and f.effect is None for f in probes)
        assert judged(found, rule("*", 99.0)).verdict is VerdictWord.INCOMPLETE


def test_nothing_scored_is_not_run_and_says_why():
    m = measure(gap_pack(), FakeScorer(noisy(), pieces=lambda w: ["<unk>"] if w == "she" else [w]))
    f = one(build([FLOOR, m], MODEL, policy(), 0), LEAN)
    assert f.status is Status.NOT_RUN and "vocabulary lacks" in f.reason and f.n == 0 and f.n_skipped == 240


def test_an_item_without_a_prior_counts_as_skipped():
    m = measure(gap_pack(), leaning(towards(table(effects(1, 12, 20)))))
    rows = m.rows.copy()
    rows.loc[(rows["role"] == "prior") & (rows["item"] == "t0/f0"), ["value", "skipped"]] = [np.nan, "lost"]
    f = one(build([FLOOR, replace(m, rows=rows)], MODEL, policy(), 0), LEAN)
    assert (f.n, f.n_skipped) == (239, 1)


# --- families -------------------------------------------------------------------------------------

THREE = {"groups": {"female": ["she"], "male": ["he"], "nonbinary": ["they"]}}


def three(seed, name="probe-en", **changes):
    draws = [effects(seed + k, 12, 20) for k in range(2)]

    def lean(template, filler, word):
        if filler is None or word == "he":
            return 0.0
        return float(draws[word == "they"][int(template[1:]), int(filler[1:])])

    return measure(gap_pack(name=name, **THREE, **changes), leaning(lean, words=("she", "he", "they")))


def test_holm_and_simultaneous_intervals_are_within_the_family():
    found = build(
        [FLOOR, three(1), three(11, "other-en"), three(21, "third-en", family="another")], MODEL, policy(), 0
    )
    for family, size in (
        ("gender/template_gap", 4),
        ("gender/template_gap_slope", 4),
        ("another/template_gap", 2),
    ):
        members = [f for f in found if f.family == family]
        assert len(members) == size
        ordered_p = sorted(f.effect.p for f in members)
        for f in members:
            # Holm by its definition: the largest of (m - k + 1) p_(k) over all p_(k) up to this one.
            steps = [(size - k) * q for k, q in enumerate(ordered_p) if q <= f.effect.p]
            assert f.effect.p_holm == pytest.approx(min(1.0, max(steps)))
            half = stats.t.ppf(1 - 0.025 / size, f.effect.df) * f.effect.se
            assert f.effect.intervals["simultaneous_0.95"].high == pytest.approx(
                f.effect.value + half, rel=1e-6
            )
            assert f.effect.intervals["0.95"].high == pytest.approx(
                f.effect.value + stats.t.ppf(0.975, f.effect.df) * f.effect.se, rel=1e-6
            )


def test_a_check_that_failed_still_counts_as_a_comparison():
    alone = build([FLOOR, three(1)], MODEL, policy(), 0)
    lost = Measured(gap_pack(name="lost-en", **THREE), None, "crashed: x", crashed=True)
    beside = build([FLOOR, three(1), lost], MODEL, policy(), 0)
    a, b = one(alone, "probe-en/" + LEAN), one(beside, "probe-en/" + LEAN)
    assert b.effect.p_holm >= a.effect.p_holm and b.effect.p == a.effect.p
    assert b.effect.intervals["simultaneous_0.95"].low < a.effect.intervals["simultaneous_0.95"].low


def test_another_pack_changes_nothing_of_this_one():
    rules = (rule(f"probe-en/{LEAN}", 0.3),)
    a = audit(table(effects(1, 12, 20)), rules=rules, seed=5)
    b = audit(table(effects(1, 12, 20)), rules=rules, seed=5, extra=[three(3, "other-en", family="another")])
    assert {f.id: f for f in a}.items() <= {f.id: f for f in b}.items()
    assert one(a, LEAN).self_check is not None
    assert stream(1, "a").random() == stream(1, "a").random() != stream(1, "b").random()
    assert stream(1, "a").random() != stream(2, "a").random()
    scorer = FakeScorer(leaning(towards(lambda i, j: 0.0)))
    assert measure(floor_pack(), scorer, 1).rows.equals(measure(floor_pack(), scorer, 1).rows)


# --- identity and evidence --------------------------------------------------------------------------


def confirmed_pack(n=60):
    """Pairs on two axes; those that 3 of 5 or more confirm prefer the stereotype, the others do not."""
    return pair_pack(
        [
            Pair(f"p{i}", ("age", "gender")[i % 2], f"c{i % 15}", f"The old v{i} slept k{i % 6}.", f"The young v{i} slept k{i % 6}.", i % 6)
            for i in range(n)
        ]
    )  # fmt: skip


def by_votes(tokens, at, token):
    if token != "slept":
        return -2.0
    votes = int(next(t for t in tokens if t[0] == "k")[1:])
    number = int(next(t for t in tokens if t[0] == "v" and t[1:].isdigit())[1:])
    lean = (1.0 if votes >= 3 else -1.0) + 0.01 * (number % 7)
    return -5.0 + (lean if "old" in tokens else 0.0)


def test_the_confirmed_contrast_is_made_of_the_confirmed_pairs():
    found = build([FLOOR, measure(confirmed_pack(), by_votes)], MODEL, policy(), 0)
    every, sure = one(found, "pair_cps_margin/all/more-vs-less"), one(found, "pair_cps_margin/all/confirmed")
    assert (every.n, sure.n) == (60, 30)
    kept = [i for i in range(60) if i % 6 >= 3]
    assert sure.effect.value == pytest.approx(1 + 0.01 * np.mean([i % 7 for i in kept]), abs=1e-5)
    assert every.effect.value == pytest.approx(0.01 * np.mean([i % 7 for i in range(60)]), abs=1e-5)
    assert one(found, "pair_cps_share/all/confirmed").effect.value == pytest.approx(1.0)
    assert not [f.id for f in found if "confirmed" in f.id and "pair_cps" not in f.id]
    assert "at least 3 of 5 annotators" in sure.estimand


def test_all_is_each_item_once():
    found = build([FLOOR, measure(confirmed_pack(), by_votes)], MODEL, policy(), 0)
    parts = [one(found, f"pair_cps_margin/{a}/more-vs-less") for a in ("age", "gender")]
    whole = one(found, "pair_cps_margin/all/more-vs-less")
    assert whole.n == sum(p.n for p in parts)
    assert whole.effect.value == pytest.approx(sum(p.n * p.effect.value for p in parts) / whole.n)
    assert whole.clusters[0].count == 15  # a cluster that reaches over both axes is one
    single = pair_pack([p for p in confirmed_pack().pairs if p.axis == "age"])
    assert not [
        f.id
        for f in build([FLOOR, measure(single, by_votes)], MODEL, policy(), 0)
        if "/all/" in f.id and f.role == "probe"
    ]


def test_ids_differ_and_are_those_that_were_planned():
    pack = gap_pack(**THREE)
    measured = [FLOOR, three(1), measure(confirmed_pack(), by_votes)]
    found = build(measured, MODEL, policy(), 0)
    ids = [f.id for f in found]
    assert len(ids) == len(set(ids))
    planned = {**checks(pack, Head.MASKED_LM), **checks(confirmed_pack(), Head.MASKED_LM)}
    assert {f.id for f in found if f.role == "probe"} == set(planned)
    assert ids == [f.id for f in build(measured, MODEL, policy(), 1)]
    assert all(re.fullmatch(r"[a-z0-9_-]+(/[a-z0-9_-]+){3}", i) for i in ids)
    assert all(f.id == f"{f.pack}/{f.measure}/{f.axis}/{f.contrast}" for f in found)
    assert all(found[i].role == "floor" for i in range(2)), "floors stand first"


def test_every_selector_names_exactly_the_rows_that_were_used():
    pack = gap_pack(controls=("placebo-en",), **THREE)
    probe = three(1, controls=("placebo-en",))
    placebo = placebo_of(pack, margins=MARGINS)

    def lean(template, filler, word):
        return (
            0.0 if filler is None else 0.01 * ((int(template[1:]) + int(filler[1:])) % 5 - 2) * (word != "he")
        )

    control = measure(placebo, leaning(lean, words=("she", "he", "they")))
    measured = [FLOOR, probe, control, measure(confirmed_pack(), by_votes)]
    rows = pd.concat([m.rows for m in measured], ignore_index=True)
    found = build(measured, MODEL, policy(), 0)
    for f in found:
        for selector in f.evidence:
            assert len(selected(rows, selector)) == selector.rows > 0, f.id
        mine = selected(rows, f.evidence[0])
        assert set(mine["pack"]) == {f.pack}
        if f.role == "floor":
            continue
        sample = items(mine, prior="prior" in set(mine["role"]))
        assert len(sample) == f.n
        if f.measure == "template_gap_spread":  # a variance; tests/stats/test_spread.py has its oracle
            continue
        y = sample["value"].to_numpy()
        if f.measure.endswith("share"):
            y = np.select([y > 0, y == 0], [1.0, 0.5], 0.0)
        value = np.polyfit(sample["covariate"], y, 1)[0] if f.measure.endswith("slope") else y.mean()
        assert f.effect.value == pytest.approx(value, abs=1e-9), f.id
        if f.control is not None:
            theirs = items(selected(rows, f.evidence[1]), prior=True)
            value = (
                np.polyfit(theirs["covariate"], theirs["value"], 1)[0]
                if f.measure.endswith("slope")
                else theirs["value"].mean()
            )
            assert f.control.effect.value == pytest.approx(value, abs=1e-9), f.id


# --- the self-check -------------------------------------------------------------------------------


def test_the_self_check_is_that_of_the_rule():
    noise = effects(9, 12, 20)
    rules = (rule(f"*/{LEAN}", 0.5, id="a", metric="difference"), rule(f"*/{SLOPE}", 0.7, id="b"))
    found = audit(table(noise), table(effects(10, 12, 20)), rules=rules)
    for name, metric, limit in ((LEAN, "difference", 0.5), (SLOPE, "effect", 0.7)):
        check = one(found, name).self_check
        assert (check.metric, check.limit) == (metric, limit)
        assert check.false_fail.low <= 0.05 and check.false_fail_at_limit.low <= 0.025
        assert check.curve[-1].failed.rate >= check.curve[0].failed.rate
    assert all(f.self_check is None for f in audit(table(noise)))


def test_a_share_or_an_effect_without_interval_has_no_self_check():
    pairs = pair_pack(
        [Pair(f"p{i}", "age", f"c{i}", f"The old v{i} s.", f"The young v{i} s.") for i in range(20)]
    )
    found = build([FLOOR, measure(pairs, noisy())], MODEL, policy(rule("*/pair_cps_*", 0.2)), 0)
    assert (
        one(found, "pair_cps_share").self_check is None
        and one(found, "pair_cps_margin").self_check is not None
    )
    found = audit(lambda i, j: 0.1 * (i % 3), control=False, rules=(rule("*", 0.2),), templates=4)
    assert one(found, LEAN).self_check is None


# --- under the null ---------------------------------------------------------------------------------

RUNS = 150


def without_effect(seed, salt):
    """Random leans by template, by filler, along the share within a template, and by cell."""
    slopes = 0.3 * np.random.default_rng([seed, salt]).normal(size=(12, 1)) * (SHARES - 0.5)
    return slopes + effects(10_000 * salt + seed, 12, 20, template=0.25, filler=0.25)


def with_values(m, gap):
    """The rows of a measured pack with the gaps of another model."""
    rows = m.rows.copy()
    probe, prior = (
        ((rows["measure"] == "template_gap") & (rows["role"] == r)).to_numpy() for r in ("probe", "prior")
    )
    rows.loc[probe, "value"] = rows.loc[prior, "value"].to_numpy() + gap.ravel()
    return replace(m, rows=rows)


@pytest.fixture(scope="module")
def nulls():
    """Findings of many models without an effect."""
    pack = gap_pack(controls=("placebo-en",))
    placebo = placebo_of(pack, margins=MARGINS)
    lp = leaning(towards(table(without_effect(0, 0)), table(without_effect(0, 1))))
    scored = [measure(p, lp) for p in (pack, placebo)]
    runs = [
        build(
            [FLOOR, *(with_values(m, without_effect(seed, salt)) for salt, m in enumerate(scored))],
            MODEL,
            policy(),
            seed,
        )
        for seed in range(RUNS)
    ]
    asked = build([FLOOR, *scored], MODEL, policy(), 0)  # what the scorer says is what was put in
    for a, b in zip(asked, runs[0], strict=True):
        assert a.id == b.id and (
            a.role == "floor" or a.effect.value == pytest.approx(b.effect.value, abs=1e-5)
        )
    return runs


@pytest.mark.parametrize("name", [SLOPE, LEAN])
@pytest.mark.parametrize("part", ["effect", "difference"])
def test_about_one_interval_in_twenty_misses_zero(nulls, name, part):
    missed = 0
    for found in nulls:
        ends = getattr(one(found, name), part).intervals["0.95"]
        missed += not ends.low <= 0 <= ends.high
    bounds = clopper_pearson(missed, RUNS, level=0.99)
    assert bounds.low <= 0.05 and missed > 0, f"{missed} of {RUNS}"
    assert bounds.high > 0.02, f"{missed} of {RUNS}: far too wide"


def test_a_model_without_an_effect_seldom_fails_the_shipped_limits(nulls):
    shipped = next(p for p in map(gate.load_policy, gate.shipped_policy_files()) if p.name == "masked-lm")
    rules = [
        rule("probe-en/" + r.check.split("/", 1)[1], r.limit.max_abs, id=r.id, metric=r.metric)
        for r in shipped.rules if r.check.startswith("pronoun-occupation-en/")
    ]  # fmt: skip
    assert len(rules) == 2 and all(
        fnmatchcase(f"probe-en/{n}", r.check) for n, r in zip((SLOPE, LEAN), rules, strict=True)
    )
    words = [judged(found, *rules).verdict for found in nulls]
    assert words.count(VerdictWord.FAIL) / RUNS < 0.05
    assert VerdictWord.INCOMPLETE not in words
    # At a limit that the noise can reach, the test is not vacuous.
    tight = [judged(found, rule(f"probe-en/{SLOPE}", 1e-6)).verdict for found in nulls]
    assert (
        tight.count(VerdictWord.FAIL) > 0
        and clopper_pearson(tight.count(VerdictWord.FAIL), RUNS, 0.99).low <= 0.05
    )
