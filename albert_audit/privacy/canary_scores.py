"""What exposure is computed from: the scores of canaries and of references that were never inserted.

A *reference* is a secret that the canary could have been: the same context, the same kind, drawn by
the same generator and read as equally many pieces, but different from every canary, inserted or not.
Under no memory at all a canary is one of its references, and its rank among them is uniform.

Masked language model: the log-probability of the secret's pieces given their context, read from left
to right; the pieces not yet read are masked, those of later words of the secret too (within a word
the rule of Kauf and Ivanova 2023). Nothing but the secret is scored. Classifier: the log-likelihood
of the label that was drawn for the canary, which is no label of the references; each is asked for the
same label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit.model.scorer import Scorer
from albert_audit.model.text import Encoded, MaskQuery, find_word
from albert_audit.privacy.canary_manifest import Canary, Manifest, Template, stream
from albert_audit.privacy.identifiers import identifier
from albert_audit.redact import canonical
from albert_audit.types import Ability, Decision, Head, UsageError

Array = NDArray[np.float64]
Key = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
REFERENCES = 1000
COLUMNS = (
    "item", "role", "template", "identifier", "style", "group", "block", "repetitions", "included", "label",
    "stratum", "pieces", "score", "base", "difference", "skipped",
)  # fmt: skip
_DRAWS, _CHUNK = 100, 1000
"""Secrets drawn for each reference wanted before a number of pieces is given up; secrets at a time."""
_NO_NUMBER = "the model gave no finite score"


@dataclass(frozen=True, slots=True)
class Placed:
    """A filled template as a tokenizer reads it; `where` holds the positions of the secret's pieces."""

    text: str = field(repr=False)
    encoded: Encoded = field(repr=False)
    where: tuple[int, ...]

    @property
    def secret(self) -> tuple[int, ...]:
        """The ids of the secret's pieces."""
        return tuple(self.encoded.ids[i] for i in self.where)


def placed(
    scorer: Scorer, template: Template, drawn: Sequence[str], limit: int | None
) -> Iterator[Placed | str]:
    """Yield for each secret how the tokenizer reads it in the template, or why it cannot be used."""
    filled = [template.fill(secret) for secret in drawn]
    most = min(scorer.id.max_tokens, limit or scorer.id.max_tokens)
    for encoded, (text, span) in zip(scorer.encode([t for t, _ in filled]), filled, strict=True):
        if len(encoded.ids) > most:
            yield f"longer than {most} tokens"
        elif scorer.unknown_id in encoded.ids:
            yield "holds a piece the vocabulary lacks"
        else:
            try:
                yield Placed(text, encoded, find_word(encoded, *span))
            except ValueError:
                yield "a piece reaches across the border of the secret, which so cannot be masked alone"


def score(
    scorer: Scorer,
    manifest: Manifest,
    *,
    references: int = REFERENCES,
    base: Scorer | None = None,
    decision: Decision | None = None,
) -> pd.DataFrame:
    """Score canaries and references.

    Parameters
    ----------
    references : int
        For each stratum: a template and a number of pieces.
    base : Scorer, optional
        The model before the training, with the same tokenizer. `difference` takes away what it said
        already, e.g. of numbers that look nice.
    decision : Decision, optional
        What a classifier's logits mean; one label a text when left out.

    Returns
    -------
    DataFrame
        One row a canary (role ``canary``) and a reference (role ``reference``), with the columns
        `COLUMNS` and no text. Natural logs; higher means member. A canary competes with the
        references of its `stratum`, see `references`. Where `skipped` holds a reason the score, or
        the difference, is missing. The references of a classifier are there once a label.

    Raises
    ------
    UsageError
        When the base reads the texts otherwise, a label is none of the model's, or the head gives
        no log-likelihood.
    """
    if references < 1:
        raise UsageError(f"expected at least one reference, found {references}")
    limit = min(m for m in (manifest.max_tokens, scorer.id.max_tokens, base and base.id.max_tokens) if m)
    read, taken = _canaries(scorer, manifest, limit)
    drawn: dict[str, list[Placed]] = {}
    for template in manifest.templates:
        wanted = {
            len(r.where)
            for c, r in zip(manifest.canaries, read, strict=True)
            if c.template == template.id and isinstance(r, Placed)
        }
        for pieces, found in _references(
            scorer, manifest, template, wanted, taken, references, limit
        ).items():
            drawn[f"{template.id}/{pieces}"] = found
    for i, (canary, one) in enumerate(zip(manifest.canaries, read, strict=True)):
        if isinstance(one, Placed):
            have = len(drawn[f"{canary.template}/{len(one.where)}"])
            if have < references:
                read[i] = f"{have} of {references} references of {len(one.where)} pieces were found"
    drawn = {stratum: found for stratum, found in drawn.items() if len(found) == references}
    everything = [r for r in read if isinstance(r, Placed)] + [r for found in drawn.values() for r in found]
    if base is not None:
        _same_pieces(base, everything)
    values = _likelihoods(scorer, manifest, everything, decision)
    before = (
        np.full_like(values, np.nan) if base is None else _likelihoods(base, manifest, everything, decision)
    )
    return _frame(manifest, read, drawn, values, before, based=base is not None)


