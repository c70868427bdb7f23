"""What vectors give away becomes findings: the model's beside a random encoder's. They only inform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.measure import frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Given
from albert_audit.privacy import embedding_writers, embeddings
from albert_audit.privacy.embedding_estimates import (
    CAVEATS,
    NAME,
    area,
    bare_finding,
    by_person,
    evident,
    judged,
    person_gap,
    role_of,
    row,
    shown,
    told,
)
from albert_audit.privacy.embeddings import FOLDS, MODEL, POOL, RANDOM, TEXT, Array, Bools
from albert_audit.redact import Key, canonical
from albert_audit.types import Clusters, Finding, Status

LEAST_TEXTS = 200
"""Fewer texts than this are not asked."""
WORDS_ID = f"{NAME}/rare_words/all/model-vs-random"
AUTHOR_ID = f"{NAME}/author/all/same-vs-different"
_LEAST_PERSONS = 2 * FOLDS
_TOO_LONG = "the text is too long for the model, or has no token"
_WHAT = f"the {POOL} of the last layer's states over a text's tokens"


@dataclass(frozen=True, eq=False)
class _Asked:
    """The texts that have a vector, and those that have none."""

    given: Given
    fine: Bools
    vectors: dict[str, Array]
    persons: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        return [t.text for t, ok in zip(self.given.texts, self.fine, strict=True) if ok]

    @property
    def ids(self) -> list[str]:
        return [t.id for t, ok in zip(self.given.texts, self.fine, strict=True) if ok]

    def groups(self, axis: str) -> Any:
        return np.array(
            [dict(t.groups).get(axis, "") for t, ok in zip(self.given.texts, self.fine, strict=True) if ok]
        )


def ids(given: Given) -> list[str]:
    """Return the ids of the findings that will be made; none with fewer than `LEAST_TEXTS` texts.

    An axis of two groups has one finding, on the first of them: the other's would be the same.
    """
    if len(given.texts) < LEAST_TEXTS:
        return []
    found = [WORDS_ID]
    for axis in given.axes:
        names = sorted({g for t in given.texts for a, g in t.groups if a == axis})
        asked = names if len(names) > 2 else names[: len(names) - 1]
        found += [f"{NAME}/attribute/{axis}/{group}" for group in asked]
    _, persons = embedding_writers.writers([t.text for t in given.texts], [t.person for t in given.texts], 0)
    enough = len(np.unique(persons)) >= embedding_writers.LEAST_WRITERS
    return [*found, AUTHOR_ID] if enough else found


def run(
    scorer: Scorer, random_scorer: Scorer, given: Given, key: Key, seed: int
) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """Ask the vectors of the auditor's texts what they give away.

    Parameters
    ----------
    scorer, random_scorer : Scorer
        Of the audited model, and of one with the same configuration and tokenizer and random weights.
    given : Given
        At least `LEAST_TEXTS` texts; fewer make no finding.
    key : Key
        Of the digests of persons and words.
    seed : int
        Of the folds and draws.

    Returns
    -------
    DataFrame, tuple of Finding
        Rows with the columns of `albert_audit.bias.measure.COLUMNS`, without text or words; `cluster_b` is
        the digest of a word, or where the score comes from. Findings in the order of `ids`; none gates.
    """
    wanted = ids(given)
    if not wanted:
        return frame([]), ()
    asked = _asked(scorer, random_scorer, given)
    rows: list[dict[str, Any]] = []
    found = []
    for identity in wanted:
        _, measure, axis, contrast = identity.split("/")
        if measure == "rare_words":
            made, own = _of_words(asked, key, seed, len(wanted))
        elif measure == "attribute":
            made, own = _of_group(asked, axis, contrast, key, seed, len(wanted))
        else:
            made, own = _of_writers(asked, key, seed, len(wanted))
        found.append(made)
        rows += own
        rows += [
            row(measure, axis, contrast, t.id, skipped=_TOO_LONG)
            for t, ok in zip(given.texts, asked.fine, strict=True)
            if not ok and (measure != "attribute" or axis in dict(t.groups))
        ]
    return frame(rows), tuple(found)


def lost(identity: str, reason: str) -> Finding:
    """Return the finding of a check that crashed."""
    return bare_finding(identity, "not estimated", Status.ERROR, reason)


def _asked(scorer: Scorer, random_scorer: Scorer, given: Given) -> _Asked:
    encoded = scorer.encode([t.text for t in given.texts])
    fine = np.array([bool(e.positions) and len(e.ids) <= scorer.id.max_tokens for e in encoded])
    asked = _Asked(given, fine, {}, _people(given, fine))
    for name, one in ((MODEL, scorer), (RANDOM, random_scorer)):
        vectors = one.embeddings(asked.texts, pool=POOL).astype(np.float64)
        if not np.isfinite(vectors).all():
            raise ValueError(f"expected finite vectors from the {name} encoder")
        asked.vectors[name] = vectors
    return asked


def _people(given: Given, fine: Bools) -> tuple[str, ...]:
    """Return whose each text is; persons who share a text are one, lest a copy is asked of its own probe."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    first: dict[str, str] = {}
    own = [f"person {t.person}" if t.person else f"text {t.id}" for t in given.texts]
    for text, person in zip(given.texts, own, strict=True):
        same = first.setdefault(canonical(text.text) or text.text, person)
        parent[root(person)] = root(same)
    return tuple(root(p) for p, ok in zip(own, fine, strict=True) if ok)


