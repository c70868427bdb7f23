"""Association: how much nearer one group's words lie to one of two topics than another group's.

For target words X and Y (the groups) and attribute words A and B (the topics), with
``s(w) = mean_a cos(w, a) - mean_b cos(w, b)``, the raw association is ``mean_X s - mean_Y s`` and
the effect size d divides it by the standard deviation of s over X and Y together (ddof 1; Caliskan
et al. 2017). A word's vector is the mean over bland sentences (May et al. 2019, SEAT) of the pooled
hidden states; without templates the word stands alone (WEAT).

What counts is the word: the sentences of one word are not independent, and neither is a target
word's cosine with many attribute words. So words are clusters, and the permutation exchanges words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from albert_audit.bias.encoder.association_estimates import (
    NARROW,
    Array,
    association_design,
    effect,
    effect_size,
)
from albert_audit.bias.encoder.word_sets import Row, WordTest, tests, topics
from albert_audit.bias.measure import Floor, Measure, Statistic, Vouch, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack
from albert_audit.types import Ability, Head, UsageError

NEUTRAL = 0.8
"""Median |d| between neutral topics above which the words cannot tell a stereotype from any topic."""
MOST_LOST = 0.1
"""Share of attribute sentences that may be lost before there is nothing left to lean to."""
_CALISKAN = "Caliskan et al. 2017, Semantics derived automatically from language corpora (WEAT)"
_MAY = "May et al. 2019, On Measuring Social Biases in Sentence Encoders (SEAT)"
_GOLDFARB = "Goldfarb-Tarrant et al. 2021: intrinsic measures and application bias do not reliably correlate"
_CAVEATS = (
    "Distances inside an encoder do not predict how a system built on it treats people.",
    "One pooling, the mean over the last layer, was fixed beforehand; others can give other figures.",
)
_PERMUTED = (
    "The interval lets target and attribute words vary; the permutation test holds the attribute words fixed."
)


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return (axis, "first-topic-vs-second-topic") for each test: the two pairings that add up to the effect."""
    return [(t.axis, t.contrast) for t in tests(pack)]


def statistics(pack: Pack) -> list[Statistic]:
    """Return the raw association and the effect size."""
    crossed = len(pack.spec.clusters) == 2
    held = "" if crossed else ", the attribute sentences held fixed"
    shared = (_CALISKAN, _MAY, _GOLDFARB)
    return [
        Statistic(
            name="association", rows="association", kind="linear", unit="cosine", crossed=crossed,
            title="do the groups' words lie as in {first} and {second}, rather than crosswise?",
            estimand="mean cosine of the pairings {first} and {second}, each less the crosswise one: a difference "
            f"of differences over words like those of {{pack}}{held}",
            caveats=_CAVEATS, sources=shared, design=association_design,
        ),
        Statistic(
            name="association_d", rows="association" if crossed else "association_s", kind="custom",
            unit="standard deviations", crossed=crossed,
            title="how far apart are the groups in their lean towards the topics, as {first} and {second}?",
            estimand="effect size d: the difference between the groups' mean lean towards one topic rather than the "
            f"other, in standard deviations of that lean over both groups' words{held}",
            caveats=(*_CAVEATS, *((_PERMUTED,) if crossed else ()), "d is at most about 2 and says nothing of how "
                     "large the distances are."),
            sources=shared, estimator=effect_size,
        ),
    ]  # fmt: skip


# --- vectors ----------------------------------------------------------------------------------


