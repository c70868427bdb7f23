"""Membership inference from records to findings: references trained, every model asked, rows kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from albert_audit import texts
from albert_audit.bias.measure import frame
from albert_audit.privacy import attacks, membership, membership_findings
from albert_audit.privacy.blind import blind_scores, copies, duplicates
from albert_audit.privacy.brought import Brought
from albert_audit.privacy.membership import BASE, TARGET, Attack, Scored
from albert_audit.privacy.records import Bools, Records, gather
from albert_audit.privacy.splits import reference_splits
from albert_audit.redact import Key, Secret
from albert_audit.types import Decision, Finding, Head, Policy, UsageError

if TYPE_CHECKING:
    from albert_audit.model.load import ModelHandle
    from albert_audit.model.scorer import Progress, Scorer, TorchScorer

Task = Callable[[str, int], AbstractContextManager["Progress | None"]]
"""Shows progress; see `albert_audit.audit.Watcher`."""


def run(
    brought: Brought,
    handle: ModelHandle,
    scorer: Scorer,
    decision: Decision | None,
    policy: Policy,
    seed: int,
    *,
    task: Task,
    workers: int,
) -> tuple[pd.DataFrame, tuple[Finding, ...], dict[str, Secret]]:
    """Attack the model and its controls.

    Returns
    -------
    rows, findings
    revealed : dict
        By their ids the members that stand out, which only `redact.reveal_to` may write.

    Parameters
    ----------
    scorer : Scorer
        Of the audited model.
    task : callable
        Shows progress; see `albert_audit.audit.Watcher`.
    workers : int
        Reference models that are trained at a time.
    """
    records, left_out = _records(brought, decision)
    persons = _joined(records)
    keep = _splits(brought, records, persons, seed)
    folders = _train(brought, handle, scorer, records, keep, decision, seed, task, workers)
    outputs, labels = _outputs(brought, handle, scorer, records, folders, keep, decision, seed, task)
    fine = np.isfinite(np.stack([o if o.ndim == 1 else o.sum(axis=1) for o in outputs.values()])).all(axis=0)
    judged = records.judged & fine
    made, pool = brought.attacks, records.has_pool
    scored = _scored(outputs, labels, keep, made, judged, pool=pool)
    main = membership.primary(made)
    known = None
    if len(keep) > 2:
        # Records of the pool that are a judged person's are in no training set.
        where = keep.any(axis=0) & fine
        of_main = next(
            s for s in _scored(outputs, labels, keep, [main], where, pool=False) if s.attack.name == main.name
        )
        known = (of_main, records.pick(persons, where))
    own = records.pick(persons, judged)
    blind = blind_scores(
        records.pick(records.texts, judged),
        records.pick(records.labels, judged) if records.labelled else None,
        records.member[judged], own, seed=seed,
    ).scores  # fmt: skip
    evidence = membership_findings.Evidence(
        scored=tuple(scored), primary=main.name, member=records.member[judged], persons=own, blind=blind,
        reference_only=outputs[BASE][judged] if BASE in outputs else None,
        groups={a: tuple(records.pick(g, judged)) for a, g in records.groups.items()}, dosed=known, pool=pool,
        head_only=bool(brought.recipe and brought.recipe.method == "head"), duplicates=left_out,
        skipped=int((records.judged & ~fine).sum()), by_person=records.repeated_persons,
    )  # fmt: skip
    found = membership_findings.build(evidence, policy, seed)
    stands_out = np.zeros(len(judged), bool)
    stands_out[judged] = membership_findings.flagged(evidence)
    clear = {i: Secret(t) for i, t, out in zip(records.ids, records.texts, stands_out, strict=True) if out}
    return _rows(evidence, records, judged, brought.key, own), found, clear


def forecast(brought: Brought, handle: ModelHandle, workers: int) -> list[str]:
    """Say before anything is scored which attacks will be made, and about how long that takes."""
    from albert_audit.model.scorer import TorchScorer

    sets = [g for g in (brought.members, brought.non_members, brought.pool) if g is not None]
    scorer = TorchScorer(handle)
    lengths = [len(e.ids) for g in sets for e in scorer.encode([t.text for t in g.texts])]
    classifier = handle.id.head is Head.SEQUENCE_CLASSIFICATION
    recipe, models = brought.recipe, brought.references
    trained, seconds = (
        (len(lengths) if brought.pool is None else len(brought.pool.texts)) // 2,
        sum(lengths) * (1 + models) * (1 if classifier else brought.config.maskings) / scorer.speed(),
    )
    lines = [f"membership: {', '.join(a.name for a in brought.attacks)}"]
    if models and recipe is not None and brought.base is not None and recipe.method != "head":
        from albert_audit.model import tuning

        training = tuning.forecast(
            brought.base, trained, sum(lengths) / len(lengths), recipe, models,
            head=Head.SEQUENCE_CLASSIFICATION if classifier else Head.MASKED_LM,
            labels=max(len(handle.id.labels), 2), workers=workers, device=handle.device.type,
        )  # fmt: skip
        lines.append(
            f"{models} reference models on {trained:,} texts each: about {max(training / 60, 0.1):.1f} minutes, "
            f"{workers} at a time"
        )
    lines.append(
        f"about {max(seconds / 60, 0.1):.1f} minutes of asking {1 + models} models about {len(lengths):,} records"
    )
    return lines


def _records(brought: Brought, decision: Decision | None) -> tuple[Records, int]:
    """Return the records, labels in the model's words, without non-members that are copies, or nearly, of members."""
    given = [brought.members, brought.non_members, brought.pool]
    if decision is not None:
        given = [texts.matched(g, decision) if g is not None else None for g in given]
    members, non_members, pool = given
    assert members is not None and non_members is not None  # noqa: S101 (read by `read`)
    alike = {
        d.non_member for d in duplicates([t.text for t in members.texts], [t.text for t in non_members.texts])
    }
    kept = tuple(t for i, t in enumerate(non_members.texts) if i not in alike)
    if not kept:
        raise UsageError(
            "every non-member's text is also a member's, or nearly", "give records that were held out"
        )
    return gather(members, replace(non_members, texts=kept), pool), len(alike)


