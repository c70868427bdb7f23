"""The manifest of canaries: what was, and was not, put into the training data, and its file."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from albert_audit.redact import canonical
from albert_audit.types import Document, Frozen, Head, UsageError

SLOT = "{secret}"
_NOTE = (
    "SECRET. Keep this file as you keep a key, and out of the training data: who has it knows every canary."
)


class Template(Frozen):
    """A context for secrets.

    Attributes
    ----------
    text : str
        Holds ``{secret}`` once.
    identifier : str
        The kind of its secrets, see `identifiers`.
    style : {"natural", "random"}
        A sentence, or random words.
    group : str
        Exposure is told by group; the kind of secret where it is empty.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    identifier: str
    text: str
    style: Literal["natural", "random"] = "natural"
    group: str = ""

    @model_validator(mode="after")
    def _sound(self) -> Template:
        if self.text.count(SLOT) != 1:
            raise ValueError(f"template {self.id!r}: expected {SLOT} once")
        return self

    def fill(self, secret: str) -> tuple[str, tuple[int, int]]:
        """Return the text, and the (start, end) of the secret in it."""
        start = self.text.index(SLOT)
        return self.text.replace(SLOT, secret), (start, start + len(secret))


class Canary(Frozen):
    """One secret in its context.

    Attributes
    ----------
    secret : str
        Not shown by ``repr``.
    repetitions : int
        How often its line is in the training data; with the block ``coin`` 0 or 1.
    label : str
        For a classifier the label it is trained with, drawn at random.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    id: str
    template: str
    secret: str = Field(repr=False, min_length=1)
    block: Literal["series", "coin"]
    repetitions: int = Field(ge=0)
    label: str = ""

    @property
    def included(self) -> bool:
        """Whether the training data hold it."""
        return self.repetitions > 0


class Manifest(Document):
    """What was, and was not, put into the training data. A secret file, see `save`.

    Attributes
    ----------
    seed : int
        From which everything was drawn, and from which `score` draws its references.
    max_tokens : int, optional
        Where the training truncates.
    """

    kind: ClassVar[str] = "canaries"
    model_config = ConfigDict(hide_input_in_errors=True)

    note: str = _NOTE
    head: Head
    language: Literal["en", "zh"]
    labels: tuple[str, ...] = ()
    seed: int = Field(repr=False, ge=0)
    max_tokens: int | None = Field(None, ge=8)
    templates: tuple[Template, ...]
    canaries: tuple[Canary, ...] = Field(repr=False)

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        for what, found in (
            ("ids of templates", [t.id for t in self.templates]),
            ("ids of canaries", [c.id for c in self.canaries]),
            ("secrets", [canonical(c.secret) for c in self.canaries]),
        ):
            if len(set(found)) < len(found):
                raise ValueError(f"two {what} are the same")
        if unknown := {c.template for c in self.canaries} - {t.id for t in self.templates}:
            raise ValueError(f"there is no template {min(unknown)!r}")
        if wrong := [c.id for c in self.canaries if (c.label or None) not in (self.labels or (None,))]:
            raise ValueError(f"canary {wrong[0]}: its label is none of the manifest's")
        if wrong := [c.id for c in self.canaries if c.block == "coin" and c.repetitions > 1]:
            raise ValueError(f"canary {wrong[0]}: a coin inserts once or not at all")
        return self

    def template(self, canary: Canary) -> Template:
        """Return the template of a canary."""
        return next(t for t in self.templates if t.id == canary.template)

    @property
    def sha256(self) -> str:
        """SHA-256 of the content: published before the training, it proves the manifest's age.

        It gives nothing away, since the seed of 128 bits is part of what is hashed.
        """
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()


def lines(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the lines to mix into the training data: text and label, repeated and shuffled.

    They must be spread over the training data (a trainer that shuffles does that) and outlive any
    removal of duplicates: with it, a canary that is repeated 32 times is inserted once.
    """
    out = [
        (manifest.template(c).fill(c.secret)[0], c.label)
        for c in manifest.canaries
        for _ in range(c.repetitions)
    ]
    return [out[i] for i in stream(manifest.seed, "lines").permutation(len(out))]


def clashes(manifest: Manifest, texts: Iterable[str]) -> list[str]:
    """Return the ids of canaries whose secret is in the training data already, however it is written."""
    known = {c.id: canonical(c.secret) for c in manifest.canaries}
    found: set[str] = set()
    for text in map(canonical, texts):
        found |= {i for i, secret in known.items() if secret in text}
    return sorted(found)


def save(manifest: Manifest, path: Path) -> None:
    """Write a manifest for its owner's eyes alone (mode 0600).

    Raises
    ------
    UsageError
        When there is a file already: the manifest of a trained model cannot be had again.
    """
    text = json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} is there already", "give another path; a manifest is never overwritten"
        ) from None
    except OSError as exc:
        raise UsageError(f"cannot write {path}: {exc.strerror}", "give a path that can be written") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def load(path: Path) -> Manifest:
    """Read a manifest.

    Raises
    ------
    UsageError
        When it cannot be read, is no manifest, or others may read it.
    """
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise UsageError(f"{path} can be read by others, and it tells every canary", f"chmod 600 {path}")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}", "give the path of a manifest") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is not JSON", "give the file that the manifest was saved to") from None
    manifest: Manifest = Manifest.read(data, where=str(path))
    return manifest


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random stream of a name: drawing more of one thing changes no other."""
    return np.random.default_rng([seed, *name.encode()])
