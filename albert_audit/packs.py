"""Probe packs: found, loaded, validated and hashed. A pack is data; none of it is ever run."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import re
import stat
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from albert_audit import resources
from albert_audit.shapes import BLANK, COLUMNS, SHAPES, SPECIAL_TOKENS, Shape
from albert_audit.types import Decision, Document, Head, PackError, PackRef, UsageError

LARGEST = 16 * 2**20
"""Bytes of the largest file that is read."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# Columns in which equal text means the same thing.
_KEYS = ("id", "family", "group", "match", "axis", "template", "set", "role", "kind", "test")
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
    profile: Literal["quick", "standard"] = "standard"
    clusters: tuple[str, ...] = ()
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

    @field_validator("version", "margins", mode="before")
    @classmethod
    def _numbers(cls, given: Any) -> Any:
        for value in given.values() if isinstance(given, dict) else (given,):
            if isinstance(value, bool):
                raise ValueError(f"expected a number, found {value}")
        return given

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
class Text:
    """One of the auditor's own texts; `groups` are (axis, group) pairs, `person` whose text it is."""

    id: str
    text: str
    label: str = ""
    groups: tuple[tuple[str, str], ...] = ()
    person: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """The auditor's own texts.

    Attributes
    ----------
    sha256 : str
        Of the file, or of the files of the folder.
    labelled : bool
        Whether labels were given; a text that lacks one has an empty label.
    axes : tuple of str
        The columns that say which group a text belongs to.
    """

    texts: tuple[Text, ...]
    sha256: str
    language: str = "en"
    labelled: bool = False
    axes: tuple[str, ...] = ()

    @property
    def brings(self) -> frozenset[str]:
        """What of ``texts``, ``labels`` and ``groups`` is there."""
        return frozenset(
            {"texts"} | ({"labels"} if self.labelled else set()) | ({"groups"} if self.axes else set())
        )


