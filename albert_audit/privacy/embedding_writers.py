"""Whether the stored vectors of texts give away that one person wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from albert_audit.privacy.embeddings import TEXT, Array, Bools, Codes
from albert_audit.redact import canonical

LEAST_WRITTEN, MOST_WRITTEN = 4, 8
"""Texts that a person must have to be told by; at most so many, drawn at random, are compared."""
LEAST_WRITERS, MOST_WRITERS = 5, 200


@dataclass(frozen=True, eq=False)
class Writers:
    """How alike texts of one person are, beside texts of different persons.

    Attributes
    ----------
    texts, persons : array of int, shape (n,)
        Places of the compared texts, and the number of each one's person, from 0 to g - 1.
    beats : dict
        For each source (n, g): over the pairs of another text of the same person and a text of person
        q, how often the first is more alike, ties one half.
    """

    texts: Codes
    persons: Codes
    beats: dict[str, Array]

    def by_text(self, source: str, keep: Bools | None = None) -> Array:
        """Return for each text how often another one of its person is more alike than one of somebody else."""
        sizes = np.bincount(self.persons)
        others = sizes if keep is None else sizes * keep
        own = sizes[self.persons]
        there = others.sum() - others[self.persons]
        return np.asarray(self.beats[source] @ (others > 0) / ((own - 1) * np.maximum(there, 1)))

    def area(self, source: str, keep: Bools | None = None) -> float:
        """Return the mean over persons, each counting the same; of some persons only, with `keep` (g,)."""
        sizes = np.bincount(self.persons)
        means = np.bincount(self.persons, self.by_text(source, keep)) / sizes
        return float(means.mean() if keep is None else means[keep].mean())


def writers(texts: Sequence[str], persons: Sequence[str], seed: int) -> tuple[Codes, Codes]:
    """Return places (n,) and numbers of persons (n,) of the texts that are compared.

    A person's copies of one text count once; a text that two persons have is nobody's.
    """
    owners: dict[str, set[str]] = {}
    forms = [canonical(t) or t for t in texts]
    for form, person in zip(forms, persons, strict=True):
        owners.setdefault(form, set()).add(person)
    own: dict[str, dict[str, int]] = {}
    for i, (form, person) in enumerate(zip(forms, persons, strict=True)):
        if person and len(owners[form]) == 1:
            own.setdefault(person, {}).setdefault(form, i)
    rng = np.random.default_rng(seed)
    able = [list(places.values()) for places in own.values() if len(places) >= LEAST_WRITTEN]
    able = [able[i] for i in sorted(rng.permutation(len(able))[:MOST_WRITERS])]
    drawn = [sorted(rng.permutation(places)[:MOST_WRITTEN].tolist()) for places in able]
    numbers = np.repeat(np.arange(len(drawn)), [len(d) for d in drawn])
    return np.array([i for d in drawn for i in d], np.intp), np.asarray(numbers, np.intp)


def alike(places: Codes, persons: Codes, texts: Sequence[str], vectors: Mapping[str, Array]) -> Writers:
    """Compare the texts by the cosine of their centred vectors, and of their TF-IDF weights.

    Nothing is fitted to who wrote what. The centre and the weights are those of all given texts, as
    somebody who holds them all would take them.
    """
    cosines = {name: _cosines(v - v.mean(axis=0), places) for name, v in vectors.items()}
    cosines[TEXT] = _tfidf(texts, places)
    count = int(persons.max()) + 1
    beats = {}
    for name, cosine in cosines.items():
        won = np.zeros((len(places), count))
        for i, row in enumerate(np.round(cosine, 12)):
            same = np.flatnonzero(persons == persons[i])
            others = row[same[same != i], None]
            wins = ((others > row) + 0.5 * (others == row)).sum(axis=0)
            won[i] = np.bincount(persons, wins, count)
            won[i, persons[i]] = 0.0
        beats[name] = won
    return Writers(places, persons, beats)


def _cosines(vectors: Array, places: Codes) -> Array:
    own = vectors[places]
    norms = np.linalg.norm(own, axis=1, keepdims=True)
    unit = np.divide(own, norms, out=np.zeros_like(own), where=norms > 0)
    return np.asarray(unit @ unit.T)


def _tfidf(texts: Sequence[str], places: Codes) -> Array:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Runs of characters tell writers better than words do, and need none: Chinese works too.
    options = {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True, "lowercase": False}
    weights = TfidfVectorizer(**options).fit_transform(texts)[places]
    return np.asarray((weights @ weights.T).toarray(), np.float64)
