"""What membership can be told without the model: a classifier of the texts alone, and copies across sets.

Where a classifier that never asks the model separates members from non-members, the two sets differ,
and an attack's success says nothing of what the model remembers (Das, Zhang and Tramèr 2024).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.stats import rankdata

Array = NDArray[np.float64]
Folds = NDArray[np.int64]

FOLDS = 5
STRENGTH = 1.0
"""C of the logistic regression, fixed: chosen by the data it would need folds of its own."""
DEPENDENCE = math.sqrt(2)
"""By how much the standard error of an area of `Blind.scores` exceeds that of independent scores.

Where nothing can be told, the area is a sum over pairs of records of how alike they are, and each pair
stands in it twice: either record helped to score the other. Its variance is then at most twice what
DeLong's formula says. Where much can be told the factor is too wide, on the safe side.
"""
SHINGLE = 4
NEAR = 0.8
"""Two texts are near-duplicates when their sets of 4 characters in a row have this Jaccard index."""
_COLUMNS = 2**18
_DATE = re.compile(r"(?<!\d)(?:1[89]|20)\d\d(?!\d)|(?<!\d)\d{1,2}[-/.月]\d{1,2}(?!\d)")


@dataclass(frozen=True, eq=False)
class Blind:
    """What the classifier said of records it was not fitted on.

    Attributes
    ----------
    scores : array, shape (n,)
        Higher means member: the mid-rank of a record's log-odds within its fold, from 0 to 1.
    folds : array of int, shape (n,)
        The fold in which a record was held out.

    Notes
    -----
    The standard error of an area is to be multiplied by `DEPENDENCE`.
    """

    scores: Array
    folds: Folds


@dataclass(frozen=True)
class Duplicate:
    """A member and a non-member with the same or nearly the same text.

    Attributes
    ----------
    member, non_member : int
        Places in the two sets.
    similarity : float
        The Jaccard index; 1 for texts alike but for case, spaces and punctuation.
    exact : bool
    """

    member: int
    non_member: int
    similarity: float
    exact: bool


def blind_scores(
    texts: Sequence[str],
    labels: Sequence[Hashable] | None,
    member: ArrayLike,
    persons: Sequence[Hashable] | None = None,
    *,
    extra: ArrayLike | None = None,
    seed: int = 0,
    folds: int = FOLDS,
) -> Blind:
    """Score membership from the texts, cross-fitted over whole persons.

    Words and pairs of words, 2 to 4 characters in a row (so that Chinese needs no words), length, and
    the shares of digits, dates, capitals, marks, spaces and non-ASCII; the label; L2 logistic regression. All that
    is estimated, the weights of words and the scales too, is estimated without the fold it is used on.

    Parameters
    ----------
    texts : sequence of str, length n
    labels : sequence, length n, optional
        The records' labels; ratings go to `extra`.
    member : array of bool, shape (n,)
    persons : sequence, length n, optional
        All records of a person lie in one fold. Each record is a person when left out.
    extra : array, shape (n, d), optional
        More numbers known without the model's answers, as the share of unknown pieces.
    seed : int
        Of the folds.
    folds : int

    Returns
    -------
    Blind

    Raises
    ------
    ValueError
        When lengths differ, a number is not finite, or a side has fewer persons than there are folds.

    Notes
    -----
    Ranks within folds, because log-odds of classifiers fitted apart do not compare: pooled as they
    are, a fold with more members than the rest is scored lower, which pulls the area under the null
    below one half.
    """
    is_member = _given(texts, labels, member, persons, folds)
    where = _fold(is_member, list(persons) if persons is not None else list(range(len(texts))), folds, seed)
    words, numbers = _counts(texts), _numbers(texts, labels, extra)
    scores = np.empty(len(texts))
    for k in range(folds):
        held = where == k
        odds = _fitted(words, numbers, is_member, held)
        scores[held] = (rankdata(odds) - 0.5) / len(odds)
    return Blind(scores, where)


def duplicates(members: Sequence[str], non_members: Sequence[str]) -> list[Duplicate]:
    """Return copies across the two sets.

    Every record with a copy on the other side is in at least one pair, with an exact copy if there is
    one; a text that stands a thousand times on both sides makes two thousand pairs, not a million.

    Notes
    -----
    Near copies are found exactly, not by sampling: two sets with a Jaccard index of t share one of
    the rarest ``size - ceil(t · size) + 1`` elements of each (Chaudhuri et al. 2006; Bayardo et al. 2007).
    """
    left, right = [_canonical(t) for t in members], [_canonical(t) for t in non_members]
    sets = {c: frozenset(_shingles(c)) for c in {*left, *right}}
    frequency = Counter(s for found in sets.values() for s in found)
    # Rarest first; ties by the shingle itself, so that both sides are ordered alike.
    rank = {s: i for i, (s, _) in enumerate(sorted(frequency.items(), key=lambda pair: (pair[1], pair[0])))}
    found: dict[tuple[int, int], Duplicate] = {}
    for one, other, flip in ((left, right, False), (right, left, True)):
        for i, j, similarity in _nearest(one, other, sets, rank):
            a, b = (j, i) if flip else (i, j)
            found[a, b] = Duplicate(a, b, similarity, left[a] == right[b])
    return [found[key] for key in sorted(found)]


def copies(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of texts of one set that are copies, or near copies, of each other, the earlier first.

    Of exact copies each is paired with the first; see `duplicates` for what is near.
    """
    plain = [_canonical(t) for t in texts]
    sets = {c: frozenset(_shingles(c)) for c in plain}
    frequency = Counter(s for found in sets.values() for s in found)
    rank = {s: i for i, (s, _) in enumerate(sorted(frequency.items(), key=lambda pair: (pair[1], pair[0])))}
    first: dict[str, int] = {}
    index: dict[str, list[str]] = defaultdict(list)
    out: list[tuple[int, int]] = []
    for i, text in enumerate(plain):
        if text in first:
            out.append((first[text], i))
            continue
        out += [(j, i) for j, _ in _near(text, index, first, sets, rank)]
        first[text] = i
        for s in _rarest(sets[text], rank):
            index[s].append(text)
    return out


