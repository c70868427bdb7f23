"""Statistics beyond means: rates, net changes, contrasts of groups, estimators of their own, own controls."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from albert_audit import findings as finder
from albert_audit.bias import MEASURES, Measure, Outcome, Statistic, frame
from albert_audit.findings import Measured, build, upward
from albert_audit.model.cache import FakeScorer
from albert_audit.packs import Pack
from albert_audit.shapes import SHAPES, Shape
from albert_audit.stats import jackknife
from albert_audit.types import Ability, Head, Status
from tests.fakes import policy, spec

MODEL = FakeScorer(lambda *a: -1.0).id

KINDS = ("rate", "net", "contrast", "rate_contrast", "custom", "mean")


def _estimator(rows, comparisons, rng):
    y = rows["value"].to_numpy()
    found, count, effective = jackknife(lambda keep: float(y[keep].mean() ** 2), list(rows["cluster_a"]))
    return Outcome(found, ((count, effective),), {"squared": float(y.mean() ** 2)})


@pytest.fixture
def made(monkeypatch):
    """A measure with a statistic of every kind, over the rows `made(values, ...)` gives."""
    statistics = [
        Statistic(
            name=f"made_{k}", rows="made", kind=k, unit="units", title="?", estimand="!",
            upward=k == "rate", estimator=_estimator if k == "custom" else None,
        )
        for k in KINDS
    ]  # fmt: skip
    measure = Measure(
        "made", (Ability.CLASS_LOGITS,), lambda *a: frame([]), lambda p: [("gender", "female-vs-male")],
        lambda p: statistics, floored_by="",
    )  # fmt: skip
    monkeypatch.setitem(MEASURES, "made", measure)
    monkeypatch.setitem(
        SHAPES,
        "made",
        Shape(statistics=tuple(s.name for s in statistics), controls_itself=True, clusterings=(("text",),)),
    )

    def run(values, groups=None, control=None, margins=None, clusters=None):
        def row(i, value, role, group):
            own = f"c{clusters[i]}" if clusters is not None else f"c{i}"
            return {
                "pack": "made-en", "measure": "made", "axis": "gender", "contrast": "female-vs-male",
                "group": group, "item": f"i{i}", "cluster_a": own, "cluster_b": "", "role": role,
                "covariate": None, "value": value, "unit": "units", "skipped": "",
            }  # fmt: skip

        groups = groups or ["female" if i % 2 else "male" for i in range(len(values))]
        rows = [row(i, v, "probe", g) for i, (v, g) in enumerate(zip(values, groups, strict=True))]
        if control is not None:
            rows += [row(i, v, "control", g) for i, (v, g) in enumerate(zip(control, groups, strict=False))]
        base = spec(name="made-en", measure="made", clusters=("text",), margins=margins or {})
        measured = Measured(Pack(base, "0" * 64), frame(rows))
        found = build([measured], MODEL, policy(), 0)
        return {f.measure.removeprefix("made_"): f for f in found}

    return run


def test_each_kind_estimates_what_it_says(made):
    y = np.array([1.0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0] * 4)
    found = made(y, control=np.zeros(48))
    assert found["rate"].effect.value == found["mean"].effect.value == pytest.approx(1 / 3)
    assert found["rate"].effect.p is None and found["mean"].effect.p is not None
    first = y[1::2].mean() - y[::2].mean()
    for kind in ("contrast", "rate_contrast"):
        assert found[kind].effect.value == pytest.approx(first)
        assert found[kind].status is Status.ESTIMATED
    assert found["custom"].details["squared"] == found["custom"].effect.value == pytest.approx(1 / 9)
    assert made(-y)["net"].effect.value == pytest.approx(-1 / 3)


def test_rows_of_the_control_never_enter_the_effect(made):
    """The control's rows have the contrast's name; counted as items they would halve every effect."""
    y, zero = np.tile([0.4, 0.6], 10), np.tile([0.01, -0.01], 10)
    found = made(y, control=zero)["mean"]
    assert found.n == 20 and found.effect.value == pytest.approx(0.5)
    assert found.control.effect.value == pytest.approx(0.0) and not found.control.exceeded
    assert found.difference.value == pytest.approx(0.5) and found.control.finding == found.id


def test_a_control_beyond_its_margin_makes_the_finding_invalid(made):
    y = np.tile([0.4, 0.6], 10)
    found = made(y, control=y, margins={"made_mean": 0.1})["mean"]
    assert found.control.exceeded and found.status is Status.INVALID


def test_a_pack_that_should_control_itself_and_does_not_is_invalid(made):
    found = made(np.tile([0.4, 0.6], 10))["mean"]
    assert found.status is Status.INVALID and "control" in found.reason


def test_no_flip_among_few_texts_and_none_in_the_control_is_no_certain_zero(made):
    found = made(np.zeros(20), control=np.zeros(20))["rate"]
    assert found.difference.value == 0
    assert found.difference.intervals["0.90"].high > 0.05


def test_a_group_that_is_not_there_is_said_and_not_dropped(made):
    found = made(np.ones(20), groups=["male"] * 20)
    for kind in ("contrast", "rate_contrast"):
        assert found[kind].status is Status.INSUFFICIENT and "female" in found[kind].reason


def test_a_small_group_has_no_interval_however_large_the_other(made):
    groups = ["female"] * 5 + ["male"] * 500
    y = np.random.default_rng(0).integers(0, 2, 505) * 1.0
    for kind in ("contrast", "rate_contrast"):
        found = made(y, groups=groups, control=np.zeros(505))[kind]
        assert found.status is Status.INSUFFICIENT and not found.effect.intervals
        assert found.effect.df <= 4


def test_ten_copies_of_each_row_narrow_nothing(made):
    """Trap 25: a copy is no new text."""
    y = np.random.default_rng(1).integers(0, 2, 24) * 1.0
    groups = ["female" if i % 2 else "male" for i in range(24)]
    once = made(y, groups=groups, control=np.zeros(24))
    many = made(
        np.repeat(y, 10), groups=list(np.repeat(groups, 10)), clusters=list(np.repeat(np.arange(24), 10)),
        control=np.zeros(240),
    )  # fmt: skip
    for kind in KINDS:
        a, b = once[kind].effect.intervals["0.95"], many[kind].effect.intervals["0.95"]
        assert (b.low, b.high) == pytest.approx((a.low, a.high), abs=0.01), kind


def test_what_noise_makes_positive_is_judged_by_its_difference_only(made):
    pack = Pack(spec(name="made-en", measure="made", clusters=("text",)), "0" * 64)
    assert upward([pack]) == ["made-en/made_rate/gender/female-vs-male"]


def test_equal_rates_are_rarely_told_apart(made):
    """Trap 20: about one in twenty, in each of the two ways to compare groups."""
    rng = np.random.default_rng(5)
    hits = dict.fromkeys(("contrast", "rate_contrast"), 0)
    for _ in range(150):
        found = made(rng.binomial(1, 0.4, 200) * 1.0, control=np.zeros(200))
        for kind in hits:
            ends = found[kind].effect.intervals["0.95"]
            hits[kind] += not ends.low <= 0 <= ends.high
    assert all(h <= 15 for h in hits.values()), hits


def test_a_statistic_may_be_formed_for_some_axes_only(monkeypatch):
    probe = Pack(spec(), "0" * 64)
    base = MEASURES["template_gap"]
    only = dataclasses.replace(base.statistics(probe)[0], only=("age",))
    monkeypatch.setitem(MEASURES, "template_gap", dataclasses.replace(base, statistics=lambda p: [only]))
    assert finder.checks(probe, Head.MASKED_LM) == {}
