"""Scores of membership attacks: how much the answers to a record look like those to a training record.

Every score is oriented so that HIGHER MEANS MEMBER, is in float64 and in natural logarithms, and is
of one record alone, never of a batch. What cannot be formed raises `ValueError`; nothing becomes 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_expit, logsumexp
from scipy.stats import norm

from albert_audit.model.scorer import Scorer
from albert_audit.model.text import Encoded, MaskQuery

Array = NDArray[np.float64]
Seen = NDArray[np.bool_]

# --- one model, a classifier ------------------------------------------------------------------


def log_softmax(logits: ArrayLike) -> Array:
    """Return log-probabilities of shape (n, c) in float64, where 1 - p does not vanish as it does in float32."""
    z = _finite(logits, "logits", 2)
    return np.asarray(z - logsumexp(z, axis=1, keepdims=True), np.float64)


def loss(log_probs: ArrayLike, labels: ArrayLike) -> Array:
    """Return log f_y, the log-probability of the true label: minus the loss (Yeom et al. 2018).

    Parameters
    ----------
    log_probs : array, shape (n, c)
        Normalised log-probabilities of a classifier with one label a record.
    labels : array of int, shape (n,)

    Raises
    ------
    ValueError
        When a value is not finite, a row does not sum to one (logits, say), there are fewer than two
        labels or a label is not among them. So do the other scores of this part. A head with several
        labels a record has `bernoulli_loss`, a regression `squared_loss`; the other scores are
        not defined for them.
    """
    f, y = _classified(log_probs, labels)
    return f[np.arange(len(f)), y]


def confidence(log_probs: ArrayLike) -> Array:
    """Return the log-probability of the likeliest label, shape (n,); needs no true label."""
    return np.asarray(_normalised(log_probs).max(axis=1), np.float64)


def entropy(log_probs: ArrayLike) -> Array:
    """Return sum f log f, shape (n,): minus the entropy of the answer, so that sure answers score high."""
    f = _normalised(log_probs)
    return np.asarray((np.exp(f) * f).sum(axis=1), np.float64)


def modified_entropy(log_probs: ArrayLike, labels: ArrayLike) -> Array:
    """Return minus the modified entropy, shape (n,) (Song and Mittal 2021).

    Mentr = -(1 - f_y) log f_y - sum over c ≠ y of f_c log(1 - f_c). Unlike the entropy it does not
    take a sure but wrong answer for a member's.
    """
    f, y = _classified(log_probs, labels)
    rest, rows = _log_complement(f), np.arange(len(f))
    wrong = np.exp(f) * rest
    wrong[rows, y] = 0.0
    return np.asarray(np.exp(rest[rows, y]) * f[rows, y] + wrong.sum(axis=1), np.float64)


def logit(log_probs: ArrayLike, labels: ArrayLike) -> Array:
    """Return log f_y - log(1 - f_y), shape (n,), the φ of LiRA (Carlini et al. 2022).

    Formed from the other labels' log-probabilities: 1 - f_y itself is 0 for a model that is sure.
    """
    f, y = _classified(log_probs, labels)
    rows = np.arange(len(f))
    others = f.copy()
    others[rows, y] = -np.inf
    return np.asarray(f[rows, y] - logsumexp(others, axis=1), np.float64)


def bernoulli_loss(logits: ArrayLike, labels: ArrayLike) -> Array:
    """Return the log-likelihood of a multi-label record, shape (n,): its labels' Bernoulli ones, summed.

    Parameters
    ----------
    logits : array, shape (n, c)
    labels : array of 0 and 1, shape (n, c)
    """
    z, y = _finite(logits, "logits", 2), np.asarray(labels)
    if y.shape != z.shape or not np.isin(y, (0, 1)).all():
        raise ValueError(f"expected labels 0 and 1 of the shape {z.shape}, found the shape {y.shape}")
    return np.asarray(log_expit(np.where(y == 1, z, -z)).sum(axis=1), np.float64)


def squared_loss(predictions: ArrayLike, targets: ArrayLike) -> Array:
    """Return minus the squared error of a regression, shape (n,): no likelihood, so not for `rmia`."""
    p, t = _finite(predictions, "predictions", 1), _finite(targets, "targets", 1)
    if p.shape != t.shape:
        raise ValueError(f"expected as many targets as predictions, found {len(t)} and {len(p)}")
    return -((p - t) ** 2)


# --- with reference models --------------------------------------------------------------------


def calibrated(target: ArrayLike, references: ArrayLike, seen: ArrayLike) -> Array:
    """Return the score less its mean over the references that did not see the record (Watson et al. 2022).

    Parameters
    ----------
    target : array, shape (n,)
        A score of the target, as `loss` or `logit`.
    references : array, shape (k, n)
        The same score of k reference models.
    seen : array of bool, shape (k, n)
        Whether a reference was trained on a record. A public base checkpoint saw none.

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        When a value is not finite, a record was seen by every reference or by more references than
        another (the count would tell members apart), or a reference is the target itself. So do the
        other scores of this part.
    """
    t, r, out = _references(target, references, seen)
    return t - _mean(r, out)


def lira_offline(phi: ArrayLike, references: ArrayLike, seen: ArrayLike) -> Array:
    """Return -log Pr[Z > φ], Z the normal of the references that did not see the record (Carlini et al. 2022).

    One-sided (their equation 4): a record the target finds unusually hard is no member. The published
    script takes -log N(φ), which is two-sided and calls it one. One variance for all records, pooled
    within records: with few references a record's own is noise.

    Parameters
    ----------
    phi, references, seen
        As `calibrated`; φ of `logit`. At least two references have not seen a record.

    Returns
    -------
    array, shape (n,)
        Nats; ordered as ``calibrated(phi, ...)``, since the variance is common.
    """
    t, r, out = _references(phi, references, seen)
    mean, sd = _mean(r, out), _within(r, out, "did not see")
    return np.asarray(-norm.logsf((t - mean) / sd), np.float64)


def lira_online(phi: ArrayLike, references: ArrayLike, seen: ArrayLike) -> Array:
    """Return log N(φ; in) - log N(φ; out), shape (n,), variances pooled within records (Carlini et al. 2022).

    Needs, for each record, two references that saw it and two that did not; see `lira_offline`.
    """
    t, r, out = _references(phi, references, seen)
    inside = norm.logpdf(t, _mean(r, ~out), _within(r, ~out, "saw"))
    return np.asarray(inside - norm.logpdf(t, _mean(r, out), _within(r, out, "did not see")), np.float64)


def rmia(
    target: ArrayLike, references: ArrayLike, seen: ArrayLike, *, a: float = 0.3,
    population: ArrayLike | None = None, gamma: float = 1.0,
) -> Array:  # fmt: skip
    """Return the offline score of RMIA (Zarifzadeh, Liu and Shokri 2024).

    Parameters
    ----------
    target, references, seen
        As `calibrated`, of log-likelihoods: `loss` or `bernoulli_loss`.
    a : float
        How far a model that saw a record resembles one that did not: p_in = a p_out + 1 - a. Fixed
        before the audit; fitted to the target's own members it would claim what it was told.
    population : array, shape (m,), optional
        This function's ratios of records that are neither members nor among the evaluated non-members.
    gamma : float
        How many times a member's ratio exceeds that of the population's record.

    Returns
    -------
    array, shape (n,)
        Without a population log p(x|target) - log p(x), p(x) = ½[(1 + a) mean p_out(x) + 1 - a].
        With one the share of its records whose ratio x's exceeds by gamma: the score of the paper. The
        share orders records as the ratio does, but ties them: make the ROC curve of the ratio, and the
        p-values of `population_p`.
    """
    if not 0 <= a <= 1 or not gamma > 0:
        raise ValueError(f"expected a from 0 to 1 and gamma above 0, found {a} and {gamma}")
    t, r, out = _references(target, references, seen)
    if max(t.max(initial=0.0), r.max(initial=0.0)) > 1e-6:
        raise ValueError("expected log-likelihoods, found one above 0: a probability cannot exceed 1")
    p_out = logsumexp(np.where(out, r, -np.inf), axis=0) - np.log(out.sum(axis=0))
    prior = math.log(1 - a) if a < 1 else -math.inf
    ratio = np.asarray(t - (np.logaddexp(math.log1p(a) + p_out, prior) - math.log(2)), np.float64)
    if population is None:
        return ratio
    z = np.sort(_population(population))
    return np.searchsorted(z, ratio - math.log(gamma), side="right") / len(z)


def population_p(ratios: ArrayLike, population: ArrayLike) -> Array:
    """Return (1 + records of the population with at least that ratio) / (m + 1) for each ratio, shape (n,).

    Valid for a non-member drawn as the population was; never 0.
    """
    z, x = np.sort(_population(population)), _finite(ratios, "ratios", 1)
    return (1 + len(z) - np.searchsorted(z, x, side="left")) / (len(z) + 1)


# --- masked LMs -------------------------------------------------------------------------------


def masks(n: int, count: int, *, share: float = 0.15, key: bytes) -> NDArray[np.int64]:
    """Return `count` random masks of n positions, shape (count, size), a function of `key` alone.

    size = max(1, share · n rounded): a short text has one masked position, not none. Each row is sorted
    and holds a position once.
    """
    if n < 1 or count < 1 or not 0 < share <= 1:
        raise ValueError(f"expected positions, masks and a share from 0 to 1, found {n}, {count} and {share}")
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest(), "big"))
    size = max(1, math.floor(share * n + 0.5))
    return np.sort(np.argsort(rng.random((count, n)), axis=1)[:, :size], axis=1)


def mean_masked(logps: Sequence[ArrayLike]) -> float:
    """Return the mean over masks of the mean log-probability under the mask: -E of Mireshghallah et al. (2022).

    Parameters
    ----------
    logps : sequence of array
        For each mask the log-probabilities of the tokens under it.
    """
    if not len(logps):
        raise ValueError("expected at least one mask, found none")
    return float(np.mean([_some(x).mean() for x in logps]))


def min_k(logps: ArrayLike, share: float = 0.2) -> float:
    """Return the mean of the lowest share of a text's log-probabilities (Min-K%, Shi et al. 2024).

    ``max(1, ceil(share · t))`` tokens count, so that a short text has a score. For a masked LM the
    log-probabilities are those of tokens masked one by one.
    """
    if not 0 < share <= 1:
        raise ValueError(f"expected a share above 0 and up to 1, found {share}")
    x = np.sort(_some(logps))
    return float(x[: max(1, math.ceil(share * len(x) - 1e-9))].mean())


def likelihood_ratio(target: ArrayLike, base: ArrayLike) -> Array:
    """Return log p(s; target) - log p(s; base) + a constant, shape (n,): -L of Mireshghallah et al. (2022).

    `target` and `base` are of `masked_scores`, under the same masks. A text without a score is not given.
    """
    t, b = _finite(target, "scores", 1), _finite(base, "scores", 1)
    if t.shape != b.shape:
        raise ValueError(f"expected one score a text of each model, found {len(t)} and {len(b)}")
    return t - b


def masked_scores(
    scorers: Mapping[str, Scorer], texts: Sequence[str], *, count: int = 20, share: float = 0.15, seed: int = 0
) -> dict[str, Array]:  # fmt: skip
    """Return the `mean_masked` of each text under each model, all with the same masks.

    Every chosen position is replaced by the mask, special tokens never are. A mask depends on the
    seed and on the text alone: not on the model, the other texts or the batch.

    Parameters
    ----------
    scorers : mapping of a name to a masked LM
        They must share a tokenizer.
    texts : sequence of str, length n
    count : int
        Masks a text; 20 in the published code. The cost is n · count rows a model.
    share : float
    seed : int

    Returns
    -------
    dict of name to array, shape (n,)
        NaN, for every model alike, where a text has no token or more than one of the models takes.

    Raises
    ------
    ValueError
        When two models do not see the same tokens, or an answer is not finite.
    """
    encoded = _same_tokens(scorers, texts)
    longest = min(s.id.max_tokens for s in scorers.values())
    scored = [i for i, e in enumerate(encoded) if e.positions and len(e.ids) <= longest]
    queries = [q for i in scored for q in _masked(encoded[i], texts[i], count, share, seed)]
    found = {}
    for name, scorer in scorers.items():
        answers = scorer.mask_logprobs(queries)
        found[name] = np.full(len(texts), np.nan)
        for k, i in enumerate(scored):
            found[name][i] = mean_masked([a[:, 0] for a in answers[k * count : (k + 1) * count]])
    return found


def _masked(encoded: Encoded, text: str, count: int, share: float, seed: int) -> list[MaskQuery]:
    key = f"{seed}\n{text}".encode("utf-8", "surrogatepass")
    positions = np.array(encoded.positions)
    queries = []
    for row in masks(len(positions), count, share=share, key=key):
        at = tuple(positions[row].tolist())
        ask = tuple((encoded.ids[i],) for i in at)
        queries.append(MaskQuery(encoded.ids, encoded.type_ids, at, at, ask))
    return queries


def _same_tokens(scorers: Mapping[str, Scorer], texts: Sequence[str]) -> list[Encoded]:
    """Encode the texts, and refuse models between which log-probabilities cannot be compared."""
    if not scorers:
        raise ValueError("expected at least one model, found none")
    (first, one), *others = scorers.items()
    encoded = one.encode(texts)
    for name, scorer in others:
        if scorer.encode(texts) != encoded or (scorer.mask_id, scorer.pieces) != (one.mask_id, one.pieces):
            raise ValueError(
                f"expected one tokenizer, found that {first} and {name} see other tokens: "
                "score them against a base with the same vocabulary"
            )
    return encoded


# --- checks -----------------------------------------------------------------------------------


def _finite(values: ArrayLike, what: str, dimensions: int) -> Array:
    x = np.asarray(values, np.float64)
    if x.ndim != dimensions or not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise ValueError(
            f"expected finite {what} in {dimensions} dimensions, found the shape {x.shape} with {bad} not finite"
        )
    return x


def _some(values: ArrayLike) -> Array:
    x = _finite(values, "log-probabilities", 1)
    if not len(x):
        raise ValueError("expected the log-probability of at least one token, found none")
    return x


def _population(values: ArrayLike) -> Array:
    z = _finite(values, "ratios of the population", 1)
    if not len(z):
        raise ValueError("expected a population, found no record in it")
    return z


def _normalised(log_probs: ArrayLike) -> Array:
    f = _finite(log_probs, "log-probabilities", 2)
    if f.shape[1] < 2:
        raise ValueError(f"expected at least 2 labels, found {f.shape[1]}: a regression has squared_loss")
    if len(f) and float(np.abs(logsumexp(f, axis=1)).max()) > 1e-3:
        raise ValueError(
            "expected log-probabilities, found rows that do not sum to 1: use log_softmax on logits"
        )
    return f


def _classified(log_probs: ArrayLike, labels: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    f, y = _normalised(log_probs), np.asarray(labels)
    if y.shape != (len(f),) or (y.size and y.dtype.kind not in "iu"):
        raise ValueError(f"expected {len(f)} whole numbers as labels, found the shape {y.shape} of {y.dtype}")
    if y.size and not (y.min() >= 0 and y.max() < f.shape[1]):
        raise ValueError(f"expected labels from 0 to {f.shape[1] - 1}, found {y.min()} to {y.max()}")
    return f, y.astype(np.int64)


def _log_complement(f: Array) -> Array:
    """Return log(1 - f_c); only the likeliest label's needs the others, where 1 - f would vanish."""
    rows, top = np.arange(len(f)), f.argmax(axis=1)
    others = f.copy()
    others[rows, top] = -np.inf
    rest = np.log1p(-np.exp(others))
    rest[rows, top] = logsumexp(others, axis=1)
    return rest


