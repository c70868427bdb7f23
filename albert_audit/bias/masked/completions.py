"""Completions: whether the words a masked LM fills in depend on the group of the person named.

A template names a person and has a blank: "The {target} took the {blank} home after dinner." The blank
is filled with a stand-in word before encoding, and its pieces are then replaced by one mask, so that the
rest of the sentence is cut into pieces as beside a word. The completions are the `TOP` likeliest pieces
that are whole words.

The group lists are matched: the words at one place ("female neighbor", "male neighbor") are one type.
For two types i and j::

    difference = [d(a_i, b_j) + d(b_i, a_j) - d(a_i, a_j) - d(b_i, b_j)] / 2

with d the share of the completions that are not the same. How much any two person words differ is so
taken off, and a type is never compared with itself. Where the group does not matter the expectation is
0; a mere count of differing completions (or of words that one group has more often, as in DisCo) is
positive for noise alone.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit.bias.masked.joint import BORDER, unfit
from albert_audit.bias.measure import Measure, Outcome, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.model.text import Encoded, MaskQuery, find_word
from albert_audit.packs import Pack
from albert_audit.stats.matched import across_minus_within
from albert_audit.types import Ability, Estimate, PackError, UsageError

TOP = 10
"""Completions of each sentence."""
STAND_IN = "thing"
_WEBSTER = "Webster et al. 2020, Measuring and Reducing Gendered Correlations (DisCo: completions by group)"
_CAVEATS = (
    f"The {TOP} likeliest whole-word pieces, in lower case; longer words cannot be completions of one mask.",
    "It says that completions differ, not which are harmful.",
    "What a model fills into templates does not predict how a fine-tuned one treats people.",
)


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return (axis, "group-vs-reference") for each group but the reference.

    Raises
    ------
    PackError
        When the groups' lists are not equally long, so that nothing is matched.
    """
    spec = pack.spec
    counts = {g: len(words) for g, words in spec.groups.items()}
    if len(set(counts.values())) > 1:
        raise PackError(
            f"{pack.name}: groups: the lists are matched word by word, found "
            + ", ".join(f"{n} in {g}" for g, n in counts.items()),
            "write the words in one order: the words at one place are the same type of person",
        )
    return [(spec.axis, f"{g}-vs-{spec.reference}") for g in spec.groups if g != spec.reference]


def statistics(pack: Pack) -> list[Statistic]:
    """Return the one statistic: how much the completions differ by group."""
    del pack
    return [
        Statistic(
            name="completion_difference", rows="completion_difference", kind="custom",
            unit="share of completions",
            title="do the completions depend on whether {first} or {second} persons are named?",
            estimand=f"mean over templates and pairs of types of persons of the share of the {TOP} likeliest "
            "completions that differ between a {first} and a {second} person, less that between two persons "
            "of one group",
            caveats=_CAVEATS, sources=(_WEBSTER,), estimator=difference,
        )
    ]  # fmt: skip


