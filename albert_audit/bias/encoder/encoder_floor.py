"""Encoder floor: an encoder must tell plain sentences apart and know a light paraphrase again.

An encoder that gives every text the same vector, or any vector at all, has associations near zero
for the wrong reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.encoder.association import unfit, unit
from albert_audit.bias.measure import Floor, Measure, Statistic, Vouch, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack
from albert_audit.stats import Design, clopper_pearson, share_estimate
from albert_audit.types import Ability, PackError

SENTENCES = 100
OTHERS = 9
"""Other sentences' paraphrases that each paraphrase competes with: chance is 1 in 10."""
SHARE = 0.5
ALIKE = 0.999
"""Mean cosine between sentences above which the encoder has collapsed."""
TIE = 1e-6
"""Differences of cosines up to this are ties: float32 says no more."""


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return the one contrast, the own paraphrase against others.

    Raises
    ------
    PackError
        When a sentence has no paraphrase, or the other way round.
    """
    own, other = {i for i, _ in pack.sentences}, {r["id"] for r in pack.tables["paraphrases"]}
    if odd := sorted(own ^ other):
        raise PackError(
            f"expected the same ids among sentences and paraphrases, found {odd[0]!r} in one of them only",
            "give each sentence one paraphrase, under its id",
        )
    return [(pack.language, "own-vs-other")]


def statistics(pack: Pack) -> list[Statistic]:
    """Return none: a floor is judged by its own rule, not by a policy."""
    del pack
    return []


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Compare each sentence with its paraphrase and with those of nine others. See `Measure`.

    Rows: one a sentence, its cosine with its own paraphrase less the largest with the others', by
    the mean over the last layer. The covariate is its mean cosine with the other sentences.
    """
    again = {r["id"]: r["text"] for r in pack.tables["paraphrases"]}
    reasons = unfit(scorer, [t for i, text in pack.sentences for t in (text, again[i])])
    why = {i: reasons[2 * k] or reasons[2 * k + 1] for k, (i, _) in enumerate(pack.sentences)}
    fit = [(i, text) for i, text in pack.sentences if not why[i]]
    found: dict[str, tuple[float, float]] = {}
    if len(fit) > OTHERS:
        texts = [text for _, text in fit] + [again[i] for i, _ in fit]
        vectors = unit(scorer.embeddings(texts, pool="mean"))
        plain, changed = vectors[: len(fit)], vectors[len(fit) :]
        cosines, among = plain @ changed.T, plain @ plain.T
        for k, (i, _) in enumerate(fit):
            rest = np.delete(np.arange(len(fit)), k)
            drawn = rng.choice(rest, OTHERS, replace=False)
            found[i] = float(cosines[k, k] - cosines[k, drawn].max()), float(among[k, rest].mean())
    rows: list[dict[str, Any]] = []
    for i, _ in pack.sentences:
        value, alike = found.get(i, (None, None))
        rows.append(
            {
                "pack": pack.name, "measure": "encoder_floor", "axis": pack.language, "contrast": "own-vs-other",
                "group": "", "item": i, "cluster_a": i, "cluster_b": "", "role": "probe", "covariate": alike,
                "value": value, "unit": "cosine", "skipped": why[i] or ("" if i in found else "too few sentences"),
            }
        )  # fmt: skip
    return frame(rows)


def _tells_apart(pack: Pack, rows: pd.DataFrame) -> Vouch:
    del pack
    scored = rows[rows["value"].notna()]
    n, skipped = len(scored), len(rows) - len(scored)
    if n < SENTENCES:
        return Vouch(n, f"{n} sentences could be scored, {SENTENCES} are needed", skipped=skipped)
    won = (scored["value"] > TIE).to_numpy()
    wins, bound = int(won.sum()), clopper_pearson(int(won.sum()), n).low
    alike = float(scored["covariate"].mean())
    effect = share_estimate(
        Design.mean([np.arange(n)]).fit(won * 1.0), n=n, clusters=n, null=1 / (OTHERS + 1)
    )
    details = {
        "wins": float(wins),
        "lower_bound": bound,
        "floor": SHARE,
        "mean_cosine": alike,
        "most_cosine": ALIKE,
    }
    reason = ""
    if alike > ALIKE:
        reason = (
            f"any two sentences have a mean cosine of {alike:.4f}, over {ALIKE:g}: the encoder has collapsed"
        )
    elif bound < SHARE:
        reason = (
            f"it finds the paraphrase of {wins} of {n} sentences among ten; the lower bound {bound:.2f} is under {SHARE:g}"
        )  # fmt: skip
    return Vouch(n, reason, effect, details, skipped)


MEASURE = Measure(
    "encoder_floor",
    (Ability.EMBEDDINGS,),
    run,
    contrasts,
    statistics,
    floor=Floor(
        rows="encoder_floor",
        contrast="own-vs-other",
        title="The encoder tells plain sentences apart and knows a paraphrase again",
        estimand="share of plain sentences whose vector is nearer to that of their own light paraphrase than to those "
        "of nine other sentences",
        unit="share of sentences",
        judge=_tells_apart,
    ),
)
