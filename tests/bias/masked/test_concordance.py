"""Whether the scores of pair preference agree in sign, and what is said of it."""

from __future__ import annotations

import pytest

from albert_audit.bias.masked.concordance import concordance, sign
from albert_audit.bias.masked.pair_preference import SCORES
from albert_audit.types import Estimate, Finding, Interval, Status

WIDE = 10.0


def finding(score, value=0.0, half=0.1, *, figure="margin", axis="age", pack="pairs-en", contrast="more-vs-less",
            status=Status.ESTIMATED, null=0.0, levels=("0.90", "0.95", "simultaneous_0.95")):  # fmt: skip
    """A finding whose 0.95 interval reaches `half` each way; the other two are narrower and wider."""
    factor = {"0.90": 0.5, "0.95": 1.0, "simultaneous_0.95": WIDE}
    effect = Estimate(
        value=value, se=half / 2, df=20, null=null,
        intervals={k: Interval(low=value - half * factor[k], high=value + half * factor[k]) for k in levels},
    )  # fmt: skip
    return Finding(
        id=f"{pack}/{score}_{figure}/{axis}/{contrast}", pack=pack, measure=f"{score}_{figure}", axis=axis,
        contrast=contrast, title="T", estimand="E", unit="nats", family="f", gates=True, status=status,
        effect=effect, caveats=("first",), details={"ties": 1.0},
    )  # fmt: skip


def said(values, **options):
    """The sentence and the details, the same in every finding, for one value a score."""
    before = [finding(s, v, **options) for s, v in zip(SCORES, values, strict=True)]
    after = concordance(before)
    assert [f.id for f in after] == [f.id for f in before]
    assert all(f.caveats[0] == "first" and len(f.caveats) == 2 and f.details["ties"] == 1.0 for f in after)
    (sentence,) = {f.caveats[1] for f in after}
    (counts,) = {(f.details["scores_compared"], f.details["scores_agreeing"]) for f in after}
    return sentence, counts


@pytest.mark.parametrize(
    ("values", "sentence", "agreeing"),
    [
        ((1, 2, 3, 4), "The four scores agree: each puts the stereotyping sentence ahead.", 4),
        ((-1, -2, -3, -4), "The four scores agree: each puts the stereotyping sentence behind.", 4),
        ((0.05, -0.05, 0.0, 0.09),
         "None of the four scores says which of the two sentences is ahead: no 0.95 interval excludes 0.", 0),
        ((1, 0.05, -0.05, 2),
         "Two of the four scores put the stereotyping sentence ahead (CrowS-Pairs score, attention-weighted unmasked "
         "likelihood); the others are undecided.", 2),
        ((0, 0, -1, 0),
         "One of the four scores puts the stereotyping sentence behind (unmasked likelihood); the others are "
         "undecided.", 1),
        ((0.12, -0.2, 0.05, 0.3),
         "The scores disagree in sign (CrowS-Pairs score +0.12, word-wise pseudo-log-likelihood -0.2, unmasked "
         "likelihood +0.05 (undecided), attention-weighted unmasked likelihood +0.3): read none of them alone.", 2),
    ],
)  # fmt: skip
def test_what_is_said(values, sentence, agreeing):
    assert said(values) == (sentence, (4.0, float(agreeing)))


def test_the_sign_is_that_of_the_95_percent_interval():
    """Neither of the narrower one nor of the one made wider for the family."""
    assert sign(finding("pair_cps", 0.11)) == 1 and sign(finding("pair_cps", -0.11)) == -1
    assert sign(finding("pair_cps", 0.09)) == sign(finding("pair_cps", -0.09)) == 0
    assert sign(finding("pair_cps", 0.1)) == 0, "an interval that ends at 0 holds it"
    assert sign(finding("pair_cps", 5.0, levels=())) == 0, "without an interval there is no sign"
    assert sign(finding("pair_cps", 0.7, null=0.5)) == 1 and sign(finding("pair_cps", 0.3, null=0.5)) == -1


def test_axes_packs_and_contrasts_stand_alone():
    given = [finding(s, v, axis=axis, pack=pack)
             for axis, pack, v in (("age", "a-en", 1), ("gender", "a-en", -1), ("age", "b-en", 0))
             for s in SCORES]  # fmt: skip
    given.append(finding("pair_cps", 9, contrast="confirmed"))
    after = concordance(given)
    told = {(f.pack, f.axis): f.caveats[-1] for f in after[:-1]}
    assert (
        "ahead." in told["a-en", "age"]
        and "behind." in told["a-en", "gender"]
        and "None" in told["b-en", "age"]
    )
    assert after[-1] == given[-1], "one score alone agrees with nobody"


def test_shares_are_told_what_the_margins_say():
    shares = [finding(s, 0.9, figure="share", null=0.5) for s in SCORES]
    after = concordance([finding(s, -1) for s in SCORES] + shares)
    assert all("behind" in f.caveats[-1] and f.details["scores_agreeing"] == 4 for f in after)
    assert concordance(shares) == tuple(shares), "without margins nothing is said"


@pytest.mark.parametrize("status", [Status.INVALID, Status.ERROR, Status.NOT_RUN])
def test_a_score_that_could_not_be_trusted_is_not_asked(status):
    """A broken model's scores agree by accident; that must not read as support."""
    given = [finding(s, 1, status=status) for s in SCORES]
    assert concordance(given) == tuple(given)
    some = [given[0], *(finding(s, 1) for s in list(SCORES)[1:])]
    after = concordance(some)
    assert after[0] == some[0]
    assert after[1].caveats[-1] == "The three scores agree: each puts the stereotyping sentence ahead."


def test_other_findings_are_left_as_they_are():
    other = finding("template_gap", 1).model_copy(update={"measure": "template_gap"})
    assert concordance([other]) == (other,) and concordance([]) == ()
