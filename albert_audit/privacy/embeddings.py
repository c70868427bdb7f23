"""What the stored vector of a text gives away of it: rare words, groups of people, who wrote it.

The threat is somebody who holds vectors (a search index, a cache, a backup), not the texts. So a
vector is what such stores hold: the mean of the last layer's states over the text's tokens (`POOL`),
for every head. Probes are linear and cross-fitted over whole persons; an encoder of the same shape
with random weights answers the same questions.

References
----------
Song and Raghunathan (2020), Information Leakage in Embedding Models, CCS: words, attributes and
authorship from sentence vectors. Morris et al. (2023), Text Embeddings Reveal (Almost) As Much As
Text, EMNLP: what a fitted decoder reads.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from albert_audit.model.text import word_spans
from albert_audit.privacy.blind import blind_scores
from albert_audit.redact import canonical
from albert_audit.stats.placements import by_record

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.intp]

POOL = "mean"
MODEL, RANDOM, TEXT = "model", "random", "text"
FOLDS = 5
WORDS = 50
COMMONEST = 0.10
"""A word in more texts than this share is not rare; the rarest `WORDS` are asked for."""
LEAST_USERS, LEAST_SHARE = 5, 0.01
"""Persons, and their share, that must use a word in the other folds: a probe of fewer learns nothing."""
STRENGTHS = tuple(10.0**k for k in range(-1, 5))
"""Ridge penalties on standardised columns; one is chosen by generalised cross-validation inside the fold.

A fixed one would favour one of two encoders whose vectors are spread differently.
"""


@dataclass(frozen=True, eq=False)
class Cells:
    """Held-out texts and what was asked of each: whether a word is in it, or it is of a group.

    Attributes
    ----------
    texts, strata : array of int, shape (c,)
        The text of a cell; cells of one stratum (one fold, one target) were scored by one probe and
        are compared with each other only.
    targets : tuple of str, length c
    holds : array of bool, shape (c,)
        The truth.
    scores : dict
        For `MODEL`, `RANDOM` and where it was made `TEXT`, shape (c,); higher means that it holds.
    shares : array, shape (c,)
        How often it holds in the texts that the probe was fitted on.
    """

    texts: Codes
    strata: Codes
    targets: tuple[str, ...]
    holds: Bools
    scores: dict[str, Array]
    shares: Array

    @property
    def compared(self) -> Bools:
        """Whether a cell's stratum has both kinds, so that there is something to tell apart."""
        if not len(self.strata):
            return np.zeros(0, bool)
        size = np.bincount(self.strata)
        held = np.bincount(self.strata, self.holds, len(size))
        return np.asarray(((held > 0) & (held < size))[self.strata])

    def ranks(self, source: str) -> Array:
        """Return the mid-rank of each cell in its stratum, from 0 to 1: probes fitted apart do not compare."""
        out = np.empty(len(self.strata))
        for s in np.unique(self.strata):
            where = np.flatnonzero(self.strata == s)
            out[where] = (rankdata(self.scores[source][where]) - 0.5) / len(where)
        return out

    def placements(self, source: str) -> Array:
        """Return what each compared cell adds to the area, for `albert_audit.stats.placements.area_of`.

        The area is the mean over the cells that hold of the share of their stratum's other cells that
        score lower. The others' deviations are weighted by how many cells that hold they meet.
        """
        there = self.compared
        scores, holds, strata = self.scores[source][there], self.holds[there], self.strata[there]
        out = np.empty(len(scores))
        for s in np.unique(strata):
            where = np.flatnonzero(strata == s)
            inside = holds[where]
            part = by_record(scores[where], inside)
            area = part[inside].mean()
            part[~inside] = (part[~inside] - area) * (inside.sum() / (~inside).sum())
            out[where] = part
        area, ratio = out[holds].mean(), (~holds).sum() / holds.sum()
        out[~holds] = area + out[~holds] * ratio
        return out

    def f1(self, source: str) -> tuple[float, float]:
        """Return the micro F1 of a source, and what as many calls at random would have.

        A stratum's highest cells are called, as many as the share in the fitted texts lets expect and
        at least one: no threshold is chosen on what it is judged by.
        """
        hits = lucky = called = 0.0
        for s in np.unique(self.strata):
            where = np.flatnonzero(self.strata == s)
            calls = max(round(float(self.shares[where[0]]) * len(where)), 1)
            top = where[np.argsort(-self.scores[source][where], kind="stable")[:calls]]
            hits += self.holds[top].sum()
            lucky += calls * self.holds[where].mean()
            called += calls
        total = called + self.holds.sum()
        return float(2 * hits / total), float(2 * lucky / total)


# --- probes ---------------------------------------------------------------------------------