def _references(target: ArrayLike, references: ArrayLike, seen: ArrayLike) -> tuple[Array, Array, Seen]:
    """Return the target's scores, the references', and which reference did not see which record."""
    t, r, s = _finite(target, "scores", 1), _finite(references, "scores of references", 2), np.asarray(seen)
    if r.shape[1] != len(t) or s.shape != r.shape or s.dtype != np.bool_:
        raise ValueError(
            f"expected scores (n,), references (k, n) and seen (k, n) of bool, found the shapes {t.shape}, "
            f"{r.shape} and {s.shape} of {s.dtype}"
        )
    unseen = (~s).sum(axis=0)
    if len(t) and unseen.min() < 1:
        raise ValueError(
            f"expected a reference that did not see it for each record, {(unseen < 1).sum()} have none"
        )
    if len(t) and unseen.min() != unseen.max():
        raise ValueError(
            f"expected each record unseen by equally many references, found {unseen.min()} to {unseen.max()}: "
            "train references in complementary halves"
        )
    same = [k for k in range(len(r)) if len(t) > 1 and np.array_equal(r[k], t)]
    if same:
        raise ValueError(
            f"reference {same[0]} answers exactly as the target: a model is no reference of its own"
        )
    return t, r, ~s


def _mean(values: Array, use: Seen) -> Array:
    return np.asarray(np.where(use, values, 0.0).sum(axis=0) / use.sum(axis=0), np.float64)


def _within(values: Array, use: Seen, which: str) -> float:
    """Return the standard deviation around each record's own mean, pooled over records."""
    counts = use.sum(axis=0)
    if not len(counts) or counts.min() < 2:
        least = int(counts.min(initial=0))
        raise ValueError(
            f"expected for each record at least 2 references that {which} it, found {least}: "
            "with fewer use calibrated or rmia"
        )
    square = float((np.where(use, values - _mean(values, use), 0.0) ** 2).sum())
    if not square > 0:
        raise ValueError(f"the references that {which} a record all agree: no variance to measure against")
    return math.sqrt(square / float((counts - 1).sum()))
