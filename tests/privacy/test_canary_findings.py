"""Canaries' scores as findings: memory where it was planted, and none where it was not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from albert_audit.gate import default_policy, judge
from albert_audit.privacy import canaries, canary_findings
from albert_audit.privacy.canary_findings import build, ids
from albert_audit.privacy.canary_manifest import Canary, Manifest
from albert_audit.privacy.canary_scores import COLUMNS
from albert_audit.redact import leaks
from albert_audit.types import Finding, Findings, Head, State, Status, VerdictWord
from tests import builders
from tests.fakes import one, selected

Lean = Callable[[Canary], float]


def nothing(_: Canary) -> float:
    return 0.0


def memory(canary: Canary) -> float:
    """Nats by which a canary is likelier for having stood there."""
    return 3.0 * np.log2(1 + canary.repetitions)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return canaries.make(coins=100, seed=5)


def scores(
    manifest: Manifest, lean: Lean = nothing, *, seed: int = 0, references: int = 120, base: bool = True
):
    """What `canaries.score` gives for a model in which secrets are normal and canaries lean."""
    rng = np.random.default_rng(seed)
    rows = []
    for template in manifest.templates:
        about = {
            "template": template.id, "identifier": template.identifier, "style": template.style,
            "group": template.group or template.identifier, "label": "", "stratum": f"{template.id}/3",
            "pieces": 3, "skipped": "",
        }  # fmt: skip
        own = [c for c in manifest.canaries if c.template == template.id]
        prior = rng.normal(-20, 6, size=len(own) + references)
        gain = rng.normal(size=len(prior)) + np.array([*map(lean, own), *([0.0] * references)])
        for i, (before, more) in enumerate(zip(prior, gain, strict=True)):
            of = (
                {"item": own[i].id, "role": "canary", "block": own[i].block, "repetitions": own[i].repetitions,
                 "included": own[i].included}
                if i < len(own)
                else {"item": f"{template.id}/{i}", "role": "reference", "block": "", "repetitions": 0, "included": False}
            )  # fmt: skip
            known = before if base else np.nan
            rows.append(
                about | of | {"score": before + more, "base": known, "difference": before + more - known}
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def found(manifest: Manifest, table: pd.DataFrame, **options) -> tuple[Finding, ...]:
    return build(table, manifest, **({"epsilon": None, "delta": 0.0, "seed": 0} | options))[1]


def verdict(of: tuple[Finding, ...]) -> VerdictWord:
    policy = default_policy(Head.MASKED_LM, (), ("canaries",))
    assert policy is not None
    return judge(Findings(model=builders.model(), findings=of), policy, post_hoc=False).verdict


# --- memory or not --------------------------------------------------------------------------


def test_null_model_has_no_gap_and_its_control_is_at_chance(manifest: Manifest) -> None:
    covered = epsilon = 0
    for seed in range(5):
        got = found(manifest, scores(manifest, seed=seed))
        gap, left = one(got, "gap/all/once"), one(got, "left_out")
        ends = gap.effect.intervals["0.95"]
        covered += ends.low <= 0 <= ends.high
        assert left.status is Status.ESTIMATED and left.role == "control"
        assert left.effect.null == pytest.approx(1.4, abs=0.03)
        assert abs(left.effect.value - left.effect.null) < 0.6
        epsilon += one(got, "epsilon").effect.value > 0
        assert verdict(got) is not VerdictWord.FAIL
    assert covered >= 4 and epsilon <= 1


def test_a_model_that_remembers_is_seen_to(manifest: Manifest) -> None:
    got = found(manifest, scores(manifest, memory))
    gap, epsilon = one(got, "gap/all/once"), one(got, "epsilon")
    assert gap.effect.intervals["0.95"].low > 1
    assert 0 < epsilon.effect.value <= epsilon.details["ceiling"]
    assert gap.details["coins_flipped_again_p"] < 0.01 and gap.details["fisher_p"] < 0.01
    slower = found(manifest, scores(manifest, lambda c: 0.6 * np.log2(1 + c.repetitions)))
    assert one(slower, "slope").effect.intervals["0.95"].low > 0
    rising = [one(got, f"repeated-{k}-").effect.value for k in (1, 4, 32)]
    assert rising[0] < rising[1] <= rising[2] + 0.5
    assert one(got, "left_out").status is Status.ESTIMATED
    assert verdict(got) is VerdictWord.FAIL


def test_a_gap_of_nothing_passes_only_where_repeated_canaries_are_seen(manifest: Manifest) -> None:
    """Canaries that never got into the training data would pass every limit."""
    lost = found(manifest, scores(manifest))
    assert one(lost, "gap/all/once").status is Status.INSUFFICIENT
    assert "positive control" in one(lost, "gap/all/once").reason
    assert verdict(lost) is VerdictWord.INCONCLUSIVE
    seen = found(manifest, scores(manifest, lambda c: 9.0 if c.repetitions > 8 else 0.0))
    assert one(seen, "gap/all/once").status is Status.ESTIMATED
    assert verdict(seen) in (VerdictWord.PASS, VerdictWord.INCONCLUSIVE)
    more = canaries.make(coins=400, seed=6)
    assert verdict(found(more, scores(more, lambda c: 9.0 if c.repetitions > 8 else 0.0))) is VerdictWord.PASS


def test_what_the_base_knew_is_taken_away(manifest: Manifest) -> None:
    """A nice number is no memory: with the base's score the same leak is seen better."""
    with_base = one(found(manifest, scores(manifest, memory)), "gap/all/once").effect.value
    without = one(found(manifest, scores(manifest, memory, base=False)), "gap/all/once").effect.value
    assert with_base > without


