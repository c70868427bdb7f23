"""Associations between words as the auditor's own texts use them (CEAT; Guo and Caliskan 2021).

A word's vector in a context is the mean over its own pieces of the last layer's states. The raw
association is `association`'s difference of differences of cosines, averaged over contexts. The
combined effect size (CES) is the random-effects mean of the effect size d over many draws of one
context a word.

The draws reuse the same few words and contexts, so they are no independent studies: the published
z-test grows as sure as one draws often. What counts here is the word. A text serves one word of a
test only, the rarest that it holds, so that the words share no context.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit.bias.encoder.association_estimates import NARROW, Array, association_design
from albert_audit.bias.encoder.word_contexts import Form, Place, allotted, contexts, form_of, vectors
from albert_audit.bias.encoder.word_sets import SETS, Row, WordTest, tests
from albert_audit.bias.measure import Measure, Outcome, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack
from albert_audit.stats import Fit, estimate, jackknife
from albert_audit.stats.random_effects import Combined, random_effects, two_sided, variance_of_d
from albert_audit.types import Ability, Estimate

CONTEXTS = 50
"""Texts a form is read in, at most."""
FEWEST = 2
"""Texts below which a form is left out: one text would be taken for the word."""
DRAWS = 1_000
_ALL = "all"

_GUO = "Guo and Caliskan 2021, Detecting Emergent Intersectional Biases (CEAT)"
_CAVEATS = (
    "Distances inside an encoder do not predict how a system built on it treats people.",
    "What the texts say of the groups, and what the model adds, cannot be told apart.",
    "Words that fewer than two texts can serve are left out; the rows context_association_words name them.",
)
_PUBLISHED = (
    "The published test treats draws of the same few words and contexts as independent studies; its p "
    "(details) is far too small and is shown for comparison only. The interval is a jackknife over words."
)


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return (axis, "first-topic-vs-second-topic") for each test; see `association.contrasts`."""
    return [(t.axis, t.contrast) for t in tests(pack)]


def statistics(pack: Pack) -> list[Statistic]:
    """Return the raw association and the combined effect size."""
    asked = tests(pack)
    return [
        Statistic(
            name="context_association", rows="context_association", kind="custom", unit="cosine", crossed=True,
            title="in your texts, do the groups' words lie as in {first} and {second}, rather than crosswise?",
            estimand="mean cosine, over contexts in texts like yours, of the pairings {first} and {second}, each "
            "less the crosswise one: a difference of differences over words like those of {pack} that your texts hold",
            caveats=_CAVEATS, sources=(_GUO,), estimator=partial(_raw, asked),
        ),
        Statistic(
            name="context_association_ces", rows="context_association_ces", kind="custom",
            unit="standard deviations", crossed=True,
            title="in your texts, how far apart are the groups in their lean towards the topics, as {first} and {second}?",
            estimand="combined effect size (CES): random-effects mean, over draws of one context a word, of the effect "
            "size d between the groups' leans, for words like those of {pack} that your texts hold",
            caveats=(*_CAVEATS, _PUBLISHED), sources=(_GUO,), estimator=partial(_ces, asked),
        ),
    ]  # fmt: skip


