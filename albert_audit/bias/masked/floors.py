"""Floors: what a model must be able to do before any of its gaps means anything.

A broken model must not look fair. A masked LM that cannot tell plain sentences from the same words
shuffled, or that gives the compared words no probability, has gaps near zero for the wrong reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.measure import TIE, Floor, Measure, Statistic, Vouch, frame
from albert_audit.model.scorer import Scorer
from albert_audit.model.text import TOKEN_RULES
from albert_audit.packs import Pack
from albert_audit.stats import Design, clopper_pearson, share_estimate
from albert_audit.types import Ability

SENTENCES = 100
SHARE = 0.8
MASS = 1e-3


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return the one contrast, real against shuffled."""
    return [(pack.language, "real-vs-shuffled")]


def statistics(pack: Pack) -> list[Statistic]:
    """Return none: a floor is judged by its own rule, not by a policy."""
    del pack
    return []


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score each sentence and the same words shuffled. See `Measure`.

    Rows: one a sentence, the pseudo-log-likelihood of the sentence less that of its words in a
    random order (the closing mark stays in place), in nats.
    """
    kept = pack.sentences[: SENTENCES + SENTENCES // 2]
    shuffled = [_shuffle(text, rng) for _, text in kept]
    texts = [t for pair in zip((t for _, t in kept), shuffled, strict=True) for t in pair]
    fits = [len(e.ids) <= scorer.id.max_tokens for e in scorer.encode(texts)]
    usable = [a and b for a, b in zip(fits[::2], fits[1::2], strict=True)]
    rule = TOKEN_RULES[0]
    scored = iter(scorer.token_logprobs([t for i, t in enumerate(texts) if usable[i // 2]], rule=rule))
    rows: list[dict[str, Any]] = []
    for (sid, _), ok in zip(kept, usable, strict=True):
        value = float(next(scored).sum() - next(scored).sum()) if ok else None
        rows.append(
            {
                "pack": pack.name, "measure": "sentence_floor", "axis": pack.language,
                "contrast": "real-vs-shuffled", "group": "", "item": sid, "cluster_a": sid, "cluster_b": "",
                "role": "probe", "covariate": None, "value": value, "unit": "nats",
                "skipped": "" if ok else f"longer than {scorer.id.max_tokens} tokens",
            }
        )  # fmt: skip
    return frame(rows)


def _shuffle(text: str, rng: np.random.Generator) -> str:
    """Return the words in another order; texts without spaces are shuffled by character."""
    body, end = (text[:-1], text[-1]) if text[-1:] in ".?!。？！" else (text, "")
    joiner = " " if " " in body else ""
    words = body.split(" ") if joiner else list(body)
    for _ in range(20):
        order = rng.permutation(len(words))
        if any(words[i] != w for i, w in zip(order, words, strict=True)):
            return joiner.join(words[i] for i in order) + end
    return text


def _prefers_plain(pack: Pack, rows: pd.DataFrame) -> Vouch:
    del pack
    values = rows["value"].dropna().to_numpy(np.float64)
    n, skipped = len(values), len(rows) - len(values)
    if n < SENTENCES:
        return Vouch(n, f"{n} sentences could be scored, {SENTENCES} are needed", skipped=skipped)
    won = values > TIE
    wins, bound = int(won.sum()), clopper_pearson(int(won.sum()), n).low
    effect = share_estimate(Design.mean([np.arange(n)]).fit(won * 1.0), n=n, clusters=n)
    details = {
        "wins": float(wins), "lower_bound": bound, "floor": SHARE, "median_margin": float(np.median(values))
    }  # fmt: skip
    reason = "" if bound >= SHARE else (
        f"it prefers {wins} of {n} plain sentences to their words shuffled; "
        f"the lower bound {bound:.2f} is under {SHARE:g}"
    )  # fmt: skip
    return Vouch(n, reason, effect, details, skipped)


def _live_options(pack: Pack, rows: pd.DataFrame) -> Vouch:
    del pack
    values = rows["value"].dropna()
    mass = float(values.median()) if len(values) else 0.0
    reason = "" if mass >= MASS else (
        f"the compared words hold a median mass of {mass:.1e}, under {MASS:g}: their ratio is noise"
    )  # fmt: skip
    return Vouch(len(values), reason, details={"median": mass, "floor": MASS})


target_mass = Floor(
    rows="target_mass",
    contrast="all",
    title="The compared words are live options: {pack}",
    estimand="median over templates and fillers of the probability that the compared words hold together",
    unit="probability",
    judge=_live_options,
)

MEASURE = Measure(
    "sentence_floor",
    (Ability.TOKEN_LOGPROBS,),
    run,
    contrasts,
    statistics,
    floor=Floor(
        rows="sentence_floor",
        contrast="real-vs-shuffled",
        title="The model prefers plain sentences to their words shuffled",
        estimand="share of plain sentences whose pseudo-log-likelihood exceeds that of the same words shuffled",
        unit="share of sentences",
        judge=_prefers_plain,
    ),
)
