"""The privacy tests of one audit: each runs where its input was brought, and a crash never hides the others."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from albert_audit.bias.measure import frame
from albert_audit.privacy import (
    canaries,
    canary_findings,
    embedding_findings,
    extraction_findings,
    membership_run,
)
from albert_audit.privacy.brought import Brought
from albert_audit.privacy.membership_run import Task
from albert_audit.redact import Secret
from albert_audit.types import Decision, Finding, Policy, Status, UsageError

if TYPE_CHECKING:
    from albert_audit.model.load import ModelHandle
    from albert_audit.model.scorer import Scorer

Result = tuple[pd.DataFrame, tuple[Finding, ...], Mapping[str, Secret]]


@dataclass(frozen=True)
class Found:
    """What the privacy tests left: their rows and findings."""

    rows: pd.DataFrame
    findings: tuple[Finding, ...]
    revealed: Mapping[str, Secret] = field(default_factory=dict)


def run(
    brought: Brought,
    handle: ModelHandle,
    scorer: Scorer,
    decision: Decision | None,
    policy: Policy,
    seed: int,
    *,
    task: Task,
    warn: Callable[[str], None],
    workers: int,
) -> Found:
    """Carry out every test that something was brought for.

    Parameters
    ----------
    scorer : Scorer
        Of the audited model.
    task, warn : callable
        Show progress and problems; see `albert_audit.audit.Watcher`.
    workers : int
        Reference models that are trained at a time.
    """
    from albert_audit.model.baseline import random_init
    from albert_audit.model.load import MOST_UNKNOWN
    from albert_audit.model.scorer import TorchScorer

    def of_members() -> Result:
        return membership_run.run(brought, handle, scorer, decision, policy, seed, task=task, workers=workers)

    def of_canaries() -> Result:
        assert brought.manifest is not None  # noqa: S101 (the test is among `brought.tests`)
        base = membership_run.scorer_of(brought.base, handle) if brought.base is not None else None
        if base is not None and scorer.can.isdisjoint(base.can - {"embeddings", "attention"}):
            base = None  # an encoder says nothing of a classifier's labels
        with task("canaries", 0):
            scores = canaries.score(scorer, brought.manifest, base=base, decision=decision)
        part, found = canary_findings.build(
            scores, brought.manifest, epsilon=brought.config.epsilon, delta=brought.config.delta, seed=seed
        )
        return part, found, {}

    def of_secrets() -> Result:
        base = membership_run.scorer_of(brought.base, handle) if brought.base is not None else None
        corpus = [t.text for t in brought.members.texts] if brought.members is not None else None
        known = [g for g, rate in handle.unknown_rate.items() if rate <= MOST_UNKNOWN]
        with task("extraction", 0):
            part, found = extraction_findings.run(
                brought.secrets, scorer, base, brought.key, policy, seed, corpus, languages=known
            )
        return part, found, {}

    def of_vectors() -> Result:
        assert brought.texts is not None  # noqa: S101 (the test is among `brought.tests`)
        blank = TorchScorer(random_init(handle, seed))
        with task("stored vectors", 0):
            part, found = embedding_findings.run(scorer, blank, brought.texts, brought.key, seed)
        return part, found, {}

    tests = {
        "membership": of_members, "canaries": of_canaries, "extraction": of_secrets, "embeddings": of_vectors,
    }  # fmt: skip
    rows, findings = [frame([])], []
    revealed: dict[str, Secret] = {}
    for name in brought.tests:
        try:
            part, found, clear = tests[name]()
        except UsageError:
            raise
        except Exception as exc:
            # A crash becomes findings, so that it can never pass. Its words may hold a record.
            warn(f"the test {name} crashed: {type(exc).__name__}")
            if os.environ.get("ALBERT_AUDIT_DEBUG"):
                traceback.print_exc(file=sys.stderr)
            mine = [i for i in brought.ids().items() if i[0].startswith(f"{name}/")]
            findings += [_lost(i, f"crashed: {type(exc).__name__}", gates) for i, gates in mine]
            continue
        rows.append(part)
        findings += found
        revealed |= clear
    return Found(pd.concat(rows, ignore_index=True), tuple(findings), revealed)


def _lost(identity: str, reason: str, gates: bool) -> Finding:
    """Return the finding of a check that crashed."""
    pack, measure, axis, contrast = identity.split("/")
    return Finding(
        id=identity, pack=pack, measure=measure, axis=axis, contrast=contrast, family=f"{pack}/{measure}",
        title=f"{pack.capitalize()}: {measure.replace('_', ' ')}", estimand="not estimated", unit="none",
        gates=gates, status=Status.ERROR, reason=reason,
    )  # fmt: skip
