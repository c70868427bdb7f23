"""Probe packs: found, loaded, validated and hashed. A pack is data; none of it is ever run."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from albert_audit import resources
from albert_audit.types import Document, Head, PackError, PackRef, UsageError

# What each measure needs of a pack: its files, and the fields of pack.yaml beyond the common ones.
NEEDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "template_gap": (("templates", "fillers"), ("axis", "groups", "reference", "clusters")),
    "pair_preference": (("pairs",), ("clusters",)),
    "sentence_floor": (("sentences",), ()),
}
# Columns of each file: required, then optional.
COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "templates": (("id", "family", "text"), ()),
    "fillers": (("id", "form", "group", "covariate"), ("match",)),
    "pairs": (("id", "axis", "template", "more", "less"), ()),
    "sentences": (("id", "text"), ()),
}
SPECIAL_TOKENS = ("[MASK]", "[CLS]", "[SEP]", "[UNK]", "[PAD]", "<unk>", "<pad>")
_SLOTS = frozenset({"target", "filler"})
SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class PackSpec(Document):
    """``pack.yaml``."""

    kind: ClassVar[str] = "pack"
    by_hand: ClassVar[bool] = True
    name: str
    version: int = Field(ge=1)
    title: str = Field(min_length=1)
    language: str = Field(pattern=r"^[a-z]{2}(-[A-Za-z]+)?$")
    measure: str
    axis: str = ""
    family: str = ""
    role: Literal["probe", "placebo"] = "probe"
    clusters: tuple[Literal["template", "filler", "writer"], ...] = ()
    groups: dict[str, tuple[str, ...]] = {}
    reference: str = ""
    controls: tuple[str, ...] = ()
    margins: dict[str, float] = Field(
        {}, description="placebo packs: how far each statistic may lie from its null before it vetoes"
    )
    may_gate: tuple[Head, ...] = ()
    files: dict[str, str]
    licence: str = Field(min_length=1)
    source: str = Field(min_length=1)
    harm: str = ""
    affected: str = ""

    @field_validator("groups", mode="before")
    @classmethod
    def _words(cls, groups: Any) -> Any:
        # YAML 1.1 reads an unquoted `no` or `on` as a boolean; a word list must hold words.
        if isinstance(groups, dict):
            for name, words in groups.items():
                if (
                    not isinstance(words, list)
                    or not words
                    or not all(isinstance(w, str) and w for w in words)
                ):
                    raise ValueError(f'group {name!r}: expected a list of words (quote words such as "no")')
        return groups


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence with slots."""

    id: str
    family: str
    text: str

    def fill(self, **words: str) -> tuple[str, dict[str, tuple[int, int]]]:
        """Return the sentence and the (start, end) of each word put into it."""
        out, spans = "", {}
        for literal, slot, _, _ in string.Formatter().parse(self.text):
            out += literal
            if slot is not None:
                word = words[slot]
                if not out and word[:1].islower():
                    word = word[0].upper() + word[1:]
                spans[slot] = (len(out), len(out) + len(word))
                out += word
        return out, spans


@dataclass(frozen=True, slots=True)
class Filler:
    """A word for the slot ``{filler}``."""

    id: str
    form: str
    group: str
    covariate: float | None
    match: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """A minimal pair; `more` is the stereotyping side in every row."""

    id: str
    axis: str
    cluster: str
    more: str
    less: str
    confirmed: int | None = None


