"""Template gap: how a word in the sentence moves the log-odds between groups' words at a mask.

For a template, a filler (an occupation) and two groups' words (she, he)::

    gap = [log P(she | filler) - log P(he | filler)] - [the same with the filler masked]

The second bracket is the prior: it takes away what the template and the words' frequencies do
(Kurita et al. 2019). It masks as many pieces as the filler has. A word of several pieces is scored
jointly: all its pieces masked, read left to right, each piece uncovered once read. A group of
several words has the sum of their probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias import floors
from albert_audit.bias.measure import Measure, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.model.text import Encoded, MaskQuery, find_word
from albert_audit.packs import Filler, Pack, Template
from albert_audit.types import Ability

_KURITA = "Kurita et al. 2019, Measuring Bias in Contextualized Word Representations (prior correction)"
_GOLDFARB = "Goldfarb-Tarrant et al. 2021: intrinsic measures and application bias do not reliably correlate"
_CAVEATS = ("What a model fills into templates does not predict how a fine-tuned one treats people.",)


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return (axis, "group-vs-reference") for each group but the reference."""
    spec = pack.spec
    return [(spec.axis, f"{g}-vs-{spec.reference}") for g in spec.groups if g != spec.reference]


def statistics(pack: Pack) -> list[Statistic]:
    """Return the mean gap and, where fillers carry a covariate, its slope."""
    found = [
        Statistic(
            name="template_gap", rows="template_gap", kind="mean", unit="nats", crossed=True,
            title="do the named words as a whole pull the choice towards {first}, away from {second}?",
            estimand="mean over templates and fillers of the change in log-odds of the {first} word "
            "against the {second} word when the filler becomes visible",
            caveats=_CAVEATS, sources=(_KURITA, _GOLDFARB),
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
                sources=(_KURITA, _GOLDFARB, pack.spec.source),
            )
        )  # fmt: skip
    return found


@dataclass
class _Asks:
    """Queries under construction: one input is sent once, whatever is asked of it."""

    mask_id: int
    wanted: dict[tuple[Any, ...], dict[int, int]] = field(default_factory=dict)

    def add(self, encoded: Encoded, masked: Sequence[int], at: int) -> tuple[tuple[Any, ...], int]:
        ids = list(encoded.ids)
        for i in masked:
            ids[i] = self.mask_id
        key = (tuple(ids), encoded.type_ids, tuple(masked), at)
        asked = self.wanted.setdefault(key, {})
        token = encoded.ids[at]
        asked.setdefault(token, len(asked))
        return key, token

    def answer(self, scorer: Scorer) -> dict[tuple[tuple[Any, ...], int], float]:
        keys = list(self.wanted)
        queries = [
            MaskQuery(ids, type_ids, masked, (at,), (tuple(self.wanted[ids, type_ids, masked, at]),))
            for ids, type_ids, masked, at in keys
        ]
        found = scorer.mask_logprobs(queries)
        return {
            (key, token): float(row[0, place])
            for key, row in zip(keys, found, strict=True)
            for token, place in self.wanted[key].items()
        }


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score every template with every filler and every group's words. See `Measure`.

    Rows: ``template_gap`` with role probe (filler visible) and prior (filler masked), one a
    contrast and item, in nats; ``target_mass``, the probability that all groups' words hold
    together where the filler is visible.
    """
    del rng  # nothing is drawn
    spec = pack.spec
    cells = [
        (t, f, w) for t in pack.templates for f in pack.fillers for g in spec.groups for w in spec.groups[g]
    ]
    filled = [t.fill(filler=f.form, target=w) for t, f, w in cells]
    encoded = scorer.encode([text for text, _ in filled])
    asks = _Asks(scorer.mask_id)
    steps: dict[tuple[str, str, str, str], list[tuple[tuple[Any, ...], int]]] = {}
    skipped: dict[tuple[str, str], str] = {}
    target: tuple[int, ...]
    other: tuple[int, ...]
    for (template, filler, word), (_, spans), e in zip(cells, filled, encoded, strict=True):
        reason, target, other = _unfit(scorer, e), (), ()
        if not reason:
            try:
                target, other = find_word(e, *spans["target"]), find_word(e, *spans["filler"])
            except ValueError:  # one item of a pack, not a reason to lose all of it
                reason = "a piece reaches across the border of a word, which so cannot be masked alone"
        if reason:
            skipped[template.id, filler.id] = reason
            continue
        for role, also in (("probe", ()), ("prior", other)):
            steps[template.id, filler.id, word, role] = [
                asks.add(e, sorted({*target[k:], *also}), at) for k, at in enumerate(target)
            ]
    logp = asks.answer(scorer)
    rows: list[dict[str, Any]] = []
    for template in pack.templates:
        for filler in pack.fillers:
            base = _base(pack, template, filler)
            if reason := skipped.get((template.id, filler.id), ""):
                rows += [
                    {**base, "measure": "template_gap", "contrast": c, "role": role, "unit": "nats", "skipped": reason}
                    for _, c in contrasts(pack) for role in ("probe", "prior")
                ]  # fmt: skip
                continue
            for role in ("probe", "prior"):
                group = {
                    g: float(
                        np.logaddexp.reduce(
                            [sum(logp[s] for s in steps[template.id, filler.id, w, role]) for w in words]
                        )
                    )
                    for g, words in spec.groups.items()
                }
                rows += [
                    {**base, "measure": "template_gap", "contrast": f"{g}-vs-{spec.reference}", "group": g,
                     "role": role, "value": group[g] - group[spec.reference], "unit": "nats"}
                    for g in spec.groups if g != spec.reference
                ]  # fmt: skip
                if role == "probe":
                    mass = float(np.exp(np.logaddexp.reduce(list(group.values()))))
                    rows.append(
                        {**base, "measure": "target_mass", "contrast": "all", "role": "probe", "value": mass,
                         "unit": "probability"}
                    )  # fmt: skip
    return frame(rows)


def _unfit(scorer: Scorer, encoded: Encoded) -> str:
    if len(encoded.ids) > scorer.id.max_tokens:
        return f"longer than {scorer.id.max_tokens} tokens"
    if scorer.unknown_id in encoded.ids:
        return "holds a piece the vocabulary lacks"
    return ""


def _base(pack: Pack, template: Template, filler: Filler) -> dict[str, Any]:
    return {
        "pack": pack.name, "axis": pack.spec.axis, "group": "", "item": f"{template.id}/{filler.id}",
        "cluster_a": template.id, "cluster_b": filler.match or filler.id, "covariate": filler.covariate,
        "skipped": "",
    }  # fmt: skip


MEASURE = Measure(
    "template_gap", (Ability.MASK_LOGPROBS,), run, contrasts, statistics, floor=floors.target_mass
)