# --- the classifier ---------------------------------------------------------------------------


def _given(
    texts: Sequence[str], labels: Sequence[Hashable] | None, member: ArrayLike,
    persons: Sequence[Hashable] | None, folds: int,
) -> NDArray[np.bool_]:  # fmt: skip
    m = np.asarray(member)
    lengths = [len(x) for x in (texts, labels, m, persons) if x is not None]
    if len(set(lengths)) > 1 or m.dtype != np.bool_:
        raise ValueError(f"expected bool and everything of one length, found {lengths} and {m.dtype}")
    names = list(persons) if persons is not None else list(range(len(m)))
    sides = [
        len({p for p, is_member in zip(names, m, strict=True) if is_member == side}) for side in (True, False)
    ]
    if folds < 2 or min(sides) < folds:
        raise ValueError(
            f"expected at least 2 folds and a person a fold on each side, found {folds} folds, {sides[0]} "
            f"persons among members and {sides[1]} among non-members"
        )
    return m


def _fold(member: NDArray[np.bool_], persons: Sequence[Hashable], folds: int, seed: int) -> Folds:
    """Deal whole persons to folds, the largest first, each to the fold with the fewest of its side."""
    counts: dict[Hashable, list[int]] = {}
    for person, is_member in zip(persons, member.tolist(), strict=True):
        counts.setdefault(person, [0, 0])[is_member] += 1
    names = list(counts)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    held = [[0, 0] for _ in range(folds)]
    of: dict[Hashable, int] = {}
    for name in sorted(shuffled, key=lambda p: -sum(counts[p])):
        side = int(counts[name][1] >= counts[name][0])
        k = min(range(folds), key=lambda f: (held[f][side], sum(held[f])))
        of[name] = k
        held[k] = [held[k][0] + counts[name][0], held[k][1] + counts[name][1]]
    return np.array([of[p] for p in persons], np.int64)


def _counts(texts: Sequence[str]) -> list[Any]:
    """Count words and runs of characters. The columns are hashes: they depend on no text."""
    from sklearn.feature_extraction.text import HashingVectorizer

    options = {"n_features": _COLUMNS, "alternate_sign": False, "norm": None}
    words = HashingVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **options)  # noqa: S106
    characters = HashingVectorizer(analyzer="char", ngram_range=(2, 4), lowercase=False, **options)
    return [v.transform(texts) for v in (words, characters)]


