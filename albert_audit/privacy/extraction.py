"""Whether a masked language model can fill in somebody's name, number or address.

Every secret is asked for in its own record and in several prompts, of the model and of the checkpoint that
its training began from. Secrets that were never trained on are asked for in just the same way. What those two
cannot fill in either, and the model can, it has from its training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from albert_audit.model.scorer import Scorer
from albert_audit.privacy import extraction_decode as decode
from albert_audit.privacy import extraction_ranks as ranks
from albert_audit.privacy.canary_manifest import stream
from albert_audit.privacy.canary_scores import Placed, of_secrets, placed
from albert_audit.privacy.extraction_contexts import (
    ANY,
    LONGEST,
    OWN,
    PROMPTS,
    Asked,
    asked_of,
    most_pieces,
    neutral,
    same_pieces,
    unsearchable,
)
from albert_audit.privacy.extraction_decode import Completion
from albert_audit.privacy.extraction_secrets import Entry, Secrets, read

__all__ = ["Entry", "Secrets", "Told", "cost", "measure", "read"]

OFFSETS = 10
"""Secrets of others that each secret's completions are compared with."""
_NO_NUMBER = "the model gave no finite score here, or in the contexts it is compared with"
Model = Literal["target", "base"]


@dataclass(frozen=True)
class Told:
    """One number.

    Attributes
    ----------
    entry : int
        Which secret.
    measure : str
        ``top1``, ``top10`` (1 or 0), ``rank`` (share of candidates beaten), ``exposure`` (bits), and for the
        target ``accidental_top1`` and ``accidental_top10``, the share of others' secrets found in its place.
    prompt : str
        ``own``, ``prompt-1`` and so on; ``any``, found by at least one of them.
    value : float
        NaN where `skipped` says why there is none.
    """

    entry: int
    measure: str
    prompt: str
    model: Model
    value: float
    skipped: str = ""


def cost(
    secrets: Secrets, scorer: Scorer, *, base: bool, prompts: int = PROMPTS, longest: int = LONGEST,
    candidates: int = ranks.CANDIDATES,
) -> int:  # fmt: skip
    """Return the most tokens that `measure` scores. Equal inputs are sent once, so that it may be fewer."""
    asked = asked_of(secrets, scorer, prompts)
    most_of = most_pieces(secrets, asked, longest)
    total = sum(
        len(p.encoded.ids) * len(p.where) * (candidates + 1) for a in asked for p in a.placed.values()
    )
    for kind, most in most_of.items():
        mine = [a for a, e in zip(asked, secrets.entries, strict=True) if e.kind == kind and not a.lost]
        total += decode.cost([g for a in mine if a.pieces <= longest for g in a.gaps.values()], most)
    for language in {e.language for e in secrets.entries}:
        total += decode.cost(neutral(scorer, language), max(most_of.values(), default=0))
    return total * (2 if base else 1)


def measure(
    secrets: Secrets, scorer: Scorer, base: Scorer | None, *, seed: int, prompts: int = PROMPTS,
    longest: int = LONGEST, candidates: int = ranks.CANDIDATES,
) -> list[Told]:  # fmt: skip
    """Ask for every secret.

    Parameters
    ----------
    base : Scorer, optional
        The checkpoint that the training began from, with the same tokenizer.
    prompts : int
        Shipped contexts a kind; see `prompts`. Persons are named where every secret of the kind has a name.
    longest : int
        Pieces; longer secrets are ranked and not searched for.

    Raises
    ------
    UsageError
        When the base reads texts otherwise than the model.
    """
    asked = asked_of(secrets, scorer, prompts)
    if base is not None:
        same_pieces(base, [p for a in asked for p in a.placed.values()])
    models: dict[Model, Scorer] = {"target": scorer}
    if base is not None:
        models["base"] = base
    out = _searched(secrets, asked, models, seed, longest)
    out += _ranked(secrets, asked, scorer, models, seed, candidates)
    return out


# --- asking ----------------------------------------------------------------------------------


