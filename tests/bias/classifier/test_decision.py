"""What the logits of a classifier mean, and which thresholds make sense."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from albert_audit.audit import _decision
from albert_audit.bias.classifier.decision import settled
from albert_audit.config import load_config
from albert_audit.types import Decision, Head, UsageError

TWO = Decision(labels=("negative", "positive"), positive=1)
RATING = Decision(labels=("stars",), kind="regression", positive=0)
STAYS = "the model decides 'positive' for {} of the 2 texts: nothing could differ"


@pytest.mark.parametrize(
    ("logits", "decision", "says"),
    [
        ([[0, 1], [1, 0]], TWO, ""),
        ([[0, 1], [0, 2]], TWO, STAYS.format("each")),
        ([[1, 0], [2, 0]], TWO, STAYS.format("none")),
        ([[1, 0], [2, 0], [np.nan, 5]], TWO, STAYS.format("none")),
        ([[0, 1], [0, 1]], TWO, ""),  # the floor's to say, and a plan has no scores
        ([[0, 1], [1, 0]], TWO.model_copy(update={"threshold": 0.9}), STAYS.format("none")),
        ([[3], [4]], RATING, ""),
        ([[3], [4]], RATING.model_copy(update={"threshold": 3.5}), ""),
        ([[3], [4]], RATING.model_copy(update={"threshold": 5.0}), STAYS.format("none").replace("positive", "stars")),
        (np.empty((0, 2)), TWO, ""),
    ],
)  # fmt: skip
def test_decisions_that_are_all_the_same(logits, decision, says):
    assert settled(np.asarray(logits, float), decision) == says


def decision_of(labels, threshold, **config):
    handle = SimpleNamespace(
        id=SimpleNamespace(head=Head.SEQUENCE_CLASSIFICATION, labels=labels),
        model=SimpleNamespace(config=SimpleNamespace(problem_type=config.get("problem_type"))),
    )
    return _decision(handle, load_config(None, model="m", threshold=threshold))


@pytest.mark.parametrize("threshold", [3.5, -2.0, 0.0, 1.0, 0.5])
def test_a_regression_has_a_threshold_in_its_own_unit(threshold):
    found = decision_of(("stars",), threshold)
    assert (found.kind, found.threshold) == ("regression", threshold)


@pytest.mark.parametrize("threshold", [3.5, -2.0, 0.0, 1.0])
@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
def test_that_of_a_classifier_is_a_probability(threshold, problem):
    with pytest.raises(UsageError, match=f"between 0 and 1.*found {threshold:g}"):
        decision_of(("no", "yes"), threshold, problem_type=problem)
    assert decision_of(("no", "yes"), 0.25, problem_type=problem).threshold == 0.25


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), "much"])
def test_what_is_no_number_is_refused(threshold):
    with pytest.raises(UsageError, match="threshold"):
        load_config(None, model="m", threshold=threshold)
