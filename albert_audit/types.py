"""The frozen documents that every stage of an audit exchanges, and the errors it raises.

Each document validates itself, refuses unknown keys and carries a ``schema`` of the form
``albert-audit/<kind>@<n>``; readers accept older numbers and refuse newer ones.

Exceptions
----------
::

    AuditError                 what was expected, what was found, what to do; has an exit code
    ├── UsageError             2   a flag, a configuration or a folder that cannot be used
    │   ├── PackError          2   a probe pack with a mistake (all mistakes are listed at once)
    │   └── PolicyError        2   a policy that asks for what no audit can give
    ├── ModelRefused           2   a checkpoint that would be scored wrongly
    └── EvidenceError          3   an audit folder whose files are missing, altered or incomplete
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

LEVELS = ("0.90", "0.95", "simultaneous_0.95")
Level = Literal["0.90", "0.95", "simultaneous_0.95"]


# --- errors ---------------------------------------------------------------------------------


class AuditError(Exception):
    """An error that tells the user what to do next.

    Parameters
    ----------
    message : str
        What was expected and what was found.
    hint : str, optional
        The next step.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class UsageError(AuditError):
    """A flag, a configuration or a folder that cannot be used as asked."""

    exit_code = 2


class PackError(UsageError):
    """A probe pack with one or more mistakes."""


class PolicyError(UsageError):
    """A policy that is malformed or asks for what no audit can give."""


class ModelRefused(AuditError):
    """A checkpoint that would load but be scored wrongly, or that is unsafe to load."""

    exit_code = 2


class EvidenceError(AuditError):
    """An audit folder whose files are missing, altered or incomplete."""

    exit_code = 3


# --- base -----------------------------------------------------------------------------------


class Frozen(BaseModel):
    """Immutable, strict about unknown keys, finite numbers only."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
        defer_build=True,  # `gate` and `report` start in half the time
    )


class Document(Frozen):
    """A frozen model that is a file of its own and therefore carries a schema."""

    kind: ClassVar[str]
    number: ClassVar[int] = 1
    by_hand: ClassVar[bool] = False
    """Written by people, who may leave the schema out; what we write always carries it."""
    schema_: str = Field("", alias="schema", validate_default=True)

    @field_validator("schema_")
    @classmethod
    def _readable(cls, value: str) -> str:
        ours = f"albert-audit/{cls.kind}@{cls.number}"
        if not value:
            return ours
        kind, _, number = value.rpartition("@")
        if kind != f"albert-audit/{cls.kind}" or not number.isdigit() or int(number) < 1:
            raise ValueError(f"expected schema {ours!r}, found {value!r}")
        if int(number) > cls.number:
            raise ValueError(
                f"this file has schema {value!r}, newer than {ours!r}: upgrade albert-audit to read it"
            )
        return value

    @classmethod
    def read(cls, data: Mapping[str, Any], *, where: str, error: type[AuditError] = UsageError) -> Any:
        """Validate `data`, turning every mistake into one readable error of type `error`."""
        try:
            if isinstance(data, Mapping) and not cls.by_hand and "schema" not in data:
                raise error(f"{where} has no schema: expected 'albert-audit/{cls.kind}@{cls.number}'")
            return cls.model_validate(data)
        except ValidationError as exc:
            known = [field.alias or name for name, field in cls.model_fields.items()]
            lines = []
            for e in exc.errors():
                place, said = ".".join(str(p) for p in e["loc"]) or "(file)", e["msg"]
                if e["type"] == "extra_forbidden":
                    near = difflib.get_close_matches(place, known, n=1) if len(e["loc"]) == 1 else []
                    said = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
                lines.append(f"  {place}: {said}")
            hint = f"its keys are {', '.join(known)}" if cls.by_hand else ""
            raise error(f"{where} is not a valid {cls.kind} document:\n" + "\n".join(lines), hint) from None


# --- the model ------------------------------------------------------------------------------


class Head(StrEnum):
    """The seven heads an ALBERT checkpoint can carry."""

    MASKED_LM = "masked_lm"
    PRETRAINING = "pretraining"
    SEQUENCE_CLASSIFICATION = "sequence_classification"
    TOKEN_CLASSIFICATION = "token_classification"
    QUESTION_ANSWERING = "question_answering"
    MULTIPLE_CHOICE = "multiple_choice"
    ENCODER = "encoder"


class Ability(StrEnum):
    """What a head can answer; a measure names the ability it needs."""

    MASK_LOGPROBS = "mask_logprobs"
    TOKEN_LOGPROBS = "token_logprobs"
    ATTENTION = "attention"
    CLASS_LOGITS = "class_logits"
    TAG_LOGITS = "tag_logits"
    SPAN_LOGITS = "span_logits"
    CHOICE_LOGITS = "choice_logits"
    ORDER_LOGITS = "order_logits"
    EMBEDDINGS = "embeddings"


class ModelId(Frozen):
    """Which model was audited: enough to tell two checkpoints apart, nothing about the machine."""

    name: str
    revision: str | None = None
    head: Head
    sha256: str
    weights_sha256: str
    config_sha256: str
    tokenizer_sha256: str
    tokenizer: str
    depth: int
    parameters: int
    flops_per_token: int
    vocab_size: int
    max_tokens: int
    labels: tuple[str, ...] = ()
    dtype: str = "float32"
    attention: str = "sdpa"
    caveats: tuple[str, ...] = ()


class Decision(Frozen):
    """What the logits of a classifier mean.

    Attributes
    ----------
    kind : {"single", "multi", "regression"}
        One label a text, any number of labels, or one number.
    positive : int
        The label whose probability is compared.
    threshold : float, optional
        From which probability on the decision is positive; the likeliest label decides when left
        out, and 0.5 with `multi`. Of a regression any number in its own unit; without one it decides nothing.
    """

    labels: tuple[str, ...]
    kind: Literal["single", "multi", "regression"] = "single"
    positive: int
    threshold: float | None = None

    @property
    def name(self) -> str:
        """The label that is compared."""
        return self.labels[self.positive]


# --- findings -------------------------------------------------------------------------------


class Status(StrEnum):
    """How far a finding got. Only ``estimated`` can be judged pass or fail."""

    ESTIMATED = "estimated"
    INSUFFICIENT = "insufficient"
    INVALID = "invalid"
    NOT_RUN = "not_run"
    ERROR = "error"


class Interval(Frozen):
    """A two-sided confidence interval."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low > self.high:
            raise ValueError(f"interval ends are reversed: {self.low} > {self.high}")
        return self


