"""A swapped word and the words that stay: by hand, and on a tiny model with integrated gradients."""

from __future__ import annotations

import numpy as np
import pytest

from albert_audit.explain.shift import Pair, shifts
from albert_audit.explain.shift_estimates import moved, words_moved
from albert_audit.types import Head, UsageError
from tests.explain.made import made
from tests.tiny import tiny_folders, tiny_handles  # noqa: F401 (fixtures)


def pair(one, two, first, second, *, template="t", term="n", **changes):
    a, b = (made(t, v, **changes) for t, v in ((one, first), (two, second)))
    return Pair(a, b, "female-vs-male", template, term)


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def test_the_change_falls_into_the_swapped_word_and_the_words_that_stay():
    (found,) = shifts([pair("she is kind now", "he is kind now", [2.0, 0.5, 1.0, 0.1], [0.5, 0.5, 1.8, 0.1])])
    assert found.change == pytest.approx(0.7)
    assert (found.swapped, found.kept, found.absolute) == pytest.approx((1.5, -0.8, 0.8))
    assert found.swapped + found.kept == pytest.approx(found.change)
    assert [w.word for w in found.words] == ["is", "kind", "now"]
    assert [w.leads for w in found.words] == [(False, False), (False, True), (False, False)]


def test_terms_of_unequal_pieces_are_listed_not_aligned():
    (found,) = shifts([pair("nurse is kind", "cook is kind", [1, 1, 1], [1, 1, 1], pieces={"nurse": 2})])
    assert found.skipped == "not alignable: 6 and 5 pieces" and np.isnan(found.kept)


@pytest.mark.parametrize(
    ("one", "two", "changes", "why"),
    [
        ("she is kind", "she is kind", {}, "the same pieces"),
        ("she was", "he is", {}, "no word stays"),
        ("she is kind", "he is kind", {"reasons": ("not converged",)}, "not converged"),
    ],
)
def test_what_cannot_be_compared_is_listed(one, two, changes, why):
    n = len(one.split())
    (found,) = shifts([pair(one, two, [1.0] * n, [0.5] * n, **changes)])
    assert why in found.skipped


def test_a_piece_that_both_terms_share_belongs_to_the_swapped_word():
    """stew-ardess and stew-ard: the first piece is the same, the word is not."""
    a = made("x is kind", [2.0, 0, 1.0], pieces={"x": 2})
    b = made("x is kind", [1.0, 0, 1.0], pieces={"x": 2}, ids=(*a.ids[:2], 99, *a.ids[3:]))
    (found,) = shifts([Pair(a, b, "c", "t", "n")])
    assert (found.swapped, found.kept) == pytest.approx((1.0, 0.0))


def integrated(network, row, baseline, steps=64):
    """Plain integrated gradients along the line between two inputs' embeddings, midpoints."""
    import torch

    ends = network.embed([baseline, row.encoded.ids])
    function, total = network.function(row), torch.zeros_like(ends[:1])
    for k in range(steps):
        at = (ends[:1] + (k + 0.5) / steps * (ends[1:] - ends[:1])).requires_grad_()
        (gradient,) = torch.autograd.grad(function(at, *network.arguments([row])).sum(), at)
        total += gradient / steps
    return (total * (ends[1:] - ends[:1])).sum(-1)[0].double().numpy()


