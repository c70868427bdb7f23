"""Which attacks are made, on what, and that nothing but membership tells records apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from albert_audit.model.cache import FakeScorer
from albert_audit.privacy import membership
from albert_audit.privacy.membership import BASE, TARGET
from albert_audit.privacy.splits import reference_splits
from albert_audit.stats.roc import auc
from albert_audit.types import Decision, Head
from tests.privacy.simulated import answers, records

CLASSIFIER = Head.SEQUENCE_CLASSIFICATION


def names(head: Head, k: int, *, pool: bool = False, base: bool = True) -> set[str]:
    return {a.name for a in membership.known(head, k, pool=pool, base=base)}


def test_attacks_that_the_references_allow() -> None:
    """Every attack that is announced can be made on the target and on its controls."""
    assert names(CLASSIFIER, 0) == {"loss", "modified_entropy"}
    assert names(CLASSIFIER, 2) == names(CLASSIFIER, 4) == {"loss", "modified_entropy", "calibrated", "rmia"}
    assert "lira_online" not in names(CLASSIFIER, 4)
    assert {"lira_offline", "lira_online"} <= names(CLASSIFIER, 6)
    assert "lira_online" not in names(CLASSIFIER, 16, pool=True), "with a pool no reference saw a record"
    assert "lira_offline" in names(CLASSIFIER, 4, pool=True)
    assert names(Head.MASKED_LM, 0, base=False) == {"loss"}
    assert names(Head.MASKED_LM, 0) == {"loss", "ratio"}
    assert names(Head.PRETRAINING, 4) == {"loss", "ratio", "calibrated", "rmia"}


def test_primary_is_declared_before_anything_is_scored() -> None:
    def first(head: Head, k: int, base: bool = True) -> str:
        return membership.primary(membership.known(head, k, pool=False, base=base)).name

    assert first(CLASSIFIER, 4) == "rmia"
    assert first(CLASSIFIER, 0) == "modified_entropy"
    assert first(Head.MASKED_LM, 0) == "ratio"
    assert first(Head.MASKED_LM, 0, base=False) == "loss"


def made(k: int, *, pool: int = 0, n: int = 120, seed: int = 0, **leaks: float):
    """Outputs of a target and k references, and what these saw."""
    rng = np.random.default_rng(seed)
    judged = np.arange(n) >= pool
    member = judged & (np.arange(n) % 2 == 0)
    where = ~judged if pool else judged
    keep = np.zeros((k, n), bool)
    keep[:, where] = reference_splits(member[where], None, None, k, seed=seed)
    hardness = 1 + rng.normal(size=n)
    outputs = {TARGET: answers(rng, hardness, member, leaks.get("leak", 0.0))}
    outputs |= {
        f"reference-{i}": answers(rng, hardness, s, leaks.get("known", 2.0)) for i, s in enumerate(keep)
    }
    if pool:
        keep = keep[:, judged]
        outputs = {name: o[judged] for name, o in outputs.items()}
        member = member[judged]
    return outputs, keep, member


def of_both(outputs, keep, *, pool: bool = False):
    """Every score of a classifier and of a masked LM with such likelihoods."""
    k = len(keep)
    labels = np.ones(keep.shape[1], np.intp)
    of_label = {name: o[:, 1] for name, o in outputs.items()}
    return [
        *membership.of_classifier(outputs, labels, keep, membership.known(CLASSIFIER, k, pool=pool, base=True), pool=pool),
        *membership.of_masked(
            of_label | {BASE: np.full(keep.shape[1], -1.0)}, keep,
            membership.known(Head.MASKED_LM, k, pool=pool, base=True), pool=pool,
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(("k", "pool"), [(2, 0), (4, 0), (6, 0), (8, 0), (2, 60), (4, 60)])
def test_scores_and_controls_are_made_for_every_announced_attack(k: int, pool: int) -> None:
    outputs, keep, member = made(k, pool=pool)
    for scored in of_both(outputs, keep, pool=bool(pool)):
        assert scored.target.shape == member.shape and np.isfinite(scored.target).all()
        assert np.isfinite(scored.controls).all() and len(scored.controls) in (0, k)
        assert scored.seen.shape == scored.controls.shape
        if k > 2 or pool:
            assert len(scored.controls) == k, scored.attack.name


@pytest.mark.parametrize("k", [4, 6])
def test_order_of_records_changes_nothing(k: int) -> None:
    outputs, keep, _ = made(k)
    order = np.random.default_rng(1).permutation(keep.shape[1])
    there = of_both({name: o[order] for name, o in outputs.items()}, keep[:, order])
    for one, two in zip(of_both(outputs, keep), there, strict=True):
        np.testing.assert_allclose(one.target[order], two.target, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(one.controls[:, order], two.controls, rtol=1e-9, atol=1e-12)


def test_a_higher_score_means_member() -> None:
    """Trap 5: no attack has the wrong sign."""
    outputs, keep, member = made(8, leak=2.0, n=600)
    for scored in of_both(outputs, keep):
        assert auc(scored.target, member).value > 0.65, scored.attack.name
        for control, seen in zip(scored.controls, scored.seen, strict=True):
            assert auc(control, seen).value > 0.6, scored.attack.name


def test_target_takes_no_part_in_its_own_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 8: an attacked reference is not among its references, nor is its complement, which saw just the rest."""
    outputs, keep, _ = made(6)
    calls: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    real = membership.attacks.calibrated

    def spy(target, references, seen):
        calls.append((target, references, seen))
        return real(target, references, seen)

    monkeypatch.setattr(membership.attacks, "calibrated", spy)
    wanted = [a for a in membership.CLASSIFIER if a.name == "calibrated"]
    membership.of_classifier(outputs, np.ones(keep.shape[1], np.intp), keep, wanted, pool=False)
    truth = [outputs[f"reference-{i}"][:, 1] for i in range(6)]
    assert len(calls) == 7
    for i, (target, references, seen) in enumerate(calls[:6]):
        np.testing.assert_array_equal(target, truth[i])
        np.testing.assert_array_equal(references, [t for j, t in enumerate(truth) if j // 2 != i // 2])
        assert set((~seen).sum(axis=0)) == {2}, "every record is unseen by equally many"
    _, references, seen = calls[6]
    assert len(references) == 6 and set((~seen).sum(axis=0)) == {3}


def test_control_models_find_nothing_in_sets_of_one_source() -> None:
    """Half of each set was seen by each, so their own area is one half, however much they remember."""
    areas = []
    for seed in range(25):
        outputs, keep, member = made(4, seed=seed, n=200, known=3.0)
        scored = {s.attack.name: s for s in of_both(outputs, keep)[:4]}
        areas += [[auc(c, member).value for s in scored.values() for c in s.controls]]
    mean, spread = np.mean(areas), np.std(np.mean(areas, axis=1)) / np.sqrt(len(areas))
    assert abs(mean - 0.5) < 4 * spread + 1e-3
    assert spread < 0.005


def test_permuted_membership_is_chance() -> None:
    outputs, keep, member = made(4, n=400, leak=3.0)
    rng = np.random.default_rng(5)
    scored = of_both(outputs, keep)
    areas = np.array([[auc(s.target, rng.permutation(member)).value for s in scored] for _ in range(20)])
    assert np.abs(areas.mean(axis=0) - 0.5).max() < 0.03


# --- what the models answer -----------------------------------------------------------------


def scorer(logits) -> FakeScorer:
    return FakeScorer(answers={"class": logits}, head=CLASSIFIER, labels=("a", "b", "c"), max_tokens=6)


def test_class_log_probs_are_normalised_and_too_long_texts_are_nan() -> None:
    """Trap 12: a text is never cut."""
    held = records(
        ["member", "member", "non-member"], texts=("one two", "one two three four five six", "two")
    )
    found = membership.class_log_probs(scorer(lambda tokens: np.array([0.0, len(tokens), 300.0])), held)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(np.exp(found[[0, 2]]).sum(axis=1), 1)
    assert found.dtype == np.float64 and np.isfinite(found[[0, 2]]).all(), "1 - p saturates in float32"


def test_label_codes_follow_the_model() -> None:
    held = records(["member"] * 3, labels=("c", "a", "b"))
    decision = Decision(kind="single", labels=("a", "b", "c"), positive=1)
    assert membership.label_codes(held, decision).tolist() == [2, 0, 1]
    with pytest.raises(KeyError):
        membership.label_codes(replace(held, labels=("c", "a", "?")), decision)