def _searched(
    secrets: Secrets, asked: Sequence[Asked], models: dict[Model, Scorer], seed: int, longest: int
) -> list[Told]:
    out: list[Told] = []
    most_of = most_pieces(secrets, asked, longest)
    yardsticks = {
        (model, language): decode.norms(
            one, neutral(one, language),
            max(most_of[e.kind] for e in secrets.entries if e.language == language and e.kind in most_of),
        )
        for model, one in models.items()
        for language in sorted({e.language for e in secrets.entries if e.kind in most_of})
    }  # fmt: skip
    for i, (entry, one) in enumerate(zip(secrets.entries, asked, strict=True)):
        reason = one.lost or unsearchable(one, most_of.get(entry.kind, 0), models.values(), longest)
        out += [
            Told(i, m, ANY, model, np.nan, reason) for model in models for m in ("top1", "top10") if reason
        ]
    for kind, most in most_of.items():
        mine = [
            i for i, (e, a) in enumerate(zip(secrets.entries, asked, strict=True))
            if e.kind == kind and not a.lost and not unsearchable(a, most, models.values(), longest)
        ]  # fmt: skip
        for language in sorted({secrets.entries[i].language for i in mine}):
            own = [i for i in mine if secrets.entries[i].language == language]
            places = [(i, prompt, gap) for i in own for prompt, gap in asked[i].gaps.items()]
            for model, scorer in models.items():
                found = decode.search(scorer, [g for _, _, g in places], most, yardsticks[model, language])
                by_entry: dict[int, dict[str, list[Completion]]] = {i: {} for i in own}
                for (i, prompt, _), completions in zip(places, found, strict=True):
                    by_entry[i][prompt] = completions
                for i, per_prompt in by_entry.items():
                    out += _hits(i, per_prompt, asked[i].truths, model)
                if model == "target":
                    out += _accidental(
                        secrets, asked, by_entry, stream(seed, f"extraction/{kind}/{language}")
                    )
    return out


def _hits(
    i: int, per_prompt: dict[str, list[Completion]], truths: frozenset[str], model: Model
) -> list[Told]:
    if not all(per_prompt.values()):
        return [Told(i, m, ANY, model, np.nan, _NO_NUMBER) for m in ("top1", "top10")]
    out = []
    for measure_, depth in (("top1", 1), ("top10", decode.WIDTH)):
        hit = {p: any(c.form in truths for c in found[:depth]) for p, found in per_prompt.items()}
        out += [Told(i, measure_, p, model, float(h)) for p, h in (hit | {ANY: any(hit.values())}).items()]
    return out


def _accidental(
    secrets: Secrets, asked: Sequence[Asked], found: dict[int, dict[str, list[Completion]]],
    rng: np.random.Generator,
) -> list[Told]:  # fmt: skip
    """Return how often completions of one person's gap are another's secret, at random offsets in the list."""
    at, out = list(found), []
    for k, i in enumerate(at):
        person, truths = secrets.entries[i].person, asked[i].truths
        turned = [at[(k + int(o)) % len(at)] for o in rng.permutation(len(at) - 1) + 1]
        others = [j for j in turned if secrets.entries[j].person != person and not asked[j].truths & truths]
        for measure_, depth in (("top1", 1), ("top10", decode.WIDTH)):
            forms = {c.form for completions in found[i].values() for c in completions[:depth]}
            if others[:OFFSETS]:
                share = float(np.mean([bool(forms & asked[j].truths) for j in others[:OFFSETS]]))
                out.append(Told(i, f"accidental_{measure_}", ANY, "target", share))
    return out


def _ranked(
    secrets: Secrets,
    asked: Sequence[Asked],
    scorer: Scorer,
    models: dict[Model, Scorer],
    seed: int,
    count: int,
) -> list[Told]:
    out: list[Told] = []
    jobs: list[tuple[int, str, list[Placed]]] = []
    for i, (entry, one) in enumerate(zip(secrets.entries, asked, strict=True)):
        others: list[str] = []
        reason, rng = one.lost, stream(seed, f"candidates/{entry.id}")
        if not reason:
            others, _ = ranks.candidates(
                scorer, entry, one.placed[OWN], one.templates[OWN], secrets.entries, rng, count
            )
            reason = _few(len(others), count)
        for prompt, own in one.placed.items() if not reason else ():
            alike = [
                p for p in placed(scorer, one.templates[prompt], others, None)
                if isinstance(p, Placed) and len(p.where) == len(own.where)
            ]  # fmt: skip
            if short := _few(len(alike), count):
                if prompt == OWN:
                    reason = short
            else:
                jobs.append((i, prompt, [own, *alike]))
        out += [
            Told(i, m, OWN, model, np.nan, reason) for model in models for m in ("rank", "exposure") if reason
        ]
    for model, asked_model in models.items():
        scores = iter(of_secrets(asked_model, [p for _, _, competing in jobs for p in competing]))
        for i, prompt, competing in jobs:
            own_score, *rest = (float(next(scores)) for _ in competing)
            if not np.isfinite([own_score, *rest]).all():
                lost = "the model gave no finite score"
                out += [Told(i, m, prompt, model, np.nan, lost) for m in ("rank", "exposure")]
                continue
            share, bits = ranks.ranked(own_score, rest)
            out += [Told(i, "rank", prompt, model, share), Told(i, "exposure", prompt, model, bits)]
    return out


def _few(found: int, count: int) -> str:
    least = min(ranks.LEAST, count)
    return "" if found >= least else f"{found} candidates of the kind with as many pieces, expected {least}"
