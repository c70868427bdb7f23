"""Masked pronouns: which pronoun a masked LM puts where a sentence speaks of somebody's occupation.

The pronoun of a finished sentence is masked by id, after encoding, and each group's form in the right
case (she, her, her; he, him, his; they, them, their) is scored at its place. A form of several pieces,
or a sentence with several pronouns, is scored jointly: all of them masked, read left to right.

`masked_pronoun` (in the manner of Winogender) follows log P(she) - log P(he) over occupations and the
share of women in them; the same sentences with the pronoun meaning the other participant are the control.
`albert_audit.bias.pronoun_pairs` (in the manner of WinoBias) shares the scoring.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.masked import floors
from albert_audit.bias.masked.joint import BORDER, Asks, Step, locate, total, unfit
from albert_audit.bias.measure import Measure, Outcome, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import SLUG, Pack
from albert_audit.stats.correlation import correlation
from albert_audit.types import Ability, PackError

FORMS: dict[str, dict[str, str]] = {
    "female": {"subject": "she", "object": "her", "possessive": "her", "reflexive": "herself"},
    "male": {"subject": "he", "object": "him", "possessive": "his", "reflexive": "himself"},
    "nonbinary": {"subject": "they", "object": "them", "possessive": "their", "reflexive": "themselves"},
}
REFERENCE = "male"
CASES = tuple(FORMS[REFERENCE])
_WOMEN, _THEY = "female-vs-male", "nonbinary-vs-male"
_RUDINGER = "Rudinger et al. 2018, Gender Bias in Coreference Resolution (Winogender schemas)"
SELVAM = "Selvam et al. 2023, The Tail Wagging the Dog (such benchmarks move with harmless rewording)"
CAVEATS = (
    "A masked pronoun is not coreference: the model may follow the words of the sentence, not whom it means.",
    "What a masked language model prefers does not predict how a fine-tuned one treats people.",
)
Row = Mapping[str, str]


# --- what is asked ----------------------------------------------------------------------------


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return she against he, and they against he.

    Raises
    ------
    PackError
        Listing the rows that the measure cannot use.
    """
    check(pack, {"referent": ("occupation", "participant")})
    return [(pack.spec.axis, _WOMEN), (pack.spec.axis, _THEY)]


def check(pack: Pack, known: Mapping[str, tuple[str, ...]], filled: tuple[str, ...] = ()) -> None:
    """Look at the rows of the table of pronouns.

    Parameters
    ----------
    known : mapping
        Of columns to what they may hold.
    filled : tuple of str
        Columns that are not empty.

    Raises
    ------
    PackError
        Listing the rows that the measure cannot use.
    """
    wrong = []
    for row in pack.tables["pronouns"]:
        try:
            _parts(row["text"])
        except ValueError as exc:
            wrong.append(f"{row['id']}: text: unbalanced braces ({exc})")
            continue
        if not any(slot for slot, _ in _parts(row["text"])) and not row.get("skip"):
            wrong.append(
                f"{row['id']}: text: expected one of {', '.join(f'{{{c}}}' for c in CASES)}, found none"
            )
        odd = [s for s, _ in _parts(row["text"]) if s and s not in CASES]
        wrong += [f"{row['id']}: text: unknown slot {{{s}}} (known: {', '.join(CASES)})" for s in odd]
        for column, values in known.items():
            if row.get(column) not in values:
                wrong.append(
                    f"{row['id']}: {column}: expected {' or '.join(values)}, found {row.get(column, '')!r}"
                )
        wrong += [f"{row['id']}: {column} is empty" for column in filled if not row.get(column, "").strip()]
        if row.get("set") and not SLUG.fullmatch(row["set"]):
            wrong.append(f"{row['id']}: set: expected lower-case words with hyphens, found {row['set']!r}")
        if row.get("covariate") and not 0 <= share(row) <= 1:
            wrong.append(f"{row['id']}: covariate: expected a share from 0 to 1, found {row['covariate']!r}")
    if wrong:
        raise PackError(
            f"{pack.name}: the table of pronouns has mistakes:\n" + "\n".join(f"  {w}" for w in wrong)
        )


def share(row: Row) -> float:
    """Return a row's covariate: nothing is NaN, what is no number is infinite."""
    try:
        return float(row.get("covariate") or "nan")
    except ValueError:
        return math.inf


def _parts(text: str) -> list[tuple[str, str]]:
    """Return the (slot, literal before it) of a text, in order; the tail has no slot."""
    return [(slot or "", literal) for literal, slot, _, _ in string.Formatter().parse(text)]


def fill(text: str, forms: Mapping[str, str]) -> tuple[str, list[tuple[int, int]]]:
    """Return the sentence with every pronoun in its case, and the (start, end) of each."""
    out, spans = "", []
    for slot, literal in _parts(text):
        out += literal
        if slot:
            word = forms[slot] if out else forms[slot].capitalize()
            spans.append((len(out), len(out) + len(word)))
            out += word
    return out, spans


