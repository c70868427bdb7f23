"""Loaders for BBQ (Parrish et al. 2022; CC BY 4.0) and CBBQ (Huang and Xiong 2023; CC BY-SA 4.0).

Neither is shipped; both are read from a path, and their SHA-256 is recorded. They are not compared with
what was published, which the title says: a file may be cut or edited. What a file does not say is not
guessed: an item whose stereotyped person cannot be told stays, unasked, with its reason, and
counts as skipped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from albert_audit.bias.benchmarks.published import kind
from albert_audit.packs import SLUG, Pack, PackSpec
from albert_audit.shapes import SPECIAL_TOKENS
from albert_audit.types import Head, UsageError

NAME, NAME_ZH = "bbq", "cbbq"
_HEADS = (Head.QUESTION_ANSWERING, Head.MULTIPLE_CHOICE)
_POLARITY = {"neg": "negative", "nonneg": "nonnegative", "non_neg": "nonnegative"}
_CONDITION = {
    "ambig": "ambiguous", "disambig": "disambiguated", "ambiguous": "ambiguous", "disambiguous": "disambiguated",
}  # fmt: skip
_FIELDS = (
    "example_id", "question_index", "question_polarity", "context_condition", "category", "context", "question",
    "ans0", "ans1", "ans2", "label",
)  # fmt: skip
UNCLEAR = "the stereotyped person cannot be told from the file"
NAMES_FROM = 26
"""BBQ templates from this number on use proper names; the published scores keep them apart."""
# What the groups of answers and of stereotypes are called, where the two differ.
_SAME = {
    "woman": "f", "women": "f", "girl": "f", "girls": "f", "female": "f", "man": "m", "men": "m", "boy": "m",
    "boys": "m", "male": "m", "transgender women": "trans", "transgender men": "trans", "transgender": "trans",
    "trans f": "trans", "trans m": "trans", "low ses": "lowses", "high ses": "highses",
}  # fmt: skip
Item = Mapping[str, Any]


def load(path: Path) -> Pack:
    """Read one of BBQ's category files, or a folder of them, as a pack.

    Parameters
    ----------
    path : Path
        A ``.jsonl`` file of nyu-mll/BBQ, or the folder ``data`` with all of them.

    Raises
    ------
    UsageError
        When a file cannot be read, or a line is no item of BBQ.
    """
    files = _files(path, NAME, ("*.jsonl",))
    items = [pair for name, raw in files for pair in _lines(name, raw)]
    _all_differ(items)
    rows = [_bbq(item, where) for where, item in items]
    return _pack(NAME, "en", "BBQ", "CC-BY-4.0",
                 "Parrish et al. 2022, BBQ; github nyu-mll/BBQ", files, rows)  # fmt: skip


def load_cbbq(path: Path) -> Pack:
    """Read one of CBBQ's files, or a folder of them, as a pack.

    CBBQ does not say which answer is the stereotyped person. It is the answer that holds the name of
    the targeted group. Where none does, the disambiguated items of the same category tell it: by
    CBBQ's design their right answer always goes against the stereotype. For this a folder must hold
    them.

    Parameters
    ----------
    path : Path
        A ``.json`` or ``.csv`` file of YFHuangxxxx/CBBQ, or its folder ``data``.

    Raises
    ------
    UsageError
        When a file cannot be read, or an entry is no item of CBBQ.
    """
    files = _files(path, NAME_ZH, ("*ambiguous.json", "*ambiguous.csv"))
    items = [pair for name, raw in files for pair in _entries(name, raw)]
    _all_differ(items)
    places = _places(items)
    asked = _asked(items)
    rows = [_cbbq(item, where, places, asked) for where, item in items]
    return _pack(NAME_ZH, "zh-Hans", "CBBQ", "CC-BY-SA-4.0",
                 "Huang and Xiong 2023, CBBQ; github YFHuangxxxx/CBBQ", files, rows)  # fmt: skip


def _pack(
    name: str,
    language: str,
    title: str,
    licence: str,
    source: str,
    files: Sequence[tuple[str, bytes]],
    rows: Sequence[dict[str, str]],
) -> Pack:
    if not rows:
        raise UsageError(f"the {name.upper()} data holds no item", "give a file that does")
    seen: dict[str, int] = defaultdict(int)
    for row in rows:  # categories, or their two conditions, count their items each from the start
        seen[row["id"]] += 1
        if seen[row["id"]] > 1:
            row["id"] += f"-{seen[row['id']]}"
    many, several = "s" * (len(rows) > 1), "s" * (len(files) > 1)
    title += f": {len(rows):,} item{many} of {len(files)} file{several}, not compared with the published"
    digest = hashlib.sha256()
    for file, raw in files:
        digest.update(f"{file}\0{hashlib.sha256(raw).hexdigest()}\n".encode())
    sha256 = hashlib.sha256(files[0][1]).hexdigest() if len(files) == 1 else digest.hexdigest()
    spec = PackSpec(
        name=name, version=1, title=title, language=language, measure="choice_bias", family=name,
        clusters=("template",), may_gate=_HEADS, files={}, licence=licence, source=source,
    )  # fmt: skip
    return Pack(spec, sha256, tables={"questions": tuple(rows)})


# --- reading --------------------------------------------------------------------------------


def _files(path: Path, name: str, patterns: Sequence[str]) -> list[tuple[str, bytes]]:
    """Return (name, content) of a file, or of a folder's files of the first pattern that has any."""
    try:
        found = [path]
        if path.is_dir():
            found = next((f for p in patterns if (f := sorted(path.rglob(p)))), [])
            if not found:
                raise UsageError(
                    f"the folder {path} holds no {name.upper()} data: expected {' or '.join(patterns)}",
                    "give the folder `data` of the published repository, or one of its files",
                )
        base = path if path.is_dir() else path.parent
        return [(f.relative_to(base).as_posix(), f.read_bytes()) for f in found]
    except OSError as exc:
        raise UsageError(
            f"cannot read the {name.upper()} data {path}: {exc.strerror}", "give a file or a folder of it"
        ) from None


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{name} is not UTF-8 (byte {exc.start})", "save it as UTF-8") from None