def references(scores: pd.DataFrame, column: str = "difference") -> dict[str, Array]:
    """Return the references' finite values of each stratum, each shape (references,)."""
    rows = scores[(scores["role"] == "reference") & scores[column].notna()]
    return {str(s): np.asarray(v.to_numpy(np.float64)) for s, v in rows.groupby("stratum")[column]}


# --- reading --------------------------------------------------------------------------------


def _canaries(
    scorer: Scorer, manifest: Manifest, limit: int
) -> tuple[list[Placed | str], set[tuple[int, ...]]]:
    """Return how each canary is read, or why it cannot be scored; and how secrets are read, scored or not."""
    at: dict[str, list[int]] = {}
    for i, canary in enumerate(manifest.canaries):
        at.setdefault(canary.template, []).append(i)
    out: list[Placed | str] = ["" for _ in manifest.canaries]
    for template in manifest.templates:
        own = at.get(template.id, [])
        found = placed(scorer, template, [manifest.canaries[i].secret for i in own], limit)
        for i, one in zip(own, found, strict=True):
            out[i] = one
    alike = Counter(r.secret for r in out if isinstance(r, Placed))
    kept = [
        "another canary reads the same to this tokenizer"
        if isinstance(r, Placed) and alike[r.secret] > 1
        else r
        for r in out
    ]
    return kept, set(alike)


def _references(
    scorer: Scorer,
    manifest: Manifest,
    template: Template,
    wanted: set[int],
    inserted_or_not: set[tuple[int, ...]],
    count: int,
    limit: int,
) -> dict[int, list[Placed]]:
    """Draw for each number of pieces up to `count` references, all different and none a canary."""
    out: dict[int, list[Placed]] = {pieces: [] for pieces in wanted}
    rng = stream(manifest.seed, f"references/{template.id}")
    kind = identifier(template.identifier)
    taken: set[str | tuple[int, ...]] = {canonical(c.secret) for c in manifest.canaries}
    taken |= inserted_or_not
    for _ in range(0, _DRAWS * count, _CHUNK):
        if all(len(found) == count for found in out.values()):
            break
        drawn = [kind.generate(rng) for _ in range(_CHUNK)]
        for secret, one in zip(drawn, placed(scorer, template, drawn, limit), strict=True):
            if isinstance(one, str) or len(out.get(len(one.where), range(count))) == count:
                continue
            names: set[str | tuple[int, ...]] = {canonical(secret), one.secret}
            if not names & taken:
                taken |= names
                out[len(one.where)].append(one)
    return out


def _same_pieces(base: Scorer, read: Sequence[Placed]) -> None:
    for one, found in zip(read, base.encode([r.text for r in read]), strict=True):
        if found.ids != one.encoded.ids:
            raise UsageError(
                "the base reads the canaries otherwise than the model: their tokenizers differ",
                "give the checkpoint that the training began from",
            )


# --- asking ---------------------------------------------------------------------------------


def _likelihoods(
    scorer: Scorer, manifest: Manifest, read: Sequence[Placed], decision: Decision | None
) -> Array:
    """Return log-likelihoods: of the secrets, shape (n, 1), or of each of the manifest's labels, (n, labels)."""
    classifies = manifest.head is Head.SEQUENCE_CLASSIFICATION
    need = Ability.CLASS_LOGITS if classifies else Ability.MASK_LOGPROBS
    if need not in scorer.can:
        raise UsageError(
            f"the canaries were made for the head {manifest.head}, this model has {scorer.id.head}",
            "give the model that was trained on them",
        )
    if classifies:
        return _of_labels(scorer, manifest, [r.text for r in read], decision)
    return of_secrets(scorer, read)[:, None]