# --- rows -------------------------------------------------------------------------------------


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Read the words of every test in the auditor's texts. See `Measure`.

    Rows: ``context_association``, the cosine of one target and one attribute word, its mean over all
    pairs of their contexts (covariate: the contexts of the one that has fewer);
    ``context_association_ces``, the CES, and the CES without each word (covariate: its published
    standard error); ``context_association_words``, how many texts serve each word.
    """
    asked = tests(pack)
    own = [list(dict.fromkeys(form_of(r["form"]) for s in SETS for r in t.sets[s])) for t in asked]
    found = contexts(scorer, pack, dict.fromkeys(f for forms in own for f in forms))
    chosen = [
        allotted({f: found.places[f] for f in forms}, rng, fewest=FEWEST, most=CONTEXTS) for forms in own
    ]
    served = {p: None for c in chosen for places in c.values() if len(places) >= FEWEST for p in places}
    read = vectors(scorer, found.texts, served)
    rows: list[dict[str, Any]] = []
    for test, places in zip(asked, chosen, strict=True):
        rows += _served(pack, test, places, found.holding)
        rows += _associated(pack, test, places, read, rng)
    return frame(rows)


def _row(pack: Pack, test: WordTest, measure: str, **more: Any) -> dict[str, Any]:
    return {
        "pack": pack.name, "measure": measure, "axis": test.axis, "contrast": test.contrast, "group": "",
        "item": _ALL, "cluster_a": "", "cluster_b": "", "role": "probe", "covariate": None, "value": None,
        "unit": "cosine", "skipped": "",
    } | more  # fmt: skip


def _key(row: Row) -> str:
    """Return the word of a row: its cluster, within its set."""
    return f"{row['set']}:{row.get('word') or row['id']}"


def _served(
    pack: Pack, test: WordTest, places: Mapping[Form, Sequence[Place]], holding: Mapping[Form, int]
) -> list[dict[str, Any]]:
    out = []
    for r in (r for s in SETS for r in test.sets[s]):
        form = form_of(r["form"])
        n, few = len(places[form]), len(places[form]) < FEWEST
        why = f"{n} of the {holding[form]} texts that hold it can serve it; {FEWEST} are needed"
        out.append(
            _row(pack, test, "context_association_words", group=r["set"], item=r["id"], cluster_a=_key(r),
                 unit="texts", value=None if few else float(n), skipped=why if few else "")
        )  # fmt: skip
    return out


def _associated(
    pack: Pack,
    test: WordTest,
    places: Mapping[Form, Sequence[Place]],
    read: Mapping[Place, Array],
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return the rows of one test; nothing but the reason when a set has fewer than two words left."""
    own = {r["id"]: places[form_of(r["form"])] for s in SETS for r in test.sets[s]}
    kept = {s: [r for r in test.sets[s] if len(own[r["id"]]) >= FEWEST] for s in SETS}
    if short := [s for s in SETS if len({_key(r) for r in kept[s]}) < 2]:
        label = test.sets[short[0]][0].get("label") or short[0]
        count = len({_key(r) for r in kept[short[0]]})
        note = f"your texts can serve {count} of the words for {label}; two are needed"
        names = ("context_association", "context_association_ces")
        return [_row(pack, test, m, skipped=note) for m in names]
    sides = [kept["x"] + kept["y"], kept["a"] + kept["b"]]
    counts = [np.array([len(own[r["id"]]) for r in side]) for side in sides]
    starts = [np.r_[0, np.cumsum(c)[:-1]] for c in counts]
    one, other = (np.array([read[p] for r in side for p in own[r["id"]]]) for side in sides)
    cosines = one @ other.T  # of every context of a target with every context of an attribute
    sums = np.add.reduceat(np.add.reduceat(cosines, starts[0], axis=0), starts[1], axis=1)
    means = sums / np.outer(*counts)
    cells = [
        _row(pack, test, "context_association", group=t["set"] + a["set"], item=f"{t['id']}/{a['id']}",
             cluster_a=_key(t), cluster_b=_key(a), value=float(means[i, j]),
             covariate=float(min(counts[0][i], counts[1][j])))
        for i, t in enumerate(sides[0]) for j, a in enumerate(sides[1])
    ]  # fmt: skip
    drawn = [s + (rng.random((DRAWS, len(c))) * c).astype(int) for s, c in zip(starts, counts, strict=True)]
    return cells + _without_each(pack, test, sides, cosines[drawn[0][:, :, None], drawn[1][:, None, :]])


def _without_each(
    pack: Pack, test: WordTest, sides: Sequence[Sequence[Row]], cosines: Array
) -> list[dict[str, Any]]:
    """Return the CES of all words and the CES without each word; `cosines` is (draws, targets, attributes)."""
    keys = [np.array([_key(r) for r in side]) for side in sides]
    first, topic = (np.array([r["set"] in "xa" for r in side]) for side in sides)
    whole = leans(cosines, topic)
    out = []
    for left_out in (_ALL, *dict.fromkeys([*keys[0], *keys[1]])):
        t, a = (k != left_out for k in keys)
        found = combined((whole if a.all() else leans(cosines[:, :, a], topic[a]))[:, t], first[t])
        if found is None:  # a jackknife that lacks a word would be too narrow
            return [_row(pack, test, "context_association_ces", skipped="the words do not differ")]
        out.append(
            _row(pack, test, "context_association_ces", group="" if left_out == _ALL else left_out[0],
                 item=left_out, cluster_a=left_out, unit="standard deviations", value=found.value,
                 covariate=found.se)
        )  # fmt: skip
    return out


