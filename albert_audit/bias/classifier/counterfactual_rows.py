"""The rows of counterfactual substitution: what the model says of each version of a text, compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from albert_audit.bias.classifier import decision as decisions
from albert_audit.bias.classifier import own_texts
from albert_audit.bias.measure import items
from albert_audit.bias.swap.swapper import NO_TERM, Unchanged, Variant, Variants
from albert_audit.model.scorer import Scorer
from albert_audit.stats.mcnemar import mcnemar
from albert_audit.types import Decision

GAP, GAP_ABS = "counterfactual_gap", "counterfactual_gap_abs"
FLIPS, NET_FLIPS = "counterfactual_flips", "counterfactual_net_flips"
TEXTS, UNCHANGED = "counterfactual_texts", "counterfactual_unchanged"
PLACEBO = "placebo"
"""The axis of the terms whose exchange should mean nothing."""
MOST_PAIRED = 3
"""Up to so many groups an axis compares each two; with more, each with the mean of all others."""
OTHERS, ANY = "others", "one-vs-another"
CHANGED, BOTH, SEVERAL = "changed", "names both", "names several groups"
"""What becomes of a text; else the reason why it was not changed."""
UNDECIDED = "a regression without a threshold decides nothing"
ONE_WORD = -1.0
"""The covariate of absolute gaps and flips is minus the number of words exchanged."""
SURE = 1.0
"""The covariate of signed gaps is 1 where nothing about the exchange is in doubt, else 0."""
SHARE = "share of texts"


class _Version(NamedTuple):
    """What the model says of one version of a text; `skipped` where it says nothing."""

    ids: tuple[int, ...]
    score: float
    chosen: float
    skipped: str


class Answers:
    """The model's answers to every text and all its variants, asked for in one call."""

    def __init__(self, scorer: Scorer, decision: Decision, found: Sequence[Variants]) -> None:
        contents = dict.fromkeys(
            t for v in found if v.changed for t in (v.text, *(c.text for c in v.changed))
        )
        asked = own_texts.ask(scorer, list(contents))
        finite = np.isfinite(asked.logits).all(axis=1)
        self._scores = np.where(finite, decisions.scores(np.nan_to_num(asked.logits), decision), np.nan)
        self._chosen = np.where(finite, own_texts.choices(np.nan_to_num(asked.logits), decision), np.nan)
        self._asked, self._unknown = asked, scorer.unknown_id
        self.settled = decisions.settled(asked.logits, decision)
        self._place = {text: i for i, text in enumerate(contents)}

    def versions(self, text: str, variant: Variant) -> tuple[_Version, _Version]:
        """Return the answers to a text and to its variant."""
        before, after, shift = [], [], 0
        for r in variant.replacements:
            before.append((r.start, r.end))
            after.append((r.start + shift, r.start + shift + len(r.new)))
            shift += len(r.new) - (r.end - r.start)
        return self._version(text, before), self._version(variant.text, after)

    def _version(self, text: str, exchanged: list[tuple[int, int]]) -> _Version:
        i = self._place[text]
        encoded, reason = self._asked.encoded[i], self._asked.reasons[i]
        unknown = [encoded.offsets[k] for k in encoded.positions if encoded.ids[k] == self._unknown]
        if not reason and any(s < end and e > start for start, end in exchanged for s, e in unknown):
            reason = "an exchanged word holds a piece the vocabulary lacks"
        if not reason and np.isnan(self._scores[i]):
            reason = "the model gave no finite score"
        return _Version(encoded.ids, float(self._scores[i]), float(self._chosen[i]), reason)


# --- rows ---------------------------------------------------------------------------------------


def _mine(variants: Variants, axis: str) -> list[Variant]:
    return [v for v in variants.changed if v.axis == axis]


def swaps(
    base: dict[str, Any], groups: Sequence[str], variants: Variants, answers: Answers
) -> Iterator[dict[str, Any]]:
    """Yield the rows of each variant on one axis."""
    for v in _mine(variants, base["axis"]):
        first, second = sorted((v.source, v.target), key=groups.index)
        before, after = answers.versions(variants.text, v)
        one, other = (before, after) if v.source == first else (after, before)
        pair = f"{first}-vs-{second}"
        shared = base | {
            "contrast": pair if len(groups) <= MOST_PAIRED else ANY,
            "group": "both" if v.mixed else v.source,
            "item": f"{base['item']}/{pair}",
        }
        sure = 0.0 if v.doubts else SURE
        for row in _compared(shared, one, other, answers.settled):
            directed = row["measure"] in (GAP, NET_FLIPS)
            if directed and (v.mixed or base["role"] == "control"):
                continue
            yield row | {"covariate": sure if directed else -float(len(v.replacements))}


def _compared(base: dict[str, Any], one: _Version, other: _Version, settled: str) -> list[dict[str, Any]]:
    skipped = one.skipped or other.skipped
    if not skipped and one.ids == other.ids:
        skipped = "both versions read the same to the tokenizer"  # a gap of 0 that says nothing
    gap, net = (None, None) if skipped else (one.score - other.score, one.chosen - other.chosen)
    undecided = skipped or (UNDECIDED if net is None or np.isnan(net) else settled)
    if undecided:
        net = None
    return [
        base | {"measure": GAP, "value": gap, "skipped": skipped},
        base | {"measure": GAP_ABS, "value": None if gap is None else abs(gap), "skipped": skipped},
        base | {"measure": NET_FLIPS, "unit": SHARE, "value": net, "skipped": undecided},
        base | {"measure": FLIPS, "unit": SHARE, "value": None if net is None else abs(net), "skipped": undecided},
    ]  # fmt: skip