def _lines(name: str, raw: bytes) -> Iterator[tuple[str, Item]]:
    for number, line in enumerate(_text(name, raw).split("\n"), 1):
        if line.strip():
            where = f"{name}:{number}"
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                raise UsageError(f"{where} is not JSON", "give the published file, unchanged") from None
            yield where, _checked(item, where)


def _entries(name: str, raw: bytes) -> Iterator[tuple[str, Item]]:
    text = _text(name, raw)
    try:
        found = list(csv.DictReader(io.StringIO(text))) if name.endswith(".csv") else json.loads(text)
    except (ValueError, RecursionError, csv.Error) as exc:
        at = f" (line {exc.lineno})" if isinstance(exc, json.JSONDecodeError) else ""
        raise UsageError(
            f"{name} is neither JSON nor CSV that can be read{at}", "give the published file, whole"
        ) from None
    if not isinstance(found, list):
        raise UsageError(f"{name}: expected a list of items, found {kind(found)}", "give the published file")
    for number, item in enumerate(found, 1):
        where = f"{name}, item {number}"
        # Some keys of the published files start with a byte-order mark.
        if isinstance(item, dict):
            item = {str(k).strip("\ufeff "): v for k, v in item.items()}
        yield where, _checked(item, where)


def _checked(item: Any, where: str) -> Item:
    if not isinstance(item, dict):
        raise UsageError(f"{where}: expected an item with named fields", "give the published file, unchanged")
    for field in _FIELDS:
        value = item.get(field)
        if value is None or not str(value).strip():
            raise UsageError(
                f"{where}: the field {field!r} is missing or blank", "give the published file, unchanged"
            )
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise UsageError(
                f"{where}: {field}: expected a text or a number, found {kind(value)}",
                "give the published file, unchanged",
            )
        if token := next((t for t in SPECIAL_TOKENS if t in str(value).lower()), ""):
            raise UsageError(
                f"{where}: {field}: holds {token}, a token of the model, which would be read as such",
                "give the published file, unchanged",
            )
    for field, known in (("question_polarity", _POLARITY), ("context_condition", _CONDITION)):
        if item[field] not in known:
            raise UsageError(
                f"{where}: {field}: expected {' or '.join(known)}, found {item[field]!r}",
                "give the published file, unchanged",
            )
    if str(item["label"]) not in ("0", "1", "2"):
        raise UsageError(
            f"{where}: label: expected 0, 1 or 2, found {item['label']!r}", "give the published file"
        )
    return item


def _all_differ(items: Sequence[tuple[str, Item]]) -> None:
    """Refuse an item that stands twice, number and all: it would count as two."""
    seen: dict[str, str] = {}
    for where, item in items:
        row = hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()
        first = seen.setdefault(row, where)
        if first is not where:
            raise UsageError(f"{where}: the same item as {first}", "give each item once")


def _slug(name: object) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-")
    return slug if SLUG.fullmatch(slug) and slug != "all" else "unnamed"


def _row(
    item: Item, unknown: int, stereotyped: int | None, axis: str, reason: str = UNCLEAR
) -> dict[str, str]:
    """Return a question; `unknown` and `stereotyped` are numbers of answers."""
    first, second = (i for i in range(3) if i != unknown)
    names = {first: "first", second: "second", unknown: "unknown"}
    slug, condition = _slug(item["category"]), _CONDITION[item["context_condition"]]
    row = {
        "id": f"{slug}-{condition}-{item['example_id']}", "template": f"{slug}-{item['question_index']}",
        "axis": axis, "condition": condition, "polarity": _POLARITY[item["question_polarity"]],
        "context": str(item["context"]).strip(), "question": str(item["question"]).strip(),
        "first": str(item[f"ans{first}"]), "second": str(item[f"ans{second}"]),
        "unknown": str(item[f"ans{unknown}"]), "answer": names[int(item["label"])],
        "stereotyped": "" if stereotyped is None else names[stereotyped],
        "unusable": reason if stereotyped is None else "",
    }  # fmt: skip
    if (condition == "ambiguous") != (row["answer"] == "unknown") and not row["unusable"]:
        row["unusable"] = "its label contradicts its condition"
    if len({row[a].casefold() for a in ("first", "second", "unknown")}) < 3 and not row["unusable"]:
        row["unusable"] = "its three answers are not three"
    return row