class Resolvability(Frozen):
    """What this design could have seen. All in the unit of the estimate, as distances from the null.

    Attributes
    ----------
    detectable : float
        True effect found different from the null with 80 % power (two-sided 5 %, uncorrected).
    fail_excess : float
        How far beyond *any* limit a true effect must lie to FAIL it with 80 % power.
    passable_limit : float
        Smallest limit that a model with no effect would PASS with 80 % power.
    """

    detectable: float
    fail_excess: float
    passable_limit: float


class Clusters(Frozen):
    """One clustering variable of the design."""

    name: str
    count: int
    effective: float = Field(description="Bell-McCaffrey degrees of freedom of this variable, plus one")


class Estimate(Frozen):
    """A number with its uncertainty.

    Attributes
    ----------
    value, se : float
        In the finding's unit; `se` respects the clusters.
    df : float
        Degrees of freedom, from the smaller clustering variable.
    null : float
        The value that means "no effect" (0 for gaps, 0.5 for a share of pairs).
    intervals : dict
        Keys ``0.90``, ``0.95`` and ``simultaneous_0.95``; empty when `df` is below 8.
    p, p_holm : float
        Two-sided against `null`; Holm-corrected within the pack's family.
    """

    value: float
    se: float
    df: float
    null: float = 0.0
    intervals: dict[Level, Interval] = {}
    p: float | None = None
    p_holm: float | None = None
    resolvability: Resolvability | None = None

    @field_validator("intervals")
    @classmethod
    def _all_or_none(cls, intervals: dict[Level, Interval]) -> dict[Level, Interval]:
        if intervals and set(intervals) != set(LEVELS):
            raise ValueError(f"expected the levels {', '.join(LEVELS)} or none, found {', '.join(intervals)}")
        return intervals


class Control(Frozen):
    """The matched control beside an effect. `exceeded` makes the finding INVALID."""

    finding: str
    effect: Estimate | None
    margin: float
    exceeded: bool
    note: str = ""


