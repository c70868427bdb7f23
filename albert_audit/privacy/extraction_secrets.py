"""The secrets that an auditor looks for: their table, and how a secret is found in other texts.

No message holds a cell of the table: a column may have been mistaken for another.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from albert_audit import tables
from albert_audit.privacy.canary_manifest import SLOT
from albert_audit.privacy.detectors import find
from albert_audit.redact import Secret, canonical
from albert_audit.types import UsageError

OTHER = "other"
MOST_KINDS = 20
_KIND = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LONGEST_KIND = 30
_TRUE, _FALSE = ("yes", "true", "1"), ("no", "false", "0")
_COLUMNS = ("text", "secret", "id", "kind", "trained", "person", "name")
_IDEOGRAPH = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True)
class Entry:
    """One secret in its record.

    Attributes
    ----------
    id : str
        The auditor's; the only thing of the table that a report holds.
    text, secret : Secret
    start : int
        The character of the text at which the secret begins.
    kind : str
        Lower-case words with hyphens.
    trained : bool
        Whether the record was trained on; else it is a control.
    person : Secret
        Whose; records that share a person or a secret have the same one.
    name : Secret or None
        How prompts may call that person.
    """

    id: str
    text: Secret
    secret: Secret
    start: int
    kind: str
    trained: bool
    person: Secret
    name: Secret | None = None

    @property
    def form(self) -> str:
        """The secret's canonical form. It is as secret as the secret."""
        return canonical(self.secret.reveal())

    @property
    def language(self) -> str:
        """``zh`` where the record has ideographs, else ``en``."""
        return "zh" if _IDEOGRAPH.search(self.text.reveal()) else "en"

    @property
    def parts(self) -> tuple[str, str]:
        """What stands before and behind the secret in its record."""
        text, secret = self.text.reveal(), self.secret.reveal()
        return text[: self.start], text[self.start + len(secret) :]


@dataclass(frozen=True)
class Secrets:
    """The table, checked.

    Attributes
    ----------
    entries : tuple of Entry
    sha256 : str
        Of the file; it is not for reports, which it would let others test guesses against.
    """

    entries: tuple[Entry, ...]
    sha256: str = field(default="", repr=False)

    @property
    def kinds(self) -> list[str]:
        """The kinds, in order."""
        return sorted({e.kind for e in self.entries})

    def count(self, *, trained: bool) -> int:
        """Return how many are of one side."""
        return sum(e.trained == trained for e in self.entries)


def read(path: Path) -> Secrets:
    """Read the secrets to look for.

    Parameters
    ----------
    path : Path
        A table with the columns ``text`` (holds the secret once) and ``secret``. Optional: ``id``, else the
        number of the row; ``kind``, else what the detectors take it for, or ``other``; ``trained``, ``yes``
        (when left out) or ``no``; ``person``, which may be a number; ``name``, by which prompts may call them.

    Raises
    ------
    UsageError
        When a cell is missing or contradicts another, with the number of its row and never its content.
    """
    (header, rows), sha256 = tables.read(path)
    columns = [str(h).strip().casefold() for h in header]
    for name in ("text", "secret"):
        if columns.count(name) != 1:
            raise UsageError(
                f"{path}: expected a column called {name!r} once, found {columns.count(name)} among "
                f"{len(columns)} columns", f"name the columns in the first row: {', '.join(_COLUMNS)}",
            )  # fmt: skip
    if twice := [c for c in _COLUMNS if columns.count(c) > 1]:
        raise UsageError(
            f"{path}: the column {twice[0]!r} is there {columns.count(twice[0])} times", "keep one"
        )
    if not rows:
        raise UsageError(f"{path} has no rows", "give one secret a row")
    at = {c: columns.index(c) for c in _COLUMNS if c in columns}
    given = [{c: _cell(path, n, row[i]) for c, i in at.items()} for n, row in enumerate(rows, 1)]
    entries = [_entry(path, n, cells) for n, cells in enumerate(given, 1)]
    _differ(path, entries)
    _controls_are_clean(path, entries)
    if len({e.kind for e in entries}) > MOST_KINDS:
        raise UsageError(
            f"{path} holds more than {MOST_KINDS} kinds of secrets",
            "merge kinds, or take out the column 'kind'",
        )
    return Secrets(_joined(entries), sha256)


# --- finding a secret ------------------------------------------------------------------------


def occurrences(text: str, secret: str) -> int:
    """Return how often a text holds a secret, however it is written.

    Case, width, punctuation and spaces do not count. A number inside a longer number, or a word inside a
    longer word, is another one; in Chinese, which has no word borders, it counts.
    """
    return len(_pattern(canonical(secret)).findall(_folded(text)))


def documents(corpus: Sequence[str], secrets: Sequence[str]) -> list[int]:
    """Return for each secret how many of the texts hold it: the k of k-eidetic memory.

    Source: Carlini et al. (2021), Extracting Training Data from Large Language Models, USENIX Security.
    """
    folded = [(_folded(t), canonical(t)) for t in corpus]
    out = []
    for secret in secrets:
        form = canonical(secret)
        pattern = _pattern(form)
        out.append(sum(form in bare and pattern.search(plain) is not None for plain, bare in folded))
    return out


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@functools.lru_cache(maxsize=4096)
def _pattern(form: str) -> re.Pattern[str]:
    def border(sign: str, ahead: str) -> str:
        if _IDEOGRAPH.match(sign):
            return ""
        return rf"(?{ahead}\d)" if sign.isdigit() else rf"(?{ahead}[^\W\d_])"

    body = r"[\W_]{0,3}".join(map(re.escape, form))
    return re.compile(border(form[0], "<!") + body + border(form[-1], "!"))