def of_secrets(scorer: Scorer, read: Sequence[Placed]) -> Array:
    """Return the joint log-probability of each secret; an input that several share is sent once."""
    wanted: dict[Key, dict[int, int]] = {}
    steps: list[list[tuple[Key, int]]] = []
    mask = scorer.mask_id
    for one in read:
        own = []
        for k, at in enumerate(one.where):
            ids = list(one.encoded.ids)
            for i in one.where[k:]:
                ids[i] = mask
            key: Key = (tuple(ids), one.encoded.type_ids, one.where[k:])
            asked = wanted.setdefault(key, {})
            own.append((key, asked.setdefault(one.encoded.ids[at], len(asked))))
        steps.append(own)
    queries = [
        MaskQuery(ids, types, masked, masked[:1], (tuple(asked),))
        for (ids, types, masked), asked in wanted.items()
    ]
    answers = dict(zip(wanted, scorer.mask_logprobs(queries), strict=True))
    return np.array([sum(float(answers[key][0, place]) for key, place in own) for own in steps], np.float64)


def _of_labels(scorer: Scorer, manifest: Manifest, texts: Sequence[str], decision: Decision | None) -> Array:
    kind = decision.kind if decision else "single"
    if kind == "regression":
        raise UsageError("a regression has no labels that could be drawn at random for canaries")
    names = scorer.id.labels
    if not set(manifest.labels) <= set(names) and decision and len(decision.labels) == len(names):
        names = decision.labels
    if missing := [label for label in manifest.labels if label not in names]:
        raise UsageError(
            f"the model has no label {missing[0]!r}, which canaries were given",
            f"its labels are {', '.join(names)}",
        )
    logits = scorer.class_logits(texts).astype(np.float64)
    at = [names.index(label) for label in manifest.labels]
    if kind == "multi":
        # That label and no other: the sum of the labels' Bernoulli log-likelihoods.
        none = -np.logaddexp(0.0, logits).sum(axis=1, keepdims=True)
        return np.asarray(none + logits[:, at])
    return np.asarray(logits[:, at] - np.logaddexp.reduce(logits, axis=1, keepdims=True))


# --- the table ------------------------------------------------------------------------------


def _frame(
    manifest: Manifest,
    read: Sequence[Placed | str],
    drawn: dict[str, list[Placed]],
    values: Array,
    before: Array,
    *,
    based: bool,
) -> pd.DataFrame:
    templates = {t.id: _about(t) for t in manifest.templates}
    labels = manifest.labels or ("",)
    rows: list[dict[str, Any]] = []
    at = 0
    for canary, one in zip(manifest.canaries, read, strict=True):
        row = templates[canary.template] | _of(canary)
        if isinstance(one, str):
            rows.append(row | {"skipped": one, "pieces": 0, "stratum": ""})
            continue
        column = labels.index(canary.label)
        rows.append(row | _numbers(values[at, column], before[at, column], based=based)
                    | {"pieces": len(one.where), "stratum": _stratum(canary.template, len(one.where), canary.label)})  # fmt: skip
        at += 1
    asked = {r["stratum"] for r in rows}
    for stratum, found in drawn.items():
        template, _, pieces = stratum.rpartition("/")
        for k, label in enumerate(labels):
            name = _stratum(template, int(pieces), label)
            for i in range(len(found)) if name in asked else ():
                rows.append(
                    templates[template]
                    | {"item": f"{name}/{i + 1}", "role": "reference", "block": "", "repetitions": 0,
                       "included": False, "label": label, "stratum": name, "pieces": int(pieces)}
                    | _numbers(values[at + i, k], before[at + i, k], based=based)
                )  # fmt: skip
        at += len(found)
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = {"repetitions": "int64", "pieces": "int64", "included": "bool", "score": "float64",
               "base": "float64", "difference": "float64"}  # fmt: skip
    return out.astype({c: numbers.get(c, "str") for c in COLUMNS})


def _about(template: Template) -> dict[str, Any]:
    return {
        "template": template.id, "identifier": template.identifier, "style": template.style,
        "group": template.group or template.identifier, "skipped": "",
    }  # fmt: skip


def _of(canary: Canary) -> dict[str, Any]:
    return {
        "item": canary.id, "role": "canary", "block": canary.block, "repetitions": canary.repetitions,
        "included": canary.included, "label": canary.label,
    }  # fmt: skip


def _stratum(template: str, pieces: int, label: str) -> str:
    return f"{template}/{pieces}" + (f"/{label}" if label else "")


def _numbers(value: float, before: float, *, based: bool) -> dict[str, Any]:
    """Return the scores that are finite, and the reason where one is not."""
    out: dict[str, Any] = {"score": value if np.isfinite(value) else np.nan, "base": np.nan}
    out["skipped"] = "" if np.isfinite(value) else _NO_NUMBER
    if based:
        out["base"] = before if np.isfinite(before) else np.nan
        out["skipped"] = out["skipped"] or ("" if np.isfinite(before) else "the base gave no finite score")
    out["difference"] = out["score"] - out["base"]
    return out
