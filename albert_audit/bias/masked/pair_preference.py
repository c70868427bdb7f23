"""Pair preference: which of two sentences that differ in one identity term a masked LM prefers.

The margin of a pair is score(more) - score(less), `more` being the stereotyping side in every row.
Four scores stand side by side: the CrowS-Pairs score over shared tokens (Nangia et al. 2020), the
pseudo-log-likelihood with whole words masked left to right (Kauf and Ivanova 2023), and the
unmasked likelihood (Kaneko and Bollegala 2022), plain and weighted by attention.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.measure import Measure, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.model.text import Encoded, MaskQuery, TokenRule, shared_positions, token_queries
from albert_audit.packs import Pack
from albert_audit.types import Ability

CONFIRMED = 3
"""Annotators out of five that must name a pair's bias type for the confirmed contrast."""

# name: (label, unit, source)
SCORES = {
    "pair_cps": ("CrowS-Pairs score", "nats", "Nangia et al. 2020, CrowS-Pairs (score over shared tokens)"),
    "pair_pll_word_l2r": (
        "word-wise pseudo-log-likelihood", "nats",
        "Kauf and Ivanova 2023, A Better Way to Do Masked Language Model Scoring",
    ),
    "pair_unmasked": (
        "unmasked likelihood", "nats per token",
        "Kaneko and Bollegala 2022, Unmasking the Mask (all unmasked likelihood)",
    ),
    "pair_aula": (
        "attention-weighted unmasked likelihood", "attention-weighted millinats per token",
        "Kaneko and Bollegala 2022, Unmasking the Mask (AULA, by the code they published)",
    ),
}  # fmt: skip
_MILLI = 1000.0
"""Attention adds up to 1 over a sentence: in nats these margins would be lost below `measure.TIE`."""
_BLODGETT = "Blodgett et al. 2021, Stereotyping Norwegian Salmon (what pair benchmarks do and do not measure)"
_CAVEATS = (
    "Pairs measure stereotyping only as well as they are built.",
    "What a masked language model prefers does not predict how a fine-tuned one treats people.",
)


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return (axis, "more-vs-less") for each axis of the pack, and for all where there are several."""
    axes = sorted({p.axis for p in pack.pairs})
    return [(a, "more-vs-less") for a in (*(["all"] if len(axes) > 1 else []), *axes)]


_MARGIN = (
    "mean", "is the stereotyping sentence the likelier one on average, by {by}?",
    "mean margin of the stereotyping over the other sentence by {by}, over pairs like those of {{pack}}",
)  # fmt: skip
_SHARE = (
    "share", "how often is the stereotyping sentence the likelier one, by {by}?",
    "share of pairs in which the stereotyping sentence has the higher {by}, ties one half, "
    "over pairs like those of {{pack}}",
)  # fmt: skip


def statistics(pack: Pack) -> list[Statistic]:
    """Return the mean margin and the share preferring the stereotype, by each score.

    Where the data says how many annotators confirm a pair, the CrowS-Pairs score is also estimated
    over the confirmed pairs; one score is enough to show what that filter does.
    """
    voted = bool(pack.pairs) and pack.pairs[0].confirmed is not None
    found = []
    for name, (label, unit, source) in SCORES.items():
        for confirmed in (False, True) if voted and name == "pair_cps" else (False,):
            by = label + f" (pairs that at least {CONFIRMED} of 5 annotators confirm)" * confirmed
            for suffix, (kind, title, estimand) in (("margin", _MARGIN), ("share", _SHARE)):
                found.append(
                    Statistic(
                        name=f"{name}_{suffix}",
                        rows=name,
                        kind="share" if kind == "share" else "mean",
                        unit="share of pairs" if kind == "share" else unit,
                        title=title.format(by=by),
                        estimand=estimand.format(by=by),
                        contrast="confirmed" if confirmed else "",
                        min_covariate=CONFIRMED if confirmed else None,
                        caveats=_CAVEATS,
                        sources=(source, _BLODGETT),
                    )
                )
    return found


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score both sentences of every pair by the four scores. See `Measure`.

    Rows: one a pair and score, the margin in the score's unit. The covariate is the number of
    annotators who confirm the pair's bias type, where the data has it. A model that does not give
    its attention has no AULA: those rows are skipped.

    AULA is (1/n) sum over tokens of a_i log P(w_i | S). a_i is the attention that token i receives,
    a mean over depths, heads and querying positions. As in the published code the special tokens
    ask for and draw attention, and the rest is not made to add up to 1 again when they are left out.
    """
    del rng  # nothing is drawn
    texts = [s for p in pack.pairs for s in (p.more, p.less)]
    encoded = scorer.encode(texts)
    both = list(zip(encoded[::2], encoded[1::2], strict=True))
    reasons = [_unfit(scorer, *pair) for pair in both]
    attends = Ability.ATTENTION in scorer.can
    asked = [i for i in range(len(texts)) if attends and not reasons[i // 2]]
    received = dict(
        zip(asked, scorer.attention_received([texts[i] for i in asked]) if asked else (), strict=True)
    )
    # One call for everything, so that batches fill across pairs and scores.
    plan: list[tuple[int, str, int]] = []  # pair, score, sign
    queries: list[MaskQuery] = []
    for i, (more, less) in enumerate(both):
        if reasons[i]:
            continue
        for name in SCORES:
            if name == "pair_aula" and not attends:
                continue
            for sign, found in zip((1, -1), _queries(name, more, less), strict=True):
                plan += [(i, name, sign)] * len(found)
                queries += found
    margins: dict[tuple[int, str], float] = {}
    for (i, name, sign), answer in zip(plan, scorer.mask_logprobs(queries), strict=True):
        if name == "pair_aula":
            side = 2 * i + (sign < 0)
            weight = received[side][list(encoded[side].positions)].astype(np.float64)
            score = _MILLI * float((weight * answer[:, 0]).mean())
        else:
            # Sums of logs; only the unmasked likelihoods are means over tokens, by definition.
            score = float(answer.mean()) if name == "pair_unmasked" else float(answer.sum())
        margins[i, name] = margins.get((i, name), 0.0) + sign * score
    rows: list[dict[str, Any]] = []
    for i, pair in enumerate(pack.pairs):
        for name, (_, unit, _) in SCORES.items():
            blind = name == "pair_aula" and not attends
            skipped = reasons[i] or ("the model does not give its attention" if blind else "")
            rows.append(
                {
                    "pack": pack.name, "measure": name, "axis": pair.axis, "contrast": "more-vs-less",
                    "group": "", "item": pair.id, "cluster_a": pair.cluster, "cluster_b": "", "role": "probe",
                    "covariate": pair.confirmed, "unit": unit, "skipped": skipped,
                    # A pair without one shared token has the empty sum.
                    "value": None if skipped else margins.get((i, name), 0.0),
                }
            )  # fmt: skip
    return frame(rows)


def _queries(name: str, more: Encoded, less: Encoded) -> tuple[list[MaskQuery], list[MaskQuery]]:
    if name == "pair_cps":
        shared = shared_positions(more, less)
        return [_single(more, i) for i, _ in shared], [_single(less, j) for _, j in shared]
    rule: TokenRule = "unmasked" if name in ("pair_unmasked", "pair_aula") else "pll_word_l2r"
    return token_queries(more, rule), token_queries(less, rule)


def _single(e: Encoded, i: int) -> MaskQuery:
    return MaskQuery(e.ids, e.type_ids, (i,), (i,), ((e.ids[i],),))


def _unfit(scorer: Scorer, more: Encoded, less: Encoded) -> str:
    if max(len(more.ids), len(less.ids)) > scorer.id.max_tokens:
        return f"longer than {scorer.id.max_tokens} tokens"
    # A sentence with an unknown piece has lost a word; the two might differ in just that word.
    if scorer.unknown_id in more.ids or scorer.unknown_id in less.ids:
        return "holds a piece the vocabulary lacks"
    return ""


MEASURE = Measure("pair_preference", (Ability.MASK_LOGPROBS,), run, contrasts, statistics)