class Rate(Frozen):
    """A simulated rate with its 95 % Clopper-Pearson bounds."""

    hits: int
    runs: int
    rate: float
    low: float
    high: float


class SelfCheckPoint(Frozen):
    """What the gate said of copies with one planted effect."""

    planted: float = Field(description="planted effect, as a multiple of the limit")
    passed: Rate
    failed: Rate


class SelfCheck(Frozen):
    """The audit's own error rates: statistics and gate run on copies of this model's scores.

    Null copies keep the dependence of the real scores (templates, fillers, residuals have their
    signs flipped cluster by cluster); spiked copies add a planted effect. It tests statistics and
    gate, not the scoring.
    """

    limit: float
    metric: str
    false_fail: Rate = Field(description="FAIL on copies without an effect")
    false_fail_at_limit: Rate = Field(description="FAIL on copies whose effect equals the limit")
    false_pass_at_limit: Rate = Field(description="PASS on copies whose effect equals the limit")
    curve: tuple[SelfCheckPoint, ...]


class RowSelector(Frozen):
    """Which rows of ``measurements.parquet`` a number was computed from.

    A row counts when each column of `where` equals its text and each of `at_least` reaches its number.
    """

    file: str = "measurements.parquet"
    where: dict[str, str]
    at_least: dict[str, float] = {}
    rows: int


class Example(Frozen):
    """One item that carries much of a finding. No text: the auditor looks the item up by its id."""

    item: str
    value: float


class Finding(Frozen):
    """One question, its answer, and everything needed to trust or doubt the answer."""

    id: str = Field(
        description="pack/measure/axis/contrast: stable, slugged",
        pattern=r"^[a-z0-9-]+/[a-z0-9_]+/[a-z0-9-]+/[a-z0-9-]+$",
        max_length=200,
    )
    pack: str
    measure: str
    axis: str
    contrast: str
    title: str
    estimand: str = Field(description="a sentence: what is estimated, over what population")
    harm: str = ""
    affected: str = ""
    unit: str
    family: str
    role: Literal["probe", "control", "floor"] = "probe"
    gates: bool = Field(description="whether the pack may gate on this head, else it only informs")
    status: Status
    reason: str = ""
    n: int = 0
    n_skipped: int = 0
    clusters: tuple[Clusters, ...] = ()
    effect: Estimate | None = None
    control: Control | None = None
    difference: Estimate | None = Field(None, description="effect minus control")
    self_check: SelfCheck | None = None
    details: dict[str, float] = Field({}, description="supporting figures, e.g. ties or target mass")
    examples: tuple[Example, ...] = Field((), description="the items with the largest effects")
    evidence: tuple[RowSelector, ...] = ()
    caveats: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