def test_from_the_pair_as_baseline_all_lies_on_the_swapped_word_and_is_refused(tiny_handles):  # noqa: F811
    """Trap 21: true by construction, whatever the model does; from pads the words that stay do move."""
    from albert_audit.explain import targets
    from albert_audit.explain.network import Network, make_rows

    handle = tiny_handles[Head.SEQUENCE_CLASSIFICATION]
    texts = ["the doctor said she was very good", "the doctor said he was very good"]
    network = Network(handle)
    rows = make_rows(handle, texts, None, [targets.label(handle, 1)] * 2, "pad")
    outputs, pads = network.outputs(rows), network.outputs(rows, [r.baseline for r in rows])
    crosswise = [integrated(network, r, o.encoded.ids) for r, o in (rows, rows[::-1])]
    swapped = [
        i for i, (x, y) in enumerate(zip(rows[0].encoded.ids, rows[1].encoded.ids, strict=True)) if x != y
    ]
    assert len(swapped) == 1 and abs(outputs[0] - outputs[1]) > 0.01
    for values, change in zip(crosswise, (outputs[0] - outputs[1], outputs[1] - outputs[0]), strict=True):
        assert values[swapped[0]] == pytest.approx(change, rel=0.02)
        assert np.delete(values, swapped) == pytest.approx(0.0, abs=1e-9)

    def pair_of(values, starts):
        a, b = (
            made(t, [0.0] * 7, ids=r.encoded.ids, values=v, output=float(o), output_baseline=float(s))
            for t, r, v, o, s in zip(texts, rows, values, outputs, starts, strict=True)
        )
        return Pair(a, b, "female-vs-male", "t", "n")

    with pytest.raises(UsageError, match="by construction"):
        shifts([pair_of(crosswise, outputs[::-1])])
    honest = [integrated(network, r, r.baseline) for r in rows]
    (found,) = shifts([pair_of(honest, pads)])
    assert abs(found.kept) > 1e-3 and found.absolute > 1e-3
    assert found.swapped + found.kept == pytest.approx(found.change, rel=0.05, abs=0.01)


def corpus(effect, templates=12, terms=10, seed=4):
    """Pairs whose word `kind` gives `effect` more to the first."""
    rng, out = np.random.default_rng(seed), []
    for i in range(templates):
        lean = rng.normal(0, 0.1)
        for j in range(terms):
            base = rng.normal(1, 0.3, 4)
            other = base + np.array([0.5, 0.0, -effect - lean - rng.normal(0, 0.1), 0.0])
            out.append(pair("she is kind now", "he is kind now", base, other, template=f"t{i}", term=f"w{j}"))
    return out


def test_the_mean_shift_its_interval_and_the_test_by_signs(rng):
    pairs = corpus(0.3)
    by_part = {m.part: m for m in moved(pairs, shifts(pairs), rng)}
    kept = by_part["kept"]
    assert kept.n == 120 and kept.estimate.value == pytest.approx(0.3, abs=0.1)
    assert kept.estimate.intervals["0.95"].low > 0 and kept.estimate.p < 0.05
    assert by_part["swapped"].estimate.value == pytest.approx(-0.5)
    whole = by_part["swapped"].estimate.value + kept.estimate.value
    assert by_part["change"].estimate.value == pytest.approx(whole)


def test_signs_are_turned_by_template_not_by_pair(rng):
    """Three templates of forty pairs each: 120 pairs that agree are no more than three."""
    pairs = corpus(0.5, templates=3, terms=40)
    kept = next(m for m in moved(pairs, shifts(pairs), rng, clusters=["template"]) if m.part == "kept")
    assert kept.estimate.p == pytest.approx(0.25) and not kept.estimate.intervals


def test_skipped_pairs_are_counted(rng):
    pairs = [*corpus(0.3, 2, 2), pair("she is kind", "she is kind", [1, 1, 1], [1, 1, 1])]
    found = moved(pairs, shifts(pairs), rng)
    assert [(m.n, m.skipped) for m in found] == [(4, {"the two sentences have the same pieces": 1})] * 3
    nothing = moved(pairs[-1:], shifts(pairs[-1:]), rng)
    assert [m.estimate for m in nothing] == [None] * 3


def test_what_decides_for_one_group_and_not_for_the_other(rng):
    pairs = [
        pair(
            "she is kind now", "he is kind now", [0.1, 0.0, 2.0, 1.0], [0.1, 0.0, 0.5, 1.0], template=f"t{i}"
        )
        for i in range(10)
    ]
    first, *rest = words_moved(pairs, shifts(pairs), rng)
    assert (first.word, first.leads, first.n, first.templates) == ("kind", (10, 0), 10, 10)
    assert (first.first, first.second) == pytest.approx((2.0, 0.5)) and first.estimate.p < 0.01
    assert {w.word: w.leads for w in rest} == {"now": (0, 10), "is": (0, 0)}
    assert "kind" not in repr(first)