def test_order_of_canaries_changes_nothing(manifest: Manifest) -> None:
    table = scores(manifest, memory)
    other = table.sample(frac=1, random_state=1).reset_index(drop=True)
    for a, b in zip(found(manifest, table), found(manifest, other), strict=True):
        assert (a.id, a.status) == (b.id, b.status)
        if a.measure != "epsilon":
            assert a.effect.value == pytest.approx(b.effect.value)


# --- what voids it --------------------------------------------------------------------------


def test_left_out_canaries_that_are_known_void_everything(manifest: Manifest) -> None:
    """Trap 14: they were in the data after all, or are unlike their references."""
    got = found(manifest, scores(manifest, lambda c: 6.0))
    assert {f.status for f in got} == {Status.INVALID} and len(got) > 8
    assert "never inserted" in one(got, "gap/all/once").reason
    assert verdict(got) is VerdictWord.INCOMPLETE


def test_left_out_canaries_that_are_less_known_void_nothing(manifest: Manifest) -> None:
    got = found(manifest, scores(manifest, lambda c: 0.0 if c.included else -3.0))
    assert Status.INVALID not in {f.status for f in got}


def test_unfair_coins_prove_no_epsilon(manifest: Manifest) -> None:
    table = scores(manifest, memory)
    coins = table.index[(table["block"] == "coin") & ~table["included"]]
    table = table.drop(coins[5:])
    got = one(found(manifest, table), "epsilon")
    assert got.status is Status.INSUFFICIENT and got.effect is None
    assert "fair coins" in got.reason


@pytest.mark.parametrize(("share", "status"), [(0.05, Status.ESTIMATED), (0.15, Status.INSUFFICIENT)])
def test_many_skipped_canaries_leave_nothing_to_say(manifest: Manifest, share: float, status: Status) -> None:
    table = scores(manifest, memory)
    where = table.index[table["role"] == "canary"]
    lost = np.random.default_rng(0).choice(where, int(share * len(where)), replace=False)
    table.loc[lost, ["score", "difference"]] = np.nan
    table.loc[lost, "skipped"] = "longer than 64 tokens"
    rows, got = build(table, manifest, epsilon=None, delta=0.0, seed=0)
    assert one(got, "gap/all/once").status is status
    assert (rows["skipped"] == "longer than 64 tokens").sum() == len(lost)
    assert len(rows) == len(manifest.canaries), "no canary is dropped"
    if status is Status.INSUFFICIENT:
        assert {f.status for f in got} == {status} and "longer than 64 tokens" in got[0].reason
        assert verdict(got) is VerdictWord.INCONCLUSIVE


def test_too_few_references_leave_nothing_to_say(manifest: Manifest) -> None:
    got = found(manifest, scores(manifest, memory, references=30))
    assert one(got, "left_out").status is Status.INSUFFICIENT


def test_a_declared_epsilon_is_contradicted_and_never_confirmed(manifest: Manifest) -> None:
    table = scores(manifest, memory)
    low, high = (one(found(manifest, table, epsilon=e), "epsilon") for e in (0.01, 50.0))
    assert any("contradicts" in c for c in low.caveats)
    assert not any("contradicts" in c for c in high.caveats)
    assert all(any("never confirm" in c for c in f.caveats) for f in (low, high))
    assert not low.gates and low.effect == high.effect


# --- form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"coins": 0}, {"levels": (0, 4)}, {"levels": (0,), "coins": 30}])
def test_announced_ids_are_those_of_the_findings(options: dict) -> None:
    made = canaries.make(seed=2, **({"coins": 40} | options))
    got = found(made, scores(made, memory))
    assert sorted(f.id for f in got if f.role == "probe") == sorted(ids(made))
    assert any("exposure_gap" in f.id for f in got) == (
        len(options.get("levels", (0, 1))) > 1 or bool(options.get("coins", 1))
    )


def test_evidence_names_its_rows_and_nothing_holds_a_secret(manifest: Manifest) -> None:
    rows, got = build(scores(manifest, memory), manifest, epsilon=3.0, delta=0.0, seed=0)
    for f in got:
        for selector in f.evidence:
            if selector.where.get("group") == "coin" and f.axis != "all":
                continue  # of one group
            assert len(selected(rows, selector)) >= selector.rows > 0, f.id
    written = (
        rows.to_csv().encode() + repr(got).encode() + b"".join(f.model_dump_json().encode() for f in got)
    )
    long = [c.secret for c in manifest.canaries if len(c.secret) > 7]
    assert len(long) > 50 and not [s for s in long if leaks(written, s)]


def test_a_state_is_given_to_every_rule(manifest: Manifest) -> None:
    policy = default_policy(Head.MASKED_LM, (), ("canaries",))
    got = judge(
        Findings(model=builders.model(), findings=found(manifest, scores(manifest, memory))),
        policy,
        post_hoc=False,
    )
    assert [r.state for r in got.results] == [State.FAIL]
    assert canary_findings.ONCE in got.results[0].finding