@dataclass(frozen=True, slots=True)
class Pack:
    """A validated pack.

    `tables` holds the rows of the files that have no field of their own. `given` and `decision`
    are put in by the audit: the auditor's texts, and what the classifier's logits mean.
    """

    spec: PackSpec
    sha256: str
    templates: tuple[Template, ...] = ()
    fillers: tuple[Filler, ...] = ()
    pairs: tuple[Pair, ...] = ()
    sentences: tuple[tuple[str, str], ...] = ()
    folder: Path | None = None
    tables: Mapping[str, tuple[Mapping[str, str], ...]] = field(default_factory=dict)
    given: Given | None = None
    decision: Decision | None = None

    @property
    def shape(self) -> Shape:
        """What its measure needs."""
        return SHAPES[self.spec.measure]

    @property
    def is_floor(self) -> bool:
        """Whether it tells a broken model by."""
        return self.spec.measure.endswith("_floor")

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
        if self.templates and self.fillers:
            word = self.spec.groups[self.spec.reference][0]
            return [t.fill(target=word, filler=f.form)[0] for t in self.templates for f in self.fillers]
        if self.tables:
            return [
                row[c]
                for rows in self.tables.values()
                for row in rows
                for c in ("form", "text", "context", "question")
                if c in row
            ]
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

    The name of a shipped pack means the shipped pack, whatever lies in the working directory;
    ``./name`` means the folder.

    Raises
    ------
    UsageError
        With the nearest shipped name.
    """
    if name in shipped():
        return resources.probes() / name
    if not name:
        raise UsageError("the name of the pack is empty", "`albert-audit packs list` shows the shipped ones")
    given = Path(name).expanduser()
    if (given / "pack.yaml").is_file():
        return given
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
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode) and path.is_relative_to(resources.probes()):
            status = path.stat()  # some installers link the files of a package
        if not stat.S_ISREG(status.st_mode):
            mistakes.append(f"{path.name}: expected a plain file, found a link, a folder or a device")
            return None
        if status.st_size > LARGEST:
            mistakes.append(f"{path.name}: {status.st_size} bytes; a file of a pack has at most {LARGEST}")
            return None
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        if odd := _CONTROL.search(text):
            line = text.count("\n", 0, odd.start()) + 1
            mistakes.append(
                f"{path.name}:{line}: holds the control character {odd.group()!r}; save it as plain text"
            )
            return None
        return text
    except OSError as exc:
        mistakes.append(f"{path.name}: cannot be read ({exc.strerror})")
    except UnicodeDecodeError as exc:
        mistakes.append(f"{path.name}: not UTF-8 (byte {exc.start}); save it as UTF-8")
    return None


def _near(name: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def _yaml(raw: str, mistakes: list[str]) -> tuple[dict[Any, Any], dict[str, int]] | None:
    """Return the mapping and the line of each of its keys."""
    try:
        node = yaml.compose(raw, Loader=yaml.SafeLoader)
        lines: dict[str, int] = {}
        if isinstance(node, yaml.MappingNode):
            # PyYAML keeps the last of two equal keys and says nothing.
            for mapping in (node, *(v for _, v in node.value if isinstance(v, yaml.MappingNode))):
                seen = Counter[str]()
                for key, _ in mapping.value:
                    seen[str(key.value)] += 1
                    line = key.start_mark.line + 1
                    if mapping is node:
                        lines.setdefault(str(key.value), line)
                    if seen[str(key.value)] == 2:
                        mistakes.append(f"pack.yaml:{line}: the key {key.value!r} is given twice")
        data = yaml.SafeLoader("").construct_document(node) if node is not None else None
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        what = "nested too deeply" if isinstance(exc, RecursionError) else " ".join(str(exc).split())
        mark = getattr(exc, "problem_mark", None)
        at = f":{mark.line + 1}" if mark is not None else ""
        mistakes.append(f"pack.yaml{at}: not YAML that a pack may hold: {what}")
        return None
    if not isinstance(data, dict):
        mistakes.append(f"pack.yaml: expected a mapping, found {type(data).__name__}")
        return None
    return data, lines


def _spec(folder: Path, raw: str, mistakes: list[str]) -> PackSpec | None:
    read = _yaml(raw, mistakes)
    if read is None:
        return None
    data, lines = read

    def wrong(key: str, what: str) -> None:
        at = f":{lines[key]}" if key in lines else ""
        mistakes.append(f"pack.yaml{at}: {key}: {what}")

    known = {("schema" if n == "schema_" else n) for n in PackSpec.model_fields}
    for key in [k for k in data if k not in known]:
        wrong(str(key), f"unknown key{_near(key, known)}")
        del data[key]
    # Fields that are not valid on their own give way to a stand-in, so that the rest is still checked.
    refused: set[str] = set()
    spec = None
    while spec is None:
        try:
            spec = PackSpec.model_validate(data)
        except ValidationError as exc:
            before = len(refused)
            for error in exc.errors():
                field, *inner = (str(p) for p in error["loc"])
                hint = (
                    "; YAML reads an unquoted yes, no, on or off as a boolean: quote it"
                    if isinstance(error["input"], bool)
                    else ""
                )
                message = error["msg"].removeprefix("Value error, ")
                wrong(field, ": ".join([*inner[:1], message[:1].lower() + message[1:]]) + hint)
                refused.add(field)
            if len(refused) == before:
                return None  # nothing more can be set aside
            stand_ins = {
                "name": folder.resolve().name, "version": 1, "title": "-", "language": "en", "measure": "",
                "files": {}, "licence": "-", "source": "-",
            }  # fmt: skip
            data = {k: v for k, v in data.items() if k not in refused}
            data |= {k: v for k, v in stand_ins.items() if k in refused}
    if "schema" not in data and "schema" not in refused:
        wrong("schema", "missing; expected 'albert-audit/pack@1'")
    if not SLUG.fullmatch(spec.name):
        wrong("name", f"expected lower-case words with hyphens, found {spec.name!r}")
    if spec.name != folder.resolve().name:
        wrong("name", f"expected {folder.resolve().name!r}, the folder's name, found {spec.name!r}")
    shape = SHAPES.get(spec.measure)
    if shape is None and "measure" not in refused:
        wrong(
            "measure", f"unknown {spec.measure!r}{_near(spec.measure, SHAPES)} (known: {', '.join(SHAPES)})"
        )
    if shape is not None:
        for f in shape.fields:
            if not getattr(spec, f) and f not in refused:
                wrong(f, f"missing; the measure {spec.measure} needs it")
        for f in shape.files:
            if f not in spec.files and "files" not in refused:
                wrong("files", f"{f!r} is missing; the measure {spec.measure} needs it")
        if (spec.clusters or not shape.fields) and spec.clusters not in shape.clusterings:
            expected = " or ".join(f"[{', '.join(c)}]" for c in shape.clusterings)
            wrong(
                "clusters", f"the measure {spec.measure} has {expected}, found [{', '.join(spec.clusters)}]"
            )
        for name, margin in spec.margins.items():
            if name not in shape.statistics:
                wrong("margins", f"unknown statistic {name!r}{_near(name, shape.statistics)}")
            if not margin > 0:
                wrong("margins", f"{name}: expected more than 0, found {margin:g}")
    if spec.margins and spec.role != "placebo" and not (shape and shape.controls_itself):
        wrong("margins", "only a pack with role: placebo has margins")
    kinds = (*shape.files, *shape.optional) if shape is not None else tuple(COLUMNS)
    for kind, name in spec.files.items():
        if kind not in kinds:
            wrong("files", f"unknown {kind!r}{_near(kind, kinds)}")
        elif not _plain(name):
            wrong("files", f"{kind}: expected the name of a .csv file in this folder, found {name!r}")
    if spec.groups:
        if spec.reference and spec.reference not in spec.groups:
            near = _near(spec.reference, spec.groups)
            wrong("reference", f"{spec.reference!r} is not one of the groups {', '.join(spec.groups)}{near}")
        if len(spec.groups) < 2:
            wrong("groups", f"expected at least two to compare, found {len(spec.groups)}")
        words = Counter(w.lower() for group in spec.groups.values() for w in group)
        for word, count in words.items():
            if count > 1:
                wrong("groups", f"the word {word!r} is given {count} times")
            if any(token in word for token in SPECIAL_TOKENS):
                wrong("groups", f"{word!r}: a token of the model is no word")
        for group in spec.groups:
            if not SLUG.fullmatch(group) or "-vs-" in group:
                wrong("groups", f"{group!r}: expected lower-case words with hyphens, without '-vs-'")
    if spec.axis and not SLUG.fullmatch(spec.axis):
        wrong("axis", f"expected lower-case words with hyphens, found {spec.axis!r}")
    if len(spec.controls) > 1:
        wrong("controls", f"expected one, the matched one, found {len(spec.controls)}")
    for control in spec.controls:
        if control == spec.name:
            wrong("controls", "a pack cannot be its own control: effect minus control would always be 0")
        elif control not in shipped() and not (
            SLUG.fullmatch(control) and (folder.parent / control / "pack.yaml").is_file()
        ):
            wrong("controls", f"there is no pack {control!r}{_near(control, shipped())}")
    return spec.model_copy(
        update={"files": {k: v for k, v in spec.files.items() if k in kinds and _plain(v)}}
    )


def _plain(name: str) -> bool:
    return PurePosixPath(name).name == name and "\\" not in name and name.endswith(".csv")


def _table(name: str, kind: str, text: str, mistakes: list[str]) -> list[dict[str, str]]:
    required, optional = COLUMNS[kind]
    rows: list[list[str]] = []
    starts: list[int] = []
    reader = csv.reader(io.StringIO(text), strict=True)
    line = 1
    try:
        for cells in reader:
            rows.append(cells)
            starts.append(line)
            line = reader.line_num + 1
    except csv.Error as exc:
        mistakes.append(
            f"{name}:{line}: not CSV: {exc}; a cell with a quote or a comma stands in double quotes"
        )
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
    for line, cells in zip(starts[1:], rows[1:], strict=True):
        if not cells:
            continue
        if len(cells) != len(header):
            mistakes.append(f"{name}:{line}: expected {len(header)} cells, found {len(cells)}")
            continue
        row = dict(zip(header, cells, strict=True))
        for column in required:
            if column not in BLANK and not row[column].strip():
                mistakes.append(f"{name}:{line}: {column} is empty")
        for column, cell in row.items():
            if "\n" in cell:
                mistakes.append(f"{name}:{line}: {column}: holds a line break")
            if token := next((t for t in SPECIAL_TOKENS if t in cell.lower()), None):
                mistakes.append(
                    f"{name}:{line}: {column}: write the words, not {token.upper() if token[0] == '[' else token}; masking is done on ids"
                )
            if column in _KEYS and cell != cell.strip():
                mistakes.append(f"{name}:{line}: {column}: no spaces around it, found {cell!r}")
        if any(c in row["id"] for c in "/\t"):
            mistakes.append(f"{name}:{line}: id: no '/' in it, found {row['id']!r}")
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
        _check_slots(where, row["text"], SHAPES.get(spec.measure), mistakes)
        templates.append(Template(row["id"], row["family"], row["text"]))
    fillers = []
    for row in tables.get("fillers", []):
        covariate: float | None = None
        if row["covariate"].strip():
            try:
                covariate = float(row["covariate"])
            except ValueError:
                covariate = float("nan")
            if not 0 <= covariate <= 1:
                mistakes.append(
                    f"{file['fillers']}:{row['_line']}: covariate: expected a share between 0 and 1 or nothing, "
                    f"found {row['covariate']!r}"
                )
        fillers.append(Filler(row["id"], row["form"], row["group"], covariate, row.get("match", "")))
    pairs = []
    for row in tables.get("pairs", []):
        where = f"{file['pairs']}:{row['_line']}"
        if row["more"].strip() == row["less"].strip():
            mistakes.append(f"{where}: more and less are the same sentence: the pair is incomplete")
        if row["axis"] == "all":
            mistakes.append(f"{where}: axis: 'all' is the name of all axes together")
        elif row["axis"] and not SLUG.fullmatch(row["axis"]):
            mistakes.append(f"{where}: axis: expected lower-case words with hyphens, found {row['axis']!r}")
        pairs.append(Pair(row["id"], row["axis"], row["template"], row["more"], row["less"]))
    sentences = [(row["id"], row["text"]) for row in tables.get("sentences", [])]
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
    others = {
        kind: tuple({k: v for k, v in row.items() if k != "_line"} for row in rows)
        for kind, rows in tables.items()
        if kind not in ("templates", "fillers", "pairs", "sentences")
    }
    for kind in ("persons", "names"):
        rows = tables.get(kind, [])
        found = {row["group"] for row in rows}
        if rows and spec.reference and spec.reference not in found:
            mistakes.append(
                f"{file[kind]}: no row has the group {spec.reference!r}, which is the reference"
                + _near(spec.reference, found)
            )
        for row in rows:
            if not SLUG.fullmatch(row["group"]) or "-vs-" in row["group"]:
                mistakes.append(
                    f"{file[kind]}:{row['_line']}: group: expected lower-case words with hyphens, found {row['group']!r}"
                )
        twice = Counter((row["group"], " ".join(row["form"].lower().split())) for row in rows)
        mistakes += [f"{file[kind]}: {form!r} stands twice in {g}" for (g, form), n in twice.items() if n > 1]
    return Pack(
        spec,
        sha256,
        tuple(templates),
        tuple(fillers),
        tuple(pairs),
        tuple(sentences),
        folder.resolve(),
        others,
    )


def _check_slots(where: str, text: str, shape: Shape | None, mistakes: list[str]) -> None:
    try:
        parts = [(s, f"{c or ''}{f}") for _, s, f, c in string.Formatter().parse(text) if s is not None]
    except ValueError as exc:
        mistakes.append(f"{where}: text: unbalanced braces ({exc})")
        return
    slots = [slot for slot, _ in parts]
    mistakes += [f"{where}: text: write {{{s}}} alone, without {extra!r}" for s, extra in parts if extra]
    if shape is None:  # an unknown measure is a mistake of its own
        return
    known = (*shape.slots, *shape.may)
    for slot in sorted(set(slots)):
        if slot not in known:
            mistakes.append(f"{where}: text: unknown slot {{{slot}}}{_near(slot, known)}")
    for slot in sorted(known):
        least = 1 if slot in shape.slots else 0
        if not least <= (count := slots.count(slot)) <= 1 and not (count == 0 and set(slots) - set(known)):
            mistakes.append(f"{where}: text: expected {{{slot}}} once, found it {count} times")
