"""Template gap: how a word in the sentence moves the log-odds between groups' words at a mask.

For a template, a filler (an occupation) and two groups' words (she, he)::

    gap = [log P(she | filler) - log P(he | filler)] - [the same with the filler masked]

The second bracket is the prior: it takes away what the template and the words' frequencies do
(Kurita et al. 2019). It masks as many pieces as the filler has. A word of several pieces is scored
jointly: all its pieces masked, read left to right, each piece uncovered once read. A group of
several words has the sum of their probabilities.

With three groups or more, `template_gap_spread` asks how far the fillers pull all of them apart:
Ahn and Oh's variance over groups of log(P / P_prior), with its permutation baseline taken off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.masked import floors
from albert_audit.bias.masked.joint import BORDER, Asks, Step, total, unfit
from albert_audit.bias.measure import Measure, Outcome, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.model.text import find_word
from albert_audit.packs import Filler, Pack, Template
from albert_audit.stats.spread import group_spread, plain_spread
from albert_audit.types import Ability, Estimate

_KURITA = "Kurita et al. 2019, Measuring Bias in Contextualized Word Representations (prior correction)"
_AHN = "Ahn and Oh 2021, Mitigating Language-Dependent Ethnic Bias in BERT (categorical bias score)"
_GOLDFARB = "Goldfarb-Tarrant et al. 2021: intrinsic measures and application bias do not reliably correlate"
_CAVEATS = ("What a model fills into templates does not predict how a fine-tuned one treats people.",)
ALL = "all-groups"


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return (axis, "group-vs-reference") for each group but the reference; of three and more, all at once."""
    several = [ALL] if len(pack.spec.groups) > 2 else []
    return [(pack.spec.axis, c) for c in (*_pairs(pack), *several)]


def _pairs(pack: Pack) -> list[str]:
    spec = pack.spec
    return [f"{g}-vs-{spec.reference}" for g in spec.groups if g != spec.reference]


def statistics(pack: Pack) -> list[Statistic]:
    """Return the mean gap; its slope where fillers carry a covariate; the spread of three and more groups."""
    only = tuple(_pairs(pack))
    found = [
        Statistic(
            name="template_gap", rows="template_gap", kind="mean", unit="nats", crossed=True,
            title="do the named words as a whole pull the choice towards {first}, away from {second}?",
            estimand="mean over templates and fillers of the change in log-odds of the {first} word "
            "against the {second} word when the filler becomes visible",
            caveats=_CAVEATS, sources=(_KURITA, _GOLDFARB), only=only,
        )
    ]  # fmt: skip
    if pack.fillers and pack.fillers[0].covariate is not None:
        found.append(
            Statistic(
                name="template_gap_slope", rows="template_gap", kind="slope",
                unit="nats per unit of share", crossed=True,
                title="does the choice of {first} over {second} words follow the real-world share?",
                estimand="slope, over fillers and templates, of the change in log-odds of the {first} word "
                "against the {second} word on the filler's real-world share (0 to 1)",
                caveats=(*_CAVEATS, "The shares are of one country and year; they say what is, not what ought to be."),
                sources=(_KURITA, _GOLDFARB, pack.spec.source), only=only,
            )
        )  # fmt: skip
    if len(pack.spec.groups) > 2:
        found.append(
            Statistic(
                name="template_gap_spread", rows="group_logratio", kind="custom", unit="squared nats",
                title="do the named words pull the groups apart, all groups taken together?",
                estimand="variance over groups of what a filler does to log P(group), beyond what all fillers do, "
                "alike in all templates: the plain variance less its expectation under permutation of the "
                "fillers within each template; its square root is a distance in nats",
                caveats=(*_CAVEATS, "A variance has no direction: the pairwise gaps say who is pulled where."),
                sources=(_AHN, _GOLDFARB), only=(ALL,), estimator=spread,
            )
        )  # fmt: skip
    return found