def rare_words(
    texts: Sequence[str], vectors: Mapping[str, Array], persons: Sequence[str], seed: int
) -> Cells:
    """Ask the vector of each text whether rare words stand in it.

    Parameters
    ----------
    texts, persons : sequence of str, length n
    vectors : mapping
        For each source (n, d).
    seed : int
        Of the folds and of ties between words.

    Returns
    -------
    Cells
        Targets are words. Both the words and their probes are chosen without the fold they are asked of.
    """
    words = [words_of(t) for t in texts]
    names = np.asarray(persons)
    where = deal(persons, FOLDS, seed)
    parts: list[tuple[Codes, str, Bools, dict[str, Array], float]] = []
    for k in range(FOLDS):
        held = np.flatnonzero(where == k)
        rest = np.flatnonzero(where != k)
        asked = chosen([words[i] for i in rest], [str(names[i]) for i in rest], seed)
        if not asked or not len(held):
            continue
        truth = np.array([[w in found for w in asked] for found in words])
        scores = {name: probe(v[rest], truth[rest], v[held]) for name, v in vectors.items()}
        for j, word in enumerate(asked):
            own = {name: s[:, j] for name, s in scores.items()}
            parts.append((held, word, truth[held, j], own, float(truth[rest, j].mean())))
    return _joined(parts, list(vectors))


def attribute(
    texts: Sequence[str], of_group: Bools, vectors: Mapping[str, Array], persons: Sequence[str], seed: int
) -> Cells:
    """Ask the vector of each text, and the text itself, whether it is of a group.

    Parameters
    ----------
    of_group : array of bool, shape (n,)

    Returns
    -------
    Cells
        One target. The text's own score is that of `albert_audit.privacy.blind.blind_scores`.

    Raises
    ------
    ValueError
        When a side has fewer persons than there are folds.
    """
    blind = blind_scores(texts, None, of_group, persons, seed=seed, folds=FOLDS)
    parts = []
    for k in range(FOLDS):
        held, rest = np.flatnonzero(blind.folds == k), np.flatnonzero(blind.folds != k)
        if not len(held):
            continue
        scores = {
            name: probe(v[rest], of_group[rest, None], v[held])[:, 0] for name, v in vectors.items()
        } | {TEXT: blind.scores[held]}
        parts.append((held, "", of_group[held], scores, float(of_group[rest].mean())))
    return _joined(parts, [*vectors, TEXT])


def probe(fitted: Array, truth: Bools, asked: Array) -> Array:
    """Fit a linear probe (n, d) to (n, t) and return its scores (m, t) for other vectors (m, d)."""
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(fitted)
    model = RidgeCV(alphas=STRENGTHS).fit(scale.transform(fitted), truth.astype(np.float64))
    return np.asarray(model.predict(scale.transform(asked)), np.float64).reshape(len(asked), -1)


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text without case; an ideograph is a word, marks are none."""
    return frozenset(filter(None, (canonical(text[a:b]) for a, b in word_spans(text))))


def chosen(words: Sequence[frozenset[str]], persons: Sequence[str], seed: int) -> list[str]:
    """Return the rarest words that enough persons use; ties in an order drawn by the seed."""
    texts = Counter(w for found in words for w in found)
    users = Counter(w for _, w in {(p, w) for found, p in zip(words, persons, strict=True) for w in found})
    least = max(LEAST_USERS, LEAST_SHARE * len(set(persons)))
    fit = [w for w, c in texts.items() if c <= COMMONEST * len(words) and users[w] >= least]
    return sorted(fit, key=lambda w: (texts[w], hashlib.sha256(f"{seed}/{w}".encode()).digest()))[:WORDS]


def deal(persons: Sequence[str], folds: int, seed: int) -> Codes:
    """Return the fold of each text: whole persons, the largest first, each to the smallest fold."""
    sizes = Counter(persons)
    names = list(sizes)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    held, of = [0] * folds, {}
    for name in sorted(shuffled, key=lambda p: -sizes[p]):
        k = held.index(min(held))
        of[name], held[k] = k, held[k] + sizes[name]
    return np.array([of[p] for p in persons], np.intp)


def _joined(
    parts: Sequence[tuple[Codes, str, Bools, dict[str, Array], float]], sources: Sequence[str]
) -> Cells:
    if not parts:
        none = np.zeros(0, np.intp)
        return Cells(none, none, (), none.astype(bool), {s: np.zeros(0) for s in sources}, np.zeros(0))
    return Cells(
        np.concatenate([held for held, *_ in parts]),
        np.repeat(np.arange(len(parts)), [len(held) for held, *_ in parts]),
        tuple(word for held, word, *_ in parts for _ in held),
        np.concatenate([truth for _, _, truth, *_ in parts]),
        {s: np.concatenate([scores[s] for *_, scores, _ in parts]) for s in sources},
        np.concatenate([np.full(len(held), share) for held, *_, share in parts]),
    )
