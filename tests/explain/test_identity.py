"""Shares of identity terms beside matched words, with answers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from albert_audit.explain.identity import Case, function_words, shares, words_at
from albert_audit.explain.identity_estimates import errors_minus_right, excess
from albert_audit.types import UsageError
from tests.explain.made import made


def case(text, values, term, *, group="g", template="t", name="n", variants=(), **changes):
    """A case whose term is given by its words."""

    def at(of):
        start = of.text.index(term if of is one else of.text.split()[place])
        return words_at(of, start, start + (len(term) if of is one else 1))

    one = made(text, values, **changes)
    place = text.split().index(term.split()[0])
    return Case(one, at(one), group, template, name, tuple((v, at(v)) for v in variants))


def rows_of(*cases, language="en", **options):
    return shares(cases, language=language, **options).set_index(["case", "metric", "null"])


def test_the_share_is_of_content_words_and_the_null_that_of_the_nearest_word_of_as_many_pieces():
    """The: a function word, `?`: punctuation, both out; nurse has two pieces, as has carpet but not lamp."""
    text = "the nurse saw lamp on carpet ?"
    values = [9.0, -2.0, 1.0, 3.0, 9.0, 4.0, 9.0]
    found = rows_of(case(text, values, "nurse", pieces={"nurse": 2, "carpet": 2})).loc[0, "share", "words"]
    assert found["observed"] == pytest.approx(2 / 10) and found["expected"] == pytest.approx(4 / 10)
    assert found["value"] == pytest.approx(-0.2)
    one = rows_of(case(text, values, "nurse")).loc[0, "share", "words"]
    assert one["expected"] == pytest.approx(1 / 10)  # now saw is the nearest of one piece


def test_two_equally_near_words_both_serve_and_a_word_serves_once():
    values = [1.0, 5.0, 3.0]
    assert rows_of(case("red nurse blue", values, "nurse")).loc[0, "share", "words"][
        "expected"
    ] == pytest.approx(2 / 9)
    both = rows_of(case("red tall nurse blue green", [1, 5, 5, 3, 7], "tall nurse")).loc[0, "share", "words"]
    assert both["expected"] == pytest.approx((1 + 3) / 21) and both["observed"] == pytest.approx(10 / 21)


def test_a_pronoun_is_matched_with_function_words():
    found = rows_of(case("she saw the lamp", [2.0, 5.0, 1.0, 3.0], "she")).loc[0, "share", "words"]
    assert found["observed"] == pytest.approx(2 / 10) and found["expected"] == pytest.approx(1 / 10)


def test_a_language_without_a_list_has_no_function_words():
    assert (
        function_words("xx") == frozenset() and "the" in function_words("en") and "的" in function_words("zh")
    )
    found = rows_of(case("the nurse saw", [2.0, 1.0, 1.0], "nurse"), language="xx").loc[0, "share", "words"]
    assert found["observed"] == pytest.approx(1 / 4)


def test_neutral_words_in_the_slot_are_the_other_null():
    variants = [made("tall saw lamp", [v, 1.0, 1.0]) for v in (2.0, 0.5)]
    found = rows_of(case("nurse saw lamp", [2.0, 1.0, 1.0], "nurse", variants=variants)).loc[
        0, "share", "variants"
    ]
    assert found["expected"] == pytest.approx((0.5 + 0.2) / 2) and found["value"] == pytest.approx(0.5 - 0.35)


def test_subwords_are_summed_with_their_signs_before_the_share():
    """Pieces that cancel are no contribution of the word."""
    one = made("nurse saw lamp", [3.0, 1.0, 1.0], pieces={"nurse": 2})
    values = one.values.copy()
    values[1:3] = 3.0, -2.0
    found = rows_of(Case(replace(one, values=values), (0,), "g", "t", "n")).loc[0, "share", "words"]
    assert found["skipped"] == "no other word of the sentence has as many pieces"
    wide = made("nurse saw lamp", [3.0, 1.0, 1.0], pieces={"nurse": 2, "lamp": 2})
    values = wide.values.copy()
    values[1:3] = 3.0, -2.0
    found = rows_of(Case(replace(wide, values=values), (0,), "g", "t", "n")).loc[0, "share", "words"]
    assert found["observed"] == pytest.approx(1 / 3)


def test_the_signed_share_is_told_only_above_the_floor():
    text, values = "nurse saw lamp", [-0.4, 1.0, 0.2]
    found = rows_of(case(text, values, "nurse")).loc[0, "signed", "words"]
    assert found["observed"] == pytest.approx(-0.5) and found["expected"] == pytest.approx(1.25)
    small = rows_of(case(text, [1.0, -1.0, 0.05], "nurse")).loc[0, "signed", "words"]
    assert math.isnan(small["value"]) and "less than 0.1" in small["skipped"]
    assert rows_of(case(text, [1.0, -1.0, 0.05], "nurse")).loc[0, "share", "words"]["skipped"] == ""


@pytest.mark.parametrize(
    ("text", "values", "changes", "why"),
    [
        ("the nurse is", [1, 1, 1], {}, "no other content word"),
        ("nurse saw lamp", [0, 0, 0], {}, "contribute less than 0.1 in all"),
        ("nurse saw lamp", [1, 1, 1], {"reasons": ("not converged",)}, "not converged"),
    ],
)
def test_what_has_no_share_is_listed_with_its_reason(text, values, changes, why):
    found = rows_of(case(text, values, "nurse", **changes))
    assert why in found.loc[0, "share", "words"]["skipped"]
    assert (
        len(found) == 6
        and "no neutral words"
        in rows_of(case("nurse saw lamp", [1, 1, 1], "nurse")).loc[0, "share", "variants"]["skipped"]
    )


def test_another_sentence_as_baseline_is_refused():
    """Trap 21: from the pair as baseline the share is 100 % on the swapped word by construction."""
    with pytest.raises(UsageError, match="by construction"):
        shares([case("nurse saw lamp", [1, 0, 0], "nurse", baseline="pair")], language="en")
    mixed = [case("nurse saw lamp", [1, 1, 0], "nurse", baseline=b) for b in ("pad", "mask")]
    with pytest.raises(UsageError, match="one method and baseline"):
        shares(mixed, language="en")


def test_the_contribution_is_there_for_every_sentence():
    """A variant below the floor has no share; leaving it out of the null is a choice by outcome."""
    variants = [made("tall saw lamp", [0.01, 0.02, 0.02]), made("quiet saw lamp", [0.5, 1.0, 1.0])]
    found = rows_of(case("nurse saw lamp", [-2.0, 0.02, 0.02], "nurse", variants=variants))
    assert found.loc[0, "share", "variants"]["expected"] == pytest.approx(0.2)
    row = found.loc[0, "contribution", "variants"]
    assert (row["observed"], row["expected"]) == pytest.approx((-2.0, 0.255))
    none = rows_of(case("nurse saw lamp", [-2.0, 0.02, 0.02], "nurse", variants=variants[:1]))
    assert "with every neutral word" in none.loc[0, "share", "variants"]["skipped"]
    assert none.loc[0, "contribution", "words"]["value"] == pytest.approx(-2.02)


def test_words_at_a_span_of_either_text():
    one = made("red nurse blue lamp", [1, 1, 1, 1], type_ids=(0, 0, 0, 1, 1, 1), pair="blue lamp")
    one = replace(one, offsets=(*one.offsets[:3], (0, 4), (5, 9), (0, 0)), text="red nurse")
    assert words_at(one, 4, 9) == (1,) and words_at(one, 0, 4, second=True) == (2,)
    with pytest.raises(UsageError, match="characters 20-24"):
        words_at(one, 20, 24)


# --- a corpus ---------------------------------------------------------------------------------


def table(effect=0.2, templates=12, terms=10, *, group="marked", seed=1, spread=0.05):
    """Rows of one metric and null: template and term effects around `effect`."""
    rng = np.random.default_rng(seed)
    by_template, by_term = rng.normal(0, spread, templates), rng.normal(0, spread, terms)
    rows = []
    for i in range(templates):
        for j in range(terms):
            value = effect + by_template[i] + by_term[j] + rng.normal(0, spread)
            rows.append(
                (len(rows), group, f"t{i}", f"w{j}", "share", "variants", 0.3 + value, 0.3, value, "")
            )
    return pd.DataFrame(
        rows,
        columns=[
            "case",
            "group",
            "template",
            "term",
            "metric",
            "null",
            "observed",
            "expected",
            "value",
            "skipped",
        ],
    )


def test_the_estimate_is_observed_minus_null_with_both_clusterings():
    rows = table()
    (crossed,), (plain,) = excess(rows), excess(rows, clusters=["template"])
    assert crossed.estimate.value == pytest.approx(rows["value"].mean())
    assert crossed.observed - crossed.expected == pytest.approx(crossed.estimate.value)
    assert crossed.ratio == pytest.approx(crossed.observed / 0.3) and crossed.n == 120
    # Terms vary, too: what is said of other terms is less sure than what is said of these.
    assert crossed.estimate.se > 1.2 * plain.estimate.se and crossed.estimate.intervals
    assert crossed.estimate.intervals["0.95"].low > 0


def test_sentences_are_not_counted_as_independent():
    """Ten terms in each of twelve templates that differ: 120 rows, twelve templates."""
    rows = table(0.0, spread=0.0)
    rows["value"] += np.repeat(np.random.default_rng(0).normal(0, 0.1, 12), 10)
    naive = rows["value"].std(ddof=1) / np.sqrt(len(rows))
    (found,) = excess(rows, clusters=["template"])
    assert found.estimate.se > 2.5 * naive


def test_one_term_is_clustered_by_template_and_few_templates_have_no_interval():
    (one,) = excess(table(terms=1))
    assert one.estimate.df > 8 and one.estimate.intervals
    (few,) = excess(table(templates=4))
    assert few.estimate is not None and not few.estimate.intervals


def test_groups_are_told_apart_and_reasons_counted():
    rows = pd.concat([table(), table(0.0, group="other", seed=2)], ignore_index=True)
    rows.loc[:4, ["observed", "expected", "value"]] = np.nan
    rows.loc[:4, "skipped"] = "not converged"
    marked, other = excess(rows)
    assert (marked.group, marked.n, marked.skipped) == ("marked", 115, {"not converged": 5})
    assert marked.estimate.value > 0.1 > abs(other.estimate.value)
    rows[["observed", "expected", "value"]] = np.nan
    assert [e.estimate for e in excess(rows)] == [None, None]


def test_errors_minus_right_answers():
    rows = table(0.0)
    rows["case"] = range(len(rows))
    wrong = np.arange(len(rows)) % 10 < 3
    rows.loc[wrong, "observed"] += 0.3
    (found,) = errors_minus_right(rows, wrong)
    assert found.estimate.value == pytest.approx(
        rows["observed"][wrong].mean() - rows["observed"][~wrong].mean()
    )
    assert found.estimate.intervals["0.95"].low > 0.2
    (above,) = errors_minus_right(rows, wrong, column="value")
    assert abs(above.estimate.value) < 0.1
    assert errors_minus_right(rows, np.zeros(len(rows), bool))[0].estimate is None
    with pytest.raises(UsageError, match="one flag a case"):
        errors_minus_right(rows, [True])
