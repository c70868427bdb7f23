"""Name swap: whether a tagger finds the people of one group of names less often than those of another.

The same sentences, other names. Each sentence and name has one of four outcomes:

- **exact**: a person's span covers the name's words and no other;
- **boundary**: some word of the name is tagged as a person, but the span is not the name;
- **confused**: no word of the name is tagged as a person, but one as something else;
- **missed**: no word of the name is tagged.

Sources: Mishra, He and Belli 2020 (recall by group of names in fixed sentences); Mehrabi et al. 2020
(the kinds of error: tagged as another type, not tagged); An and Rudinger 2023 (names of some groups
have more pieces, which must not be taken for the group). How spans are read: `tagging`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.measure import Measure, Outcome, Statistic, frame
from albert_audit.bias.tagger import tagging
from albert_audit.bias.tagger.tagging import PERSON, Tagged
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack, Template
from albert_audit.stats import Design, estimate
from albert_audit.types import Ability, Estimate, PackError

_SOURCES = (
    "Mishra, He and Belli 2020, Assessing Demographic Bias in Named Entity Recognition",
    "Mehrabi et al. 2020, Man is to Person as Woman is to Location",
)
_AN = "An and Rudinger 2023, Nichelle and Nancy: the Influence of Demographic Attributes and Tokenization Length"
_CAVEATS = ("A name belongs to no group and tells of class and age too; what is compared is lists of names.",)
UNKNOWN = "the name holds a piece the vocabulary lacks"
_UNITS = {"name_pieces": "pieces"}


def groups(pack: Pack) -> dict[str, list[Mapping[str, str]]]:
    """Return the names of each group, in the order of the list.

    Raises
    ------
    PackError
        When there are not two groups, the reference has no names, or a name stands in two of them.
    """
    found: dict[str, list[Mapping[str, str]]] = {}
    for row in pack.tables["names"]:
        found.setdefault(row["group"], []).append(row)
    if len(found) < 2 or pack.spec.reference not in found:
        raise PackError(
            f"{pack.name}: expected names of {pack.spec.reference!r} and of another group, found {', '.join(found)}",
            "add names to names.csv, or correct the reference in pack.yaml",
        )
    forms = Counter(form for rows in found.values() for form in {r["form"].casefold() for r in rows})
    if twice := [form for form, n in forms.items() if n > 1]:
        raise PackError(f"{pack.name}: the name {twice[0]!r} stands in two groups", "keep it in one of them")
    return found


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return (axis, "group-vs-reference") for each group but the reference."""
    spec = pack.spec
    return [(spec.axis, f"{g}-vs-{spec.reference}") for g in groups(pack) if g != spec.reference]


def statistics(pack: Pack) -> list[Statistic]:
    """Return the gaps in recall and in errors, and what of the names might explain them."""
    del pack
    rates = {
        "name_recall_exact": ("are {first} names found whole as often as {second} names?", "found exactly"),
        "name_recall_overlap": ("are {first} names found at all as often as {second} names?", "found in part or whole"),
        "name_type_confusion": ("are {first} names taken for places or other things?", "tagged as another type only"),
        "name_boundary": ("are {first} names cut or run together more often?", "found with wrong borders"),
        "name_unknown": ("does the vocabulary lack {first} names more often?", "that hold an unknown piece"),
    }  # fmt: skip
    found = [
        Statistic(
            name=name, rows=name, kind="rate_contrast", unit="share of names", crossed=True, title=title,
            estimand=f"share of {{first}} names {what} less that of {{second}} names, over the same templates",
            caveats=_CAVEATS, sources=_SOURCES, told=told,
        )
        for name, (title, what) in rates.items()
    ]  # fmt: skip
    pieces = Statistic(
        name="name_pieces", rows="name_pieces", kind="contrast", unit="pieces", crossed=True,
        title="are {first} names cut into more pieces than {second} names?",
        estimand="mean number of pieces of {first} names less that of {second} names",
        caveats=("It is a fact of the vocabulary and the list, and may explain a gap in recall without excusing it.",),
        sources=(_AN,),
    )  # fmt: skip
    adjusted = Statistic(
        name="name_recall_adjusted", rows="name_recall_adjusted", kind="custom", unit="share of names",
        title="are {first} names found whole as often as {second} names of as many pieces?",
        estimand="share of {first} names found exactly less that of {second} names, at equal numbers of "
        "pieces (one straight line for both)",
        caveats=(*_CAVEATS, "Names of a group are not cut at random: what is adjusted away may be the harm."),
        sources=(*_SOURCES, _AN), estimator=adjusted_gap,
    )  # fmt: skip
    return [*found, pieces, adjusted]


