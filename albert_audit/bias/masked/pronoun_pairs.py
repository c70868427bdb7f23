"""Pairs of masked pronouns: whether the stereotypical pronoun is the likelier one.

Two sentences of one schema name the same two occupations; the pronoun means the one in the first
sentence and the other in the second, and the stereotypes of the two are opposite (the manner of
WinoBias). The margin is log P(stereotypical pronoun) - log P(the other), averaged over the two, so that
a general lean to one pronoun cancels, and so does whatever a mere mention of the two occupations does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.masked import floors
from albert_audit.bias.masked.masked_pronoun import CAVEATS, REFERENCE, SELVAM, Row, check, mass_row, score
from albert_audit.bias.measure import Measure, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack
from albert_audit.types import Ability

_ZHAO = "Zhao et al. 2018, Gender Bias in Coreference Resolution: Evaluation and Debiasing Methods (WinoBias)"


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return the one contrast, the stereotypical pronoun against the other.

    Raises
    ------
    PackError
        Listing the rows that the measure cannot use.
    """
    check(pack, {"stereotype": ("female", "male")}, filled=("schema", "set", "other"))
    return [(pack.spec.axis, "pro-vs-anti")]


def statistics(pack: Pack) -> list[Statistic]:
    """Return for each set of schemas the mean margin and the share that prefers the stereotype."""
    found = []
    for name in sorted({row["set"] for row in pack.tables["pronouns"]}):
        shared: dict[str, Any] = {
            "rows": f"pronoun_margin_{name}", "contrast": name, "crossed": True, "caveats": CAVEATS,
            "sources": (_ZHAO, SELVAM, pack.spec.source),
        }  # fmt: skip
        found += [
            Statistic(
                name="pronoun_margin", kind="mean", unit="nats",
                title=f"is the stereotypical pronoun the likelier one on average ({name})?",
                estimand="mean over schemas of log P(stereotypical pronoun) less log P(the other), averaged over "
                f"the schema's two sentences, whose stereotypes are opposite ({name})", **shared,
            ),
            Statistic(
                name="pronoun_share", kind="share", unit="share of schemas",
                title=f"in how many schemas is the stereotypical pronoun the likelier one ({name})?",
                estimand="share of schemas in which the stereotypical pronouns are the likelier ones, the two "
                f"sentences taken together, ties one half ({name})", **shared,
            ),
        ]  # fmt: skip
    return found


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score she and he at the pronoun of both sentences of every schema. See `Measure`.

    Rows: ``pronoun_margin_<set>``, one a schema, the mean margin of its two sentences in nats, with the
    occupation stereotyped as men's and the one stereotyped as women's as crossed clusters;
    ``target_mass``, one a sentence.
    """
    del rng  # nothing is drawn
    asked = [(row, ("female", REFERENCE)) for row in pack.tables["pronouns"]]
    scores, reasons = score(scorer, asked)
    schemas: dict[tuple[str, str], list[int]] = {}
    rows: list[dict[str, Any]] = []
    for i, (row, _) in enumerate(asked):
        schemas.setdefault((row["set"], row["schema"]), []).append(i)
        rows += mass_row(_base(pack, row, row["id"]), scores[i])
    for (name, schema), members in schemas.items():
        first = asked[members[0]][0]
        reason = next((reasons[i] for i in members if reasons[i]), "") or _unpaired(
            [asked[i][0] for i in members]
        )
        margins = [
            (1 if asked[i][0]["stereotype"] == "female" else -1) * (scores[i]["female"] - scores[i][REFERENCE])
            for i in members if not reason
        ]  # fmt: skip
        rows.append(
            {
                **_base(pack, first, f"{name}/{schema}"), "measure": f"pronoun_margin_{name}",
                "contrast": "pro-vs-anti", "unit": "nats", "skipped": reason,
                "value": None if reason else float(np.mean(margins)),
            }
        )  # fmt: skip
    return frame(rows)


def _base(pack: Pack, row: Row, item: str) -> dict[str, Any]:
    sides = (
        (row["other"], row["occupation"])
        if row["stereotype"] == "female"
        else (row["occupation"], row["other"])
    )
    return {
        "pack": pack.name, "axis": pack.spec.axis, "group": "", "item": item, "cluster_a": sides[0],
        "cluster_b": sides[1], "role": "probe", "covariate": None, "skipped": "",
    }  # fmt: skip


def _unpaired(rows: list[Row]) -> str:
    """Return why the two sentences are no schema; one alone would keep the lean to one pronoun."""
    if len(rows) != 2 or {r["stereotype"] for r in rows} != {"female", "male"}:
        return "not two sentences with opposite stereotypes: a lean to one pronoun would not cancel"
    if rows[0]["occupation"] != rows[1]["other"] or rows[1]["occupation"] != rows[0]["other"]:
        return "the two sentences do not name the same two occupations"
    return ""


MEASURE = Measure(
    "masked_pronoun_pairs", (Ability.MASK_LOGPROBS,), run, contrasts, statistics, floor=floors.target_mass
)
