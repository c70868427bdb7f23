"""The run: plan, measure, find, judge, render; each step leaves a file that the next one reads."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

import albert_audit
from albert_audit import findings as finder
from albert_audit import folder, gate, packs, texts
from albert_audit.bias import MEASURES, frame
from albert_audit.bias.benchmarks import bbq, bec_pro, crows_pairs, seat, stereoset, winobias, winogender
from albert_audit.config import AuditConfig, Privacy, load_config
from albert_audit.findings import Measured, checks, stream
from albert_audit.folder import Audit
from albert_audit.packs import Given, Pack
from albert_audit.privacy import brought as bringing
from albert_audit.privacy import suite
from albert_audit.redact import check_reveal, reveal_to
from albert_audit.types import (
    Ability,
    Decision,
    Finding,
    Findings,
    Head,
    Manifest,
    Policy,
    PolicyError,
    RunInfo,
    Status,
    UsageError,
)

if TYPE_CHECKING:
    from albert_audit.model.cache import CachedScorer, ScoreStore
    from albert_audit.model.load import ModelHandle
    from albert_audit.model.scorer import Progress, Scorer

LOADERS = {
    crows_pairs.NAME: crows_pairs.load,
    stereoset.NAME: stereoset.load,
    winogender.NAME: winogender.load,
    winobias.NAME: winobias.load,
    bec_pro.NAME: bec_pro.load,
    bbq.NAME: bbq.load,
    bbq.NAME_ZH: bbq.load_cbbq,
    seat.NAME: seat.load,
}
"""Benchmarks that are not shipped."""
_QUESTIONS = (Ability.CHOICE_LOGITS, Ability.SPAN_LOGITS)
_ANSWERED_BY = {bbq.NAME: _QUESTIONS, bbq.NAME_ZH: _QUESTIONS, seat.NAME: (Ability.EMBEDDINGS,)}
_VERSIONS = ("torch", "transformers", "tokenizers", "numpy", "scipy", "pandas", "pyarrow")


class Watcher(Protocol):
    """Shows progress; the command line's is a bar with rate and time left."""

    def task(self, label: str, tokens: int) -> AbstractContextManager[Progress | None]:
        """Enter a task of so many tokens; calls to what it gives advance it."""

    def warn(self, message: str) -> None:
        """Show a message above the bar."""


class Silent:
    """A watcher that shows nothing."""

    def task(self, label: str, tokens: int) -> AbstractContextManager[Progress | None]:
        """See `Watcher`."""
        del label, tokens
        return nullcontext(None)

    def warn(self, message: str) -> None:
        """See `Watcher`."""
        del message