def _joined(records: Records) -> tuple[str, ...]:
    """Return the person of each record, records of one text, or nearly of one, taken together."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for i, j in copies(records.texts):
        parent[root(records.persons[i])] = root(records.persons[j])
    return tuple(root(p) for p in records.persons)


def _splits(brought: Brought, records: Records, persons: Sequence[str], seed: int) -> Bools:
    """Return what each reference model is trained on, shape (k, n): of the pool where there is one."""
    k, n = brought.references, len(records.ids)
    keep = np.zeros((k, n), bool)
    if not k:
        return keep
    pool = np.asarray(records.sets == "pool")
    judged = {p for p, j in zip(persons, records.judged, strict=True) if j}
    where = pool & np.array([p not in judged for p in persons]) if records.has_pool else records.judged
    if where.sum() < 4:
        raise UsageError("the pool has no records but those of the persons judged", "give other records")
    keep[:, where] = reference_splits(
        records.member[where], records.pick(persons, where),
        records.pick(records.labels, where) if records.labelled else None, k, seed=seed,
    )  # fmt: skip
    return keep


def _scored(
    outputs: dict[str, Any], labels: Any, keep: Bools, made: Sequence[Attack], where: Bools, *, pool: bool
) -> list[Scored]:
    part = {name: o[where] for name, o in outputs.items()}
    if labels is not None:
        return membership.of_classifier(part, labels[where], keep[:, where], made, pool=pool)
    return membership.of_masked(part, keep[:, where], made, pool=pool)


def _outputs(
    brought: Brought,
    handle: ModelHandle,
    scorer: Scorer,
    records: Records,
    folders: Sequence[Path],
    keep: Bools,
    decision: Decision | None,
    seed: int,
    task: Task,
) -> tuple[dict[str, Any], Any]:
    """Ask every model about every record."""
    tokens = sum(len(e.ids) for e in scorer.encode(records.texts))

    named = {f"reference-{i}": folder for i, folder in enumerate(folders)}
    if decision is not None:
        out = {}
        for name in (TARGET, *named):
            one = scorer if name == TARGET else scorer_of(named[name], handle)
            with task(f"membership: {name}", tokens) as advance:
                one.progress = advance  # type: ignore[attr-defined]
                out[name] = membership.class_log_probs(one, records)
        labels = membership.label_codes(records, decision)
        if len(keep) and not folders:
            out |= _of_heads(brought, handle, scorer, records, keep, labels)
        return out, labels
    if brought.base is not None and brought.base not in named.values():
        named[BASE] = brought.base
    scorers: dict[str, Scorer] = {
        TARGET: scorer,
        **{name: scorer_of(folder, handle) for name, folder in named.items()},
    }
    count = brought.config.maskings
    with task("membership: masked likelihoods", tokens * count * len(scorers)) as advance:
        for one in scorers.values():
            one.progress = advance  # type: ignore[attr-defined]
        return dict(attacks.masked_scores(scorers, records.texts, count=count, seed=seed)), None


def scorer_of(folder: Path, handle: ModelHandle) -> TorchScorer:
    """Return a scorer of another checkpoint on the audited model's device."""
    from albert_audit.model.load import load
    from albert_audit.model.scorer import TorchScorer

    return TorchScorer(load(folder, device=handle.device.type))


