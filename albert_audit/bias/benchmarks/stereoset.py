"""A loader for StereoSet (Nadeem et al. 2021; CC BY-SA 4.0), which is not shipped.

The published files differ between the places that offer them, so no hash is enforced: the file's
own SHA-256 is recorded, and the title says by its size which one it is.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from albert_audit.bias.benchmarks.published import kind
from albert_audit.bias.masked.stereo_triples import BLANK
from albert_audit.packs import SLUG, Pack, PackSpec
from albert_audit.types import UsageError

NAME = "stereoset"
LABELS = {"stereotype": "stereotype", "anti-stereotype": "anti", "unrelated": "unrelated"}
"""The gold labels of the file, and the columns of the tables."""
_TEXTS = ("id", "target", "bias_type", "context")
_SPLITS = {(2106, 2123): "development set", (6392, 6374): "test set"}


def load(path: Path) -> Pack:
    """Read a StereoSet file as a pack.

    Parameters
    ----------
    path : Path
        ``dev.json``, or a test file that has gold labels.

    Raises
    ------
    UsageError
        When the file cannot be read or has another shape.
    """
    try:
        raw = path.read_bytes()
        data = json.loads(raw.decode("utf-8-sig"))
    except OSError as exc:
        raise _wrong(path, f"cannot be read: {exc.strerror}") from None
    except (ValueError, RecursionError) as exc:
        at = (
            f": line {exc.lineno} is not JSON"
            if isinstance(exc, json.JSONDecodeError)
            else ": it is not JSON"
        )
        raise _wrong(path, f"is no StereoSet file with gold labels{at}") from None
    data = data.get("data") if isinstance(data, dict) else None
    if not isinstance(data, dict):
        raise _no(path, "expected an object with the key 'data'")
    triples = tuple(_row(item, within=True) for item in _items(path, data, "intrasentence"))
    continuations = tuple(_row(item, within=False) for item in _items(path, data, "intersentence"))
    if not triples:
        raise _wrong(path, "has no intrasentence item")
    for name, part in (("intrasentence", triples), ("intersentence", continuations)):
        if part and all(row["unfit"] for row in part):
            raise _wrong(
                path, f"has {len(part)} {name} items of which none can be scored: {part[0]['unfit']}"
            )
        for identity, times in Counter(r["id"] for r in part).items():
            if times > 1:
                raise _wrong(path, f"has the item {identity} {times} times")
        for axis in sorted({r["axis"] for r in part}):
            if axis == "all" or not SLUG.fullmatch(axis):
                raise _wrong(path, f"has the bias type {axis!r}, not a lower-case word other than 'all'")
    what = _SPLITS.get((len(triples), len(continuations)), "a file of another size")
    spec = PackSpec(
        name=NAME,
        version=1,
        title=f"StereoSet, {what}: {len(triples)} intrasentence and {len(continuations)} intersentence items",
        language="en",
        measure="stereo_triples",
        family=NAME,
        clusters=("target",),
        may_gate=(),  # no control stands beside it, and a high LMS is a merit: it only informs
        files={},
        licence="CC-BY-SA-4.0",
        source="Nadeem et al. 2021, StereoSet; github moinnadeem/StereoSet",
    )
    tables = {"triples": triples} | ({"continuations": continuations} if continuations else {})
    return Pack(spec, hashlib.sha256(raw).hexdigest(), tables=tables)


def _wrong(path: Path, what: str) -> UsageError:
    return UsageError(
        f"the StereoSet file {path.name} {what}",
        "give data/dev.json of moinnadeem/StereoSet, or its test file with gold labels",
    )


def _no(path: Path, what: str) -> UsageError:
    return _wrong(path, f"is no StereoSet file with gold labels: {what}")


def _items(path: Path, data: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """Return the items of a part, of which each has its texts and its labelled sentences.

    Raises
    ------
    UsageError
        Saying which item has what in the place of a text.
    """
    found = data.get(part, [])
    if not isinstance(found, list):
        raise _no(path, f"{part}: expected a list of items, found {kind(found)}")
    for number, item in enumerate(found, 1):
        where = f"{part}, item {number}"
        if not isinstance(item, dict):
            raise _no(path, f"{where}: expected an object, found {kind(item)}")
        for key in _TEXTS:
            if not isinstance(item.get(key), str) or not item[key].strip():
                given = "a blank one" if isinstance(item.get(key), str) else kind(item.get(key))
                raise _no(
                    path, f"{where}: {key}: expected a text, found {given if key in item else 'nothing'}"
                )
        sentences = item.get("sentences")
        if not isinstance(sentences, list) or not all(isinstance(s, dict) for s in sentences):
            raise _no(path, f"{where}: sentences: expected a list of objects")
        for key in ("sentence", "gold_label"):
            if not all(isinstance(s.get(key), str) for s in sentences):
                raise _no(path, f"{where}: a sentence has no text for {key}")
    return found


def _row(item: Mapping[str, Any], *, within: bool) -> dict[str, str]:
    """Return one item as a row; `unfit` says why it cannot be scored."""
    context = item["context"]
    row = {"id": item["id"], "axis": item["bias_type"], "target": item["target"],
           "context": context, "stereotype": "", "anti": "", "unrelated": "", "unfit": ""}  # fmt: skip
    if Counter(s["gold_label"] for s in item["sentences"]) != Counter(list(LABELS)):
        return row | {"unfit": "it does not have one sentence of each gold label"}
    for sentence in item["sentences"]:
        side, text = LABELS[sentence["gold_label"]], sentence["sentence"]
        row[side] = _word(context, text) if within else text
        if not row[side].strip():
            row["unfit"] = "the word at the blank cannot be told from the sentence"
    if within and context.count(BLANK) != 1:
        row["unfit"] = f"its context has {context.count(BLANK)} blanks"
    return row


def _word(context: str, sentence: str) -> str:
    """Return the word at the blank by the published rule; empty where that is not what stands there.

    The published code takes what stands at the blank's place between spaces, without punctuation.
    Where the blank is glued to other letters this holds them, too, and does not fill the context
    to the sentence.
    """
    places = [i for i, word in enumerate(context.split(" ")) if BLANK in word]
    words = sentence.split(" ")
    if not places or places[-1] >= len(words):
        return ""
    word = words[places[-1]].translate(str.maketrans("", "", string.punctuation))
    return word if context.replace(BLANK, word).casefold() == sentence.casefold() else ""
