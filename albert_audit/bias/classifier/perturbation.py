"""Perturbation gaps: whether small slips in a text upset a classifier more for one group than another.

A text is changed in ways that leave its meaning: spelling (two letters swapped, one dropped, one hit
beside its key), case (all upper, all lower) and punctuation (taken out, added). What counts is the drop
in correctness, right before less right after, and the difference of that drop between two groups.
A change that the model cannot see (case, with a tokenizer that lower-cases) is no test and is not counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from albert_audit import texts
from albert_audit.bias.classifier import own_texts
from albert_audit.bias.classifier.own_texts import sides
from albert_audit.bias.measure import Measure, Outcome, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack
from albert_audit.stats import net_estimate
from albert_audit.stats.mover import recovered_difference
from albert_audit.types import Ability, Estimate, PackError

MOST = 400
"""Texts a group that are changed; of more, so many are drawn."""
WORDS_A_SLIP = 10
"""One slip for so many words, at least one."""
_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[A-Za-z]{4,}")  # short words carry grammar and, as pronouns, the group itself
_MARKS = re.compile(r"(?<![^\W\d_])[.,;:!?\"'()]+|[.,;:!?\"'()]+(?![^\W\d_])")  # not inside a word: don't
_UNCHANGED = "the model sees the same tokens"
Change = Callable[[str, np.random.Generator], str]


# --- changes ------------------------------------------------------------------------------------


def _slips(text: str, rng: np.random.Generator, slip: Callable[[str, int, np.random.Generator], str]) -> str:
    """Put slips into words of four letters or more, never at their first letter."""
    words = list(_WORD.finditer(text))
    count = min(len(words), max(1, len(text.split()) // WORDS_A_SLIP))
    for k in sorted(rng.choice(len(words), count, replace=False) if words else [], reverse=True):
        start, end = words[k].span()
        at = int(rng.integers(1, end - start - 1))
        text = text[:start] + slip(text[start:end], at, rng) + text[end:]
    return text


def _swap(word: str, at: int, rng: np.random.Generator) -> str:
    del rng
    different = [i for i in [*range(at, len(word) - 1), *range(at)] if word[i] != word[i + 1] and i > 0]
    i = different[0] if different else at
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def _drop(word: str, at: int, rng: np.random.Generator) -> str:
    del rng
    return word[:at] + word[at + 1 :]


def _beside(word: str, at: int, rng: np.random.Generator) -> str:
    keys = neighbours(word[at].lower())
    key = keys[int(rng.integers(len(keys)))]
    return word[:at] + (key.upper() if word[at].isupper() else key) + word[at + 1 :]


def neighbours(letter: str) -> str:
    """Return the letters beside `letter` in its row of an English keyboard."""
    line = next(line for line in _KEYBOARD if letter in line)
    at = line.index(letter)
    return line[max(at - 1, 0) : at] + line[at + 1 : at + 2]


CHANGES: dict[str, dict[str, Change]] = {
    "typos": {
        "swapped": lambda text, rng: _slips(text, rng, _swap),
        "dropped": lambda text, rng: _slips(text, rng, _drop),
        "beside": lambda text, rng: _slips(text, rng, _beside),
    },
    "casing": {"upper": lambda text, _: text.upper(), "lower": lambda text, _: text.lower()},
    "punctuation": {
        "removed": lambda text, _: " ".join(_MARKS.sub(" ", text).split()) or text,
        "added": lambda text, _: f"{text.rstrip()}{'!' if text.rstrip()[-1:] in '.!?' else '.'}",
    },
}
"""Kind → name → change. The changes of one text are one cluster."""
_SAID = {
    "typos": "a misspelt word",
    "casing": "all capitals or none",
    "punctuation": "missing or added punctuation",
}


# --- the measure ----------------------------------------------------------------------------------


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return each group against the largest, for each column."""
    return own_texts.contrasts(pack, crossed=False)


