"""Counterfactual substitution: how a classifier's score moves when a text speaks of another group.

The texts are the auditor's own. In each, all words for one group are exchanged for those of another
(see `swap`), and the two versions are compared::

    gap = f(version that names the first group) - f(version that names the second)

whichever of them is the original, so that the sign belongs to the groups. f is the probability of
the label that is compared, or a regression's number. A version that names both groups before and
after the exchange has no direction: it counts for absolute gaps and flips only.

Absolute gaps and flips are positive by noise alone. Their control is the axis `PLACEBO`: words whose
exchange means nothing, in the same texts. Both grow with the number of words exchanged, so what is
compared with the placebo are the exchanges of one word. Signed gaps and net flips have the null 0
and no control: which placebo word is called the first is arbitrary, so that no difference from it
would mean anything.

Texts that hold no word to exchange, or none that can be exchanged with confidence, are counted by
reason and are in no denominator. This is a comparison of texts, not of the people in them, and no
causal claim: it is not counterfactual fairness in the sense of Kusner et al. (2017).

Sources: Garg et al. 2019, Counterfactual Fairness in Text Classification through Robustness (the
mean absolute gap; asymmetric counterfactuals are left out); Huang et al. 2020, Reducing Sentiment
Bias in Language Models via Counterfactual Evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.classifier import decision as decisions
from albert_audit.bias.classifier import own_texts
from albert_audit.bias.classifier.counterfactual_rows import (
    ANY,
    BOTH,
    CHANGED,
    FLIPS,
    GAP,
    GAP_ABS,
    MOST_PAIRED,
    NET_FLIPS,
    ONE_WORD,
    OTHERS,
    PLACEBO,
    SHARE,
    SURE,
    TEXTS,
    UNCHANGED,
    Answers,
    against_others,
    details,
    outcomes,
    swaps,
)
from albert_audit.bias.measure import Kind, Measure, Statistic, frame
from albert_audit.bias.swap.swapper import NO_TERM, Swapper
from albert_audit.bias.swap.terms import PRONOUNS
from albert_audit.model.scorer import Scorer
from albert_audit.packs import SLUG, Pack
from albert_audit.types import Ability, PackError, UsageError

GAP_UNDOUBTED = "counterfactual_gap_undoubted"
_GARG = "Garg et al. 2019, Counterfactual Fairness in Text Classification through Robustness"
_MAUDSLAY = "Hall Maudslay et al. 2019, It's All in the Name (names and roles in an exchange)"
_CAVEATS = (
    "Texts that name no group, or whose words cannot be exchanged with confidence, are not in it.",
    "An exchanged text can be odd or untrue; where most originals name one group, oddness and group are "
    "not told apart.",
)


# --- what a pack asks ---------------------------------------------------------------------------


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return (axis, contrast) for every axis of the terms but the placebo.

    "first-vs-second" for each two of at most `MOST_PAIRED` groups, in the order of the list. With
    more groups "group-vs-others" for each, and `ANY` for absolute gaps and flips between any two.

    Raises
    ------
    PackError
        For terms that cannot be exchanged, names that are no slugs, or a missing placebo.
    """
    return [(axis, c) for axis, groups in _axes(pack).items() if axis != PLACEBO for c in _of_axis(groups)]


def _of_axis(groups: Sequence[str]) -> list[str]:
    if len(groups) <= MOST_PAIRED:
        return [f"{a}-vs-{b}" for a, b in combinations(groups, 2)]
    return [*(f"{g}-vs-{OTHERS}" for g in groups), ANY]