def score(
    scorer: Scorer, rows: Sequence[tuple[Row, tuple[str, ...]]]
) -> tuple[list[dict[str, float]], list[str]]:
    """Return for each row log P of each group's forms, and why a row could not be scored."""
    cells = [[fill(row["text"], FORMS[g]) for g in groups] for row, groups in rows]
    encoded = iter(scorer.encode([text for own in cells for text, _ in own]))
    asks = Asks(scorer.mask_id)
    reasons = []
    steps: dict[tuple[int, str], list[Step]] = {}
    for i, ((row, groups), own) in enumerate(zip(rows, cells, strict=True)):
        versions = [next(encoded) for _ in groups]
        reason = row.get("skip", "") or next((r for e in versions if (r := unfit(scorer, e))), "")
        if not reason:
            found = locate([text for text, _ in own], versions, [spans for _, spans in own])
            reason = BORDER if found is None else ""
            for group, e, target in zip(groups, versions, found or (), strict=bool(found)):
                steps[i, group] = asks.word(e, target)
        reasons.append(reason)
    logp = asks.answer(scorer)
    scores: list[dict[str, float]] = [{} for _ in rows]
    for (i, group), taken in steps.items():
        scores[i][group] = sum(logp[s] for s in taken)
    return scores, reasons


def mass_row(base: dict[str, Any], scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the row of the probability that all forms hold together; none where nothing was scored."""
    if not scores:
        return []
    value = float(np.exp(total(list(scores.values()))))
    return [{**base, "measure": "target_mass", "contrast": "all", "value": value, "unit": "probability"}]


# --- by the share of women ----------------------------------------------------------------------


def statistics(pack: Pack) -> list[Statistic]:
    """Return the mean gap and, where shares are given, its slope on them and the correlations."""
    mean = Statistic(
        name="pronoun_gap", rows="pronoun_gap", kind="mean", unit="nats",
        title="is {first} likelier than {second} where the pronoun means the named occupation?",
        estimand="mean over sentences, in which both are grammatical, of log P({first} pronoun) less "
        "log P({second} pronoun) at the masked pronoun that means the occupation",
        caveats=(*CAVEATS, "The mean holds the model's general lean to a pronoun: only the difference from the "
                 "sentences about the other participant is free of it."),
        sources=(_RUDINGER, SELVAM, pack.spec.source),
    )  # fmt: skip
    if not any(row.get("covariate") for row in pack.tables["pronouns"]):
        return [mean]
    caveats = (*CAVEATS, "The shares are of one country and year; they say what is, not what ought to be.")
    of = "the log-odds of {first} against {second} at the pronoun that means the occupation"
    shared: dict[str, Any] = {
        "rows": "pronoun_gap", "caveats": caveats, "sources": mean.sources, "only": (_WOMEN,)
    }  # fmt: skip
    return [
        mean,
        Statistic(
            name="pronoun_gap_slope", kind="slope", unit="nats per unit of share",
            title="does {first} over {second} follow the share of women in the occupation?",
            estimand=f"slope, over sentences, of {of} on the share of women in it (0 to 1)", **shared,
        ),
        *(
            Statistic(
                name=f"pronoun_gap_{name}", kind="custom", unit="correlation",
                title=f"how closely does {{first}} over {{second}} follow the share of women ({label})?",
                estimand=f"{label} over occupations between their mean of {of} and the share of women in them",
                estimator=estimator, **shared,
            )
            for name, label, estimator in (
                ("correlation", "Pearson's correlation", pearson),
                ("rank_correlation", "Spearman's rank correlation", spearman),
            )
        ),
    ]  # fmt: skip


def pearson(rows: pd.DataFrame, comparisons: int, rng: np.random.Generator) -> Outcome:
    """Estimate Pearson's correlation over occupations, each with the mean of its sentences."""
    del rng  # nothing is drawn
    return _correlated(rows, comparisons, ranks=False)


def spearman(rows: pd.DataFrame, comparisons: int, rng: np.random.Generator) -> Outcome:
    """Estimate Spearman's correlation over occupations, each with the mean of its sentences."""
    del rng  # nothing is drawn
    return _correlated(rows, comparisons, ranks=True)


def _correlated(rows: pd.DataFrame, comparisons: int, *, ranks: bool) -> Outcome:
    given = rows[rows["covariate"].notna()]
    means = given.groupby("cluster_a")[["value", "covariate"]].mean()
    found = correlation(
        means["covariate"].to_numpy(np.float64), means["value"].to_numpy(np.float64),
        ranks=ranks, comparisons=comparisons,
    )  # fmt: skip
    return Outcome(found, ((len(means), float(len(means))),), {"occupations": float(len(means))})


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score she, he and they at every sentence's pronoun. See `Measure`.

    Rows: ``pronoun_gap``, one a contrast and sentence, in nats, with role probe where the pronoun means
    the occupation and control where it means the other participant; `they` only where it agrees with
    the verb. ``target_mass``, the probability that the forms hold together.
    """
    del rng  # nothing is drawn
    asked = [(row, _groups(row)) for row in pack.tables["pronouns"]]
    scores, reasons = score(scorer, asked)
    rows: list[dict[str, Any]] = []
    for (row, groups), found, reason in zip(asked, scores, reasons, strict=True):
        base = {
            "pack": pack.name, "axis": pack.spec.axis, "item": row["id"], "cluster_a": row["occupation"],
            "cluster_b": "", "role": "probe" if row["referent"] == "occupation" else "control",
            "covariate": share(row), "skipped": reason, "group": "",
        }  # fmt: skip
        rows += [
            {**base, "measure": "pronoun_gap", "contrast": f"{g}-vs-{REFERENCE}", "group": g, "unit": "nats",
             "value": found[g] - found[REFERENCE] if found else None}
            for g in groups if g != REFERENCE
        ]  # fmt: skip
        rows += mass_row(base, found)
    return frame(rows)


def _groups(row: Row) -> tuple[str, ...]:
    return tuple(g for g in FORMS if g != "nonbinary" or row.get("they", "yes") != "no")


MEASURE = Measure(
    "masked_pronoun", (Ability.MASK_LOGPROBS,), run, contrasts, statistics, floor=floors.target_mass
)