@dataclass(frozen=True, slots=True)
class Pack:
    """A validated pack."""

    spec: PackSpec
    sha256: str
    templates: tuple[Template, ...] = ()
    fillers: tuple[Filler, ...] = ()
    pairs: tuple[Pair, ...] = ()
    sentences: tuple[tuple[str, str], ...] = ()
    folder: Path | None = None

    @property
    def language(self) -> str:
        """The language without its script: ``zh`` for ``zh-Hans``."""
        return self.spec.language.partition("-")[0]

    def beside(self, name: str) -> Path | None:
        """Return the folder of another pack: next to this one, or shipped; None when there is none."""
        near = self.folder.parent / name if self.folder is not None else None
        if near is not None and (near / "pack.yaml").is_file():
            return near
        return resources.probes() / name if name in shipped() else None

    @property
    def name(self) -> str:
        """The pack's name."""
        return self.spec.name

    def texts(self) -> list[str]:
        """Return the sentences of the pack, for counting unknown tokens."""
        if self.templates:
            word = self.spec.groups[self.spec.reference][0]
            return [t.fill(target=word, filler=f.form)[0] for t in self.templates for f in self.fillers]
        if self.pairs:
            return [s for p in self.pairs for s in (p.more, p.less)]
        return [text for _, text in self.sentences]

    def ref(self, head: Head) -> PackRef:
        """Return the reference that the manifest keeps."""
        s = self.spec
        return PackRef(
            name=s.name, version=s.version, sha256=self.sha256, licence=s.licence, language=s.language,
            title=s.title, source=s.source, may_gate=head in s.may_gate,
        )  # fmt: skip


# --- finding --------------------------------------------------------------------------------


def shipped() -> list[str]:
    """Return the names of the shipped packs."""
    return sorted(p.parent.name for p in resources.probes().glob("*/pack.yaml"))


def find(name: str) -> Path:
    """Return the folder of a pack given by name or by path.

    Raises
    ------
    UsageError
        With the nearest shipped name.
    """
    given = Path(name).expanduser()
    if (given / "pack.yaml").is_file():
        return given
    if name in shipped():
        return resources.probes() / name
    if given.is_dir():
        raise UsageError(f"the folder {name} has no pack.yaml", "`albert-audit packs new DIR` starts a pack")
    near = difflib.get_close_matches(name, shipped(), n=1, cutoff=0.4)
    raise UsageError(
        f"there is no pack {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        "`albert-audit packs list` shows the shipped ones; a pack of your own is given as a folder",
    )


# --- loading --------------------------------------------------------------------------------


def load(folder: Path) -> Pack:
    """Read a pack and check all of it.

    Raises
    ------
    PackError
        Listing every mistake, each with its file and line.
    """
    mistakes: list[str] = []
    raw = _read(folder / "pack.yaml", mistakes)
    spec = _spec(folder, raw, mistakes) if raw is not None else None
    tables: dict[str, list[dict[str, str]]] = {}
    digest = hashlib.sha256(raw.encode() if raw is not None else b"")
    if spec is not None:
        for kind in sorted(spec.files):
            text = _read(folder / spec.files[kind], mistakes)
            if text is not None:
                digest.update(f"\0{kind}\0".encode() + text.encode())
                tables[kind] = _table(spec.files[kind], kind, text, mistakes)
    if not (folder / "README.md").is_file():
        mistakes.append("README.md: missing; it says why each list is what it is and what it cannot show")
    pack = _build(spec, digest.hexdigest(), tables, folder, mistakes) if spec is not None else None
    if mistakes or pack is None:
        raise PackError(
            f"the pack {folder.resolve().name} has {len(mistakes)} mistake{'s' * (len(mistakes) != 1)}:\n"
            + "\n".join(f"  {m}" for m in mistakes),
            "the format is described in docs/reference/packs.md",
        )
    return pack


def _read(path: Path, mistakes: list[str]) -> str | None:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as exc:
        mistakes.append(f"{path.name}: cannot be read ({exc.strerror})")
    except UnicodeDecodeError as exc:
        mistakes.append(f"{path.name}: not UTF-8 (byte {exc.start}); save it as UTF-8")
    return None