# --- planning -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What a pack will ask of the model."""

    pack: Pack
    inputs: int
    tokens: int
    flops: int
    checks: tuple[finder.Forecast, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What an audit will do, before anything is scored."""

    config: AuditConfig
    handle: ModelHandle
    policy: Policy
    packs: tuple[Pack, ...]
    unable: tuple[Pack, ...]
    costs: tuple[Cost, ...]
    given: Given | None = None
    decision: Decision | None = None
    unspoken: tuple[Pack, ...] = ()
    """Packs left out because the vocabulary lacks their language."""
    brought: bringing.Brought | None = None
    """What the auditor brought for the privacy tests."""

    @property
    def identity(self) -> str:
        """SHA-256 over model, configuration and packs: what decides whether a folder is resumed."""
        content: dict[str, object] = {
            "model": self.handle.id.sha256,
            "profile": self.profile,
            "seed": self.config.seed,
            "packs": {p.name: p.sha256 for p in (*self.packs, *self.unable)},
        }
        if self.given is not None:
            content["texts"] = _told(self.config, self.given, self.brought)
        if self.decision is not None:
            content["decision"] = self.decision.model_dump()
        if self.brought is not None:
            content["privacy"] = self.brought.told
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def workers(self) -> int:
        """Processes to score with; 1 means this one."""
        if self.handle.device.type != "cpu":
            return 1
        if self.config.workers != "auto":
            return self.config.workers
        from albert_audit.model.pool import WORTH, cores

        return cores() if sum(c.flops for c in self.costs) >= WORTH else 1

    @property
    def trainers(self) -> int:
        """Reference models that are trained at a time: one a core, unless another number was asked for."""
        if self.handle.device.type != "cpu":
            return 1
        from albert_audit.model.pool import cores

        return cores() if self.config.workers == "auto" else self.config.workers

    @property
    def profile(self) -> str:
        """``quick``, ``standard`` or ``full``."""
        return _profile(self.config)

    @property
    def seconds(self) -> float:
        """Roughly how long scoring takes in one process, from two batches scored just now."""
        from albert_audit.model.scorer import TorchScorer

        scorer = TorchScorer(self.handle, budget=self.config.batch_tokens)
        return sum(c.tokens for c in self.costs) / scorer.speed()

    def privacy_lines(self) -> list[str]:
        """Say what the privacy tests will do and about how long they take."""
        if self.brought is None or self.brought.members is None:
            return []
        from albert_audit.privacy import membership_run

        return membership_run.forecast(self.brought, self.handle, self.trainers)

    @property
    def reveal(self) -> Path | None:
        """Where what was found is to be written in clear."""
        named = self.config.privacy.reveal if self.config.privacy is not None else None
        return Path(named).expanduser() if named else None

    @property
    def out(self) -> Path:
        """The audit's folder."""
        return Path(self.config.out or f"audit-{self.handle.id.sha256[:12]}")


def plan(config: AuditConfig) -> Plan:
    """Load what the configuration names, and refuse what cannot work, before anything is scored.

    Raises
    ------
    UsageError, PackError, PolicyError
        Before the model's weights are read.
    ModelRefused
        When the checkpoint would be scored wrongly or is unsafe to load.
    """
    profile = _profile(config)
    if config.data and profile != "full":
        raise UsageError(
            f"the profile {profile} runs shipped packs only, and {', '.join(sorted(config.data))} was given",
            "leave --profile out, or say --profile full",
        )
    data = [_data(name, Path(path)) for name, path in sorted(config.data.items())]
    policy = gate.load_policy(Path(config.policy)) if config.policy else None
    given = texts.load(config.texts) if config.texts is not None else None
    if config.only == "privacy" and (config.packs or config.data or config.privacy is None):
        raise UsageError(
            "the privacy tests alone need something to test with, and no packs or benchmarks",
            "give --members and --non-members, and leave --pack and --data out",
        )
    chosen = [packs.load(packs.find(name)) for name in config.packs] if config.packs is not None else None
    language = config.language.partition("-")[0].lower() if config.language else None
    for pack in chosen or []:
        if pack.spec.role == "placebo" or pack.is_floor:
            raise UsageError(
                f"{pack.name} is a control; it runs with the packs that name it",
                "give the probe pack instead",
            )
        if lacking := [b for b in pack.shape.brings if b not in (given.brings if given else ())]:
            raise UsageError(
                f"{pack.name} needs your own {', '.join(lacking)}",
                "give --texts FILE, with --label-column and --group-column where they are needed",
            )
    for pack in (*(chosen or []), *data):
        if language not in (None, pack.language):
            raise UsageError(
                f"{pack.name} is in the language {pack.language!r}, and --language {language} was given",
                "leave --language out, or choose what is of that language (`language` in pack.yaml says it)",
            )
    from albert_audit.model import load as loading
    from albert_audit.model.cache import CountingScorer
    from albert_audit.model.scorer import TorchScorer

    head = loading.peek_head(config.model, config.revision)
    can = loading.ABILITIES[head]
    brought = None
    vectors = given is not None and head is Head.ENCODER and config.only is None
    if vectors or (config.privacy is not None and config.only != "bias"):
        brought = bringing.read(config.privacy or Privacy(), head, given)
    by_default = [
        p
        for p in _shipped_probes()
        if _answers(p, can) and _served(p, head, given, profile) and language in (None, p.language)
    ]
    if config.only == "privacy":
        by_default = []
    probes = [*(by_default if chosen is None else chosen), *data]
    probes = [replace(p, given=given) if p.shape.brings else p for p in probes]  # they name the checks
    if repeated := [n for n, count in Counter(p.name for p in probes).items() if count > 1]:
        raise UsageError(f"the pack {repeated[0]} was given twice", "name each pack once")
    if not probes and config.packs is not None and brought is None:
        raise UsageError(
            "no pack is chosen: `packs` is empty", "name some, or leave `packs` out for all that fit"
        )
    if not probes and brought is None:
        raise UsageError(
            f"no shipped pack {f'in the language {language!r} ' if language else ''}can test a model with the head "
            f"{head} by itself",
            "`albert-audit inspect MODEL` shows what the model can answer; bring a pack with --pack DIR and a policy "
            "with --policy FILE, or texts of your own with --texts FILE",
        )
    if policy is not None:
        _check(policy, head, probes, brought)
    handle = loading.load(config.model, revision=config.revision, device=config.device)
    decision = _decision(handle, config)
    if given is not None and decision is not None:
        given = texts.matched(given, decision)
    if brought is not None:
        bringing.check(brought, decision)
    unspoken: list[Pack] = []
    if chosen is None:
        unspoken = [p for p in by_default if handle.unknown_rate.get(p.language, 0.0) > loading.MOST_UNKNOWN]
        probes = [p for p in probes if p not in unspoken]
        if not probes and brought is None:
            raise UsageError(
                "the vocabulary lacks the language of every pack that would run",
                "`albert-audit inspect MODEL` shows which languages it knows; see --language",
            )
    if policy is None:
        known = [g for g, rate in handle.unknown_rate.items() if rate <= loading.MOST_UNKNOWN]
        spoken = ([language] if language else known) if probes else []
        policy = gate.default_policy(head, spoken, brought.tests if brought is not None else ())
        if policy is None:
            of = f" and the language{'s' * (len(spoken) > 1)} {', '.join(spoken)}" if spoken else ""
            raise PolicyError(
                f"no policy is shipped for the head {head}{of}",
                "write one and give it with --policy FILE; reports/policies/ holds the shipped ones to start from",
            )
        _check(policy, head, probes, brought)
    able = [p for p in probes if _answers(p, can)]
    everything = [
        replace(p, given=given if p.shape.brings or p.is_floor else None, decision=decision)
        for p in _differing(_with_controls(able))
    ]
    counter = CountingScorer(TorchScorer(handle, budget=config.batch_tokens))
    costs = []
    for pack in everything:
        counter.inputs = counter.tokens = 0
        checks: list[finder.Forecast] = []
        with suppress(Exception):  # the run will report it as a finding; a plan only forecasts
            rows = _measure(counter, pack, config.seed)
            checks = finder.forecasts(pack, rows) if pack.spec.role == "probe" and not pack.is_floor else []
        costs.append(Cost(pack, counter.inputs, counter.tokens, counter.flops, tuple(checks)))
    unable = tuple(p for p in probes if p not in able)
    return Plan(
        config, handle, policy, tuple(everything), unable, tuple(costs), given, decision, tuple(unspoken),
        brought,
    )  # fmt: skip


def _profile(config: AuditConfig) -> str:
    return config.profile or ("full" if config.data else "standard")


def _check(policy: Policy, head: Head, probes: Sequence[Pack], brought: bringing.Brought | None) -> None:
    alone = [p for p in probes if not (p.spec.controls or p.shape.controls_itself)]
    gate.check_policy(
        policy,
        head,
        {**_checks(probes, head), **(brought.ids() if brought is not None else {})},
        [*_checks(_shipped_probes(), head), *bringing.known(head)],
        uncontrolled=_checks(alone, head),
        upward=finder.upward(probes),
    )


def _answers(pack: Pack, can: frozenset[Ability]) -> bool:
    return MEASURES[pack.spec.measure].fits(can)


def _served(pack: Pack, head: Head, given: Given | None, profile: str) -> bool:
    """Whether a shipped pack runs by default: what it needs is there, and the profile has it.

    Every head has an encoder, whose distances say little of what the head does: they are measured
    where the encoder is what is used, or where they are asked for.
    """
    if MEASURES[pack.spec.measure].needs == (Ability.EMBEDDINGS,) and head is not Head.ENCODER:
        return False
    there = given.brings if given is not None else frozenset[str]()
    if not there.issuperset(pack.shape.brings):
        return False
    if pack.shape.brings and given is not None and pack.language != given.language:
        return False
    return profile != "quick" or pack.spec.profile == "quick"


def _decision(handle: ModelHandle, config: AuditConfig) -> Decision | None:
    """Say what the logits of a classifier mean; None for other heads.

    Raises
    ------
    UsageError
        When the label to compare is not known, or must be said.
    """
    if handle.id.head is not Head.SEQUENCE_CLASSIFICATION:
        if config.positive is not None or config.threshold is not None:
            raise UsageError(
                f"--positive and --threshold are for classifiers; this model has the head {handle.id.head}",
                "leave them out",
            )
        return None
    labels = handle.id.labels
    kind = {"multi_label_classification": "multi", "regression": "regression"}.get(
        str(handle.model.config.problem_type), "regression" if len(labels) == 1 else "single"
    )
    if kind != "regression" and config.threshold is not None and not 0 < config.threshold < 1:
        raise UsageError(
            f"expected a threshold between 0 and 1, a probability of this classifier; found {config.threshold:g}",
            "only a regression's threshold is in a unit of its own",
        )
    if config.positive is None:
        if len(labels) > 2:
            raise UsageError(
                f"this classifier has {len(labels)} labels; say which one's probability is compared",
                f"--positive with one of: {', '.join(labels)}",
            )
        positive = len(labels) - 1
    else:
        match = [i for i, name in enumerate(labels) if name.casefold() == config.positive.casefold()]
        if not match:
            raise UsageError(
                f"the classifier has no label {config.positive!r}", f"its labels are {', '.join(labels)}"
            )
        positive = match[0]
    return Decision.model_validate(
        {"labels": labels, "kind": kind, "positive": positive, "threshold": config.threshold}
    )


def _told(config: AuditConfig, given: Given, brought: bringing.Brought | None) -> dict[str, object]:
    """Return what the audit keeps of the auditor's texts: their hash and columns, never a text."""
    assert config.texts is not None  # noqa: S101 (there are texts)
    # A plain hash would tell whoever has a file that it is this one; where there is a key, the digest is keyed.
    digest = {"sha256": given.sha256}
    if brought is not None:
        digest = {"digest": brought.key.digest(given.sha256, purpose="file")}
    return {**digest, "rows": len(given.texts), **config.texts.model_dump(exclude={"path"})}


def testable(can: frozenset[Ability]) -> list[str]:
    """Return the names of the shipped packs that a model with these abilities can answer."""
    return [p.name for p in _shipped_probes() if _answers(p, can)]


def _data(name: str, path: Path) -> Pack:
    if name not in LOADERS:
        raise UsageError(f"there is no loader for the data {name!r}", f"known: {', '.join(sorted(LOADERS))}")
    return LOADERS[name](path)


def _differing(given: Sequence[Pack]) -> list[Pack]:
    """Leave out a pack that is given twice; refuse two different packs of one name."""
    out: dict[str, Pack] = {}
    for pack in given:
        if out.setdefault(pack.name, pack).sha256 != pack.sha256:
            raise UsageError(
                f"two different packs are called {pack.name!r}",
                "rename one: its folder, and `name` in its pack.yaml",
            )
    return list(out.values())


def _shipped_probes() -> list[Pack]:
    found = [packs.load(packs.find(name)) for name in packs.shipped()]
    return [p for p in found if p.spec.role == "probe" and not p.is_floor]


def _checks(probes: Sequence[Pack], head: Head) -> dict[str, bool]:
    return {k: v for pack in probes for k, v in checks(pack, head).items()}


def _with_controls(probes: Sequence[Pack]) -> list[Pack]:
    """Return probes, their controls and the floors of their languages, floors first."""
    controls: dict[str, Pack] = {}
    for pack in probes:
        for name in pack.spec.controls:
            if (place := pack.beside(name)) is not None:
                controls.setdefault(name, packs.load(place))
    # A pack of another language brings its floor along, in a folder beside it; it never replaces a
    # shipped floor, or a broken model could be made to look fair.
    floors = {finder.floor_name(p): _floor(p) for p in probes}
    vouching = [packs.load(place) for _, place in sorted(floors.items()) if place is not None]
    return [*vouching, *probes, *controls.values()]


def _floor(pack: Pack) -> Path | None:
    name = finder.floor_name(pack)
    if not name:
        return None
    return packs.find(name) if name in packs.shipped() else pack.beside(name)


def _measure(scorer: Scorer, pack: Pack, seed: int) -> pd.DataFrame:
    return MEASURES[pack.spec.measure].run(scorer, pack, stream(seed, f"measure/{pack.name}"))


# --- running --------------------------------------------------------------------------------


def run(
    model: str | Path | AuditConfig,
    *,
    out: str | Path | None = None,
    packs: Sequence[str] | None = None,
    data: Mapping[str, str] | None = None,
    policy: str | Path | None = None,
    device: str | None = None,
    seed: int | None = None,
    force: bool = False,
    watcher: Watcher | None = None,
) -> Audit:
    """Audit a model and write its folder.

    Parameters
    ----------
    model : str, Path or AuditConfig
        A folder, a hub id, or a whole configuration.
    out : str or Path, optional
        The audit's folder; ``audit-<first 12 of the model's hash>`` when left out. A folder of the
        same model, configuration and packs is resumed.
    packs, data, policy, device, seed
        See `AuditConfig`.
    force : bool
        Replace an audit of something else that lies in `out`.

    Returns
    -------
    Audit

    Examples
    --------
    >>> audit = albert_audit.run("path/to/model", packs=["pronoun-occupation-en"])  # doctest: +SKIP
    >>> audit.verdict.verdict  # doctest: +SKIP
    """
    if isinstance(model, AuditConfig):
        config = model
    else:
        config = load_config(
            None, model=str(model), out=str(out) if out else None, policy=str(policy) if policy else None,
            packs=tuple(packs) if packs is not None else None, data=dict(data) if data else None,
            device=device, seed=seed,
        )  # fmt: skip
    return execute(plan(config), force=force, watcher=watcher or Silent())


def execute(planned: Plan, *, force: bool, watcher: Watcher) -> Audit:
    """Carry out a plan; every step leaves its file."""
    started = _now()
    target = planned.out
    if planned.reveal is not None:
        check_reveal(planned.reveal, outside=target)
    manifest, info = _open(planned, force=force, started=started)
    scored = _score(planned, watcher)
    every = [m.rows for m in scored.measured if m.rows is not None]
    if scored.leaks is not None:
        every.append(scored.leaks.rows)
    rows = pd.concat(every, ignore_index=True) if every else frame([])
    folder.write_bytes(target / folder.MEASUREMENTS, rows.to_parquet(index=False, compression="zstd"))
    model = planned.handle.id
    policy = planned.policy
    if planned.reveal is not None and scored.leaks is not None:
        reveal_to(planned.reveal, scored.leaks.revealed, outside=target)
    found = Findings(
        model=model,
        findings=(
            *finder.build(scored.measured, model, policy, planned.config.seed, scored.baselines),
            *(finder.corrected(scored.leaks.findings) if scored.leaks is not None else ()),
        ),
        not_tested=tuple(_not_tested(planned)),
    )
    folder.write(target / folder.FINDINGS, found)
    post_hoc = policy.sha256 != manifest.policy_sha256
    folder.write_policy_lock(target, policy)  # a resumed folder may hold one it was judged by since
    verdict = gate.judge(found, policy, post_hoc=post_hoc)
    finished = _now()
    info = info.model_copy(
        update={
            "finished": finished.isoformat(timespec="seconds"),
            "seconds": round((finished - started).total_seconds(), 1),
            "scored": {"tokens": scored.scorer.scored},
            "cached": {"tokens": scored.scorer.cached},
        }
    )
    folder.write(target / folder.RUN, info)
    return folder.finish(Audit(target, manifest, found, verdict, policy, info))


def _open(planned: Plan, *, force: bool, started: datetime) -> tuple[Manifest, RunInfo]:
    """Prepare the folder: lock the policy and say what the folder is, before anything is scored."""
    target, identity = planned.out, planned.identity
    # Forced, the folder may also hold what can no longer be read.
    before = None if force else folder.read_manifest(target)
    if before is not None and before.identity != identity:
        raise UsageError(
            f"{target} holds an audit of something else: {before.model.name} ({before.model.sha256[:12]}), "
            f"packs {', '.join(p.name for p in before.packs)}, seed {before.seed}",
            "choose another --out, or --force to replace it",
        )
    if before is None and not force and _foreign(target):
        raise UsageError(
            f"{target} is not empty and holds no audit", "choose another --out, or --force to write there"
        )
    resumed = before
    try:
        target.mkdir(parents=True, exist_ok=True)
        if resumed is None:
            for name in folder.FILES:
                (target / name).unlink(missing_ok=True)
    except OSError as exc:
        raise UsageError(f"cannot write to {target}: {exc.strerror}", "choose another --out") from None
    old_run = folder.read_run(target) if resumed is not None else None
    info = RunInfo(
        started=old_run.started if old_run else started.isoformat(timespec="seconds"),
        device=planned.handle.device.type,
        threads=planned.handle.threads,
        platform=f"{platform.system()} {platform.machine()}",
        command="albert-audit run " + planned.handle.id.name,
    )
    config = planned.config
    manifest = Manifest(
        identity=identity,
        complete=False,
        model=planned.handle.id,
        config={
            "data": sorted(config.data),
            "device": config.device,
            "packs": [p.name for p in planned.packs],
            "profile": planned.profile,
            "seed": config.seed,
            **({"texts": _told(config, planned.given, planned.brought)} if planned.given is not None else {}),
            **({"decision": planned.decision.model_dump()} if planned.decision is not None else {}),
            **({"privacy": planned.brought.told} if planned.brought is not None else {}),
            **({"revealed": True} if planned.reveal is not None else {}),
        },
        packs=(
            *(p.ref(planned.handle.id.head) for p in (*planned.packs, *planned.unable)),
            *(planned.brought.refs() if planned.brought is not None else ()),
        ),
        policy_sha256=resumed.policy_sha256 if resumed else planned.policy.sha256,
        seed=config.seed,
        versions={
            "albert-audit": albert_audit.__version__,
            "python": platform.python_version(),
            **{n: version(n) for n in _VERSIONS},
        },
    )
    if resumed is None:
        folder.write_policy_lock(target, planned.policy)
    folder.write(target / folder.RUN, info)
    folder.write(target / folder.MANIFEST, manifest)
    return manifest, info


def _foreign(target: Path) -> bool:
    """Whether a folder holds what no audit wrote that was killed before its manifest was there."""
    ours = {folder.POLICY, folder.RUN, *(folder.part(target / name).name for name in folder.FILES)}
    try:
        return any(p.name not in ours for p in target.iterdir())
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise UsageError(f"cannot write to {target}: {exc.strerror}", "choose another --out") from None


@dataclass(frozen=True)
class Scored:
    """What the models answered: the rows of each pack, baselines, and the privacy tests' findings."""

    measured: list[Measured]
    baselines: dict[str, list[Measured]]
    scorer: CachedScorer
    leaks: suite.Found | None = None


def _score(planned: Plan, watcher: Watcher) -> Scored:
    from albert_audit.model.cache import CachedScorer, ScoreStore, cache_path
    from albert_audit.model.pool import PooledScorer, workers
    from albert_audit.model.scorer import TorchScorer

    handle, budget = planned.handle, planned.config.batch_tokens
    measured = []
    baselines: dict[str, list[Measured]] = {}
    with ExitStack() as stack:
        store = stack.enter_context(closing(ScoreStore(cache_path())))
        here = TorchScorer(handle, budget=budget)
        inner: TorchScorer | PooledScorer = here
        if planned.workers > 1 and handle.folder is not None:
            pool = stack.enter_context(workers(handle.folder, planned.workers, budget))
            inner = PooledScorer(here, pool)
        threads = handle.threads if inner is here else 1  # they, too, decide a score's last digits
        scorer = CachedScorer(inner, store, device=f"{handle.device.type}:{threads}")
        for cost in planned.costs:
            with watcher.task(cost.pack.spec.title, cost.tokens) as advance:
                inner.progress = scorer.progress = advance
                try:
                    measured.append(Measured(cost.pack, _measure(scorer, cost.pack, planned.config.seed)))
                except Exception as exc:
                    # One crashed check must not hide the others, nor pass: it becomes a finding.
                    # Its words may hold one of the auditor's texts.
                    said = "" if planned.given is not None else f": {exc}"
                    reason = f"crashed: {type(exc).__name__}{said}"
                    watcher.warn(f"{cost.pack.name} {reason}")
                    if os.environ.get("ALBERT_AUDIT_DEBUG"):
                        traceback.print_exc(file=sys.stderr)
                    measured.append(Measured(cost.pack, None, reason, crashed=True))
        if planned.profile == "full":
            with watcher.task("The same with random weights and with word frequencies", 0):
                baselines = _baselines(planned, store, f"{handle.device.type}:{handle.threads}")
        leaks = _privacy(planned, scorer, watcher)
    head = handle.id.head
    for pack in planned.unable:
        needs = " or ".join(MEASURES[pack.spec.measure].needs)
        measured.append(Measured(pack, None, f"a model with the head {head} cannot answer {needs}"))
    return Scored(measured, baselines, scorer, leaks)


def nothing_estimated(planned: Plan, findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a line for each benchmark or pack that was asked for and of which no finding got an estimate.

    The verdict is about the policy's rules alone: without this a set that could not be scored, and that no
    rule names, would leave no trace on the screen.
    """
    asked = [
        p.name for p in (*planned.packs, *planned.unable)
        if p.spec.role == "probe" and not p.is_floor
        and (planned.config.packs is not None or p.name in planned.config.data)
    ]  # fmt: skip
    for name in asked:
        mine = [f for f in findings if f.pack == name and f.role == "probe"]
        if not any(f.status is Status.ESTIMATED for f in mine):
            counted = Counter(f.status.value.replace("_", " ") for f in mine)
            states = ", ".join(f"{n} {state}" for state, n in counted.items()) or "no finding"
            reason = next((f": {f.reason}" for f in mine if f.reason), "")
            yield f"nothing was estimated from {name} ({states}){reason}"


def _privacy(planned: Plan, scorer: CachedScorer, watcher: Watcher) -> suite.Found | None:
    if planned.brought is None:
        return None
    return suite.run(
        planned.brought, planned.handle, scorer, planned.decision, planned.policy, planned.config.seed,
        task=watcher.task, warn=watcher.warn, workers=planned.trainers,
    )  # fmt: skip


def _baselines(planned: Plan, store: ScoreStore, device: str) -> dict[str, list[Measured]]:
    """Measure every probe in scorers that know nothing; what fails there is left out."""
    from albert_audit.model.baseline import UnigramScorer, random_init, unigrams
    from albert_audit.model.cache import CachedScorer
    from albert_audit.model.scorer import TorchScorer

    blank = TorchScorer(random_init(planned.handle, planned.config.seed), budget=planned.config.batch_tokens)
    scorers: dict[str, Scorer] = {"random_init": CachedScorer(blank, store, device=device)}
    frequencies = unigrams(planned.handle)
    if Ability.MASK_LOGPROBS in planned.handle.can and frequencies is not None:
        scorers["unigram"] = UnigramScorer(blank, frequencies)
    out: dict[str, list[Measured]] = {}
    for name, scorer in scorers.items():
        for pack in planned.packs:
            if pack.is_floor or pack.spec.role == "placebo" or not _answers(pack, scorer.can):
                continue
            with suppress(Exception):  # a reference figure: the finding stands without it
                rows = _measure(scorer, pack, planned.config.seed)
                out.setdefault(name, []).append(Measured(pack, rows))
    return out


def _now() -> datetime:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        return datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"expected SOURCE_DATE_EPOCH in whole seconds, found {epoch!r}", "unset it"
        ) from None


def _not_tested(planned: Plan) -> list[str]:
    """Say in plain words what this audit did not look at."""
    head, names = planned.handle.id.head, {p.name for p in planned.packs}
    out = [*bringing.not_tested(planned.brought, head), "The reasons for single predictions (attribution)"]
    if not planned.packs:
        return [*out, "Bias: whether the model treats groups of people differently"]
    if Ability.MASK_LOGPROBS in planned.handle.can:
        out.append("How a model fine-tuned from this one treats people")
    if head is Head.PRETRAINING:
        out.append("The sentence-order head")
    languages = sorted({p.spec.language for p in planned.packs})
    out.append(
        f"Languages other than {', '.join({'en': 'English', 'zh': 'Chinese'}.get(g, g) for g in languages)}"
    )
    unspoken = {p.name for p in planned.unspoken}
    there = planned.given.brings if planned.given is not None else frozenset[str]()
    for pack in _shipped_probes():
        if pack.name in names or not _answers(pack, planned.handle.can):
            continue
        if pack.name in unspoken:
            why = "the vocabulary lacks its language"
        elif lacking := [b for b in pack.shape.brings if b not in there]:
            why = f"it needs your own {', '.join(lacking)}"
        else:
            why = "not chosen"
        out.append(f"{pack.spec.title} ({pack.name}): {why}")
    out += [
        f"The benchmark {name}: no file was given"
        for name in sorted(LOADERS)
        if name not in planned.config.data
        and not planned.handle.can.isdisjoint(_ANSWERED_BY.get(name, (Ability.MASK_LOGPROBS,)))
    ]
    out.append("Groups that the packs do not name, and people who belong to several groups at once")
    return out
