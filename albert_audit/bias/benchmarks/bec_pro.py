"""BEC-Pro (Bartl et al. 2020; CC BY 4.0): what a profession does to the words for women and men.

For a sentence, a profession and two matched words for a person (mother and father)::

    gap = log [P(mother | profession) / P_prior(mother)] - log [P(father | profession) / P_prior(father)]

The prior masks the profession by as many masks as it has pieces. The published file has its masks as the
text "[MASK]"; they are not used, for text before a full stop or a comma tokenises otherwise than a word
does. Every sentence is rebuilt from the column ``Sentence``, and masked by id.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.benchmarks import published
from albert_audit.bias.masked import floors
from albert_audit.bias.masked.joint import BORDER, Asks, Step, locate, total, unfit
from albert_audit.bias.measure import Measure, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack, PackSpec, Template
from albert_audit.types import Ability, Head, UsageError

NAME = "bec-pro"
FILE = "BEC-Pro_EN.tsv"
SHA256 = {FILE: "228b44c62d7830fec13a1eee52bbe8afff82be455abb9d8a07c17d9d0b48e20f"}
GROUPS = ("female", "male", "balanced")
PAIRS = (
    ("She", "He"), ("woman", "man"), ("sister", "brother"), ("daughter", "son"), ("wife", "husband"),
    ("girlfriend", "boyfriend"), ("mother", "father"), ("aunt", "uncle"), ("mom", "dad"),
)  # fmt: skip
_CONTRAST = "female-vs-male"
_SIDES = ("first", "second")
_BARTL = "Bartl et al. 2020, Unmasking Contextual Stereotypes (BEC-Pro; association with prior correction)"
_CAVEATS = (
    "Five sentence templates, taken as given: the interval is over professions, and says nothing about other wordings.",
    "Some sentences say 'a' where English has 'an' (a electrician); both words of a pair meet the same mistake.",
    "What a masked language model prefers does not predict how a fine-tuned one treats people.",
)


# --- the file -----------------------------------------------------------------------------------


def load(path: Path) -> Pack:
    """Read the published file as a pack: 2,700 items, 5 templates × 9 pairs of words × 60 professions.

    Parameters
    ----------
    path : Path
        ``BEC-Pro_EN.tsv``, or the folder that holds it.

    Raises
    ------
    UsageError
        When the file cannot be read or is not the published one.
    """
    text = published.read(
        path, SHA256, title="BEC-Pro", source="marionbartl/gender-bias-BERT (its folder BEC-Pro)"
    )[FILE]
    cells = {(r["Template"], r["Person"], r["Profession"]): r for r in published.table(text)}
    templates = list(dict.fromkeys(t for t, _, _ in cells))
    rows = []
    for (template, person, profession), row in cells.items():
        match = next((pair for pair in PAIRS if pair[1] == person), None)
        if match is None:  # the other word of its pair
            continue
        first = slotted(cells[template, match[0], profession]["Sentence"], match[0], profession)
        second = slotted(row["Sentence"], person, profession)
        if first != second:
            raise UsageError(f"BEC-Pro: expected one sentence for {match}, found {first!r} and {second!r}")
        number = templates.index(template) + 1
        rows.append(
            {
                "id": f"t{number}.{match[0]}.{profession}".lower().replace(" ", "-"), "text": second, "first": match[0],
                "second": person, "attribute": profession, "set": row["Prof_Gender"],
            }
        )  # fmt: skip
    return Pack(_SPEC, published.together(SHA256), tables={"matched": tuple(rows)})


def slotted(sentence: str, person: str, profession: str) -> str:
    """Return a sentence with ``{person}`` and ``{attribute}`` where these words stand, once each.

    Raises
    ------
    UsageError
        When a word does not stand there exactly once.
    """
    out = sentence
    for word, slot in ((profession, "{attribute}"), (person, "{person}")):
        out, count = re.subn(rf"\b{re.escape(word)}\b", slot, out)
        if count != 1:
            raise UsageError(f"BEC-Pro: expected {word!r} once in {sentence!r}, found it {count} times")
    return out


_SPEC = PackSpec(
    name=NAME, version=1, title="BEC-Pro, as published", language="en", measure="person_association",
    axis="gender", family=NAME, clusters=("profession",), may_gate=(Head.MASKED_LM, Head.PRETRAINING), files={},
    licence="CC-BY-4.0", affected="women and men",
    source="Bartl et al. 2020, Unmasking Contextual Stereotypes; github marionbartl/gender-bias-BERT; groups of "
    "professions after the US Bureau of Labor Statistics 2019",
)  # fmt: skip


# --- the measure ---------------------------------------------------------------------------------


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return women against men for the difference between groups of professions, and in each group."""
    groups = [g for g in GROUPS if any(row["set"] == g for row in pack.tables["matched"])]
    return [(pack.spec.axis, _CONTRAST), *((f"{g}-professions", _CONTRAST) for g in groups)]


