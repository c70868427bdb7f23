"""Across minus within, against a simulation, all sign patterns written out, and exact cases."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose

from albert_audit.stats import matched
from albert_audit.stats.matched import across_minus_within


def crossed(points):
    """The values of points (templates, 2 groups, types) under the squared distance."""

    def d(x, y):
        return (x[:, :, None] - y[:, None, :]) ** 2

    a, b = points[:, 0], points[:, 1]
    across = d(a, b)
    return (across + across.transpose(0, 2, 1) - d(a, a) - d(b, b)) / 2


def points(seed, templates=20, types=10, shift=0.0):
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(1, 1, types))  # a type is like itself in either group
    words = 0.7 * rng.normal(size=(1, 2, types))  # and every word is itself in every template
    out = kinds + words + 0.5 * rng.normal(size=(templates, 2, types))
    out[:, 0] += shift
    return out


def test_words_that_differ_for_no_reason_of_the_group():
    """Words have effects of their own in every template: templates alone would not give their noise.

    Comparing the types with themselves, or counting differences without those within a group, is far
    from 0 here.
    """
    rng, runs, called, out, wrong, values = np.random.default_rng(0), 300, 0, 0, 0, []
    for i in range(runs):
        v = crossed(points(i))
        found = across_minus_within(v, rng)
        values.append(found.value)
        called += found.p <= 0.05
        out += not found.intervals["0.95"].low <= 0 <= found.intervals["0.95"].high
        per_template = np.array([(t.sum() - np.trace(t)) / 90 for t in v])
        wrong += abs(per_template.mean()) > 2.1 * per_template.std(ddof=1) / np.sqrt(20)
    assert 0.02 < called / runs < 0.085
    assert out / runs <= 0.06
    assert wrong / runs > 0.4, "an interval over templates alone is the wrong one"
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(runs)


def completions(seed, group, templates=24, types=12, vocabulary=60, top=10):
    """The values for sets of the likeliest words, `group` (1, 2, 1, vocabulary) added to their logits."""
    rng = np.random.default_rng(seed)
    kind = 0.4 * rng.normal(size=(1, 1, types, vocabulary))
    word = 0.4 * rng.normal(size=(1, 2, types, vocabulary))
    noise = 0.5 * rng.normal(size=(templates, 2, types, vocabulary))
    logits = 2 * rng.normal(size=(templates, 1, 1, vocabulary)) + kind + word + noise + group
    sets = np.zeros(logits.shape)
    np.put_along_axis(sets, np.argsort(-logits, axis=-1)[..., :top], 1, -1)
    a, b = sets[:, 0], sets[:, 1]
    d = [1 - np.einsum("tiv,tjv->tij", x, y) / top for x, y in ((a, b), (a, a), (b, b))]
    return (d[0] + d[0].transpose(0, 2, 1) - d[1] - d[2]) / 2


@pytest.mark.parametrize("size", [0.0, 0.5])
def test_a_planted_difference_of_completions_is_covered(size, monkeypatch):
    monkeypatch.setattr(matched, "_flipped", lambda values, rng: 1.0)
    group = size * np.random.default_rng(7).normal(size=(1, 2, 1, 60))
    found = [across_minus_within(completions(i, group), np.random.default_rng(0)) for i in range(100)]
    truth = np.mean([f.value for f in found])
    assert (truth > 0.03) == (size > 0)
    assert np.mean([f.intervals["0.95"].low <= truth <= f.intervals["0.95"].high for f in found]) > 0.93


def test_a_planted_shift_is_estimated_without_bias():
    values = [
        across_minus_within(crossed(points(i, shift=1.0)), np.random.default_rng(0)).value for i in range(200)
    ]
    assert_allclose(np.mean(values), 1.0, atol=4 * np.std(values) / np.sqrt(200))


def test_the_p_value_is_that_of_all_sign_patterns():
    v = crossed(points(3, templates=12, types=9))
    mean = v.mean(axis=0) - np.diag(np.diag(v.mean(axis=0)))
    every = [abs(np.asarray(s) @ mean @ np.asarray(s)) for s in product((1, -1), repeat=9)]
    expected = np.mean(np.array(every) >= abs(mean.sum()) - 1e-9)
    assert_allclose(across_minus_within(v, np.random.default_rng(0)).p, expected)


def test_many_types_are_drawn_and_p_is_never_zero():
    """Trap 22."""
    found = across_minus_within(crossed(points(0, types=16, shift=9.0)), np.random.default_rng(0))
    assert found.p == 1 / (matched.DRAWS + 1)


def test_the_diagonal_and_nothing_at_all():
    v = crossed(points(5))
    other = v + 7 * np.eye(10)
    rng = np.random.default_rng
    one, two = (across_minus_within(x, rng(0)) for x in (v, other))
    assert_allclose([one.value, one.se, one.p], [two.value, two.se, two.p])
    zeros = across_minus_within(np.zeros((12, 10, 10)), rng(0))
    assert (zeros.value, zeros.p) == (0.0, 1.0)
    few = across_minus_within(crossed(points(0, types=8)), rng(0))
    assert few.df == 7 and not few.intervals and few.p is None
    with pytest.raises(ValueError, match="two templates"):
        across_minus_within(v[:1], rng(0))
