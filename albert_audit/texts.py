"""The auditor's own texts: their columns, and their labels in the model's words.

Numbers and dates are kept as text, and no row is ever left out.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from albert_audit import tables
from albert_audit.config import Texts
from albert_audit.packs import Given, Text
from albert_audit.types import Decision, UsageError

MOST_GROUPS = 50
"""A column with more values than this is an id or free text, not a group of people."""
_LONGEST_AXIS, _LONGEST_GROUP = 20, 22  # ids of findings have at most 200 characters
_NONE = "none"
_NOTHING = frozenset({"nan", "NaN", "<NA>", "NaT", "NULL", "null"})
"""What programs write for a missing value, and people for nothing else."""
MAYBE_NOTHING = frozenset({"none", "na", "n-a"})
"""Groups that may be a missing value, or an answer (no religion, Namibia)."""


def load(config: Texts) -> Given:
    """Read the texts.

    Parameters
    ----------
    config : Texts
        The file, its columns, and the language.

    Returns
    -------
    Given
        A text without a label has an empty one; a text without a group has no entry for that axis.
        Names of columns and groups are lower-case words with hyphens, as the ids of findings are.

    Raises
    ------
    UsageError
        When the file cannot be read, a column is missing, a text is empty or a program's word for a
        missing value, an id stands twice, a group is such a word, or two values of a group column
        become one.
    """
    path = Path(config.path).expanduser()
    roles = [config.text, *filter(None, (config.id, config.label, config.person)), *config.groups]
    if twice := [c for c, n in Counter(roles).items() if n > 1]:
        raise UsageError(
            f"the column {twice[0]!r} is named for two things",
            "text, id, label, person and each group need a column of their own",
        )
    (header, rows), sha256 = tables.read(path)
    for column in roles:
        if column not in header:
            near = difflib.get_close_matches(column, header, n=1)
            raise UsageError(
                f"{path} has no column {column!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                f"its columns are {', '.join(header)}",
            )
    if repeated := [c for c, n in Counter(header).items() if n > 1]:
        raise UsageError(f"{path}: the column {repeated[0]!r} is there twice", "rename one")
    if not rows:
        raise UsageError(f"{path} has no rows", "give a file with a header and one text a row")
    columns = {
        c: [_text(row[i], lists=c == config.label) for row in rows]
        for i, c in enumerate(header)
        if c in roles
    }
    contents = columns[config.text]
    if empty := [str(i) for i, t in enumerate(contents, 1) if not t.strip()]:
        raise UsageError(
            f"{path}: {len(empty)} of {len(rows)} texts are empty (row {', '.join(empty[:5])}"
            f"{', ...' if len(empty) > 5 else ''}, the first after the header being 1)",
            "fill them or take these rows out",
        )
    if missing := [str(i) for i, t in enumerate(contents, 1) if t.strip() in _NOTHING]:
        raise UsageError(
            f"{path}: {len(missing)} of {len(rows)} texts are nothing but {contents[int(missing[0]) - 1].strip()!r} "
            f"or the like (row {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}), as programs write a "
            "missing value",
            "fill them or take these rows out; if it is the text, put a full stop after it",
        )
    ids = _ids(path, columns[config.id]) if config.id else [str(i) for i in range(1, len(rows) + 1)]
    labels = [v.strip() for v in columns[config.label]] if config.label else [""] * len(rows)
    if config.label and not any(labels):
        raise UsageError(f"{path}: the column {config.label!r} has no label", "name another column")
    persons = [v.strip() for v in columns[config.person]] if config.person else [""] * len(rows)
    axes = _axes(config.groups)
    slugs = {axis: _groups(path, c, columns[c]) for axis, c in zip(axes, config.groups, strict=True)}
    texts = tuple(
        Text(i, text, label, tuple((axis, slugs[axis][k]) for axis in axes if slugs[axis][k]), person)
        for k, (i, text, label, person) in enumerate(zip(ids, contents, labels, persons, strict=True))
    )
    return Given(texts, sha256, config.language.partition("-")[0].lower(), bool(config.label), axes)


def matched(given: Given, decision: Decision) -> Given:
    """Return the texts with their labels written as the model writes them.

    A label is the model's name for it, that name in another case, or its index (``1`` or
    ``LABEL_1``). One way must serve for all texts: a column of 1 to 5 is never read half as names and
    half as indices. With several labels a text (`decision.kind` is ``multi``) they are separated by
    ``;``, and ``none`` stands for no label. A regression takes numbers.

    Raises
    ------
    UsageError
        When a label is not one of the model's, with the list of those.
    """
    if not given.labelled:
        return given
    several = decision.kind == "multi"
    written = [_parts(t.label) if several else [t.label] * bool(t.label) for t in given.texts]
    found = {value for values in written for value in values}
    if mixed := [t.label for t, v in zip(given.texts, written, strict=True) if _NONE in v and len(v) > 1]:
        raise UsageError(
            f"the label {mixed[0]!r} names labels and says that there are none",
            f"write {_NONE!r} alone, or leave it out",
        )
    if decision.kind == "regression":
        wrong = sorted(v for v in found if not _is_number(v))
        if wrong:
            raise UsageError(
                f"this model gives a number; the label {wrong[0]!r} is not one", "give numbers as labels"
            )
        return given
    names = _naming(sorted(found - ({_NONE} if several else set())), decision.labels)
    if several:
        names.setdefault(_NONE, _NONE)
    texts = [
        replace(t, label=";".join(names[v] for v in values))
        for t, values in zip(given.texts, written, strict=True)
    ]
    return replace(given, texts=tuple(texts))


def labels_of(text: Text) -> frozenset[str]:
    """Return the labels of a text that has been `matched`; none for ``none``."""
    return frozenset(_parts(text.label)) - {_NONE}


def may_be_nothing(text: str) -> bool:
    """Whether a text is nothing but a word that people, too, write for a missing value."""
    return text.strip().casefold() in {"none", "na", "n/a"}


def _parts(label: str) -> list[str]:
    return [p.strip() for p in label.split(";") if p.strip()]


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _naming(found: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Return the model's name of each label, by the first way of writing that serves for all."""
    folded = {name.casefold(): name for name in labels}
    numbered = {str(i): name for i, name in enumerate(labels)}
    index = {v: re.sub(r"^label_|\.0+$", "", v.casefold()) for v in found}
    ways = [
        {v: v for v in found if v in labels},
        {v: folded[v.casefold()] for v in found if v.casefold() in folded} if len(folded) == len(labels) else {},
        {v: numbered[index[v]] for v in found if index[v] in numbered},
    ]  # fmt: skip
    best = max(ways, key=len)
    if len(best) == len(found):
        return best
    wrong = next(v for v in found if v not in best)
    raise UsageError(
        f"the label {wrong!r} of your texts is not one of the model's",
        f"its labels are {', '.join(labels)}; write all labels as these names, or all as their index from 0",
    )