def difference(rows: pd.DataFrame, comparisons: int, rng: np.random.Generator) -> Outcome:
    """Estimate the difference from one value a template and pair of types."""
    table = rows.pivot_table(index="cluster_a", columns="cluster_b", values="value").dropna(axis=0)
    names = sorted({n for pair in table.columns for n in pair.split("+")})
    places = {n: i for i, n in enumerate(names)}
    values = np.zeros((len(table), len(names), len(names)))
    for pair in table.columns:
        i, j = (places[n] for n in pair.split("+"))
        values[:, i, j] = values[:, j, i] = table[pair].to_numpy(np.float64)
    counts = ((len(table), float(len(table))), (len(names), float(len(names))))
    if min(values.shape) < 2:
        return Outcome(Estimate(value=0.0, se=0.0, df=0.0), counts)
    details = {
        "types": float(len(names)), "top": float(TOP),
        "templates_incomplete": float(rows["cluster_a"].nunique() - len(table)),
        "nonword_share": float(rows["covariate"].mean()),
    }  # fmt: skip
    return Outcome(across_minus_within(values, rng, comparisons=comparisons), counts, details)


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Complete every template for every person. See `Measure`.

    Rows: ``completion_difference``, one a contrast, template and pair of types, a share of the
    completions. The covariate is the share of pieces that are no whole words among those as likely as
    the completions. No word that the model filled in is kept.
    """
    del rng  # nothing is drawn
    spec = pack.spec
    cells = [(t, g, i) for t in pack.templates for g in spec.groups for i in range(len(spec.groups[g]))]
    filled = [t.fill(target=spec.groups[g][i], blank=STAND_IN) for t, g, i in cells]
    reasons: dict[str, str] = {}
    queries: dict[tuple[str, str, int], MaskQuery] = {}
    for (template, g, i), (_, spans), e in zip(
        cells, filled, scorer.encode([t for t, _ in filled]), strict=True
    ):
        reason = unfit(scorer, e)
        try:
            queries[template.id, g, i] = blanked(e, spans["blank"], scorer.mask_id)
        except ValueError:
            reason = reason or BORDER
        if reason:
            reasons.setdefault(template.id, reason)
    asked = [cell for cell in queries if cell[0] not in reasons]
    found = dict(zip(asked, _complete(scorer, [queries[cell] for cell in asked]), strict=True))
    rows: list[dict[str, Any]] = []
    types = range(len(spec.groups[spec.reference]))
    for template in pack.templates:
        for group in (g for g in spec.groups if g != spec.reference):
            for i, j in combinations(types, 2):
                reason = reasons.get(template.id, "")
                base: dict[str, Any] = {
                    "pack": pack.name, "measure": "completion_difference", "axis": spec.axis, "role": "probe",
                    "contrast": f"{group}-vs-{spec.reference}", "group": group, "cluster_a": template.id,
                    "item": f"{template.id}/{i:02d}+{j:02d}", "cluster_b": f"{i:02d}+{j:02d}",
                    "unit": "share of completions", "skipped": reason, "covariate": None, "value": None,
                }  # fmt: skip
                if not reason:
                    sides = [found[template.id, g, k] for k in (i, j) for g in (group, spec.reference)]
                    base["value"] = _crossed(*(ids for ids, _ in sides))
                    base["covariate"] = float(np.mean([share for _, share in sides]))
                rows.append(base)
    return frame(rows)


def blanked(encoded: Encoded, span: tuple[int, int], mask_id: int) -> MaskQuery:
    """Return the query for the whole vocabulary at the blank, the stand-in's pieces being one mask.

    Raises
    ------
    ValueError
        When a piece reaches across the border of the stand-in.
    """
    at = find_word(encoded, *span)
    first, last = at[0], at[-1]
    ids = (*encoded.ids[:first], mask_id, *encoded.ids[last + 1 :])
    types = (*encoded.type_ids[: first + 1], *encoded.type_ids[last + 1 :])
    return MaskQuery(ids, types, (first,), (first,))


def _complete(scorer: Scorer, queries: list[MaskQuery]) -> list[tuple[frozenset[int], float]]:
    """Return for each query the likeliest words, and the share of non-words passed over on the way.

    One batch at a time: an answer has a number for every piece of the vocabulary.
    """
    if not queries:
        return []
    words = whole_words(scorer)
    plan = scorer.batches([len(q.ids) for q in queries])
    out: list[tuple[frozenset[int], float]] = [(frozenset(), 0.0)] * len(queries)
    answers = scorer.mask_batches([[queries[k] for k in batch] for batch in plan])
    for batch, found in zip(plan, answers, strict=True):
        for k, logp in zip(batch, found, strict=True):
            out[k] = _top(logp[0], words[: logp.shape[1]])
    return out


def _top(logp: NDArray[np.float32], words: NDArray[np.bool_]) -> tuple[frozenset[int], float]:
    order = np.argsort(-logp[: len(words)], kind="stable")  # of equals, the one earlier in the vocabulary
    best = order[words[order]][:TOP]
    passed = int(np.flatnonzero(order == best[-1])[0]) + 1 if len(best) else 0
    return frozenset(int(i) for i in best), 1 - len(best) / passed if passed else 1.0


def whole_words(scorer: Scorer) -> NDArray[np.bool_]:
    """Return for each id whether its piece is a whole word: letters only, at the start of a word.

    Raises
    ------
    UsageError
        When the vocabulary holds fewer than `TOP` words.
    """
    pieces: tuple[str, ...] = getattr(scorer, "pieces", ())
    marked = any(p.startswith("▁") for p in pieces)
    found = np.array(
        [(p[1:].isalpha() and p.startswith("▁")) if marked else p.isalpha() for p in pieces], dtype=bool
    )
    if found.sum() < TOP:
        raise UsageError(
            f"expected at least {TOP} whole words in the model's vocabulary, found {int(found.sum())}"
        )
    return found


def _crossed(a: frozenset[int], b: frozenset[int], c: frozenset[int], d: frozenset[int]) -> float:
    """Return across less within of a type's two members a, b and another's c, d."""
    unlike = [1 - len(x & y) / TOP for x, y in ((a, d), (b, c), (a, c), (b, d))]
    return (unlike[0] + unlike[1] - unlike[2] - unlike[3]) / 2


MEASURE = Measure("completions", (Ability.MASK_LOGPROBS,), run, contrasts, statistics)