# --- the three questions --------------------------------------------------------------------

_Made = tuple[Finding, list[dict[str, Any]]]


def _of_words(asked: _Asked, key: Key, seed: int, comparisons: int) -> _Made:
    bare = bare_finding(
        WORDS_ID,
        f"How often a text that holds one of the {embeddings.WORDS} rarest words of at least "
        f"{embeddings.LEAST_USERS} persons ({embeddings.LEAST_SHARE:.0%} where that is more) scores higher for it than "
        f"a text that does not, by a linear probe of {_WHAT}, fitted on other persons' texts; one half is chance. Over "
        "these words; persons are the sample",
        n_skipped=int((~asked.fine).sum()),
    )
    if len(set(asked.persons)) < _LEAST_PERSONS:
        return bare.model_copy(update={"reason": "too few persons"}), []
    cells = embeddings.rare_words(asked.texts, asked.vectors, asked.persons, seed)
    if not cells.compared.any():
        return bare.model_copy(update={"reason": "no word is rare enough and used by enough persons"}), []
    f1 = {name: cells.f1(name) for name in (MODEL, RANDOM)}
    finding = told(bare, cells, asked.persons, comparisons).model_copy(
        update={"details": {
            "words": float(len(set(cells.targets))), "occurrences": float((cells.holds & cells.compared).sum()),
            "f1": f1[MODEL][0], "f1_random_encoder": f1[RANDOM][0], "f1_chance": f1[MODEL][1], "f1_majority": 0.0,
        }}
    )  # fmt: skip
    there = np.flatnonzero(cells.compared & cells.holds)
    inside = cells.holds[cells.compared]
    words = {w: key.digest(w, purpose="word") for w in {cells.targets[c] for c in there}}
    who = {p: key.digest(p, purpose="person") for p in set(asked.persons)}
    rows = [
        row(
            "rare_words", "all", "model-vs-random", asked.ids[cells.texts[c]], float(value),
            who[asked.persons[cells.texts[c]]], words[cells.targets[c]], role_of(source), "holds the word",
        )
        for source in (MODEL, RANDOM)
        for c, value in zip(there, cells.placements(source)[inside], strict=True)
    ]  # fmt: skip
    return evident(finding, rows), rows