def _complete(variants: Variants, axis: str, groups: Sequence[str]) -> list[Variant]:
    """Return the variants of a text that names one group and has a version for every other."""
    mine = _mine(variants, axis)
    whole = len(mine) == len(groups) - 1 and len({v.source for v in mine}) == 1
    return mine if whole and not any(v.mixed for v in mine) else []


def against_others(
    base: dict[str, Any], groups: Sequence[str], variants: Variants, answers: Answers
) -> Iterator[dict[str, Any]]:
    """Yield, on an axis of many groups, each group's score less the mean of all others', in one text."""
    mine = _complete(variants, base["axis"], groups) if len(groups) > MOST_PAIRED else []
    if not mine:
        return
    asked = [(v, *answers.versions(variants.text, v)) for v in mine]
    versions = {mine[0].source: asked[0][1]} | {v.target: after for v, _, after in asked}
    reasons = [version.skipped for _, before, after in asked for version in (before, after)]
    skipped = next(filter(None, reasons), "")
    if not skipped and len({version.ids for version in versions.values()}) < len(groups):
        skipped = "two versions read the same to the tokenizer"
    sure = 0.0 if any(v.doubts for v in mine) else SURE
    for group in groups:
        others = [version.score for g, version in versions.items() if g != group]
        contrast = f"{group}-vs-{OTHERS}"
        yield base | {
            "measure": GAP, "contrast": contrast, "group": mine[0].source, "covariate": sure,
            "item": f"{base['item']}/{contrast}", "skipped": skipped,
            "value": None if skipped else versions[group].score - float(np.mean(others)),
        }  # fmt: skip


def outcomes(axis: str, groups: Sequence[str], variants: Variants) -> Iterator[tuple[str, str]]:
    """Yield for each contrast of an axis what became of the text: changed, or the reason why not."""
    changed = _mine(variants, axis)
    left = [u for u in variants.unchanged if u.axis == axis]
    if len(groups) > MOST_PAIRED:
        why = CHANGED if _complete(variants, axis, groups) else _kind(left) if left else SEVERAL
        yield from ((f"{g}-vs-{OTHERS}", why) for g in groups)
        yield ANY, CHANGED if changed else _kind(left)
        return
    for pair in combinations(groups, 2):
        made = next((v for v in changed if {v.source, v.target} == set(pair)), None)
        here = [u for u in left if not u.source or {u.source, u.target} == set(pair)]
        outcome = _kind(here) if made is None else BOTH if made.mixed else CHANGED
        yield f"{pair[0]}-vs-{pair[1]}", outcome


def _kind(left: Sequence[Unchanged]) -> str:
    """Return the reason without the word it is about; a text that names a third group has no term."""
    return left[0].reason.partition(":")[0] if left else NO_TERM


# --- beside an estimate -------------------------------------------------------------------------


def details(rows: pd.DataFrame, axis: str, contrast: str) -> dict[str, float]:
    """Return what stands beside every estimate of a contrast.

    How many texts were changed and why others were not; of all exchanges, not only those of one word,
    the mean absolute gap and the share of flips; the words exchanged, also by the placebo; the gap by
    the original's group, where oddness of the changed version would show as opposite signs; McNemar's
    exact p-value where no text stands twice.
    """
    mine = rows[(rows["axis"] == axis) & (rows["contrast"] == contrast)]
    held = dict(list(mine.groupby("measure")))
    none = mine.iloc[:0]
    texts = held.get(TEXTS, none)
    out = {
        f"texts_{outcome.replace(' ', '_')}": float(n)
        for outcome, n in zip(texts["item"], texts["value"], strict=True)
    }
    gaps, sizes, flips, net = (
        items(held.get(name, none), prior=False) for name in (GAP, GAP_ABS, FLIPS, NET_FLIPS)
    )
    if len(sizes):
        out |= {"all_gap_abs": float(sizes["value"].mean()), "all_words": -float(sizes["covariate"].mean())}
    if len(flips):
        out["all_flips"] = float(flips["value"].mean())
    placebo = rows[(rows["axis"] == PLACEBO) & (rows["measure"] == GAP_ABS) & rows["value"].notna()]
    if len(placebo):
        out["placebo_words"] = -float(placebo["covariate"].mean())
    if contrast == ANY:
        return out
    for group, part in gaps.groupby("group"):
        out |= {f"gap_original_{group}": float(part["value"].mean()), f"n_original_{group}": float(len(part))}
    if len(net):
        gained, lost = int((net["value"] > 0).sum()), int((net["value"] < 0).sum())
        out |= {"only_first": float(gained), "only_second": float(lost)}
        if net["cluster_a"].is_unique:
            out["mcnemar_p"] = mcnemar(gained, lost)
    return out
