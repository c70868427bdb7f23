"""The preview of thresholds by group: fairlearn's own, chosen without the text they decide."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from sklearn.base import BaseEstimator

from albert_audit.bias import MEASURES
from albert_audit.bias.classifier import mitigation
from albert_audit.model.cache import CountingScorer
from albert_audit.types import Head
from tests.bias.classifier.test_group_metrics import given, model, pack_of


def scored(seed, n=900, shift=1.2):
    """Group a has the label less often and lower scores at the same label."""
    rng = np.random.default_rng(seed)
    groups = np.where(rng.random(n) < 0.35, "a", "b")
    y = (rng.random(n) < np.where(groups == "a", 0.35, 0.6)) * 1.0
    return rng.normal(size=n) + y * 2 + (groups == "b") * shift - 1.5, y, groups


def names(n):
    return [f"c{i}" for i in range(n)]


class Scores(BaseEstimator):
    def fit(self, x, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, x):
        return np.asarray(x)[:, 0]


@pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds"])
def test_the_expectation_is_fairlearns(constraint):
    scores, y, groups = scored(0)
    train, test = np.arange(900) < 600, np.arange(900) >= 600
    ours = mitigation._expected(scores, y, groups, train, test, constraint)
    theirs = ThresholdOptimizer(
        estimator=Scores(), constraints=constraint, prefit=True, predict_method="predict"
    )
    theirs.fit(scores[train, None], y[train].astype(int), sensitive_features=groups[train])
    chance = theirs._pmf_predict(scores[test, None], sensitive_features=groups[test])[:, 1]
    np.testing.assert_allclose(ours, chance, atol=1e-12)
    drawn = np.mean(
        [theirs.predict(scores[test, None], sensitive_features=groups[test], random_state=k) for k in range(300)], 0
    )  # fmt: skip
    np.testing.assert_allclose(ours, drawn, atol=0.13)


def test_the_gap_closes_at_a_cost():
    scores, y, groups = scored(1, n=3000)
    order = np.random.default_rng(0).permutation(3000)
    before = scores > 0
    parity = mitigation.crossfitted(scores, y, groups, names(3000), order, "demographic_parity")
    gap = [values[groups == "a"].mean() - values[groups == "b"].mean() for values in (before, parity)]
    assert gap[0] < -0.3 and abs(gap[1]) < 0.05
    odds = mitigation.crossfitted(scores, y, groups, names(3000), order, "equalized_odds")
    for label in (0, 1):
        rates = [odds[(groups == g) & (y == label)].mean() for g in "ab"]
        assert abs(rates[0] - rates[1]) < 0.08


def test_no_text_has_a_part_in_its_own_thresholds():
    """With scores that say nothing, thresholds fitted on the same texts still seem to gain; ours do not."""
    rng = np.random.default_rng(3)
    gains = {"in": [], "out": []}
    for _ in range(6):
        y = np.repeat([0.0, 1.0], 60)[rng.permutation(120)]
        groups, scores = np.array(["a", "b"] * 60), rng.normal(size=120)
        everyone = np.ones(120, bool)
        inside = mitigation._expected(scores, y, groups, everyone, everyone, "demographic_parity")
        outside = mitigation.crossfitted(
            scores, y, groups, names(120), rng.permutation(120), "demographic_parity"
        )
        for name, chance in (("in", inside), ("out", outside)):
            gains[name].append(np.where(y == 1, chance, 1 - chance).mean())
    assert np.mean(gains["in"]) > 0.53 and np.mean(gains["out"]) < 0.53


def test_every_text_of_a_group_has_a_chance_and_no_other():
    scores, y, groups = scored(4, n=300)
    order = np.random.default_rng(0).permutation(300)
    whole = ["pair"] * 2 + names(300)[2:]
    before = mitigation.crossfitted(scores, y, groups, whole, order, "demographic_parity")
    assert np.isfinite(before).all() and ((before >= 0) & (before <= 1)).all()
    bare = np.where(np.arange(300) < 3, "", groups)
    assert np.isnan(mitigation.crossfitted(scores, y, bare, whole, order, "demographic_parity")[:3]).all()


def case(n=300, small=10):
    scores, y, groups = scored(5, n)
    labels = ["positive" if v else "negative" for v in y]
    groups = np.where(np.arange(n) < small, "c", groups)
    return np.column_stack([np.zeros(n), scores]), labels, list(groups)


def test_rows_and_a_group_too_small_for_thresholds():
    logits, labels, groups = case()
    pack = pack_of(given(labels, {"side": groups}), measure="mitigation")
    rows = mitigation.run(model(logits), pack, np.random.default_rng(0))
    ours = rows[rows["contrast"] == "a-vs-b"]
    assert set(rows["measure"]) == {
        "parity_selection", "odds_positives", "odds_negatives", "parity_accuracy", "odds_accuracy"
    }  # fmt: skip
    assert {s.rows for s in mitigation.statistics(pack)} == set(rows["measure"])
    assert ours["value"].notna().all()
    small = rows[rows["contrast"] == "c-vs-b"]
    assert small["value"].isna().all()
    assert small["skipped"].str.contains("the group c has .* 25 of each are needed").all()
    cost = ours[ours["measure"] == "parity_accuracy"].set_index("item")["value"]
    after = ours[ours["measure"] == "parity_selection"].set_index("item")["value"]
    for i in (50, 51, 52):
        if groups[i] in "ab":
            right = after[f"id{i}"] if labels[i] == "positive" else 1 - after[f"id{i}"]
            was = (logits[i, 1] > 0) == (labels[i] == "positive")
            assert cost[f"id{i}"] == pytest.approx(right - was, abs=2e-4)


def test_it_never_gates_and_survives_zeros():
    from albert_audit import packs

    for language in ("en", "zh"):
        pack = packs.load(packs.find(f"mitigation-{language}"))
        assert pack.spec.may_gate == () and not MEASURES["mitigation"].fits(frozenset())
    logits, labels, groups = case()
    pack = pack_of(given(labels, {"side": groups}), measure="mitigation")
    rows = mitigation.run(CountingScorer(model(logits)), pack, np.random.default_rng(0))
    assert len(rows) and model(logits).id.head is Head.SEQUENCE_CLASSIFICATION