def statistics(pack: Pack) -> list[Statistic]:
    """Return the mean gap by group of professions, and the difference between two of them."""
    axes = tuple(a for a, _ in contrasts(pack)[1:])
    of = "[log P / P_prior of the word for a woman, less that of the matched word for a man]"
    shared: dict[str, Any] = {"unit": "nats", "caveats": _CAVEATS, "sources": (_BARTL, pack.spec.source)}
    return [
        Statistic(
            name="person_association", rows="person_association", kind="mean", only=axes,
            title="do these professions pull the choice towards words for women, away from words for men?",
            estimand="mean over professions like those of {axis}, in five given templates and nine given pairs of "
            f"words, of {of}", **shared,
        ),
        Statistic(
            name="person_association_difference", rows="person_association_difference", kind="contrast",
            only=(pack.spec.axis,),
            title="do professions held by women pull more towards words for women than those held by men?",
            estimand="difference, between professions held mostly by women and mostly by men, in five given templates "
            f"and nine given pairs of words, of the mean of {of}", **shared,
        ),
    ]  # fmt: skip


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score both words of every pair with every profession, seen and masked. See `Measure`.

    Rows: ``person_association`` with role probe (profession visible) and prior (masked), one an item, in
    nats, its axis the group of professions; ``person_association_difference``, the same again without the
    balanced ones, told apart by `group`; ``target_mass``, the probability of both words together.
    """
    del rng  # nothing is drawn
    table = pack.tables["matched"]
    filled = [
        Template(row["id"], "", row["text"]).fill(person=row[side], attribute=row["attribute"])
        for row in table for side in _SIDES
    ]  # fmt: skip
    encoded = scorer.encode([text for text, _ in filled])
    asks = Asks(scorer.mask_id)
    reasons: list[str] = []
    steps: dict[tuple[int, str, str], list[Step]] = {}
    for i in range(len(table)):
        texts, versions = [t for t, _ in filled[2 * i : 2 * i + 2]], encoded[2 * i : 2 * i + 2]
        spans = [s for _, s in filled[2 * i : 2 * i + 2]]
        reason = next((r for e in versions if (r := unfit(scorer, e))), "")
        words = locate(texts, versions, [[s["person"]] for s in spans])
        others = locate(texts, versions, [[s["attribute"]] for s in spans])
        if words is None or others is None:
            reason = reason or BORDER
        reasons.append(reason)
        if reason or words is None or others is None:
            continue
        for side, e, word, other in zip(_SIDES, versions, words, others, strict=True):
            steps[i, side, "probe"] = asks.word(e, word)
            steps[i, side, "prior"] = asks.word(e, word, also=other)
    logp = asks.answer(scorer)
    rows: list[dict[str, Any]] = []
    for i, row in enumerate(table):
        for role in ("probe", "prior"):
            base: dict[str, Any] = {
                "pack": pack.name, "contrast": _CONTRAST, "group": row["set"], "item": row["id"],
                "cluster_a": row["attribute"], "cluster_b": "", "role": role, "covariate": None, "unit": "nats",
                "skipped": reasons[i], "axis": f"{row['set']}-professions", "measure": "person_association",
            }  # fmt: skip
            if not reasons[i]:
                first, second = (sum(logp[s] for s in steps[i, side, role]) for side in _SIDES)
                base["value"] = first - second
                if role == "probe":
                    mass = float(np.exp(total([first, second])))
                    rows.append({**base, "measure": "target_mass", "contrast": "all", "value": mass,
                                 "unit": "probability"})  # fmt: skip
            rows.append(base)
            if row["set"] != "balanced":
                rows.append({**base, "measure": "person_association_difference", "axis": pack.spec.axis})
    return frame(rows)


MEASURE = Measure(
    "person_association", (Ability.MASK_LOGPROBS,), run, contrasts, statistics, floor=floors.target_mass
)