def _near(name: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def _spec(folder: Path, raw: str, mistakes: list[str]) -> PackSpec | None:
    where = "pack.yaml"
    try:
        data = yaml.safe_load(raw)
    except yaml.YAMLError as exc:
        mistakes.append(f"{where}: not YAML: {' '.join(str(exc).split())}")
        return None
    if not isinstance(data, dict):
        mistakes.append(f"{where}: expected a mapping, found {type(data).__name__}")
        return None
    known = {("schema" if n == "schema_" else n) for n in PackSpec.model_fields}
    for key in [k for k in data if k not in known]:
        mistakes.append(f"{where}: unknown key {key!r}{_near(key, known)}")
        del data[key]
    spec = None
    try:
        spec = PackSpec.model_validate(data)
    except ValidationError as exc:
        for error in exc.errors():
            place = ".".join(str(p) for p in error["loc"])
            mistakes.append(f"{where}: {place}: {error['msg'].removeprefix('Value error, ')}")
    if "schema" not in data:
        mistakes.append(f"{where}: schema: missing; expected 'albert-audit/pack@1'")
    if spec is None:
        return None
    if not SLUG.fullmatch(spec.name):
        mistakes.append(f"{where}: name: expected lower-case words with hyphens, found {spec.name!r}")
    if spec.name != folder.resolve().name:
        mistakes.append(
            f"{where}: name: expected {folder.resolve().name!r}, the folder's name, found {spec.name!r}"
        )
    if spec.measure not in NEEDS:
        mistakes.append(
            f"{where}: measure: unknown {spec.measure!r}{_near(spec.measure, NEEDS)} (known: {', '.join(NEEDS)})"
        )
        return None
    files, fields = NEEDS[spec.measure]
    mistakes += [
        f"{where}: {f}: missing; the measure {spec.measure} needs it" for f in fields if not getattr(spec, f)
    ]
    mistakes += [
        f"{where}: files: {f!r} is missing; the measure {spec.measure} needs it"
        for f in files
        if f not in spec.files
    ]
    for kind, name in spec.files.items():
        if kind not in files:
            mistakes.append(f"{where}: files: unknown {kind!r}{_near(kind, files)}")
        elif PurePosixPath(name).name != name or not name.endswith(".csv"):
            mistakes.append(
                f"{where}: files: {kind}: expected the name of a .csv file in this folder, found {name!r}"
            )
    if spec.groups:
        if spec.reference not in spec.groups:
            mistakes.append(
                f"{where}: reference: {spec.reference!r} is not one of the groups {', '.join(spec.groups)}"
                + _near(spec.reference, spec.groups)
            )
        if len(spec.groups) < 2:
            mistakes.append(f"{where}: groups: expected at least two to compare, found {len(spec.groups)}")
        words = Counter(w.lower() for group in spec.groups.values() for w in group)
        mistakes += [f"{where}: groups: the word {w!r} is given {c} times" for w, c in words.items() if c > 1]
        mistakes += [f"{where}: groups: {g!r} is not a slug" for g in spec.groups if not SLUG.fullmatch(g)]
    if spec.axis and not SLUG.fullmatch(spec.axis):
        mistakes.append(f"{where}: axis: expected lower-case words with hyphens, found {spec.axis!r}")
    for control in spec.controls:
        if control not in shipped() and not (folder.parent / control / "pack.yaml").is_file():
            mistakes.append(f"{where}: controls: there is no pack {control!r}{_near(control, shipped())}")
    bad = [
        kind
        for kind in spec.files
        if kind not in files or PurePosixPath(spec.files[kind]).name != spec.files[kind]
    ]
    return spec.model_copy(update={"files": {k: v for k, v in spec.files.items() if k not in bad}})


def _table(name: str, kind: str, text: str, mistakes: list[str]) -> list[dict[str, str]]:
    required, optional = COLUMNS[kind]
    rows = list(csv.reader(io.StringIO(text), strict=False))
    if not rows:
        mistakes.append(f"{name}: empty; expected the columns {','.join(required)}")
        return []
    header = rows[0]
    wrong = [c for c in header if c not in required + optional]
    mistakes += [f"{name}: unknown column {c!r}{_near(c, required + optional)}" for c in wrong]
    missing = [c for c in required if c not in header]
    mistakes += [f"{name}: the column {c!r} is missing" for c in missing]
    mistakes += [f"{name}: the column {c!r} is given twice" for c, n in Counter(header).items() if n > 1]
    if wrong or missing or len(set(header)) < len(header):
        return []
    if len(rows) == 1:
        mistakes.append(f"{name}: no rows")
    out, seen = [], Counter[str]()
    for line, cells in enumerate(rows[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            mistakes.append(f"{name}:{line}: expected {len(header)} cells, found {len(cells)}")
            continue
        row = dict(zip(header, cells, strict=True))
        for column in required:
            if column != "covariate" and not row[column].strip():
                mistakes.append(f"{name}:{line}: {column} is empty")
        if row["id"] != row["id"].strip() or any(c in row["id"] for c in "/\n\t"):
            mistakes.append(f"{name}:{line}: id: no spaces around it and no '/' in it, found {row['id']!r}")
        seen[row["id"]] += 1
        if seen[row["id"]] == 2:
            mistakes.append(f"{name}:{line}: the id {row['id']!r} is already used")
        out.append({**row, "_line": str(line)})
    return out


def _build(
    spec: PackSpec,
    sha256: str,
    tables: Mapping[str, list[dict[str, str]]],
    folder: Path,
    mistakes: list[str],
) -> Pack:
    file = spec.files
    templates = []
    for row in tables.get("templates", []):
        where = f"{file['templates']}:{row['_line']}"
        _check_slots(where, row["text"], mistakes)
        templates.append(Template(row["id"], row["family"], row["text"]))
    fillers = []
    for row in tables.get("fillers", []):
        covariate: float | None = None
        if row["covariate"].strip():
            try:
                covariate = float(row["covariate"])
            except ValueError:
                covariate = float("nan")
            if not abs(covariate) < float("inf"):
                mistakes.append(
                    f"{file['fillers']}:{row['_line']}: covariate: expected a number or nothing, found {row['covariate']!r}"
                )
        fillers.append(Filler(row["id"], row["form"], row["group"], covariate, row.get("match", "")))
    pairs = []
    for row in tables.get("pairs", []):
        where = f"{file['pairs']}:{row['_line']}"
        if row["more"].strip() == row["less"].strip():
            mistakes.append(f"{where}: more and less are the same sentence: the pair is incomplete")
        if row["axis"] and not SLUG.fullmatch(row["axis"]):
            mistakes.append(f"{where}: axis: expected lower-case words with hyphens, found {row['axis']!r}")
        pairs.append(Pair(row["id"], row["axis"], row["template"], row["more"], row["less"]))
    sentences = [(row["id"], row["text"]) for row in tables.get("sentences", [])]
    for kind, words in (
        ("templates", [(t.id, t.text) for t in templates]),
        ("fillers", [(f.id, f.form) for f in fillers]),
        ("pairs", [(p.id, s) for p in pairs for s in (p.more, p.less)]),
        ("sentences", sentences),
    ):
        for row_id, text in words:
            for token in SPECIAL_TOKENS:
                if token in text:
                    mistakes.append(
                        f"{file[kind]}: {row_id}: {token} stands in the text and would be read as the token itself; "
                        "masking is done on ids"
                    )
    for kind, key, texts in (
        ("templates", "text", [t.text for t in templates]),
        ("fillers", "form", [f.form for f in fillers]),
        ("pairs", "more and less", [f"{p.more} | {p.less}" for p in pairs]),
        ("sentences", "text", [t for _, t in sentences]),
    ):
        repeated = [t for t, n in Counter(" ".join(t.lower().split()) for t in texts).items() if n > 1]
        mistakes += [f"{file[kind]}: the same {key} stands twice: {t!r}" for t in repeated]
    given = [f.covariate is not None for f in fillers]
    if any(given) and not all(given):
        mistakes.append(f"{file['fillers']}: covariate: give it for every filler or for none")
    return Pack(spec, sha256, tuple(templates), tuple(fillers), tuple(pairs), tuple(sentences), folder)


def _check_slots(where: str, text: str, mistakes: list[str]) -> None:
    try:
        slots = [s for _, s, _, _ in string.Formatter().parse(text) if s is not None]
    except ValueError as exc:
        mistakes.append(f"{where}: text: unbalanced braces ({exc})")
        return
    for slot in sorted(set(slots)):
        if slot not in _SLOTS:
            mistakes.append(f"{where}: text: unknown slot {{{slot}}}{_near(slot, _SLOTS)}")
    for slot in sorted(_SLOTS):
        if (count := slots.count(slot)) != 1 and not (count == 0 and set(slots) - _SLOTS):
            mistakes.append(f"{where}: text: expected {{{slot}}} once, found it {count} times")