class Findings(Document):
    """``findings.json``."""

    kind: ClassVar[str] = "findings"
    model: ModelId
    findings: tuple[Finding, ...]
    not_tested: tuple[str, ...] = ()

    @field_validator("findings")
    @classmethod
    def _differ(cls, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        seen: set[str] = set()
        for finding in findings:
            if finding.id in seen:
                raise ValueError(f"two findings have the id {finding.id!r}")
            seen.add(finding.id)
        return findings


# --- policy and verdict ---------------------------------------------------------------------

Metric = Literal["effect", "difference"]


class Limit(Frozen):
    """The largest tolerated distance from the null, in the finding's unit."""

    max_abs: Annotated[float, Field(gt=0)]


class Rule(Frozen):
    """One limit on one or more findings.

    Attributes
    ----------
    check : str
        A glob over finding ids; it must match at least one check of a known pack.
    metric : {"effect", "difference"}
        The effect itself, or the effect minus its matched control.
    required : bool
        When true, a check that did not run makes the verdict INCOMPLETE. When false it is shown
        but does not count. A rule that did run always counts.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
    check: str
    metric: Metric = "effect"
    limit: Limit
    required: bool = True
    min_n: Annotated[int, Field(ge=1)] = 1
    on_inconclusive: Literal["inconclusive", "fail"] = "inconclusive"
    rationale: str
    maps: tuple[str, ...] = ()


class Policy(Document):
    """A policy file: limits fixed before the model is scored."""

    kind: ClassVar[str] = "policy"
    by_hand: ClassVar[bool] = True
    name: str
    version: int = 1
    title: str
    heads: tuple[Head, ...]
    owner: str = ""
    confidence: float = Field(
        0.95,
        description="the only level that findings carry; PASS uses the 0.90, FAIL the simultaneous 0.95 interval",
        json_schema_extra={"const": 0.95},
    )
    rules: tuple[Rule, ...]
    note: str = ""

    @field_validator("confidence")
    @classmethod
    def _only_level(cls, value: float) -> float:
        if value != 0.95:
            raise ValueError(f"findings carry the level 0.95 only, found {value:g}")
        return value

    @field_validator("rules")
    @classmethod
    def _ids_differ(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        if not rules:
            raise ValueError("a policy without rules can judge nothing")
        seen: set[str] = set()
        for rule in rules:
            if rule.id in seen:
                raise ValueError(f"two rules are called {rule.id!r}")
            seen.add(rule.id)
        return rules

    @property
    def sha256(self) -> str:
        """SHA-256 of the content; formatting, comments and fields left at their default do not count.

        So a field that a later version adds does not change the hash of a policy without it.
        """
        content = self.model_dump_json(by_alias=True, exclude_defaults=True)
        return hashlib.sha256(content.encode()).hexdigest()


class State(StrEnum):
    """The state of one rule on one finding."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"
    NOT_RUN = "not_run"
    ERROR = "error"


class VerdictWord(StrEnum):
    """The verdict of the audit, worst first."""

    FAIL = "FAIL"
    INCOMPLETE = "INCOMPLETE"
    INCONCLUSIVE = "INCONCLUSIVE"
    PASS_WITH_WAIVERS = "PASS_WITH_WAIVERS"
    PASS = "PASS"


EXIT_CODES: dict[VerdictWord, int] = {
    VerdictWord.PASS: 0,
    VerdictWord.PASS_WITH_WAIVERS: 0,
    VerdictWord.FAIL: 1,
    VerdictWord.INCOMPLETE: 3,
    VerdictWord.INCONCLUSIVE: 4,
}


class RuleResult(Frozen):
    """What a rule said of one finding (`finding` is null when no finding matched)."""

    rule: str
    finding: str | None
    state: State
    reason: str
    required: bool
    metric: Metric
    limit: float
    counted_as_fail: bool = Field(False, description="inconclusive, which this rule counts as a fail")
    value: float | None = None
    null: float = 0.0
    interval_pass: Interval | None = Field(None, description="the 0.90 interval that PASS is judged by")
    interval_fail: Interval | None = Field(
        None, description="the simultaneous interval that FAIL is judged by"
    )
    fail_resolvable_at: float | None = Field(None, description="true effect that would FAIL with 80 % power")
    passable_limit: float | None = None


class PolicyRef(Frozen):
    """Which policy judged, and whether it was fixed before the scores were known."""

    name: str
    version: int
    title: str
    sha256: str
    post_hoc: bool = Field(description="true when another policy was locked before scoring")


class Verdict(Document):
    """``verdict.json``."""

    kind: ClassVar[str] = "verdict"
    verdict: VerdictWord
    exit_code: int
    reason: str
    model_sha256: str
    policy: PolicyRef
    results: tuple[RuleResult, ...]
    counts: dict[State, int]


# --- the folder -----------------------------------------------------------------------------


class PackRef(Frozen):
    """A pack or a data set that took part."""

    name: str
    version: int
    sha256: str
    licence: str
    language: str = ""
    title: str = ""
    source: str = ""
    may_gate: bool = True


class Manifest(Document):
    """``manifest.json``: the identity of an audit and the SHA-256 of each of its files."""

    kind: ClassVar[str] = "manifest"
    identity: str = Field(description="SHA-256 over model, configuration and packs; decides resume")
    complete: bool
    model: ModelId
    config: dict[str, Any]
    packs: tuple[PackRef, ...]
    policy_sha256: str = Field(description="the policy locked before scoring")
    seed: int
    versions: dict[str, str]
    files: dict[str, str] = {}


class RunInfo(Document):
    """``run.json``: clock, machine and speed; the only file that differs between equal audits."""

    kind: ClassVar[str] = "run"
    started: str
    finished: str | None = None
    seconds: float | None = None
    device: str
    threads: int
    platform: str
    scored: dict[str, int] = {}
    cached: dict[str, int] = {}
    command: str = ""
