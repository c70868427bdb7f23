"""Canaries: made-up secrets that are put into training data so that their memory can be measured.

`make` draws a manifest **before** the training, `lines` gives what to mix into the training data,
and `score` asks the trained model (and its base) for what exposure is computed from. What was
inserted is decided by chance alone, so neither distribution shift nor the look of a secret can
pass for memory.

Two blocks answer two questions. The *series* inserts canaries 0, 1, 2, 4, ... times: how does memory
grow with repetition (Carlini et al. 2019, The Secret Sharer, USENIX Security)? The *coins* insert each
canary once or not at all, by a fair coin of its own: what privacy loss does one training run prove
(Steinke, Nasr and Jagielski 2023, Privacy Auditing with One (1) Training Run, NeurIPS)?
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from albert_audit.model.scorer import Scorer
from albert_audit.privacy.canary_manifest import (
    SLOT,
    Canary,
    Manifest,
    Template,
    clashes,
    lines,
    load,
    save,
    stream,
)
from albert_audit.privacy.canary_scores import Placed, placed, references, score
from albert_audit.privacy.identifiers import identifier, materials
from albert_audit.redact import canonical
from albert_audit.types import Head, UsageError

__all__ = [
    "COINS",
    "LEVELS",
    "Canary",
    "Manifest",
    "Template",
    "clashes",
    "lines",
    "load",
    "make",
    "references",
    "save",
    "score",
]
LEVELS = (0, 1, 2, 4, 8, 16, 32)
COINS = 200
_MASKED = (Head.MASKED_LM, Head.PRETRAINING)
_DRAWS, _CHUNK = 50, 512
"""Secrets drawn for each one wanted before `make` gives up; secrets drawn at a time."""


def make(
    *,
    head: Head = Head.MASKED_LM,
    language: Literal["en", "zh"] = "en",
    labels: Sequence[str] = (),
    levels: Sequence[int] = LEVELS,
    copies: int = 1,
    coins: int = COINS,
    random_templates: int = 4,
    identifiers: Sequence[str] | None = None,
    templates: Sequence[Template] | None = None,
    scorer: Scorer | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
) -> Manifest:
    """Draw a manifest, before the training.

    Parameters
    ----------
    labels : sequence of str
        A classifier's labels, from which each canary's is drawn.
    levels, copies : sequence of int, int
        The series has `copies` canaries for each template and number of repetitions. 0 must be among them.
    coins : int
        Canaries that a fair coin each inserts once or not at all; templates take turns.
    random_templates : int
        Contexts of random words, beside the natural ones.
    identifiers : sequence of str, optional
        Only shipped templates with these kinds of secrets; all but names, which may be somebody's, when
        left out.
    templates : sequence of Template, optional
        Instead of the shipped ones.
    scorer : Scorer, optional
        Any model with the tokenizer of the training. Secrets that would not survive it are then not
        drawn, and those of a template have one number of pieces, which saves references.
    max_tokens : int, optional
        Where the training truncates; a canary that is longer is not drawn (needs `scorer`).
    seed : int, optional
        From the system's entropy when left out, as it should be: who knows it knows the coins.

    Returns
    -------
    Manifest

    Raises
    ------
    UsageError
        When the design has no controls, the labels do not fit the head, or a kind of secret does not
        survive the tokenizer.
    """
    _check_design(head, labels, levels, copies, coins)
    seed = secrets.randbits(128) if seed is None else seed
    chosen = tuple(templates) if templates is not None else _shipped(language, identifiers)
    if templates is None:
        chosen += _random(language, random_templates, stream(seed, "templates"))
    if not chosen:
        raise UsageError("no template is left", "name other identifiers, or give templates")
    flips = stream(seed, "coins").integers(0, 2, size=coins)
    plan: list[tuple[str, Literal["series", "coin"], int]] = [
        (t.id, "series", k) for t in chosen for k in levels for _ in range(copies)
    ]
    plan += [(chosen[i % len(chosen)].id, "coin", int(flip)) for i, flip in enumerate(flips)]
    wanted = Counter(template for template, _, _ in plan)
    taken: set[str | tuple[int, ...]] = set()
    drawn = {
        t.id: iter(_draw(t, wanted[t.id], scorer, max_tokens, taken, stream(seed, f"secrets/{t.id}")))
        for t in chosen
    }
    named = stream(seed, "labels").integers(0, max(len(labels), 1), size=len(plan))
    return Manifest(
        head=head, language=language, labels=tuple(labels), seed=seed, max_tokens=max_tokens, templates=chosen,
        canaries=tuple(
            Canary(
                id=f"c{i:04d}", template=template, secret=next(drawn[template]), block=block, repetitions=k,
                label=labels[int(label)] if labels else "",
            )
            for i, ((template, block, k), label) in enumerate(zip(plan, named, strict=True), 1)
        ),
    )  # fmt: skip


def _check_design(head: Head, labels: Sequence[str], levels: Sequence[int], copies: int, coins: int) -> None:
    if head not in (*_MASKED, Head.SEQUENCE_CLASSIFICATION):
        raise UsageError(
            f"a model with the head {head} takes no canaries", "use a masked language model or a classifier"
        )
    if (head is Head.SEQUENCE_CLASSIFICATION) != (len(set(labels)) > 1) or len(set(labels)) < len(labels):
        raise UsageError(
            f"expected two or more different labels for a classifier and none for a masked language model, found "
            f"{len(labels)} for {head}"
        )
    if copies < 1 or coins < 0 or min(levels, default=0) < 0 or len(set(levels)) < len(levels):
        raise UsageError(
            "expected different numbers of repetitions from 0 up, at least one copy, coins from 0"
        )
    if 0 not in levels:
        raise UsageError(
            "the series has no canaries that are not inserted",
            "put 0 among the levels: what a model that never saw a canary says of it is the control",
        )


def _shipped(language: str, kinds: Sequence[str] | None) -> tuple[Template, ...]:
    for name in kinds or ():
        identifier(name)
    return tuple(
        Template(**given)
        for given in materials()["templates"][language]
        if (given["identifier"] in kinds if kinds is not None else identifier(given["identifier"]).nobody)
    )


def _random(language: str, count: int, rng: np.random.Generator) -> tuple[Template, ...]:
    """Return contexts of random words: eight before the secret, four after it."""
    data = materials()
    words, kinds = data["words"][language], data["random"][language]
    out = []
    for i in range(count):
        around = [words[int(k)] for k in rng.choice(len(words), size=12, replace=False)]
        text = (" " if language == "en" else "").join((*around[:8], SLOT, *around[8:]))
        out.append(
            Template(id=f"random-{i + 1}", identifier=kinds[i % len(kinds)], text=text, style="random")
        )
    return tuple(out)


def _draw(
    template: Template,
    wanted: int,
    scorer: Scorer | None,
    limit: int | None,
    taken: set[str | tuple[int, ...]],
    rng: np.random.Generator,
) -> list[str]:
    """Draw different secrets that survive the tokenizer, all of them of the commonest number of pieces."""
    kind, reasons = identifier(template.identifier), Counter[str]()
    out: list[str] = []
    tried = 0
    pieces: int | None = None
    while len(out) < wanted:
        if tried >= _DRAWS * max(wanted, _CHUNK):
            reason = f"most often: {reasons.most_common(1)[0][0]}" if reasons else "they were all taken"
            raise UsageError(
                f"template {template.id}: {tried} secrets were drawn and {len(out)} of {wanted} can be used; {reason}",
                "leave this template or this kind of secret out",
            )
        drawn = [kind.generate(rng) for _ in range(_CHUNK)]
        tried += _CHUNK
        read = list(placed(scorer, template, drawn, limit)) if scorer else [None] * len(drawn)
        if pieces is None and (counts := Counter(len(r.where) for r in read if isinstance(r, Placed))):
            pieces = counts.most_common(1)[0][0]
        for secret, found in zip(drawn, read, strict=True):
            if isinstance(found, str):
                reasons[found] += 1
                continue
            names: set[str | tuple[int, ...]] = {canonical(secret), *((found.secret,) if found else ())}
            if names & taken or (found and len(found.where) != pieces) or len(out) == wanted:
                continue
            taken |= names
            out.append(secret)
    return out