def statistics(pack: Pack) -> list[Statistic]:
    """Return one statistic a kind of change and axis."""
    return [
        Statistic(
            name=f"perturbation_{kind}", rows=f"perturbation_{kind}", kind="custom", estimator=_drops,
            unit="share of changed texts", only=(axis.name,),
            title=f"does {_SAID[kind]} upset the decision more for {{first}} than for {{second}}?",
            estimand=f"share of right decisions lost to {_SAID[kind]}, less those gained, over the changes that the "
            "model can see: that of {first} texts less that of {second} texts, the largest group of this column",
            caveats=(
                *axis.note,
                *own_texts.odd_texts(pack.given),
                "Slips are made by rule and alike for all; what the groups really write may differ more.",
            ),
        )
        for axis in own_texts.axes(pack, crossed=False)
        for kind in CHANGES
    ]  # fmt: skip


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score texts as they are and changed, in one call. See `Measure`.

    Rows ``perturbation_<kind>``, for each contrast one a text and change: right before less right after
    (-1, 0, 1). Its covariate is how many changes of this kind the model cannot see in this contrast;
    those stand in rows of ``perturbation_unchanged`` and, where there are no others, as skipped.
    """
    if pack.given is None or pack.decision is None:
        raise PackError(f"{pack.name} needs your own texts and a classifier", "give --texts FILE")
    given = texts.matched(pack.given, pack.decision)
    clusters = own_texts.clusters(given.texts)
    # Each text has a stream of its own: another text more or less changes no slip of this one.
    seed = int(rng.integers(2**32))
    axes, drawn = own_texts.axes(pack, crossed=False), rng.permutation(len(given.texts))
    rank = {int(i): k for k, i in enumerate(drawn)}
    members = {
        (axis.name, g): sorted(sorted(places, key=lambda i: rank[i])[:MOST])
        for axis in axes
        for g, places in axis.groups.items()
    }
    used = sorted({i for places in members.values() for i in places})
    changed = [
        (
            i,
            kind,
            name,
            change(given.texts[i].text, np.random.default_rng([seed, *given.texts[i].id.encode()])),
        )
        for i in used
        for kind, changes in CHANGES.items()
        for name, change in changes.items()
    ]
    asked = own_texts.ask(scorer, [given.texts[i].text for i in used] + [c[3] for c in changed])
    owners = [given.texts[i] for i in used] + [given.texts[c[0]] for c in changed]
    right = own_texts.correctness(asked.logits, owners, pack.decision)
    place = {i: k for k, i in enumerate(used)}
    rows: dict[int, list[dict[str, Any]]] = {i: [] for i in used}
    for k, (i, kind, name, _) in enumerate(changed, len(used)):
        same = asked.encoded[k].ids == asked.encoded[place[i]].ids
        value = right[place[i]] - right[k]
        reason = asked.reasons[place[i]] or asked.reasons[k]
        reason = reason or ("" if owners[k].label else "has no label")
        reason = reason or ("" if np.isfinite(value) else "a regression without a threshold decides nothing")
        rows[i].append(
            {
                "measure": "perturbation_unchanged" if same else f"perturbation_{kind}", "name": name,
                "kind": kind, "value": None if same or reason else value, "unit": "change of correctness",
                "skipped": _UNCHANGED if same else reason,
            }
        )  # fmt: skip
    out: list[dict[str, Any]] = []
    for axis in axes:
        for _, contrast in axis.contrasts:
            here = [
                own_texts.row(
                    pack, axis.name, contrast, group, f"{given.texts[i].id}/{r['name']}", clusters[i]
                )
                | {k: v for k, v in r.items() if k != "name"}
                for group in contrast.split("-vs-")
                for i in members[axis.name, group]
                for r in rows[i]
            ]
            out += _counted(here)
    return frame(out)


def _counted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tell each row of a contrast how many changes of its kind the model cannot see."""
    unseen = Counter(r["kind"] for r in rows if r["measure"] == "perturbation_unchanged")
    seen = Counter(r["kind"] for r in rows if r["measure"] != "perturbation_unchanged")
    return [
        {**{k: v for k, v in r.items() if k != "kind"}, "covariate": float(unseen[r["kind"]])}
        | ({} if seen[r["kind"]] else {"measure": f"perturbation_{r['kind']}"})
        for r in rows
    ]


def _drops(rows: pd.DataFrame, comparisons: int, rng: np.random.Generator) -> Outcome:
    """Return the difference of two net drops, each with a width even where nothing dropped."""
    del rng
    both = sides(rows)
    y = rows["value"].to_numpy(np.float64)
    parts: list[Estimate] = []
    details = {"unchanged": float(rows["covariate"].iloc[0])}
    for side, mask, design in zip(("first", "second"), (both.first, both.second), both.parts, strict=True):
        mine = y[mask]
        lost, won = float((mine > 0).mean()), float((mine < 0).mean())
        parts.append(
            net_estimate(
                design.fit(mine), up=lost, down=won, n=len(mine), clusters=design.counts[0][1],
                comparisons=comparisons,
            )
        )  # fmt: skip
        details |= {f"n_{side}": float(len(mine)), f"lost_{side}": lost, f"won_{side}": won}
    found = recovered_difference(parts[0], parts[1], comparisons=comparisons, bound=2.0)
    return Outcome(found, both.design.counts, details)


MEASURE = Measure(
    "perturbation", (Ability.CLASS_LOGITS,), run, contrasts, statistics, floored_by="class_floor"
)