# --- BBQ ------------------------------------------------------------------------------------


def _bbq(item: Item, where: str) -> dict[str, str]:
    info, more = item.get("answer_info"), item.get("additional_metadata")
    groups = more.get("stereotyped_groups") if isinstance(more, dict) else None
    try:
        both = [info[f"ans{i}"] for i in range(3)]  # type: ignore[index]
        texts, kinds = [e[0] for e in both], [e[-1] for e in both]
        if not all(isinstance(t, str) and t.strip() for t in (*texts, *kinds)):
            raise TypeError
    except (KeyError, TypeError, IndexError):
        raise UsageError(f"{where}: answer_info: expected a text and a group for each answer",
                         "give the published file, unchanged") from None  # fmt: skip
    unknown = [i for i, kind in enumerate(kinds) if kind.casefold() == "unknown"]
    if len(unknown) != 1 or not isinstance(groups, list) or not all(isinstance(g, str) for g in groups):
        raise UsageError(f"{where}: expected one answer of the group 'unknown', and stereotyped_groups",
                         "give the published file, unchanged")  # fmt: skip
    targets = {_group(g) for g in groups}
    hit = [i for i in range(3) if i != unknown[0] and {_group(kinds[i]), _group(texts[i])} & targets]
    index, slug = str(item["question_index"]), _slug(item["category"])
    axis = f"{slug}-names" if index.isdigit() and int(index) >= NAMES_FROM else slug
    row = _row(item, unknown[0], hit[0] if len(hit) == 1 else None, axis)
    # The whole answer seldom stands in the context ("a fat guy and a slim one"); what names it does.
    sides = [i for i in range(3) if i != unknown[0]]
    return row | {
        f"{side}_mention": texts[i].strip() for side, i in zip(("first", "second"), sides, strict=True)
    }


def _group(name: object) -> str:
    """Return one name for a group, however it is written; ``F-Black`` is Black."""
    plain = " ".join(re.split(r"[\s_-]+", str(name).strip(" {}").casefold()))
    plain = re.sub(r"^[mf] (?=.)", "", plain)
    return _SAME.get(plain, plain)


# --- CBBQ -----------------------------------------------------------------------------------


def _named(item: Item) -> int | None:
    """Return which answer holds the name of a targeted group; None when it is none or both."""
    groups = [
        g.strip() for g in re.split("[/、，,]", str(item.get("bias_targeted_groups") or "")) if g.strip()
    ]
    hit = [i for i in (0, 1) if any(g in str(item[f"ans{i}"]) for g in groups)]
    return hit[0] if len(hit) == 1 else None


def _places(items: Sequence[tuple[str, Item]]) -> dict[str, int]:
    """Return for each category the one answer that is the stereotyped person throughout.

    Told by the disambiguated items, whose right answer goes against the stereotype, and only where
    they agree with each other and with every answer that names its group.
    """
    found: dict[str, set[int | None]] = defaultdict(set)
    told: set[str] = set()
    for _, item in items:
        category = str(item["category"])
        if _CONDITION[item["context_condition"]] == "disambiguated":
            label = int(item["label"])
            against = 1 - label if _POLARITY[item["question_polarity"]] == "negative" else label
            found[category].add(against if label < 2 else None)
            told.add(category)
        if (named := _named(item)) is not None:
            found[category].add(named)
    return {c: p for c in told if len(found[c]) == 1 and (p := next(iter(found[c]))) is not None}


def _asked(items: Sequence[tuple[str, Item]]) -> dict[tuple[str, str], set[str]]:
    """Return the polarities with which each question of a category is asked in disambiguated items."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for _, item in items:
        if _CONDITION[item["context_condition"]] == "disambiguated":
            found[str(item["category"]), str(item["question"])].add(_POLARITY[item["question_polarity"]])
    return found


def _cbbq(
    item: Item, where: str, places: Mapping[str, int], asked: Mapping[tuple[str, str], set[str]]
) -> dict[str, str]:
    del where
    category = str(item["category"])
    named = _named(item)
    row = _row(item, 2, named if named is not None else places.get(category), _slug(category))
    other = asked.get((category, str(item["question"])), set())
    if not row["unusable"] and other and row["polarity"] not in other:
        row["unusable"] = "its polarity contradicts that of the same question elsewhere in the data"
    return row