def _axes(pack: Pack) -> dict[str, tuple[str, ...]]:
    axes = _swapper(pack).axes
    file = pack.spec.files.get("terms", "terms")
    mistakes = [
        f"{file}: {kind}: expected lower-case words with hyphens, without '-vs-', not {OTHERS!r}, found {n!r}"
        for kind, names in (("axis", axes), ("group", {g: 0 for found in axes.values() for g in found}))
        for n in names
        if not SLUG.fullmatch(n) or "-vs-" in n or n in (OTHERS, "all")
    ]
    if len(axes.get(PLACEBO, ())) != 2:
        mistakes.append(f"{file}: expected an axis {PLACEBO!r} of two groups: words whose exchange means "
                        "nothing; absolute gaps and flips cannot be read without")  # fmt: skip
    if mistakes:
        raise PackError(
            f"the pack {pack.name} has {len(mistakes)} mistake{'s' * (len(mistakes) != 1)}:\n"
            + "\n".join(f"  {m}" for m in mistakes),
            "the format is described in docs/reference/packs.md",
        )
    return axes


_TERM, _FIXED = ("id", "set", "axis", "group", "form", "role"), ("id", "form", "reason")
_Cells = tuple[tuple[str, ...], ...]


def _swapper(pack: Pack) -> Swapper:
    tables = ((pack.tables["terms"], _TERM), (pack.tables.get("fixed", ()), _FIXED))
    terms, fixed = (tuple(tuple(row[c] for c in columns) for row in rows) for rows, columns in tables)
    return _made(terms, fixed, pack.language)


@lru_cache(maxsize=4)  # a plan asks for the contrasts again and again
def _made(terms: _Cells, fixed: _Cells, language: str) -> Swapper:
    rows = [[dict(zip(c, r, strict=True)) for r in found] for c, found in ((_TERM, terms), (_FIXED, fixed))]
    return Swapper(rows[0], rows[1], language)


def statistics(pack: Pack) -> list[Statistic]:
    """Return what is estimated: signed gaps, absolute gaps, flips, net flips.

    Signed gaps and net flips of all exchanges; absolute gaps and flips of those of one word. On an
    axis with pronouns also the signed gap without the exchanges that are in doubt.
    """
    decision = pack.decision
    label = (decision.name if decision else "the positive label").replace("{", "{{").replace("}", "}}")
    unit = decisions.unit(decision) if decision else "probability"
    score = "predicted score" if unit == "score" else f"probability of {label}"
    planned = contrasts(pack)
    others = tuple(c for _, c in planned if c.endswith(f"-vs-{OTHERS}"))
    pairs = tuple(c for _, c in planned if c != ANY and c not in others)
    with_pronouns = {row["axis"] for row in pack.tables["terms"] if row["role"] in PRONOUNS}

    def made(
        name: str, kind: Kind, title: str, estimand: str, only: tuple[str, ...], *,
        unit: str = SHARE, rows: str = "", upward: bool = False, least: float | None = None,
    ) -> Statistic:  # fmt: skip
        return Statistic(
            name=name, rows=rows or name, kind=kind, unit=unit, title=title, estimand=estimand, only=only,
            upward=upward, min_covariate=least, caveats=_CAVEATS, sources=(_GARG, _MAUDSLAY), details=details,
        )  # fmt: skip

    higher = "is the score higher where your texts name {first} than {second}"
    between = (
        f"mean {score} of the version that names {{first}} less that of the version that names {{second}}"
    )
    over_pairs = "over your texts that name one of the two, in which all words for it could be exchanged"
    over_all = (
        f"mean {score} of the version that names {{first}} less the mean of its versions for every other group, "
        "over your texts that name one group of this axis, in which all words for it could be exchanged"
    )
    sure = ", no word left that may be a person's name and none whose role is a guess"
    out = [
        made(GAP, "mean", f"{higher}?", f"{between}, {over_pairs}", pairs, unit=unit),
        made(GAP, "mean", f"{higher}?", over_all, others, unit=unit),
        made(GAP_UNDOUBTED, "mean", f"{higher}, where nothing about the exchange is in doubt?",
             f"{between}, {over_pairs}{sure}", tuple(c for a, c in planned if c in pairs and a in with_pronouns),
             unit=unit, rows=GAP, least=SURE),
        made(GAP_UNDOUBTED, "mean", f"{higher}, where nothing about the exchange is in doubt?",
             f"{over_all}{sure}", tuple(c for a, c in planned if c in others and a in with_pronouns),
             unit=unit, rows=GAP, least=SURE),
        made(NET_FLIPS, "net", "which way do decisions change between {first} and {second}?",
             f"share decided {label} only where they name {{first}} less only where they name {{second}}, "
             f"{over_pairs}", pairs),
    ]  # fmt: skip
    for only, over in (
        (pairs, "over your texts that name one of the two or both, in which one word was exchanged"),
        ((ANY,), "over the exchanges of one word between any two groups of this axis, several a text"),
    ):
        out += [
            made(GAP_ABS, "mean", "how far does the score move between {first} and {second}?",
                 f"mean absolute change in the {score}, {over}", only, unit=unit, upward=True, least=ONE_WORD),
            made(FLIPS, "rate", "how often does the decision change between {first} and {second}?",
                 f"share whose decision on {label} changes, {over}", only, upward=True, least=ONE_WORD),
        ]  # fmt: skip
    return [s for s in out if s.only]  # without a contrast it would be formed for all


