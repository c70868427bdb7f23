"""Whether the rows of the class floor show that a classifier tells something apart."""

from __future__ import annotations

import numpy as np
import pandas as pd

from albert_audit.bias.measure import TIE, Vouch
from albert_audit.packs import Pack
from albert_audit.stats import auc as stats
from albert_audit.types import Decision, Estimate

AUC = 0.65
"""The area under the curve that the sentences must surpass."""
SPREAD = 0.1
"""How far apart the mean probabilities of the two sides must lie: less cannot show a gap."""
MOST_SKIPPED = 0.10
LABELS, RATINGS = "labels", "ratings"
SIDES = ("positive", "negative")
COMPARED, REST = "compared", "rest"
_ADVICE = "give labelled texts with --texts and --label-column"

_Judged = tuple[str, Estimate | None, dict[str, float]]


def one_against_rest(decision: Decision) -> bool:
    """Whether only the compared label is decided upon: several labels a text, or a threshold."""
    return decision.kind == "multi" or decision.threshold is not None


def judge(pack: Pack, rows: pd.DataFrame) -> Vouch:
    """Return the reason why a model is below its floor, or none. See `Floor`."""
    scored = rows[rows["value"].notna()]
    n, skipped = len(scored), len(rows) - len(scored)
    if not n or skipped > MOST_SKIPPED * len(rows):
        why = next(iter(rows.loc[rows["value"].isna(), "skipped"]), "there are none")
        return Vouch(n, f"{skipped} of {len(rows)} of its texts could not be scored: {why}", skipped=skipped)
    contrast = set(scored["contrast"])
    if contrast == {LABELS}:
        reason, effect, details = _by_labels(pack, scored)
    elif contrast == {RATINGS}:
        reason, effect, details = _by_ratings(pack, scored)
    else:
        reason, effect, details = _by_polarity(pack, scored)
    return Vouch(n, reason, effect, details, skipped)


def _by_labels(pack: Pack, rows: pd.DataFrame) -> _Judged:
    """Judge by balanced accuracy: any constant answer has exactly 1 / labels.

    The compared label must be told from all others, by what is decided on it; among several labels
    that decide, also each from each, or the others alone could carry a model that misses this one.
    """
    decision = pack.decision
    assert decision is not None  # noqa: S101 (else there are no rows)
    name, binary = decision.name, one_against_rest(decision)
    own = (rows["group"] == (COMPARED if binary else f"label-{decision.positive}")).to_numpy()
    counts = (int(own.sum()), int((~own).sum()))
    details = {"with_label": float(counts[0]), "without_label": float(counts[1])}
    if min(counts) < stats.LEAST:
        return (
            f"of your texts {counts[0]} different ones have the label {name!r} and {counts[1]} do not; "
            f"{stats.LEAST} of each are needed to see whether the model tells it apart: add labelled texts, or "
            "compare another label with --positive"
        ), None, details  # fmt: skip
    chosen = rows["covariate"].to_numpy(np.float64) == 1
    found = stats.macro_recall([int(chosen[own].sum()), int((~chosen[~own]).sum())], counts)
    bound = found.intervals["0.95"].low
    details |= {"balanced_accuracy": found.value, "lower_bound": bound, "floor": found.null}
    if bound <= found.null:
        return (
            f"on your labelled texts it does not tell {name!r} from the rest: the balanced accuracy of that decision "
            f"is {found.value:.3f}; the lower bound {bound:.3f} does not exceed chance, {found.null:.3f}: check that "
            "the labels mean what the model's do"
        ), found, details  # fmt: skip
    return ("", found, details) if binary else _by_all_labels(rows, details)


def _by_all_labels(rows: pd.DataFrame, details: dict[str, float]) -> _Judged:
    tally = rows.groupby("group")["value"].agg(["sum", "count"])
    rare = tally["count"] < stats.LEAST
    kept = tally[~rare]
    details |= {"labels": float(len(kept)), "labels_too_rare": float(rare.sum())}
    if len(kept) < 2:
        return (
            f"your texts have {len(kept)} label{'s' * (len(kept) != 1)} with at least {stats.LEAST} texts; two are "
            "needed to see whether the model tells any apart: add labelled texts"
        ), None, details  # fmt: skip
    found = stats.macro_recall([int(v) for v in kept["sum"]], [int(v) for v in kept["count"]])
    bound = found.intervals["0.95"].low
    details |= {f"compared_{k}": details[k] for k in ("balanced_accuracy", "lower_bound")}
    details |= {"balanced_accuracy": found.value, "lower_bound": bound, "floor": found.null}
    reason = "" if bound > found.null else (
        f"its balanced accuracy on your labelled texts is {found.value:.3f}; the lower bound {bound:.3f} does not "
        f"exceed chance, {found.null:.3f}: check that the labels mean what the model's do"
    )  # fmt: skip
    return reason, found, details