def _of_group(asked: _Asked, axis: str, group: str, key: Key, seed: int, comparisons: int) -> _Made:
    groups = asked.groups(axis)
    there = np.flatnonzero(groups != "")
    of_group = groups[there] == group
    persons = [asked.persons[i] for i in there]
    bare = bare_finding(
        f"{NAME}/attribute/{axis}/{group}",
        f"How often a text of the group {group} scores higher than one of another group of {axis}, by a linear probe of "
        f"{_WHAT}, fitted on other persons' texts; one half is chance",
        n=len(there), n_skipped=sum(axis in dict(t.groups) for t in asked.given.texts) - len(there),
    )  # fmt: skip
    sides = [len({p for p, g in zip(persons, of_group, strict=True) if g == side}) for side in (True, False)]
    if min(sides) < _LEAST_PERSONS:
        reason = f"{sides[0]} persons in the group and {sides[1]} outside; {_LEAST_PERSONS} are needed"
        return bare.model_copy(update={"reason": reason}), []
    texts = [asked.texts[i] for i in there]
    vectors = {name: v[there] for name, v in asked.vectors.items()}
    cells = embeddings.attribute(texts, of_group, vectors, persons, seed)
    if not cells.compared.any():
        return bare.model_copy(update={"reason": "no fold has texts in the group and outside"}), []
    finding = told(bare, cells, persons, comparisons)
    beyond = area(cells, persons, [MODEL, TEXT], comparisons)
    finding = finding.model_copy(
        update={
            "details": {"in_group": float(of_group.sum())}
            | shown("text", area(cells, persons, [TEXT], 1)) | shown("less_text", beyond),
            "caveats": (*CAVEATS, "What can be told from a text can be told from a vector that is true to it: see the text's own area."),
        }
    )  # fmt: skip
    who = {p: key.digest(p, purpose="person") for p in set(persons)}
    rows = [
        row(
            "attribute", axis, group, asked.ids[there[i]], float(value), who[persons[i]],
            "" if source == MODEL else source, role_of(source), "in the group" if holds else "outside",
        )
        for source in cells.scores
        for i, value, holds in zip(cells.texts, cells.ranks(source), cells.holds, strict=True)
    ]  # fmt: skip
    return evident(finding, rows), rows


def _of_writers(asked: _Asked, key: Key, seed: int, comparisons: int) -> _Made:
    own = [t.person for t, ok in zip(asked.given.texts, asked.fine, strict=True) if ok]
    places, persons = embedding_writers.writers(asked.texts, own, seed)
    bare = bare_finding(
        AUTHOR_ID,
        f"How often another text of the same person is more alike than a text of somebody else, by the cosine of "
        f"{_WHAT}; one half is chance. Mean over persons of at least {embedding_writers.LEAST_WRITTEN} texts",
        n=len(places), n_skipped=int((~asked.fine).sum()),
    )  # fmt: skip
    count = len(np.unique(persons))
    if count < embedding_writers.LEAST_WRITERS:
        return bare.model_copy(update={"reason": f"{count} persons with enough texts that have a vector"}), []
    found = embedding_writers.alike(places, persons, asked.texts, asked.vectors)
    effect, control, text = (by_person(found, s, comparisons) for s in (MODEL, RANDOM, TEXT))
    difference, less_text = (person_gap(found, s, comparisons) for s in (RANDOM, TEXT))
    finding = judged(bare, effect, control, difference).model_copy(
        update={
            "clusters": (Clusters(name="person", count=count, effective=float(count)),),
            "details": {"persons": float(count)} | shown("text", text) | shown("less_text", less_text),
            "caveats": (*CAVEATS, "Persons write about things of their own: what tells them may be the topic, as in the text's own area."),
        }
    )  # fmt: skip
    rows = [
        row(
            "author", "all", "same-vs-different", asked.ids[i], float(value),
            key.digest(f"person {own[i]}", purpose="person"), "" if source == MODEL else source, role_of(source), "",
        )
        for source in found.beats
        for i, value in zip(places, found.by_text(source), strict=True)
    ]  # fmt: skip
    return evident(finding, rows), rows