# --- columns ----------------------------------------------------------------------------------


def _ids(path: Path, values: Sequence[str]) -> list[str]:
    ids = [v.strip() for v in values]
    if blank := [i for i, v in enumerate(ids, 1) if not v]:
        raise UsageError(
            f"{path}: row {blank[0]} has no id", "fill the column, or name none: rows are numbered"
        )
    if twice := [v for v, n in Counter(ids).items() if n > 1]:
        raise UsageError(
            f"{path}: {len(twice)} ids stand more than once, the first in row {ids.index(twice[0]) + 1}",
            "give each row an id of its own, or name no id column: rows are numbered",
        )
    return ids


def _axes(columns: Sequence[str]) -> tuple[str, ...]:
    axes = [_slug(c, _LONGEST_AXIS) for c in columns]
    if twice := [a for a, n in Counter(axes).items() if n > 1]:
        both = " and ".join(repr(c) for c, a in zip(columns, axes, strict=True) if a == twice[0])
        raise UsageError(f"the group columns {both} would have one name, {twice[0]!r}", "rename one")
    for column, axis in zip(columns, axes, strict=True):
        # These mean something else in the ids of findings.
        if not axis or axis == "all" or "-vs-" in axis or "-x-" in axis:
            raise UsageError(f"a group column cannot be called {column!r}", "rename it, e.g. 'gender'")
    return tuple(axes)


def _groups(path: Path, column: str, values: Sequence[str]) -> list[str]:
    """Return the slug of each value; empty where there is none."""
    stripped = [v.strip() for v in values]
    known = sorted({v for v in stripped if v})
    # As a group of people it would be compared with the others, and could be the reference.
    if missing := [v for v in known if v in _NOTHING or v == "None"]:
        raise UsageError(
            f"{path}: a group of {column!r} is called {missing[0]!r}, as programs write a missing value",
            "leave the cell empty for a text of no group; if it is a group, write its name out, e.g. 'no religion'",
        )
    if len(known) < 2:
        raise UsageError(
            f"{path}: the group column {column!r} holds {len(known)} group{'s' * (len(known) != 1)}; "
            "two are needed to compare", "name another column",
        )  # fmt: skip
    if len(known) > MOST_GROUPS:
        raise UsageError(
            f"{path}: the group column {column!r} holds {len(known)} groups, at most {MOST_GROUPS} are compared",
            "merge groups, or name a column that is no id or free text",
        )
    slugs = {v: _slug(v, _LONGEST_GROUP) for v in known}
    for value, slug in slugs.items():
        if "-vs-" in slug or "-x-" in slug:
            raise UsageError(
                f"{path}: a group cannot be called {value!r}", "leave ' vs ' and ' x ' out of it"
            )
        if alike := [v for v in known if v != value and slugs[v] == slug]:
            raise UsageError(
                f"{path}: the groups {value!r} and {alike[0]!r} of {column!r} would have one name, {slug!r}",
                "write one group in one way",
            )
    return [slugs[v] if v else "" for v in stripped]


def _slug(value: str, longest: int) -> str:
    """Return lower-case ASCII words with hyphens; other scripts as code points, long ones shortened."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", value) if not unicodedata.combining(c)).lower()
    spelled = "".join(
        c if c.isascii() else f"-u{ord(c):04x}-" if c.isalnum() else "-" for c in plain
    )  # fmt: skip
    slug = re.sub(r"[^a-z0-9]+", "-", spelled).strip("-")
    if not slug and value.strip():  # only signs, e.g. "+" and "-"
        slug = "-".join(f"u{ord(c):04x}" for c in value.strip())
    if len(slug) <= longest:
        return slug
    mark = hashlib.sha256(value.encode()).hexdigest()[:5]
    return f"{slug[: longest - 6].strip('-')}-{mark}"


def _text(value: object, *, lists: bool = False) -> str:
    """Return a cell as text: nothing for null and NaN, numbers as they are, lists with semicolons."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if lists and isinstance(value, list):
        return ";".join(_text(v) for v in value) or _NONE
    if isinstance(value, (list, dict, bytes)):
        raise UsageError(
            f"expected text or a number in each cell, found a {type(value).__name__}", "flatten it"
        )
    return str(value)