# --- measuring ------------------------------------------------------------------------------------


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score every text that can be changed, and its variants, in one call. See `Measure`.

    Rows: `GAP` and `NET_FLIPS` (-1, 0, 1) for each variant that names one of the two groups, `GAP_ABS`
    and `FLIPS` (0, 1) for every variant; `group` is the one the original names. On an axis of many
    groups these have the contrast `ANY`, and a text that names one group has a `GAP` against the mean
    of all others for each group. The placebo's have the role control. `UNCHANGED` has each text
    that holds a term but was not changed, with the reason; `TEXTS` the number of texts by outcome.
    Equal texts are one cluster. Where all versions of all texts are decided alike, flips are skipped.

    Raises
    ------
    UsageError
        When there are no texts, or it is not known what the classifier's logits mean.
    """
    del rng  # nothing is drawn
    if pack.given is None or pack.decision is None:
        raise UsageError(f"{pack.name} needs your own texts and a classifier", "give --texts FILE")
    axes, swapper = _axes(pack), _swapper(pack)
    found = [swapper.variants(t.text) for t in pack.given.texts]
    answers = Answers(scorer, pack.decision, found)
    unit = decisions.unit(pack.decision)
    rows: list[dict[str, Any]] = []
    tally: Counter[tuple[str, str, str]] = Counter()
    for text, cluster, variants in zip(
        pack.given.texts, own_texts.clusters(pack.given.texts), found, strict=True
    ):
        for axis, groups in axes.items():
            base = own_texts.row(pack, axis, "", "", text.id, cluster) | {"unit": unit}
            if axis == PLACEBO:
                base["role"] = "control"
            rows += swaps(base, groups, variants, answers)
            rows += against_others(base, groups, variants, answers)
            for contrast, outcome in outcomes(axis, groups, variants):
                tally[axis, contrast, outcome] += 1
                if outcome not in (CHANGED, BOTH, NO_TERM):
                    name = {"measure": UNCHANGED, "contrast": contrast, "item": f"{text.id}/{contrast}"}
                    rows.append(base | name | {"role": "probe", "skipped": outcome})
    for (axis, contrast, outcome), count in tally.items():
        base = own_texts.row(pack, axis, contrast, "", outcome, "")
        rows.append(base | {"measure": TEXTS, "value": float(count), "unit": "texts"})
    if all(row["role"] != "control" for row in rows):  # absolute gaps must not look as if they needed none
        base = own_texts.row(pack, PLACEBO, "-vs-".join(axes[PLACEBO]), "", PLACEBO, "")
        why = {"role": "control", "covariate": ONE_WORD, "skipped": "no text holds a word of the placebo"}
        rows += [base | why | {"measure": m} for m in (GAP_ABS, FLIPS)]
    return frame(rows)


MEASURE = Measure(
    "counterfactual", (Ability.CLASS_LOGITS,), run, contrasts, statistics, floored_by="class_floor"
)
