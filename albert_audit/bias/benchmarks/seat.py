"""A loader for the published SEAT and WEAT files (sent-bias; CC BY-NC 4.0), which are not shipped.

In these files every sentence is an element of its own, and d is taken over sentences, as published.
The sentences of one word are not independent, and the files do not say which word a sentence is
made of; here it is what the bland frames of May et al. leave of it. Those words are the clusters.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from albert_audit.packs import Pack, PackSpec
from albert_audit.shapes import SPECIAL_TOKENS
from albert_audit.types import UsageError

NAME = "seat"
SETS = {"targ1": "x", "targ2": "y", "attr1": "a", "attr2": "b"}
# The words of the bland sentences: "This is a ...", "The ... is here", "... are people".
FRAME = frozenset(
    [
        "this",
        "that",
        "these",
        "those",
        "there",
        "here",
        "it",
        "they",
        "is",
        "are",
        "was",
        "were",
        "a",
        "an",
        "the",
        "person",
        "people",
        "thing",
        "things",
        "name",
        "'s",
        "s",
    ]
)
LARGEST = 16 * 2**20
_WORD = re.compile(r"[^\W_]+")


def load(path: Path) -> Pack:
    """Read one published file, or a folder of them, as a pack with one test a file.

    Parameters
    ----------
    path : Path
        A ``.jsonl`` of the folder ``tests`` of sent-bias, or a folder that holds some.

    Raises
    ------
    UsageError
        When a file cannot be read or is not of that format.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise UsageError(
            f"the folder {path} holds no .jsonl file", "give the folder tests of W4ngatang/sent-bias"
        )
    digest = hashlib.sha256()
    rows: list[dict[str, str]] = []
    names = [_test_name(f) for f in files]
    if twice := next((n for n in names if names.count(n) > 1), ""):
        raise UsageError(f"two files of {path} are called {twice}", "rename one of them")
    for file in files:
        raw = _bytes(file)
        digest.update(f"\0{file.stem}\0".encode() + raw)
        rows += _rows(file, raw)
    spec = PackSpec(
        name=NAME,
        version=1,
        title=f"SEAT and WEAT: {len(rows):,} examples of {len(files)} file{'s' * (len(files) > 1)}, "
        "not compared with the published",
        language="en",
        measure="association",
        family=NAME,
        clusters=("target",),
        may_gate=(),  # the clusters are found by rule, and the attributes held fixed: it informs
        files={},
        licence="CC-BY-NC-4.0",
        source="May et al. 2019, On Measuring Social Biases in Sentence Encoders; github W4ngatang/sent-bias",
    )
    return Pack(spec, digest.hexdigest(), tables={"words": tuple(rows)})


def _test_name(file: Path) -> str:
    # Some published names differ in a sign only: 1, 1-, 1+3-.
    return slug(file.stem.replace("+", "-plus-") + ("-minus" if file.stem.endswith("-") else ""))


def _bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > LARGEST:
            raise UsageError(f"{file.name} has more than {LARGEST} bytes", "give a file of sent-bias")
        return file.read_bytes()
    except OSError as exc:
        raise UsageError(
            f"cannot read {file}: {exc.strerror}", "give a .jsonl file of sent-bias or its folder"
        ) from None


def _rows(file: Path, raw: bytes) -> list[dict[str, str]]:
    test = _test_name(file)
    try:
        data = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as exc:
        at = f" (line {exc.lineno})" if isinstance(exc, json.JSONDecodeError) else ""
        raise _odd(file, f"not one JSON object{at}") from None
    if not isinstance(data, dict) or not set(SETS) <= set(data):
        raise _odd(file, f"it lacks some of {', '.join(SETS)}")
    out = []
    for key, short in SETS.items():
        label, examples = _set(file, key, data[key])
        # As in sent-bias, a sentence that stands twice in a set counts once.
        for i, form in enumerate(dict.fromkeys(examples), 1):
            out.append(
                {"id": f"{test}-{short}{i:03d}", "test": test, "axis": test, "set": short, "form": form,
                 "label": label, "word": word(form)}
            )  # fmt: skip
    return out


def _set(file: Path, key: str, data: Any) -> tuple[str, list[str]]:
    category, examples = (
        (data.get(k) for k in ("category", "examples")) if isinstance(data, dict) else (None, None)
    )
    if not isinstance(category, str) or not slug(category) or not isinstance(examples, list):
        raise _odd(file, f"{key}: expected a category and a list of examples")
    if not examples or not all(isinstance(e, str) and e.strip() for e in examples):
        raise _odd(file, f"{key}: expected examples that are texts")
    if any(token in e.lower() for e in examples for token in SPECIAL_TOKENS):
        raise _odd(file, f"{key}: an example spells out a token of the model")
    return slug(category), examples


def _odd(file: Path, what: str) -> UsageError:
    return UsageError(
        f"{file.name} is not a test of sent-bias: {what}",
        'expected {"targ1": {"category": ..., "examples": [...]}, "targ2": ..., "attr1": ..., "attr2": ...}',
    )


def slug(name: str) -> str:
    """Return a name in lower-case words with hyphens: ``european-american-terms``, ``weat-3b`` stays ``weat3b``."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    return "-".join(re.findall(r"[a-z0-9]+", apart.lower())).replace("-vs-", "-versus-")


def word(sentence: str) -> str:
    """Return what the bland frame leaves of a sentence, in the singular; all of it where nothing is left."""
    tokens = [t.lower() for t in _WORD.findall(sentence)]
    kept = [_singular(t) for t in tokens if t not in FRAME]
    return " ".join(kept or tokens) or sentence.strip()


def _singular(token: str) -> str:
    """Join plain plurals to their singular; what this misses becomes a word of its own."""
    for end, instead in (("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x")):
        if token.endswith(end) and len(token) > len(end) + 2:
            return token[: -len(end)] + instead
    if token.endswith("s") and not token.endswith(("ss", "us", "is")) and len(token) > 3:
        return token[:-1]
    return {"men": "man", "women": "woman"}.get(token, token)