# --- reading ---------------------------------------------------------------------------------


def _cell(path: Path, row: int, value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise UsageError(
            f"{path}: row {row}: expected text in each cell, found a {type(value).__name__}", "flatten it"
        )
    return str(value)


def _entry(path: Path, row: int, cells: dict[str, str]) -> Entry:
    def wrong(found: str, hint: str) -> UsageError:
        return UsageError(f"{path}: row {row} (the first after the header being 1): {found}", hint)

    text, secret = cells["text"], cells["secret"].strip()
    if not text.strip() or not canonical(secret):
        raise wrong(
            "the text or the secret is empty or has no letter or digit", "fill it or take the row out"
        )
    if SLOT in text:
        raise wrong(f"the text holds {SLOT}, which stands for the secret", "write it otherwise")
    if text.count(secret) != 1:
        raise wrong(
            f"the text holds the secret {text.count(secret)} times, expected once", "copy it as it stands"
        )
    if occurrences(text, secret) > 1:
        raise wrong(
            "the rest of the text holds the secret too, in another spelling: filling it in would be copying",
            "shorten the text",
        )
    start = text.index(secret)
    kind = re.sub(r"[\s_]+", "-", cells.get("kind", "").strip().casefold()) or _detected(text, start, secret)
    if not _KIND.fullmatch(kind) or kind == "all" or len(kind) > _LONGEST_KIND or _told(kind, secret):
        raise wrong(
            "this is no kind", f"name kinds in at most {_LONGEST_KIND} lower-case letters, digits and hyphens"
        )
    said = cells.get("trained", "yes").strip().casefold()
    if said not in (*_TRUE, *_FALSE):
        raise wrong(
            "expected yes or no in the column 'trained'", "say whether the model was trained on the row"
        )
    name, person = cells.get("name", "").strip(), cells.get("person", "").strip()
    own = cells["id"].strip() if "id" in cells else str(row)
    if not own:
        raise wrong("there is no id", "fill the column, or take it out: rows are numbered")
    if "id" in cells and any(_told(own, s) for s in (secret, name) if canonical(s)):
        raise wrong("the id holds the secret or the name, and reports print ids", "number the rows instead")
    owner = f"person {person}" if person else f"person {name}" if name else f"secret {own}"
    return Entry(
        own,
        Secret(text),
        Secret(secret),
        start,
        kind,
        said in _TRUE,
        Secret(owner),
        Secret(name) if name else None,
    )


def _told(printed: str, secret: str) -> bool:
    """Whether something that is printed gives a secret away."""
    return occurrences(printed, secret) > 0 or (
        len(canonical(secret)) > 3 and canonical(secret) in canonical(printed)
    )


def _detected(text: str, start: int, secret: str) -> str:
    """Return the kind by the detectors. They know no names, so that a name without a kind is ``other``."""
    for inside, begin in ((text, start), (secret, 0)):
        end = begin + len(secret)
        for hit in find(inside):
            shared = min(hit.end, end) - max(hit.start, begin)
            if shared >= 0.8 * max(hit.end - hit.start, len(secret)):
                return hit.kind.replace("_", "-")
    return OTHER


def _differ(path: Path, entries: Sequence[Entry]) -> None:
    rows: dict[str, int] = {}
    for n, entry in enumerate(entries, 1):
        if entry.id in rows:
            raise UsageError(
                f"{path}: rows {rows[entry.id]} and {n} have the same id", "give each row its own"
            )
        rows[entry.id] = n
    sides: dict[str, tuple[int, bool]] = {}
    for n, entry in enumerate(entries, 1):
        row, trained = sides.setdefault(entry.form, (n, entry.trained))
        if trained != entry.trained:
            raise UsageError(
                f"{path}: the secret of row {row} is the same as that of row {n}, and only one is said to be trained",
                "a secret that was trained on anywhere is no control",
            )


def _controls_are_clean(path: Path, entries: Sequence[Entry]) -> None:
    """Refuse a control whose secret stands in a record that was trained on."""
    trained = [(n, e) for n, e in enumerate(entries, 1) if e.trained]
    plain = [(n, _folded(e.text.reveal()), canonical(e.text.reveal())) for n, e in trained]
    for n, entry in enumerate(entries, 1):
        if entry.trained:
            continue
        for row, text, bare in plain:
            if entry.form in bare and _pattern(entry.form).search(text):
                raise UsageError(
                    f"{path}: the text of row {row}, which was trained on, holds the secret of row {n}, which is said "
                    "not to be", f"take row {n} out, or say that it was trained on",
                )  # fmt: skip


def _joined(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries; those that share a person or a secret depend on each other and get one person."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for e in entries:
        parent[root(f"={e.form}")] = root(e.person.reveal())
    return tuple(
        Entry(e.id, e.text, e.secret, e.start, e.kind, e.trained, Secret(root(e.person.reveal())), e.name)
        for e in entries
    )