def _train(
    brought: Brought,
    handle: ModelHandle,
    scorer: Scorer,
    records: Records,
    keep: Bools,
    decision: Decision | None,
    seed: int,
    task: Task,
    workers: int,
) -> list[Path]:
    """Train the reference models, or find those that an earlier run finished.

    They remember records, and so lie in the user's cache folder for the owner's eyes alone.
    """
    recipe, base = brought.recipe, brought.base
    if not len(keep) or recipe is None or base is None or recipe.method == "head":
        return []
    from albert_audit.model.cache import cache_path
    from albert_audit.model.tuning import Job, tune_many

    # Only what decides the weights: a canary manifest beside it trains nothing anew.
    parts = ("members", "non_members", "pool", "base", "recipe", "references")
    told = json.dumps([{k: v for k, v in brought.told.items() if k in parts}, seed], sort_keys=True)
    root = cache_path().parent / "references" / brought.key.digest(told, purpose="references")
    for folder in (root.parent, root):  # `parents` would not give the upper one the mode
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    jobs = [
        Job(
            base, root / f"reference-{i}", records.pick(records.texts, own), recipe, seed * 1000 + i,
            Head.SEQUENCE_CLASSIFICATION if decision is not None else Head.MASKED_LM,
            labels=records.pick(records.labels, own) if decision is not None else None,
            label_names=decision.labels if decision is not None else (), init_head="auto",
            device=handle.device.type,
        )
        for i, own in enumerate(keep)
    ]  # fmt: skip
    tokens = sum(len(e.ids) for e in scorer.encode(records.texts)) / len(records.texts)
    with task(
        f"{len(jobs)} reference models", int(sum(len(j.texts) for j in jobs) * recipe.epochs * tokens)
    ) as advance:
        return tune_many(
            jobs, workers=workers if handle.device.type == "cpu" else 1,
            progress=(lambda texts_seen: advance(int(texts_seen * tokens))) if advance else None,
        )  # fmt: skip


def _of_heads(
    brought: Brought, handle: ModelHandle, scorer: Scorer, records: Records, keep: Bools, labels: Any
) -> dict[str, Any]:
    """Return the log-probabilities of heads of their own on one frozen encoder: all trained in one step."""
    from albert_audit.model.tuning import heads

    encoder = scorer_of(brought.base, handle) if brought.base is not None else scorer
    # What the pooler does may have been trained with the head; the state that it reads was not.
    features = encoder.embeddings(records.texts, pool="cls")
    logits = heads(features, labels, keep, classes=len(scorer.id.labels))
    return {f"reference-{i}": attacks.log_softmax(one) for i, one in enumerate(logits)}


def _rows(
    e: membership_findings.Evidence, records: Records, judged: Bools, key: Key, persons: Sequence[str]
) -> pd.DataFrame:
    """Return one row a record and score; persons as digests under the project's key."""
    ids = records.pick(records.ids, judged)
    who = {p: key.digest(p, purpose="person") for p in set(persons)}
    sides = np.where(e.member, "member", "non-member")
    parts: list[pd.DataFrame] = []

    def add(measure: str, values: Any, role: str, beside: str = "", axis: str = "all", contrast: str = "",
            where: Any = None) -> None:  # fmt: skip
        rows = pd.DataFrame(
            {
                "pack": membership.NAME, "measure": measure, "axis": axis,
                "contrast": contrast or membership_findings.CONTRAST, "group": sides, "item": ids,
                "cluster_a": [who[p] for p in persons], "cluster_b": beside, "role": role,
                "covariate": np.nan, "value": values, "unit": "score", "skipped": "",
            }
        )  # fmt: skip
        parts.append(rows if where is None else rows[where])

    for scored in e.scored:
        add(scored.attack.name, scored.target, "probe")
        for i, control in enumerate(scored.controls):
            add(scored.attack.name, control, "control", f"reference-{i}")
    add("blind", e.blind, "control")
    if e.reference_only is not None:
        add("reference_only", e.reference_only, "control")
    main = next(s for s in e.scored if s.attack.name == e.primary)
    for axis, groups in e.groups.items():
        for group in sorted(set(groups) - {""}):
            add(e.primary, main.target, "probe", axis=axis, contrast=group, where=np.asarray(groups) == group)
    skipped = [
        {
            "pack": membership.NAME, "measure": e.primary, "axis": "all", "contrast": membership_findings.CONTRAST,
            "group": str(s), "item": i, "cluster_a": "", "cluster_b": "", "role": "probe", "covariate": np.nan,
            "value": np.nan, "unit": "score", "skipped": "the text is too long for the model, or has nothing to mask",
        }
        for i, s, j in zip(records.ids, records.sets, judged, strict=True)
        if not j and s != "pool"
    ]  # fmt: skip
    rows = pd.concat(parts, ignore_index=True)
    return frame([*rows.to_dict("records"), *skipped]) if skipped else frame(rows.to_dict("records"))