def told(rows: pd.DataFrame) -> tuple[str, ...]:
    """Return a caveat where the tokenizer takes capitals away."""
    uncased = rows.loc[rows["measure"] == "uncased", "value"]
    if len(uncased) and (uncased == 1).all():
        return ("The model is uncased: it does not see the capitals, which carry names for readers.",)
    return ()


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Tag every template with every name. See `Measure`.

    Rows of each contrast, one a measure, template and name: the outcomes as 0 or 1
    (``name_recall_exact``, ``name_recall_overlap``, ``name_type_confusion``, ``name_boundary``),
    ``name_unknown`` (0 or 1), ``name_pieces``, and ``name_recall_adjusted`` (exact, with the pieces as
    the covariate). Role control: the reference's names at odd places of the list under the name of
    the first group, those at even places under that of the second. Where the language has capitals, one
    row ``uncased``: 1 if the tokenizer takes them away.
    """
    del rng  # nothing is drawn
    named = groups(pack)
    flat = [row for rows in named.values() for row in rows]
    filled = [(t, n, *t.fill(name=n["form"])) for t in pack.templates for n in flat]
    tagged = tagging.read(scorer, [text for _, _, text, _ in filled])
    made = {
        (t.id, n["id"]): _values(scorer, one, *spans["name"])
        for (t, n, _, spans), one in zip(filled, tagged, strict=True)
    }
    rows = _uncased(scorer, pack, [n["form"] for n in flat])
    reference = pack.spec.reference
    for axis, contrast in contrasts(pack):
        group = contrast.partition("-vs-")[0]
        sides = [("probe", g, n) for g in (group, reference) for n in named[g]]
        sides += [("control", (group, reference)[k % 2], n) for k, n in enumerate(named[reference])]
        base = {"pack": pack.name, "axis": axis, "contrast": contrast}
        for role, side, name in sides:
            for t in pack.templates:
                own = {**base, "role": role, "group": side}
                rows += _rows(own, t, name, made[t.id, name["id"]])
    return frame(rows)


Values = tuple[dict[str, float], str]


def _values(scorer: Scorer, tagged: Tagged, start: int, end: int) -> Values:
    """Return the value of each measure for one name in one sentence, and why others have none."""
    if tagged.reason:
        return {}, tagged.reason
    encoded = tagged.encoded
    own = [i for i in encoded.positions if encoded.offsets[i][0] < end and encoded.offsets[i][1] > start]
    if not own:
        return {}, "no piece covers the name"
    unknown = {i for i in encoded.positions if encoded.ids[i] == scorer.unknown_id}
    if not unknown.isdisjoint(own):
        return {"name_unknown": 1.0}, UNKNOWN
    values = {"name_unknown": 0.0, "name_pieces": float(len(own))}
    if unknown:
        return values, "the sentence holds a piece the vocabulary lacks"
    return values | outcome(tagged, *tagged.inside(start, end)), ""


def outcome(tagged: Tagged, first: int, last: int) -> dict[str, float]:
    """Return what became of the name at the words `first` to `last`."""
    touching = [s for s in tagged.spans if s.first <= last and s.last >= first]
    exact = any(s.kind == PERSON and (s.first, s.last) == (first, last) for s in touching)
    found = any(s.kind == PERSON for s in touching)
    return {
        "name_recall_exact": float(exact),
        "name_recall_overlap": float(found),
        "name_type_confusion": float(bool(touching) and not found),
        "name_boundary": float(found and not exact),
        "name_recall_adjusted": float(exact),
    }


_MEASURED = (
    "name_recall_exact", "name_recall_overlap", "name_type_confusion", "name_boundary", "name_unknown",
    "name_pieces", "name_recall_adjusted",
)  # fmt: skip


def _rows(
    base: dict[str, str], template: Template, name: Mapping[str, str], made: Values
) -> Iterable[dict[str, Any]]:
    values, reason = made
    for measure in _MEASURED:
        value = values.get(measure)
        # Only one measure has a covariate: the others' figures must not be taken for slopes on it.
        pieces = values.get("name_pieces") if measure == "name_recall_adjusted" else None
        yield {
            **base, "measure": measure, "item": f"{template.id}/{name['id']}", "cluster_a": template.id,
            "cluster_b": name["id"], "covariate": pieces, "value": value,
            "unit": _UNITS.get(measure, "share of names"), "skipped": reason if value is None else "",
        }  # fmt: skip


def _uncased(scorer: Scorer, pack: Pack, names: list[str]) -> list[dict[str, Any]]:
    cased = [n for n in names if n != n.lower()]
    if not cased:
        return []
    pairs = zip(scorer.encode(cased), scorer.encode([n.lower() for n in cased]), strict=True)
    return [
        {
            "pack": pack.name, "measure": "uncased", "axis": pack.spec.axis, "contrast": "all", "group": "",
            "item": "names", "cluster_a": "", "cluster_b": "", "role": "probe", "covariate": None,
            "value": float(all(a.ids == b.ids for a, b in pairs)), "unit": "yes or no", "skipped": "",
        }
    ]  # fmt: skip


def adjusted_gap(rows: pd.DataFrame, comparisons: int, rng: np.random.Generator) -> Outcome:
    """Return the gap in exact recall at equal numbers of pieces, by least squares.

    No interval where the two groups' numbers of pieces do not overlap: a line would have to be
    extended to where there are no names; nor where nothing varies, since a linear fit then has no width.
    """
    del rng
    first, _, second = str(rows["contrast"].iloc[0]).partition("-vs-")
    y, z = rows["value"].to_numpy(np.float64), rows["covariate"].to_numpy(np.float64)
    clusters = [list(rows["cluster_a"]), list(rows["cluster_b"])]
    sides = [(rows["group"] == g).to_numpy() for g in (first, second)]
    if not all(side.any() for side in sides):
        return Outcome(Estimate(value=0.0, se=0.0, df=0.0), ((0, 0.0),))
    means = [float(z[side].mean()) for side in sides]
    details = {
        "pieces_first": means[0], "pieces_second": means[1],
        "gap_unadjusted": float(y[sides[0]].mean() - y[sides[1]].mean()),
    }  # fmt: skip
    parts = [Design.mean([[c for c, k in zip(own, s, strict=True) if k] for own in clusters]) for s in sides]
    apart = z[sides[0]].min() > z[sides[1]].max() or z[sides[1]].min() > z[sides[0]].max()
    limit = 0.0 if apart else min(part.df for part in parts)
    regressors = [s.astype(np.float64) for s in sides]
    if not apart and any(np.ptp(z[s]) > 0 for s in sides):
        regressors.append(z - z.mean())
    contrast = [1.0, -1.0, 0.0][: len(regressors)]
    design = Design(np.column_stack(regressors), contrast, clusters, limit=limit)
    found = estimate(design.fit(y), comparisons=comparisons)
    if found.se == 0:
        found = Estimate(value=found.value, se=0.0, df=found.df)
    return Outcome(found, design.counts, details)


MEASURE = Measure("name_swap", (Ability.TAG_LOGITS,), run, contrasts, statistics, floored_by="tag_floor")
