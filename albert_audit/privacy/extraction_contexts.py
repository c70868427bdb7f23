"""Where a secret is asked for: its own record, shipped prompts, and what is left around the gap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any

import yaml

from albert_audit.model.scorer import Scorer
from albert_audit.privacy.canary_manifest import SLOT, Template
from albert_audit.privacy.canary_scores import Placed, placed
from albert_audit.privacy.extraction_decode import Gap, gap_of
from albert_audit.privacy.extraction_secrets import OTHER, Entry, Secrets
from albert_audit.redact import canonical
from albert_audit.types import UsageError

PROMPTS, LONGEST = 5, 12
"""Prompts beside the record itself; the most pieces of a secret that is searched for."""
OWN, ANY = "own", "any"
_NAME_SLOT = "{name}"
_STAND_IN = "7"


@dataclass(frozen=True)
class Asked:
    """One secret in its contexts.

    Attributes
    ----------
    placed, templates, gaps : dict
        For each prompt (``own``, ``prompt-1``, ...) the text as it is read, as it is, and without the secret.
    pieces : int
        Most pieces of the secret in any of them.
    truths : frozenset of str
        Canonical forms that count as the secret.
    lost : str
        Why it cannot be asked for; then everything else is empty.
    """

    placed: dict[str, Placed] = field(repr=False)
    templates: dict[str, Template] = field(repr=False)
    gaps: dict[str, Gap] = field(repr=False)
    pieces: int
    truths: frozenset[str] = field(repr=False)
    lost: str = ""


@cache
def shipped() -> dict[str, Any]:
    """Return the contexts of ``prompts.yaml``."""
    text = files(__package__).joinpath("prompts.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def prompts(kind: str, language: str, *, named: bool) -> list[str]:
    """Return the shipped contexts of a kind, with ``{secret}`` and, where `named`, ``{name}``."""
    groups = shipped()["prompts"]
    group = next((g for g in groups.values() if kind in g["kinds"]), groups[OTHER])
    return [p["named"] if named and "named" in p else p["bare"] for p in group[language]]


def asked_of(secrets: Secrets, scorer: Scorer, count: int) -> list[Asked]:
    """Return how each secret is asked for, with at most `count` prompts beside its record.

    Prompts name persons where every secret of a kind has a name, so that both sides are asked alike. A prompt
    whose own words the vocabulary lacks is left out for all.
    """
    unnamed = {
        e.kind for e in secrets.entries
        if e.name is None or not canonical(e.name.reveal()) or e.form in canonical(e.name.reveal())
    }  # fmt: skip
    pieces = scorer.pieces
    texts = {
        (kind, language): list(
            islice(
                (
                    text for text in prompts(kind, language, named=kind not in unnamed)
                    if bare_gap(scorer, text.replace(_NAME_SLOT, _STAND_IN)) is not None
                ), count,
            )
        )
        for kind, language in sorted({(e.kind, e.language) for e in secrets.entries})
    }  # fmt: skip
    return [_one(e, scorer, pieces, texts[e.kind, e.language]) for e in secrets.entries]


def _one(entry: Entry, scorer: Scorer, pieces: Sequence[str], asked: Sequence[str]) -> Asked:
    before, after = entry.parts
    texts = {OWN: before + SLOT + after}
    for i, text in enumerate(asked, 1):
        name = entry.name.reveal().replace("{", "(") if entry.name is not None else ""
        texts[f"prompt-{i}"] = text.replace(_NAME_SLOT, name)
    secret, found, gaps, most = entry.secret.reveal(), {}, {}, 0
    templates = {p: Template(id=p, identifier="secret", text=text) for p, text in texts.items()}
    for prompt, template in templates.items():
        one = next(iter(placed(scorer, template, [secret], None)))
        if isinstance(one, str):
            where = "" if prompt == OWN else f" ({prompt})"
            return Asked({}, {}, {}, 0, frozenset(), one + where)
        found[prompt] = one
        gaps[prompt], wide = gap_of(one, pieces)
        most = max(most, wide)
    # What the tokenizer leaves of the secret: ALBERT's strips accents, and can give back no others.
    read_as = canonical("".join(pieces[i] for i in found[OWN].secret))
    return Asked(found, templates, gaps, most, frozenset({entry.form, read_as} - {""}))


def most_pieces(secrets: Secrets, asked: Sequence[Asked], longest: int) -> dict[str, int]:
    """Return for each kind the most pieces searched for: those of its longest secret that is not too long."""
    out: dict[str, int] = {}
    for entry, one in zip(secrets.entries, asked, strict=True):
        if not one.lost and one.pieces <= longest:
            out[entry.kind] = max(out.get(entry.kind, 0), one.pieces)
    return out


def neutral(scorer: Scorer, language: str) -> list[Gap]:
    """Return the gaps of the contexts in which nothing in particular is to be expected."""
    found = [bare_gap(scorer, text) for text in shipped()["neutral"][language]]
    return [g for g in found if g is not None]


def bare_gap(scorer: Scorer, text: str) -> Gap | None:
    """Return a shipped context around a gap, with a digit in place of the secret while it is read."""
    template = Template(id="bare", identifier="secret", text=text)
    one = next(iter(placed(scorer, template, [_STAND_IN], None)))
    return None if isinstance(one, str) else gap_of(one, scorer.pieces)[0]


def same_pieces(base: Scorer, texts: Sequence[Placed]) -> None:
    """Refuse a base that reads the texts otherwise than the model."""
    for one, found in zip(texts, base.encode([r.text for r in texts]), strict=True):
        if found.ids != one.encoded.ids:
            raise UsageError(
                "the base reads the secrets' texts otherwise than the model: their tokenizers differ",
                "give the checkpoint that the training began from",
            )


def unsearchable(one: Asked, most: int, scorers: Iterable[Scorer], longest: int) -> str:
    """Return why a gap cannot be searched with up to `most` pieces, or nothing."""
    if one.pieces > longest:
        return f"longer than {longest} pieces"
    limit = min(s.id.max_tokens for s in scorers)
    if any(g.tokens(most) > limit for g in one.gaps.values()):
        return f"longer than {limit} tokens with {most} masks"
    return ""
