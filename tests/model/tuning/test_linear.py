"""Many heads at once are what each would be alone, and what another library finds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from albert_audit.model.tuning import heads, linear


def data(n=120, d=5, c=3, k=4):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    y = (x @ rng.normal(size=(d, c)) + rng.gumbel(size=(n, c))).argmax(axis=1)
    return x, y, rng.random((k, n)) < 0.5


def test_heads_are_those_of_another_library():
    """Oracle: scikit-learn's penalised softmax regression, fitted one head at a time by L-BFGS."""
    x, y, keep = data()
    found = heads(x, y, keep, epochs=3000, learning_rate=0.02, weight_decay=0.05)
    for own, logits in zip(keep, found, strict=True):
        other = LogisticRegression(C=1 / (0.05 * own.sum()), tol=1e-8, max_iter=2000).fit(x[own], y[own])
        expected = other.predict_log_proba(x)
        np.testing.assert_allclose(
            logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), expected, atol=2e-3
        )


def test_a_head_learns_nothing_of_what_it_does_not_keep_nor_of_the_other_heads(monkeypatch):
    """Trap 8: the records that a reference did not see must not reach it."""
    x, y, keep = data()
    found = heads(x, y, keep, epochs=40)
    other = np.where(keep[0], y, (y + 1) % 3)
    np.testing.assert_allclose(heads(x, other, keep, epochs=40)[0], found[0], atol=1e-5)
    assert np.abs(heads(x, other, keep, epochs=40)[1] - found[1]).max() > 0.1
    np.testing.assert_allclose(heads(x, y, keep[2:3], epochs=40)[0], found[2], atol=1e-5)
    monkeypatch.setattr(linear, "_MOST", 2 * len(x) * 3)
    np.testing.assert_allclose(heads(x, y, keep, epochs=40), found, atol=1e-5)


def test_records_seen_fit_better_than_those_unseen():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(80, 60)), rng.integers(0, 2, 80)
    keep = np.arange(80)[None] < 40
    logits = heads(x, y, keep, epochs=400, learning_rate=0.05)[0]
    right = logits.argmax(axis=1) == y
    assert right[:40].all() and right[40:].mean() < 0.8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": np.full((4, 2), np.nan)}, "finite"),
        ({"keep": np.array([[True] * 4, [False] * 4])}, "head 1 has no record"),
        ({"keep": np.ones((2, 4))}, "bool"),
        ({"labels": np.array([0, 1, 0])}, "expected features"),
        ({"labels": np.array([0, -1, 0, 1])}, "from 0"),
        ({"classes": 1}, "two classes"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(changes, said):
    given = {"features": np.ones((4, 2)), "labels": np.array([0, 1, 0, 1]), "keep": np.ones((2, 4), bool)}
    with pytest.raises(ValueError, match=said):
        heads(**(given | changes))