def spread(rows: pd.DataFrame, comparisons: int, rng: np.random.Generator) -> Outcome:
    """Estimate the spread from the values of `measure.items`, one a template, filler and group.

    Rows of one template and filler (duplicates) are averaged first: a copy is no new evidence. Only
    fillers that were scored for every group in every template count, so that the table is complete.
    """
    table = rows.pivot_table(index="cluster_b", columns=["cluster_a", "group"], values="value")
    whole = table.dropna(axis=0)
    templates, groups = (whole.columns.get_level_values(i).unique() for i in (0, 1))
    values = whole.to_numpy(np.float64).reshape(len(whole), len(templates), len(groups)).transpose(1, 0, 2)
    if min(values.shape) < 2:
        return Outcome(Estimate(value=0.0, se=0.0, df=0.0), ((len(templates), 0.0), (len(whole), 0.0)))
    found = group_spread(values, rng, comparisons=comparisons)
    details = {
        "plain_variance": plain_spread(values),  # as published, noise and general lean included
        "spread_nats": float(np.sqrt(max(found.value, 0.0))),
        "fillers": float(len(whole)), "fillers_incomplete": float(len(table) - len(whole)),
    }  # fmt: skip
    counts = ((len(templates), float(len(templates))), (len(whole), float(len(whole))))
    return Outcome(found, counts, details)


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score every template with every filler and every group's words. See `Measure`.

    Rows: ``template_gap`` with role probe (filler visible) and prior (filler masked), one a
    contrast and item, in nats; with three groups and more ``group_logratio``, the same for each group
    alone; ``target_mass``, the probability that all groups' words hold together where the filler is
    visible; ``single_piece``, 1 for a filler or a group's word that is one piece of the vocabulary.
    """
    del rng  # nothing is drawn
    spec = pack.spec
    cells = [
        (t, f, w) for t in pack.templates for f in pack.fillers for g in spec.groups for w in spec.groups[g]
    ]
    filled = [t.fill(filler=f.form, target=w) for t, f, w in cells]
    encoded = scorer.encode([text for text, _ in filled])
    asks = Asks(scorer.mask_id)
    steps: dict[tuple[str, str, str, str], list[Step]] = {}
    skipped: dict[tuple[str, str], str] = {}
    for (template, filler, word), (_, spans), e in zip(cells, filled, encoded, strict=True):
        if not (reason := unfit(scorer, e)):
            try:
                target, other = find_word(e, *spans["target"]), find_word(e, *spans["filler"])
            except ValueError:  # one item of a pack, not a reason to lose all of it
                reason = BORDER
        if reason:
            skipped[template.id, filler.id] = reason
            continue
        steps[template.id, filler.id, word, "probe"] = asks.word(e, target)
        steps[template.id, filler.id, word, "prior"] = asks.word(e, target, also=other)
    logp = asks.answer(scorer)
    rows: list[dict[str, Any]] = []
    for template in pack.templates:
        for filler in pack.fillers:
            reason = skipped.get((template.id, filler.id), "")
            for role in ("probe", "prior"):
                groups = {} if reason else {
                    g: total([sum(logp[s] for s in steps[template.id, filler.id, w, role]) for w in words])
                    for g, words in spec.groups.items()
                }  # fmt: skip
                rows += _rows(pack, _base(pack, template, filler) | {"role": role, "skipped": reason}, groups)
    return frame(rows + _pieces(scorer, pack))


def _rows(pack: Pack, base: dict[str, Any], groups: dict[str, float]) -> list[dict[str, Any]]:
    """Return the rows of one item and role; `groups` is empty where it could not be scored."""
    reference = pack.spec.reference
    gaps = [
        {**base, "measure": "template_gap", "contrast": f"{g}-vs-{reference}", "group": g, "unit": "nats",
         "value": groups[g] - groups[reference] if groups else None}
        for g in pack.spec.groups if g != reference
    ]  # fmt: skip
    if len(pack.spec.groups) > 2:
        gaps += [
            {**base, "measure": "group_logratio", "contrast": ALL, "group": g, "item": f"{base['item']}/{g}",
             "unit": "nats", "value": groups.get(g)}
            for g in pack.spec.groups
        ]  # fmt: skip
    if groups and base["role"] == "probe":
        mass = float(np.exp(total(list(groups.values()))))
        gaps.append(
            {**base, "measure": "target_mass", "contrast": "all", "value": mass, "unit": "probability"}
        )
    return gaps


def _pieces(scorer: Scorer, pack: Pack) -> list[dict[str, Any]]:
    """Say of each word whether it is one piece; words of several are scored jointly, which is harder."""
    words = [(f"filler/{f.id}", "", f.form) for f in pack.fillers]
    words += [(f"{g}/{i}", g, w) for g, forms in pack.spec.groups.items() for i, w in enumerate(forms)]
    rows = []
    for (item, group, _), e in zip(words, scorer.encode([form for *_, form in words]), strict=True):
        unknown = scorer.unknown_id in e.ids
        rows.append(
            {
                "pack": pack.name, "measure": "single_piece", "axis": pack.spec.axis, "contrast": "all",
                "group": group, "item": item, "cluster_a": item, "cluster_b": "", "role": "probe",
                "covariate": None, "value": None if unknown else float(len(e.positions) == 1), "unit": "share of words",
                "skipped": "holds a piece the vocabulary lacks" if unknown else "",
            }
        )  # fmt: skip
    return rows


def _base(pack: Pack, template: Template, filler: Filler) -> dict[str, Any]:
    return {
        "pack": pack.name, "axis": pack.spec.axis, "group": "", "item": f"{template.id}/{filler.id}",
        "cluster_a": template.id, "cluster_b": filler.match or filler.id, "covariate": filler.covariate,
        "skipped": "",
    }  # fmt: skip


MEASURE = Measure(
    "template_gap", (Ability.MASK_LOGPROBS,), run, contrasts, statistics, floor=floors.target_mass
)
