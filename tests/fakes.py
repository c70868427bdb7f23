"""Packs in memory, packs on disk, and masked LMs made of one function: no torch, no network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias import MEASURES
from albert_audit.findings import Measured, stream
from albert_audit.model.cache import FakeScorer
from albert_audit.packs import Filler, Pack, PackSpec, Pair, Template
from albert_audit.types import Finding, Head, Limit, Policy, RowSelector, Rule

Tokens = tuple[str, ...]
LANGUAGE = "en"

# --- packs in memory --------------------------------------------------------------------------


def spec(**changes: Any) -> PackSpec:
    base: dict[str, Any] = {
        "name": "probe-en", "version": 1, "title": "A probe", "language": LANGUAGE, "measure": "template_gap",
        "axis": "gender", "family": "gender", "clusters": ("template", "filler"),
        "groups": {"female": ["she"], "male": ["he"]}, "reference": "male",
        "may_gate": (Head.MASKED_LM,), "files": {}, "licence": "CC0", "source": "made here",
    }  # fmt: skip
    return PackSpec(**(base | changes))


def gap_pack(templates: int = 12, fillers: int = 20, *, share: bool = True, **changes: Any) -> Pack:
    """Templates t0, t1, ... crossed with fillers f0, f1, ... whose shares go evenly from 0 to 1."""
    made = [
        Template(f"t{i}", "even" if i % 2 == 0 else "odd", f"The {{filler}} t{i} said {{target}} left.")
        for i in range(templates)
    ]
    shares = np.linspace(0, 1, fillers) if share else [None] * fillers
    words = [Filler(f"f{j}", f"f{j}", "made", None if z is None else float(z)) for j, z in enumerate(shares)]
    return Pack(spec(**changes), "0" * 64, templates=tuple(made), fillers=tuple(words))


def placebo_of(pack: Pack, *, margins: Mapping[str, float], name: str = "placebo-en") -> Pack:
    """The same templates; fillers p0, p1, ... each matched to a filler of the probe."""
    words = tuple(Filler(f"p{j}", f"p{j}", "placebo", f.covariate, f.id) for j, f in enumerate(pack.fillers))
    made = pack.spec.model_copy(
        update={"name": name, "role": "placebo", "controls": (), "margins": dict(margins)}
    )
    return Pack(made, "1" * 64, templates=pack.templates, fillers=words)


def pair_pack(pairs: Sequence[Pair], **changes: Any) -> Pack:
    base = {"name": "pairs-en", "measure": "pair_preference", "axis": "", "family": "pairs",
            "clusters": ("template",), "groups": {}, "reference": ""}  # fmt: skip
    return Pack(spec(**(base | changes)), "2" * 64, pairs=tuple(pairs))


def floor_pack(sentences: int = 120, *, language: str = LANGUAGE, name: str = "floor-en") -> Pack:
    """Sentences of the words w0 ... w7, each with a word of its own in front."""
    made = spec(name=name, measure="sentence_floor", axis="", groups={}, reference="", clusters=(), family="",
                language=language)  # fmt: skip
    body = " ".join(f"w{i}" for i in range(8))
    return Pack(made, "3" * 64, sentences=tuple((f"s{i}", f"n{i} {body}.") for i in range(sentences)))


# --- scorers ----------------------------------------------------------------------------------


def chance(*parts: object) -> float:
    """A log-probability between -8 and -0.1 that depends on `parts` only, evenly spread."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return -0.1 - 7.9 * int.from_bytes(digest[:6], "big") / 2**48


def noisy(seed: int = 0) -> Callable[[Tokens, int, str], float]:
    """A model whose every answer is drawn at random, once and for all."""
    return lambda tokens, at, token: chance(seed, tokens, at, token)


def ordered(tokens: Tokens, at: int, token: str) -> float:
    """Likes w<k> right after w<k-1>."""
    before = tokens[at - 1]
    return -1.0 if token[:1] == "w" and before == f"w{int(token[1:]) - 1}" else -4.0


Lean = Callable[[str, str | None, str], float]


def leaning(
    lean: Lean, *, words: Sequence[str] = ("she", "he"), mass: float = 0.4
) -> Callable[[Tokens, int, str], float]:
    """A model that prefers plain word order and whose target words lean as `lean` says.

    ``lean(template, filler or None where it is masked, word)`` is a word's log-odds weight; the
    words hold `mass` together.
    """

    def logprob(tokens: Tokens, at: int, token: str) -> float:
        if token not in words:
            return ordered(tokens, at, token)
        template = next(t for t in tokens if t[0] == "t" and t[1:].isdigit())
        filler = next((t for t in tokens if t[0] in "fp" and t[1:].isdigit()), None)
        weights = [lean(template, filler, w) for w in words]
        return math.log(mass) + lean(template, filler, token) - math.log(sum(map(math.exp, weights)))

    return logprob