def poolings(scorer: Scorer) -> list[tuple[str, int]]:
    """Return the fixed set of (pooling, layer), the main one first."""
    depth = scorer.id.depth
    out = [("mean", depth), ("cls", depth), ("mean", depth // 2), ("cls", depth // 2)]
    return out + ([("pooler", depth)] if scorer.id.head is Head.ENCODER else [])


def unit(vectors: ArrayLike) -> Array:
    """Return vectors (n, hidden) at length one; one without length stays zero, at a cosine of 0 to everything.

    No working encoder has such a vector; the encoder floor stops one that does.
    """
    v = np.asarray(vectors, np.float64)
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    out: Array = v / np.where(length > 0, length, 1.0)
    return out


def unfit(scorer: Scorer, texts: Sequence[str]) -> list[str]:
    """Return for each text why it cannot be scored; nothing when it can."""
    reasons = []
    for e in scorer.encode(texts):
        if len(e.ids) > scorer.id.max_tokens:
            reasons.append(f"longer than {scorer.id.max_tokens} tokens")
        elif scorer.unknown_id in e.ids:
            reasons.append("holds a piece the vocabulary lacks")
        else:
            reasons.append("" if e.positions else "has no tokens")
    return reasons


def _vectors(scorer: Scorer, sentences: Sequence[Sequence[str]], pool: str, layer: int) -> Array:
    """Return the vector of each sentence of each word, shape (words, templates, hidden)."""
    flat = scorer.embeddings([s for own in sentences for s in own], pool=pool, layer=layer)
    return np.asarray(flat, np.float64).reshape(len(sentences), -1, flat.shape[-1])


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Compare the vectors of every test's words. See `Measure`.

    Rows: ``association``, the cosine of one target and one attribute word (`group` says of which
    sets), or, where only target words are clusters, the lean s of one target in cosines, and
    ``association_s``, the same in standard deviations over X and Y. ``association_variant`` is d by
    each other pooling and by each template alone; ``association_neutral`` is d of the groups
    between two neutral topics.
    """
    del rng  # nothing is drawn
    forms = list(dict.fromkeys(r["form"] for r in pack.tables["words"]))
    sentences = [[t.fill(word=f)[0] for t in pack.templates] or [f] for f in forms]
    each = iter(unfit(scorer, [s for own in sentences for s in own]))
    reasons = [next(filter(None, [next(each) for _ in own]), "") for own in sentences]
    usable = [own for own, reason in zip(sentences, reasons, strict=True) if not reason]
    place = {f: i for i, f in enumerate(f for f, reason in zip(forms, reasons, strict=True) if not reason)}
    why = dict(zip(forms, reasons, strict=True))
    rows: list[dict[str, Any]] = []
    asked = tests(pack)
    for i, (pool, layer) in enumerate(poolings(scorer) if usable else ()):
        try:
            each_sentence = _vectors(scorer, usable, pool, layer)
        except UsageError:
            if pool != "pooler":
                raise
            continue  # a checkpoint without a pooler has one variant fewer
        vectors = unit(each_sentence.mean(axis=1))
        if i:
            rows += [_single(pack, t, f"{pool}-{layer}", _d(t, vectors, place)) for t in asked]
            continue
        for t in asked:
            rows += _cells(pack, t, vectors, place, why) if len(pack.spec.clusters) == 2 else (
                _elements(pack, t, vectors, place, why)
            )  # fmt: skip
            rows += _neutral(pack, t, vectors, place)
        if len(pack.templates) > 1:
            for k, template in enumerate(pack.templates):
                alone = unit(each_sentence[:, k])
                rows += [_single(pack, t, f"template-{template.id}", _d(t, alone, place)) for t in asked]
    if not usable:
        rows = [r for t in asked for r in _cells(pack, t, np.empty((0, 1)), place, why)]
    return frame(rows)


def _indices(words: Sequence[Row], place: Mapping[str, int]) -> list[int]:
    return [place[r["form"]] for r in words if r["form"] in place]


def _d(
    test: WordTest, vectors: Array, place: Mapping[str, int], between: Sequence[Sequence[Row]] = ()
) -> float:
    x, y, a, b = (
        _indices(w, place)
        for w in (test.sets["x"], test.sets["y"], *(between or (test.sets["a"], test.sets["b"])))
    )
    if not (x and y and a and b):
        return float("nan")
    return effect(_lean(vectors[x + y], vectors[a], vectors[b]), np.arange(len(x + y)) < len(x))


def _lean(targets: Array, a: Array, b: Array) -> Array:
    out: Array = (targets @ a.T).mean(axis=1) - (targets @ b.T).mean(axis=1)
    return out


def _base(pack: Pack, test: WordTest) -> dict[str, Any]:
    return {
        "pack": pack.name, "measure": "association", "axis": test.axis, "contrast": test.contrast, "cluster_a": "",
        "cluster_b": "", "role": "probe", "covariate": None, "unit": "cosine", "skipped": "",
    }  # fmt: skip


def _single(
    pack: Pack, test: WordTest, item: str, d: float, measure: str = "association_variant"
) -> dict[str, Any]:
    base = _base(pack, test) | {
        "unit": "standard deviations",
        "measure": measure,
        "group": "",
        "cluster_a": item,
    }
    return base | {"item": item, "value": d, "skipped": "" if np.isfinite(d) else "the words do not differ"}


def _key(row: Row) -> str:
    """Return the word of a row: its cluster, within its set."""
    return f"{row['set']}:{row.get('word') or row['id']}"


def _cells(
    pack: Pack, test: WordTest, vectors: Array, place: Mapping[str, int], why: Mapping[str, str]
) -> list[dict[str, Any]]:
    out = []
    for side in ("x", "y"):
        for target in test.sets[side]:
            for topic in ("a", "b"):
                for attribute in test.sets[topic]:
                    i, j = (place.get(r["form"]) for r in (target, attribute))
                    out.append(
                        _base(pack, test)
                        | {"group": side + topic, "item": f"{target['id']}/{attribute['id']}",
                           "cluster_a": _key(target), "cluster_b": _key(attribute),
                           "value": None if i is None or j is None else float(vectors[i] @ vectors[j]),
                           "skipped": why[target["form"]] or why[attribute["form"]]}
                    )  # fmt: skip
    return out


def _elements(
    pack: Pack, test: WordTest, vectors: Array, place: Mapping[str, int], why: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the lean of each target; attributes that cannot be scored leave nothing to lean to."""
    a, b = (_indices(test.sets[s], place) for s in ("a", "b"))
    targets = [r for s in ("x", "y") for r in test.sets[s]]
    fit = [r for r in targets if r["form"] in place]
    lean = (
        _lean(vectors[_indices(fit, place)], vectors[a], vectors[b]) if a and b else np.full(len(fit), np.nan)
    )
    attributes = [r for s in ("a", "b") for r in test.sets[s]]
    lost = [r for r in attributes if why[r["form"]]]
    if len(lost) > MOST_LOST * len(attributes):
        lean = np.full(len(fit), np.nan)
    spread = float(lean.std(ddof=1)) if len(lean) > 1 else 0.0
    found = dict(zip((r["id"] for r in fit), lean, strict=True))
    # An attribute that is lost has no row of its own but is counted as skipped.
    out = [
        _base(pack, test)
        | {"measure": m, "group": r["set"], "item": r["id"], "cluster_a": _key(r), "value": None,
           "skipped": why[r["form"]]}
        for r in lost for m in ("association", "association_s")
    ]  # fmt: skip
    for r in targets:
        s = found.get(r["id"], np.nan)
        note = why[r["form"]] or ("" if np.isfinite(s) else "too many of the attributes cannot be scored")
        base = _base(pack, test) | {"group": r["set"], "item": r["id"], "cluster_a": _key(r), "skipped": note}
        out.append(base | {"value": s})
        # In standard deviations, so that rounding to zero cannot touch a narrow encoder.
        scaled = s / spread if spread > NARROW else np.nan
        out.append(
            base | {"measure": "association_s", "unit": "standard deviations", "value": scaled,
                    "skipped": note or ("" if np.isfinite(scaled) else "the words do not differ")}
        )  # fmt: skip
    return out


def _neutral(pack: Pack, test: WordTest, vectors: Array, place: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        _single(
            pack, test, f"{test.name}/{one}/{other}", _d(test, vectors, place, (p, q)), "association_neutral"
        )
        for (one, p), (other, q) in combinations(topics(pack).items(), 2)
    ]


# --- neutral topics ---------------------------------------------------------------------------


def _unlike_any_topic(pack: Pack, rows: pd.DataFrame) -> Vouch:
    del pack
    sizes = rows["value"].abs().dropna()
    skipped = len(rows) - len(sizes)
    if not len(sizes):
        return Vouch(0, "no pair of neutral topics could be scored", skipped=skipped)
    median = float(sizes.median())
    details = {"median": median, "quantile_95": float(sizes.quantile(0.95)), "floor": NEUTRAL}
    details |= {f"median_{axis}": float(v) for axis, v in sizes.groupby(rows["axis"]).median().items()}
    reason = "" if median <= NEUTRAL else (
        f"between neutral topics the groups lie a median of {median:.2f} standard deviations apart, over {NEUTRAL:g}: "
        "any two topics tell the groups apart, so that a stereotype says nothing of its own"
    )  # fmt: skip
    return Vouch(len(sizes), reason, details=details, skipped=skipped)


neutral_topics = Floor(
    rows="association_neutral",
    contrast="all",
    title="Neutral topics do not tell the groups apart: {pack}",
    estimand="median, over tests and pairs of neutral topics, of the absolute effect size d of the groups' words",
    unit="standard deviations",
    judge=_unlike_any_topic,
)

MEASURE = Measure(
    "association", (Ability.EMBEDDINGS,), run, contrasts, statistics, floor=neutral_topics,
    floored_by="encoder_floor",
)  # fmt: skip