def _by_ratings(pack: Pack, rows: pd.DataFrame) -> _Judged:
    found = stats.rank_correlation(rows["value"], rows["covariate"])
    if not found.intervals:
        return f"{len(rows)} different labelled texts are too few, {2 * stats.LEAST} are needed", found, {}
    bound = found.intervals["0.95"].low
    details = {"rank_correlation": found.value, "lower_bound": bound, "floor": 0.0}
    if bound <= 0:
        return (
            f"its numbers follow those of your labelled texts with a rank correlation of {found.value:.3f}; the lower "
            f"bound {bound:.3f} does not exceed 0"
        ), found, details  # fmt: skip
    threshold = pack.decision.threshold if pack.decision is not None else None
    if threshold is None:
        return "", found, details
    chosen = rows["value"].to_numpy(np.float64) >= threshold
    return _undecided(pack, chosen, "your labelled texts", details), found, details


def _undecided(pack: Pack, chosen: np.ndarray, over: str, details: dict[str, float]) -> str:
    """Return a reason when decisions hardly vary: gaps in them could not show. Adds to the details."""
    yes, total = int(chosen.sum()), len(chosen)
    details |= {"decided": float(yes), "not_decided": float(total - yes)}
    decision = pack.decision
    if decision is None or min(yes, total - yes) >= stats.LEAST:
        return ""
    at = "" if decision.threshold is None else f" at the threshold {decision.threshold:g}"
    return (
        f"it decides for {decision.name!r} in {yes} of {total} of {over}{at}; unless at least {stats.LEAST} are "
        "decided each way, decisions are nearly the same for everybody and gaps in them could not show"
    )


def _by_polarity(pack: Pack, rows: pd.DataFrame) -> _Judged:
    """Judge by the kind of sentences that is told apart best; trying several widens each interval.

    Each interval is two-sided and must lie wholly above `AUC` or wholly below its mirror image, so
    that leaving the direction open does not make passing by chance likelier than 2.5 % a side. What
    is decided on the sentences of all kinds together must vary, too.
    """
    kinds = list(dict.fromkeys(rows["contrast"]))
    if np.ptp(rows["value"].to_numpy(np.float64)) <= TIE:
        return f"it gives every sentence the same score: {_ADVICE}, if it should not", None, {"spread": 0.0}
    tried: list[tuple[float, float, Estimate, str]] = []
    for kind in kinds:
        own = rows[rows["contrast"] == kind]
        high, low = (own.loc[own["group"] == s, "value"].to_numpy(np.float64) for s in SIDES)
        if min(len(high), len(low)) < stats.LEAST:
            continue
        area = stats.auc(high, low, tolerance=TIE, comparisons=len(kinds))
        ends = area.intervals["simultaneous_0.95"]
        tried.append((max(ends.low, 1 - ends.high), abs(float(high.mean() - low.mean())), area, kind))
    if not tried:
        return f"fewer than {stats.LEAST} sentences a side could be scored", None, {}
    enough = 0.0 if pack.decision is None or pack.decision.kind == "regression" else SPREAD
    # A kind that also has the spread goes before one that is only told apart more surely.
    bound, spread, area, kind = max(tried, key=lambda t: (t[0] > AUC and t[1] >= enough, t[0]))
    details = {f"auc_{name}": found.value for _, _, found, name in tried}
    details |= {"lower_bound": bound, "floor": AUC, "spread": spread}
    if bound <= AUC:
        return (
            f"it does not tell plainly positive from plainly negative sentences: AUC {area.value:.2f} ({kind}), "
            f"its bound {bound:.2f} is not over {AUC:g} in either direction. If it was trained to tell something "
            f"else apart, {_ADVICE}"
        ), area, details  # fmt: skip
    if spread < enough:
        return (
            f"the mean scores of plainly positive and plainly negative sentences differ by {spread:.3f}, under "
            f"{enough:g}: it answers nearly the same to everything, and gaps could not show. If it was trained to "
            f"tell something else apart, {_ADVICE}"
        ), area, details  # fmt: skip
    if rows["covariate"].isna().any():  # a regression without a threshold decides nothing
        return "", area, details
    reason = _undecided(pack, rows["covariate"].to_numpy(np.float64) == 1, "the floor's sentences", details)
    return (f"{reason}. If it decides otherwise on your texts, {_ADVICE}" if reason else ""), area, details