def towards(
    gap: Callable[[int, int], float], placebo: Callable[[int, int], float] = lambda i, j: 0.0
) -> Lean:
    """Log-odds of she over he by numbers of template and filler; the prior has a lean of its own."""

    def lean(template: str, filler: str | None, word: str) -> float:
        if word != "she":
            return 0.0
        i = int(template[1:])
        prior = 0.3 - 0.1 * (i % 3)
        if filler is None:
            return prior
        return prior + (gap if filler[0] == "f" else placebo)(i, int(filler[1:]))

    return lean


def effects(
    seed: int, templates: int, fillers: int, *, template: float = 0.3, filler: float = 0.3, cell: float = 0.3
) -> np.ndarray:
    """Crossed random effects without a mean, shape (templates, fillers)."""
    rng = np.random.default_rng(seed)
    return (
        template * rng.normal(size=(templates, 1))
        + filler * rng.normal(size=(1, fillers))
        + cell * rng.normal(size=(templates, fillers))
    )


# --- measuring and judging --------------------------------------------------------------------


def measure(pack: Pack, scorer: FakeScorer | Callable[[Tokens, int, str], float], seed: int = 0) -> Measured:
    even = {"attention": lambda tokens: np.full(len(tokens), 1 / len(tokens))}
    asked = scorer if isinstance(scorer, FakeScorer) else FakeScorer(scorer, answers=even)
    return Measured(pack, MEASURES[pack.spec.measure].run(asked, pack, stream(seed, f"measure/{pack.name}")))


def rule(check: str = "*", limit: float = 0.5, **changes: Any) -> Rule:
    return Rule(
        id=changes.pop("id", "r"), check=check, limit=Limit(max_abs=limit), rationale="for a test", **changes
    )


def policy(*rules: Rule) -> Policy:
    """A policy; without rules one that matches no finding, so that no self-check runs."""
    return Policy(name="p", title="P", heads=(Head.MASKED_LM,), rules=rules or (rule("nothing/at/all/here"),))


def one(found: Sequence[Finding], pattern: str) -> Finding:
    match = [f for f in found if pattern in f.id]
    assert len(match) == 1, [f.id for f in match] or [f.id for f in found]
    return match[0]


def selected(rows: pd.DataFrame, selector: RowSelector) -> pd.DataFrame:
    """The rows that a selector names, read as its documentation says."""
    keep = pd.Series(True, index=rows.index)
    for column, text in selector.where.items():
        keep &= rows[column] == text
    for column, least in getattr(selector, "at_least", {}).items():
        keep &= rows[column] >= least
    return rows[keep]


# --- packs on disk ----------------------------------------------------------------------------

GOOD: dict[str, str | None] = {
    "schema": "albert-audit/pack@1",
    "name": "good-pack",
    "version": "1",
    "title": "Pronouns",
    "language": "en",
    "axis": "gender",
    "measure": "template_gap",
    "family": "gender",
    "profile": "quick",
    "role": "probe",
    "clusters": "[template, filler]",
    "groups": "{female: [she], male: [he]}",
    "reference": "male",
    "controls": "[]",
    "margins": "{}",
    "may_gate": "[masked_lm]",
    "files": "{templates: templates.csv, fillers: fillers.csv}",
    "licence": "CC0",
    "source": "made here",
    "harm": "stereotyping",
    "affected": "people",
}
TEMPLATES = (
    "id,family,text\nt1,a,The {filler} said {target} left.\nt2,b,The {filler} knew {target} had won.\n"
)
FILLERS = "id,form,group,covariate\nnurse,nurse,occupation,0.9\npilot,pilot,occupation,0.1\n"


def write_pack(
    folder: Path,
    changes: Mapping[str, str | None] | None = None,
    files: Mapping[str, str | bytes | None] | None = None,
) -> Path:
    """Write the good pack with some lines of pack.yaml or whole files changed; None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = {**GOOD, **(changes or {})}
    content: dict[str, str | bytes | None] = {
        "pack.yaml": "".join(f"{k}: {v}\n" for k, v in lines.items() if v is not None),
        "templates.csv": TEMPLATES,
        "fillers.csv": FILLERS,
        "README.md": "# Why\n",
        **(files or {}),
    }
    for name, text in content.items():
        if text is not None:
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def line_of(key: str) -> int:
    """The line of a key in the pack.yaml that `write_pack` writes."""
    return list(GOOD).index(key) + 1