def leans(cosines: Array, topic: NDArray[np.bool_]) -> Array:
    """Return s (draws, targets): mean cosine to the attributes in `topic`, less that to the others."""
    n = int(topic.sum())
    out: Array = cosines @ np.where(topic, 1 / max(n, 1), -1 / max(len(topic) - n, 1))
    return out


def combined(s: Array, first: NDArray[np.bool_]) -> Combined | None:
    """Return the combined effect size, or none where the words do not differ.

    Parameters
    ----------
    s : array, shape (draws, targets)
        Leans, each draw with one context a word.
    first : array of bool, shape (targets,)
        Whether a target is of the group X.

    Notes
    -----
    The sampling variance of a draw is that of d (see `variance_of_d`), not that of the pooled
    associations.
    """
    if first.all() or not first.any() or len(first) < 3:
        return None
    spread = s.std(axis=1, ddof=1)
    s, spread = s[spread > NARROW], spread[spread > NARROW]
    if len(s) < 2:
        return None
    d = (s[:, first].mean(axis=1) - s[:, ~first].mean(axis=1)) / spread
    return random_effects(d, variance_of_d(d, int(first.sum()), int((~first).sum())))


# --- estimates --------------------------------------------------------------------------------


def _left_out(asked: Sequence[WordTest], rows: pd.DataFrame, used: Collection[str]) -> dict[str, float]:
    """Return how many words of the test no text could serve, and how many could be served."""
    axis, contrast = rows[["axis", "contrast"]].iloc[0]
    test = next(t for t in asked if (t.axis, t.contrast) == (axis, contrast))
    words = {_key(r) for s in SETS for r in test.sets[s]}
    return {"words": float(len(words & set(used))), "words_left_out": float(len(words - set(used)))}


def _raw(
    asked: Sequence[WordTest], rows: pd.DataFrame, comparisons: int, rng: np.random.Generator
) -> Outcome:
    """Return the raw association; target and attribute words are crossed clusters."""
    del rng
    design = association_design(rows)
    found = estimate(design.fit(rows["value"].to_numpy(np.float64)), comparisons=comparisons)
    cells = rows.groupby("group")["value"].mean()
    details = {f"mean_{g}": float(v) for g, v in cells.items()}
    details |= _left_out(asked, rows, {*rows["cluster_a"], *rows["cluster_b"]})
    return Outcome(found, design.counts, details | {"median_contexts": float(rows["covariate"].median())})


def _ces(
    asked: Sequence[WordTest], rows: pd.DataFrame, comparisons: int, rng: np.random.Generator
) -> Outcome:
    """Return the CES with a jackknife over words, and the published test as a detail.

    The variances of deleting a target word and of deleting an attribute word are added; what both
    hold is counted twice, so that the interval errs to the wide side.
    """
    del rng
    found = rows.set_index("item")["value"]
    whole, se = (float(rows.set_index("item").loc[_ALL, c]) for c in ("value", "covariate"))
    keys = [k for k in found.index if k != _ALL]
    targets, attributes = ([k for k in keys if k[0] in side] for side in ("xy", "ab"))

    def over(words: list[str]) -> Estimate:
        return jackknife(lambda kept: whole if kept.all() else float(found[words[kept.argmin()]]), words)[0]

    design = association_design(
        pd.DataFrame(
            [(t[0] + a[0], t, a) for t in targets for a in attributes],
            columns=["group", "cluster_a", "cluster_b"],
        )
    )
    parts = over(targets), over(attributes)
    fit = Fit(
        np.asarray(whole),
        np.asarray(math.hypot(*(p.se for p in parts))),
        min(design.df, *(p.df for p in parts)),
    )
    details = {
        "published_ces": whole, "published_se": se, "published_p": two_sided(whole, se), "draws": float(DRAWS),
    }  # fmt: skip
    return Outcome(
        estimate(fit, comparisons=comparisons), design.counts, details | _left_out(asked, rows, keys)
    )


MEASURE = Measure(
    "context_association", (Ability.EMBEDDINGS,), run, contrasts, statistics, floored_by="encoder_floor"
)