def _numbers(texts: Sequence[str], labels: Sequence[Hashable] | None, extra: ArrayLike | None) -> Array:
    columns = [np.array([_shape(t) for t in texts])]
    if labels is not None:
        kinds = list(dict.fromkeys(labels))
        columns.append(np.array([[float(value == kind) for kind in kinds] for value in labels]))
    if extra is not None:
        more = np.asarray(extra, np.float64)
        if more.ndim != 2 or len(more) != len(texts) or not np.isfinite(more).all():
            raise ValueError(f"expected finite numbers of the shape ({len(texts)}, d), found {more.shape}")
        columns.append(more)
    return np.hstack(columns)


def _shape(text: str) -> list[float]:
    size = max(len(text), 1)
    kinds = [
        sum(map(str.isdigit, text)), sum(map(str.isupper, text)), sum(map(str.isspace, text)),
        sum(not (c.isalnum() or c.isspace()) for c in text), sum(not c.isascii() for c in text),
    ]  # fmt: skip
    return [float(np.log1p(len(text))), float(np.log1p(len(_DATE.findall(text)))), *(k / size for k in kinds)]


def _fitted(
    words: Sequence[Any], numbers: Array, member: NDArray[np.bool_], held: NDArray[np.bool_]
) -> Array:
    """Fit on the records that are not held out; return the log-odds of those that are."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train, test = [], []
    for counts in words:
        inside, outside = counts[~held], counts[held]
        kept = np.flatnonzero(np.bincount(inside.indices, minlength=_COLUMNS) > 1)  # hapaxes tell nothing
        if not len(kept):
            continue
        weights = TfidfTransformer(sublinear_tf=True)
        train.append(weights.fit_transform(inside[:, kept]))
        test.append(weights.transform(outside[:, kept]))
    scale = StandardScaler().fit(numbers[~held])
    train.append(sparse.csr_matrix(scale.transform(numbers[~held])))
    test.append(sparse.csr_matrix(scale.transform(numbers[held])))
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000)
    model.fit(sparse.hstack(train, format="csr"), member[~held])
    return np.asarray(model.decision_function(sparse.hstack(test, format="csr")), np.float64)


# --- copies -----------------------------------------------------------------------------------


def _canonical(text: str) -> str:
    """Return letters and digits alone, NFKC and case-folded; a text of marks alone as it stands."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in folded if c.isalnum()) or folded.strip()


def _shingles(text: str) -> list[str]:
    return [text[i : i + SHINGLE] for i in range(max(len(text) - SHINGLE + 1, 1))]


def _nearest(
    left: Sequence[str], right: Sequence[str], sets: dict[str, frozenset[str]], rank: dict[str, int]
) -> list[tuple[int, int, float]]:
    """Return for each text of `left` with a copy in `right` one such copy, an exact one if there is."""
    first: dict[str, int] = {}
    for j, text in enumerate(right):
        first.setdefault(text, j)
    index: dict[str, list[str]] = defaultdict(list)
    for text in first:
        for s in _rarest(sets[text], rank):
            index[s].append(text)
    match = {
        t: (first[t], 1.0) if t in first else next(_near(t, index, first, sets, rank), None)
        for t in dict.fromkeys(left)
    }
    return [(i, *found) for i, t in enumerate(left) if (found := match[t])]


def _near(
    text: str, index: dict[str, list[str]], first: dict[str, int], sets: dict[str, frozenset[str]],
    rank: dict[str, int],
) -> Iterator[tuple[int, float]]:  # fmt: skip
    mine, tried = sets[text], set()
    for s in _rarest(mine, rank):
        for other in index.get(s, ()):
            theirs = sets[other]
            if other in tried or not NEAR * len(mine) <= len(theirs) <= len(mine) / NEAR:
                continue
            tried.add(other)
            common = len(mine & theirs)
            similarity = common / (len(mine) + len(theirs) - common)
            if similarity >= NEAR:
                yield first[other], similarity


def _rarest(shingles: frozenset[str], rank: dict[str, int]) -> list[str]:
    ordered = sorted(shingles, key=rank.__getitem__)
    return ordered[: len(ordered) - math.ceil(NEAR * len(ordered) - 1e-9) + 1]
