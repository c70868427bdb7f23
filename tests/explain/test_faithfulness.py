"""Comprehensiveness and sufficiency of attributions whose truth is known, on ids alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit.explain.edits import EDITS, Edited, outputs_of
from albert_audit.explain.faithfulness import METRICS, faithfulness
from albert_audit.types import UsageError
from tests.explain.made import CLS, MASK, SEP, made, number
from tests.tiny import tiny_folders, tiny_handles, tiny_scorers  # noqa: F401 (fixtures)

WORDS = [f"w{i}" for i in range(12)]


class Linear:
    """F is a sum of weights of the ids that are there; it counts how often it is called."""

    def __init__(self, weights):
        self.weights, self.calls, self.seen = weights, 0, []

    def __call__(self, inputs):
        self.calls += 1
        self.seen += inputs
        return np.array([0.5 + sum(self.weights.get(t, 0.0) for t in e.ids) for e in inputs])


def corpus(n=14, *, wrong=False, seed=3):
    """Sentences of ten words whose weights the attribution knows, or has in the wrong order."""
    rng = np.random.default_rng(seed)
    weights = {number(w): float(v) for w, v in zip(WORDS, rng.normal(0.3, 1, 12), strict=True)}
    out = []
    for _ in range(n):
        words = rng.permutation(WORDS)[:10].tolist()
        values = [weights[number(w)] for w in words]
        shown = rng.permutation(values).tolist() if wrong else values
        out.append(made(" ".join(words), shown, output=0.5 + sum(values), start=0.5))
    return out, Linear(weights)


def test_a_true_order_is_the_best_and_is_asked_for_in_two_calls():
    attributions, model = corpus()
    found = faithfulness(attributions, model, mask_id=MASK)
    assert found.valid and found.reasons == () and model.calls == 2
    assert set(found.gain) == {(e, m) for e in EDITS for m in METRICS}
    # For a linear model the single-token effects are the weights, so that both orders are one.
    assert found.rows["normalised"].to_numpy() == pytest.approx(1.0)
    assert all(g.intervals["0.95"].low > 0 for g in found.gain.values())
    assert (found.rows["value"] == found.rows["best"]).all()


def test_values_by_hand():
    """Ten tokens: the first 1, 2 and 5 go, or stay; F falls with them in the direction of the content."""
    attributions, model = corpus(1)
    a = attributions[0]
    rows = faithfulness([a], model, mask_id=MASK).rows.set_index(["edit", "metric"])
    direction = np.sign(a.output - 0.5)
    values = np.sort(direction * a.values[1:-1])[::-1]
    for edit in EDITS:
        out = rows.loc[edit, "comprehensiveness"]
        assert [out[f"at_{k}"] for k in (10, 20, 50)] == pytest.approx([values[:k].sum() for k in (1, 2, 5)])
        kept = rows.loc[edit, "sufficiency"]
        assert [kept[f"at_{k}"] for k in (10, 20, 50)] == pytest.approx([values[k:].sum() for k in (1, 2, 5)])
        assert out["value"] == pytest.approx(np.mean([values[:k].sum() for k in (1, 2, 5)]))


def test_an_order_without_meaning_is_not_called_faithful():
    attributions, model = corpus(30, wrong=True)
    found = faithfulness(attributions, model, mask_id=MASK)
    assert not found.valid and len(found.reasons) == 4
    assert all("not better than random orders" in r for r in found.reasons)


def test_constant_values_are_put_in_a_random_order_not_by_position():
    """A model that looks at the first words only: an order by position would seem to know that."""
    rng = np.random.default_rng(0)
    texts = [rng.permutation(WORDS)[:10].tolist() for _ in range(40)]
    attributions = [made(" ".join(t), [1.0] * 10, output=1.0) for t in texts]

    def first(inputs):
        out = []
        for e in inputs:
            there = [p for p, t in zip(e.kept, e.ids, strict=True) if t not in (CLS, SEP, MASK)]
            out.append(float(sum(p <= 2 for p in there)))
        return np.array(out)

    found = faithfulness(attributions, first, mask_id=MASK)
    assert not found.valid and all(abs(g.value) < 0.4 for g in found.gain.values())


def test_edits_are_made_on_ids_and_keep_special_and_fixed_tokens():
    """Trap 19: text that is decoded and tokenised again may fall into other pieces.

    Every token of an edited input is one of the original, at its place, or the mask.
    """
    attributions, model = corpus(3)
    faithfulness(attributions, model, mask_id=MASK, fixed=[[2], [], []])
    assert model.seen
    for e in model.seen:
        a = attributions[e.text]
        assert all(t in (a.ids[p], MASK) for t, p in zip(e.ids, e.kept, strict=True))
        assert (e.ids[0], e.ids[-1]) == (CLS, SEP) and len(e.ids) == len(e.type_ids)
        if e.text == 0:
            assert e.ids[e.kept.index(2)] == a.ids[2]
    short = [e for e in model.seen if len(e.ids) < 12]
    assert short and all(MASK not in e.ids for e in short)


def test_a_mask_in_the_text_is_no_content():
    ids = (CLS, *map(number, WORDS[:5]), MASK, SEP)
    a = made(" ".join([*WORDS[:5], "gone"]), [1, 2, 3, 4, 5, 0], output=15.0)
    a = made(a.text, [1, 2, 3, 4, 5, 0], output=15.0, ids=ids)
    model = Linear({number(w): i + 1.0 for i, w in enumerate(WORDS[:5])})
    faithfulness([a], model, mask_id=MASK)
    assert all(e.ids[e.kept.index(6)] == MASK for e in model.seen)


def test_the_direction_is_that_of_the_content():
    """An output that content lowers: what lowers it most comes first, and gains stay above 0."""
    attributions, model = corpus(14)
    lowered = Linear({k: -v for k, v in model.weights.items()})
    turned = [
        made(a.text, (-a.values[1:-1]).tolist(), output=0.5 - (a.output - 0.5), start=0.5)
        for a in attributions
    ]
    one = faithfulness(attributions, model, mask_id=MASK).rows
    two = faithfulness(turned, lowered, mask_id=MASK).rows
    assert two["value"].to_numpy() == pytest.approx(one["value"].to_numpy())


def test_what_cannot_be_scored_is_listed():
    attributions, model = corpus(12)
    short = made("w0 w1 w2", [1.0, 2.0, 3.0])
    broken = made(" ".join(WORDS[:10]), [1.0] * 10, reasons=("not converged: delta 0.4",))
    still = made(" ".join(f"x{i}" for i in range(10)), [0.0] * 10)
    rows = faithfulness([*attributions, short, broken, still], model, mask_id=MASK).rows
    assert len(rows) == 15 * 4
    said = rows[rows["text"] >= 12].groupby("text")["skipped"].unique().to_list()
    assert [s[0].split(":")[0] for s in said[:2]] == ["3 content tokens", "not converged"]
    assert "less than" in said[2][0]


def test_few_templates_give_no_verdict_but_a_reason():
    attributions, model = corpus(20)
    found = faithfulness(attributions, model, mask_id=MASK, clusters=[f"t{i % 4}" for i in range(20)])
    assert not found.valid and all("4 templates or texts give no interval" in r for r in found.reasons)


def test_random_orders_are_those_of_the_seed_for_every_method():
    attributions, model = corpus(4)
    other = [
        made(a.text, (-a.values[1:-1]).tolist(), method="mask_ablation", output=a.output)
        for a in attributions
    ]
    columns = ["random", "worst", "best"]
    one, two = (faithfulness(x, model, mask_id=MASK, seed=9).rows[columns] for x in (attributions, other))
    assert one.equals(two)
    three = faithfulness(attributions, model, mask_id=MASK, seed=10).rows[columns]
    assert not one["random"].equals(three["random"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-3, 3).map(lambda x: round(x, 3)), min_size=4, max_size=10))
def test_for_a_linear_model_nothing_is_better_than_the_weights(values):
    words = WORDS[: len(values)]
    model = Linear({number(w): v for w, v in zip(words, values, strict=True)})
    a = made(" ".join(words), values, output=0.5 + sum(values), start=0.5)
    rows = faithfulness([a], model, mask_id=MASK, orders=5).rows.dropna(subset=["gain"])
    assert (rows["gain"] >= -1e-9).all()
    assert rows["normalised"].dropna().to_numpy() == pytest.approx(1.0)


def test_mixed_methods_wrong_lengths_and_wrong_answers_are_refused():
    attributions, model = corpus(3)
    with pytest.raises(UsageError, match="one method and baseline"):
        faithfulness([*attributions, made("a b c d", [1, 2, 3, 4], baseline="mask")], model, mask_id=MASK)
    with pytest.raises(UsageError, match="a cluster and fixed"):
        faithfulness(attributions, model, mask_id=MASK, clusters=["a"])
    with pytest.raises(UsageError, match="fractions"):
        faithfulness(attributions, model, mask_id=MASK, fractions=[0.0])
    with pytest.raises(UsageError, match="finite outputs"):
        faithfulness(attributions, lambda e: np.full(len(e), np.nan), mask_id=MASK)


# --- a real model ---------------------------------------------------------------------------

HERE = "the doctor said that she was very good at her job today"


def test_outputs_of_a_head_are_those_of_the_scorer(tiny_handles, tiny_scorers):  # noqa: F811
    from albert_audit.explain import targets
    from albert_audit.types import Head

    handle = tiny_handles[Head.SEQUENCE_CLASSIFICATION]
    outputs, fixed = outputs_of(handle, [HERE], targets.label(handle, 1))
    (e,) = tiny_scorers[Head.SEQUENCE_CLASSIFICATION].encode([HERE])
    logits = tiny_scorers[Head.SEQUENCE_CLASSIFICATION].class_logits([HERE])
    whole = Edited(0, e.ids, e.type_ids, tuple(range(len(e.ids))))
    assert outputs([whole]) == pytest.approx([float(logits[0, 1])], abs=1e-5)
    assert fixed == [(0, 0)]


def test_a_masked_position_is_found_after_tokens_before_it_are_deleted(tiny_handles, tiny_scorers):  # noqa: F811
    from albert_audit.explain import targets
    from albert_audit.model.text import MaskQuery
    from albert_audit.types import Head

    handle, scorer = tiny_handles[Head.MASKED_LM], tiny_scorers[Head.MASKED_LM]
    text = "the doctor said that [MASK] was very good"
    target = targets.mask(handle, "he", "she")
    outputs, ((at, _),) = outputs_of(handle, [text], target)
    (e,) = scorer.encode([text])
    kept = tuple(i for i in range(len(e.ids)) if i not in (1, 2))
    ids = tuple(e.ids[i] for i in kept)
    he, she = target.ids
    (answer,) = scorer.mask_logprobs([MaskQuery(ids, (0,) * len(ids), (), (kept.index(at),), ((he, she),))])
    assert e.ids[at] == scorer.mask_id
    assert outputs([Edited(0, ids, (0,) * len(ids), kept)]) == pytest.approx(
        [float(answer[0, 0] - answer[0, 1])], abs=1e-4
    )
