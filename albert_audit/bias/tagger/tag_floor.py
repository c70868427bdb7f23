"""The floor of taggers: finds common names in plain sentences, and no people where there are none.

A tagger that tags nothing misses all groups' names alike, and one that tags everything finds them
alike: both have gaps of zero for the wrong reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.measure import Floor, Measure, Statistic, Vouch, frame
from albert_audit.bias.tagger import tagging
from albert_audit.bias.tagger.tagging import PERSON, Tagged
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack
from albert_audit.stats import Design, rate_estimate
from albert_audit.types import Ability, Estimate

RECALL, ALARMS = 0.5, 0.1
NAMES, SENTENCES = 150, 40
"""Least cells of a name and a template, and least sentences without a name, that must be scored."""


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return the one contrast, names against none."""
    return [(pack.language, "names-vs-none")]


def statistics(pack: Pack) -> list[Statistic]:
    """Return none: a floor is judged by its own rule, not by a policy."""
    del pack
    return []


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Tag common names in plain sentences, and sentences without a name. See `Measure`.

    Rows, told apart by `group`: ``found`` and ``exact`` (0 or 1) of each template and name;
    ``alarms``, the share of the words of a sentence without a name that are tagged as a person; ``spans``, the
    persons tagged in each of all these texts.
    """
    del rng  # nothing is drawn
    cells = [(t.id, n["id"], *t.fill(name=n["form"])) for t in pack.templates for n in pack.tables["names"]]
    tagged = tagging.read(scorer, [c[2] for c in cells] + [text for _, text in pack.sentences])
    rows: list[dict[str, Any]] = []

    def add(group: str, a: str, b: str, value: float | None, reason: str) -> None:
        rows.append(
            {
                "pack": pack.name, "measure": "tag_floor", "axis": pack.language, "contrast": "names-vs-none",
                "group": group, "item": f"{a}/{b}" if b else a, "cluster_a": a, "cluster_b": b, "role": "probe",
                "covariate": None, "value": value, "unit": "persons" if group == "spans" else "share",
                "skipped": reason,
            }
        )  # fmt: skip

    for (template, name, _, where), one in zip(cells, tagged[: len(cells)], strict=True):
        first, last = one.inside(*where["name"])
        persons = [s for s in one.spans if s.kind == PERSON]
        found = float(any(s.first <= last and s.last >= first for s in persons))
        exact = float(any((s.first, s.last) == (first, last) for s in persons))
        reason = one.reason
        for group, value in (("found", found), ("exact", exact), ("spans", float(len(persons)))):
            add(group, template, name, None if reason else value, reason)
    for (sid, text), one in zip(pack.sentences, tagged[len(cells) :], strict=True):
        share, count = _alarms(text, one)
        for group, value in (("alarms", share), ("spans", count)):
            add(group, sid, "", None if one.reason else value, one.reason)
    return frame(rows)


def _alarms(text: str, tagged: Tagged) -> tuple[float, float]:
    """Return the share of the words (marks left out) tagged as a person, and how many persons."""
    real = {k for k, (s, e) in enumerate(tagged.words) if any(c.isalnum() for c in text[s:e])}
    persons = [s for s in tagged.spans if s.kind == PERSON]
    hit = {k for s in persons for k in range(s.first, s.last + 1)}
    return len(hit & real) / max(len(real), 1), float(len(persons))


def _vouch(pack: Pack, rows: pd.DataFrame) -> Vouch:
    del pack
    scored = rows[rows["value"].notna()]
    found, alarms = (scored[scored["group"] == g] for g in ("found", "alarms"))
    asked = rows[rows["group"].isin(["found", "alarms"])]
    n, skipped = len(found) + len(alarms), int(asked["value"].isna().sum())
    if len(found) < NAMES or len(alarms) < SENTENCES:
        reason = (
            f"{len(found)} names in sentences and {len(alarms)} sentences without one could be scored, {NAMES} and "
            f"{SENTENCES} are needed"
        )
        why = next(iter(rows.loc[rows["value"].isna(), "skipped"]), "")
        return Vouch(n, f"{reason}: {why}" if why else reason, skipped=skipped)
    recall = _rate(found, crossed=True)
    alarm = _rate(alarms, crossed=False)
    low = recall.intervals["0.95"].low if recall.intervals else 0.0
    high = alarm.intervals["0.95"].high if alarm.intervals else 1.0
    precise = _figures(scored)
    details = {
        "recall_lower_bound": low, "recall_floor": RECALL, "false_alarms": alarm.value,
        "false_alarms_upper_bound": high, "false_alarms_ceiling": ALARMS, **precise,
    }  # fmt: skip
    reasons = []
    if low < RECALL:
        reasons.append(
            f"it finds {recall.value:.2f} of common names in plain sentences; the lower bound {low:.2f} is under "
            f"{RECALL:g}"
        )
    if high > ALARMS:
        reasons.append(
            f"it tags {alarm.value:.2f} of the words as people where there are none; the upper bound {high:.2f} is "
            f"over {ALARMS:g}"
        )
    return Vouch(n, "; ".join(reasons), recall, details, skipped)


def _rate(rows: pd.DataFrame, *, crossed: bool) -> Estimate:
    clusters = [list(rows["cluster_a"])] + ([list(rows["cluster_b"])] if crossed else [])
    design = Design.mean(clusters)
    fit = design.fit(rows["value"].to_numpy(np.float64))
    return rate_estimate(fit, n=len(rows), clusters=min(e for _, e in design.counts))


def _figures(scored: pd.DataFrame) -> dict[str, float]:
    """Return precision, recall and F1 over whole spans, sentences without a name included."""
    exact = scored.loc[scored["group"] == "exact", "value"]
    spans = float(scored.loc[scored["group"] == "spans", "value"].sum())
    precision = float(exact.sum()) / spans if spans else 0.0
    recall = float(exact.mean())
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"precision_exact": precision, "recall_exact": recall, "f1_exact": f1}


MEASURE = Measure(
    "tag_floor", (Ability.TAG_LOGITS,), run, contrasts, statistics,
    floor=Floor(
        rows="tag_floor",
        contrast="names-vs-none",
        title="The tagger finds common names, and no people where there are none",
        estimand="share of common names in plain sentences of which some word is tagged as a person",
        unit="share of names",
        judge=_vouch,
    ),
    floored_by="",
)  # fmt: skip
