"""The commands. Each reads its flags, calls one function and prints; no logic lives here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from albert_audit import __version__, cli_explain, cli_privacy
from albert_audit.types import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from albert_audit.audit import Plan
    from albert_audit.config import AuditConfig
    from albert_audit.folder import Audit
    from albert_audit.model.scorer import Progress

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Audit an ALBERT model for bias and print a card that a reviewer can sign.",
    epilog="Exit codes: 0 pass · 1 fail · 2 usage, policy or refused model · 3 incomplete or crashed · "
    "4 inconclusive · 130 interrupted. --debug shows tracebacks, in which words of your data may stand.",
)
packs_app = typer.Typer(no_args_is_help=True, help="List, show, check and start probe packs.")
app.add_typer(packs_app, name="packs")
app.add_typer(cli_privacy.canaries_app, name="canaries")
app.command("key")(cli_privacy.key)
app.command("embed", epilog=cli_explain.EMBED_EXAMPLES)(cli_explain.embed)
app.command("scan", epilog=cli_privacy.SCAN_EXAMPLES)(cli_privacy.scan)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder with safetensors, or a hub id.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", metavar="FILE", help="A policy file.")]
_PRIVACY = "Privacy"
PackNames = Annotated[
    list[str] | None, typer.Option("--pack", metavar="NAME|DIR", help="A pack; may be given several times.")
]


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"albert-audit {__version__}")
        raise typer.Exit


# --- run ------------------------------------------------------------------------------------

_RUN_EXAMPLES = """
[bold]Examples[/bold]

  albert-audit run ./my-albert

  albert-audit run ./my-albert --plan

  albert-audit run albert/albert-base-v2 --out audit --policy limits.yaml

  albert-audit run ./my-albert --data crows-pairs=crows_pairs_anonymized.csv

  albert-audit run ./my-classifier --texts reviews.csv --label-column label --group-column gender

  albert-audit run ./my-classifier --members train.csv --non-members held-out.csv --label-column label --base ./base
"""


@app.command(epilog=_RUN_EXAMPLES)
def run(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A folder with safetensors, or a hub id.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The audit's folder.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="audit.yaml; flags override it.")
    ] = None,
    policy: PolicyFile = None,
    pack: PackNames = None,
    data: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="A benchmark that is not shipped.")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your own texts: CSV, JSONL, parquet or a datasets folder."),
    ] = None,
    text_column: Annotated[str | None, typer.Option(metavar="NAME", help="Its column of texts.")] = None,
    id_column: Annotated[str | None, typer.Option(metavar="NAME", help="Its column of ids.")] = None,
    label_column: Annotated[str | None, typer.Option(metavar="NAME", help="Its column of labels.")] = None,
    group_column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A column of groups of people; may be given several times."),
    ] = None,
    person_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="A column that says whose record it is.")
    ] = None,
    members: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Records the model was trained on.", rich_help_panel=_PRIVACY),
    ] = None,
    non_members: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Records of the same kind that it was not.", rich_help_panel=_PRIVACY
        ),
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Further records to train references on.", rich_help_panel=_PRIVACY
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="What it was fine-tuned from.", rich_help_panel=_PRIVACY),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="How it was fine-tuned: YAML.", rich_help_panel=_PRIVACY),
    ] = None,
    references: Annotated[
        int | None,
        typer.Option(min=0, help="Reference models to train, an even number; 4.", rich_help_panel=_PRIVACY),
    ] = None,
    canaries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A manifest of `canaries make`.", rich_help_panel=_PRIVACY),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(help="The declared privacy loss of the training.", rich_help_panel=_PRIVACY),
    ] = None,
    delta: Annotated[float | None, typer.Option(help="Its delta.", rich_help_panel=_PRIVACY)] = None,
    secrets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What it must not fill in: text and secret.", rich_help_panel=_PRIVACY
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The project's key.", rich_help_panel=_PRIVACY)
    ] = None,
    reveal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what was found in clear to a new file; refused in CI.",
            rich_help_panel=_PRIVACY,
        ),
    ] = None,
    only: Annotated[str | None, typer.Option(help="One pillar alone: bias or privacy.")] = None,
    language: Annotated[
        str | None,
        typer.Option(help="Only packs and policy of this language: en or zh; also that of your texts."),
    ] = None,
    positive: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The label whose probability is compared.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Probability (of a regression: number) from which on that label is decided."),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="quick, standard or full.")] = None,
    device: Device = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on a CPU; as many as cores for long work.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The seed of all draws.")] = None,
    revision: Annotated[str | None, typer.Option(help="A revision of a hub model.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would run and what it costs; score nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what lies in DIR.")] = False,
) -> None:
    """Audit a model: measure, judge, and write the card. The exit code is the verdict."""
    from albert_audit.config import load_config

    columns = (
        _given(text=text_column, id=id_column, label=label_column, groups=group_column, person=person_column)
        or {}
    )
    if columns and not (texts or members or non_members or pool):
        raise UsageError("columns of texts were named, but no texts", "give --texts FILE or --members FILE")
    columns |= {"language": language} if language else {}
    settings = load_config(
        config,
        model=model,
        out=str(out) if out else None,
        policy=str(policy) if policy else None,
        packs=tuple(pack) if pack else None,
        data=_pairs(data),
        texts=_table(texts, **columns) if texts else None,
        privacy=_given(
            members=_table(members, **columns) if members else None,
            non_members=_table(non_members, **columns) if non_members else None,
            pool=_table(pool, **columns) if pool else None,
            base=base,
            recipe=_recipe(recipe) if recipe else None,
            epsilon=epsilon,
            delta=delta,
            references=references,
            canaries=str(canaries) if canaries else None,
            secrets=str(secrets) if secrets else None,
            key=str(key) if key else None,
            reveal=str(reveal) if reveal else None,
        ),
        only=only,
        language=language,
        positive=positive,
        threshold=threshold,
        profile=profile,
        device=device,
        seed=seed,
        revision=revision,
        workers=workers,
    )
    if "workers" not in settings.model_fields_set:
        settings = settings.model_copy(update={"workers": "auto"})
    carry_out(settings, show=plan, force=force)


def carry_out(settings: AuditConfig, *, show: bool, force: bool) -> None:
    """Plan and run an audit; exits with its verdict."""
    from albert_audit import audit

    console = _console(stderr=True)
    with console.status("loading the model and planning") if console.is_terminal else _nothing():
        planned = audit.plan(settings)
    if show:
        _show_plan(planned)
        return
    done = audit.execute(planned, force=force, watcher=_Bar(console))
    _show_verdict(done)
    for line in audit.nothing_estimated(planned, done.findings.findings):
        typer.echo(line)
    raise typer.Exit(done.verdict.exit_code)


def _given(**flags: object) -> dict[str, object] | None:
    """Return the flags that were given; None without any."""
    return {k: v for k, v in flags.items() if v is not None and v != []} or None


def _table(path: Path, **columns: object) -> dict[str, object]:
    return {"path": str(path), **columns}


def _recipe(path: Path) -> dict[str, object]:
    from albert_audit.model.tuning.recipe import Recipe

    return Recipe.read_file(path).model_dump(by_alias=True)


def _pairs(given: list[str] | None) -> dict[str, str] | None:
    if not given:
        return None
    out = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise UsageError(
                f"expected --data NAME=PATH, found {text!r}",
                "e.g. --data crows-pairs=crows_pairs_anonymized.csv",
            )
        if name in out:
            raise UsageError(f"--data {name} is given twice", "give one file")
        out[name] = path
    return out


@contextmanager
def _nothing() -> Iterator[None]:
    yield


class _Bar:
    """A progress bar with rate and time left; plain lines where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def task(self, label: str, tokens: int) -> Iterator[Progress | None]:
        """See `albert_audit.audit.Watcher`."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        if not self._console.is_terminal:
            self._console.print(f"{label}: {tokens:,} tokens", markup=False)
            yield None
            return
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rate]:>9}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(label, total=tokens, rate="")

            def advance(n: int) -> None:
                bar.advance(task, n)
                if speed := bar.tasks[0].speed:
                    bar.update(task, rate=f"{speed:,.0f} tok/s")

            yield advance

    def warn(self, message: str) -> None:
        """See `albert_audit.audit.Watcher`."""
        self._console.print(f"warning: {message}", style="yellow", markup=False)


def _show_plan(planned: Plan) -> None:
    from rich.table import Table

    console = _console()
    console.print(
        f"model   {planned.handle.id.name} ({planned.handle.id.sha256[:12]}), {planned.handle.id.head}",
        markup=False,
    )
    console.print(
        f"policy  {planned.policy.name} version {planned.policy.version}, {len(planned.policy.rules)} rules",
        markup=False,
    )
    console.print(f"folder  {planned.out}", markup=False)
    table = Table("pack", "role", "inputs", "tokens", "TFLOP", box=None, pad_edge=False)
    for cost in planned.costs:
        role = "floor" if cost.pack.is_floor else cost.pack.spec.role
        table.add_row(
            cost.pack.name, role, f"{cost.inputs:,}", f"{cost.tokens:,}", f"{cost.flops / 1e12:.2f}"
        )
    total = (
        sum(c.inputs for c in planned.costs),
        sum(c.tokens for c in planned.costs),
        sum(c.flops for c in planned.costs),
    )
    for name, count in (planned.brought.counts if planned.brought is not None else {}).items():
        table.add_row(f"records: {name}", "privacy", f"{count:,}", "", "")
    table.add_row("together", "", f"{total[0]:,}", f"{total[1]:,}", f"{total[2] / 1e12:.2f}")
    console.print(table)
    console.print(
        f"about {max(planned.seconds / 60, 0.1):.1f} minutes of scoring in one process on {planned.handle.device}, "
        f"less what is cached; {planned.workers} process{'es' * (planned.workers > 1)} will score",
        markup=False,
        soft_wrap=True,
    )
    if planned.brought is not None:
        for line in planned.privacy_lines():
            console.print(line, markup=False, soft_wrap=True)
    if planned.decision is not None:
        console.print(f"compared: the probability of the label {planned.decision.name!r}", markup=False)
    _show_limits(planned)
    for pack in planned.unspoken:
        console.print(f"left out, the vocabulary lacks its language: {pack.name}", markup=False)
    for pack in planned.unable:
        console.print(f"cannot run on this head: {pack.name}", markup=False)


def _show_limits(planned: Plan) -> None:
    """Say for each rule what its limit can resolve, before anything is scored."""
    from collections import Counter
    from fnmatch import fnmatchcase

    from albert_audit.stats import MIN_DF

    known = [c for cost in planned.costs for c in cost.checks]
    for rule in planned.policy.rules:
        limit = rule.limit.max_abs
        said = Counter[str]()
        for check in known:
            if not fnmatchcase(check.id, rule.check):
                continue
            least = f"{check.n:,} items, {check.df:.1f} degrees of freedom: "
            if not check.n:
                said["what it rests on depends on what the model answers"] += 1
            elif check.df < MIN_DF:
                said[least + f"under {MIN_DF:g}, no interval"] += 1
            elif check.passable is not None:
                said[least + f"a model without effect passes from ±{check.passable:.3g} on"] += 1
            else:
                reach = check.largest_se(limit)
                said[
                    least + f"a model without effect passes while its standard error is below {reach:.3g}"
                ] += 1
        for line, checks in said.items():
            several = f" ({checks} checks)" if checks > 1 else ""
            typer.echo(f"rule {rule.id}{several}: limit ±{limit:g}, {line}")
        brought = planned.brought.ids() if planned.brought is not None else {}
        if not said and rule.required and not any(fnmatchcase(i, rule.check) for i in brought):
            typer.echo(f"rule {rule.id}: no check of this audit; the verdict will be INCOMPLETE")


_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "INCOMPLETE": "magenta"}


def _show_verdict(audit: Audit) -> None:
    # Plain echo: rich alone would take a tenth of the time that `gate` has.
    verdict, model = audit.verdict, audit.findings.model
    word = typer.style(verdict.verdict, fg=_COLOURS.get(verdict.verdict), bold=True)
    typer.echo(f"{word}  {verdict.reason}")
    post_hoc = ", judged post hoc" if verdict.policy.post_hoc else ""
    policy = f"policy {verdict.policy.name} version {verdict.policy.version}{post_hoc}"
    typer.echo(f"  {model.name} ({model.sha256[:12]}), {policy}")
    for r in verdict.results:
        number = ""
        if r.value is not None:
            # Beyond the limit it is judged by the wider one.
            beyond = r.interval_pass and r.interval_fail and r.state in ("fail", "inconclusive")
            inner = r.interval_fail if beyond else r.interval_pass
            ends = f" [{inner.low:.3g}, {inner.high:.3g}]" if inner else ""
            number = f" {r.value:.3g}{ends}, limit ±{r.limit:g}"
        several = r.finding is not None and sum(o.rule == r.rule for o in verdict.results) > 1
        which = (
            f" {_telling(r.finding or '', [o.finding for o in verdict.results if o.rule == r.rule])}"
            if several
            else ""
        )
        typer.echo(f"  {r.state:<12} {r.rule}{which}{number}: {r.reason}")
    typer.echo(f"card: {audit.dir / 'card.en.html'}")


def _telling(identity: str, others: list[str | None]) -> str:
    """Return the parts of a finding's id that tell it from the other findings of its rule."""
    parts = [(o or "").split("/") for o in others]
    own = identity.split("/")
    told = [p for i, p in enumerate(own) if len({tuple(o[i : i + 1]) for o in parts}) > 1]
    return "/".join(told) or own[-1]


# --- gate, report ---------------------------------------------------------------------------

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="An audit's folder.")]


@app.command()
def gate(directory: Folder, policy: PolicyFile = None) -> None:
    """Judge a finished audit again, by its own policy or another. Scores nothing; loads no torch."""
    from albert_audit import folder

    done = folder.judge(directory, policy)
    _show_verdict(done)
    raise typer.Exit(done.verdict.exit_code)


@app.command()
def report(directory: Folder) -> None:
    """Render the card and the JUnit report again from the audit's files."""
    from albert_audit import folder

    typer.echo(folder.render(directory))


# --- inspect --------------------------------------------------------------------------------


@app.command()
def inspect(
    model: Model,
    device: Device = None,
    revision: Annotated[str | None, typer.Option(help="A revision of a hub model.")] = None,
) -> None:
    """Show what a checkpoint is and what can be tested with it, or why it is refused."""
    from albert_audit.audit import testable
    from albert_audit.model.load import load

    handle = load(model, revision=revision, device=device or "auto")
    m = handle.id
    lines = {
        "name": m.name,
        "head": m.head.value,
        "answers": ", ".join(sorted(handle.can)),
        "labels": ", ".join(m.labels),
        "parameters": f"{m.parameters:,}",
        "compute": f"{m.flops_per_token / 1e6:,.1f} MFLOP a token in the encoder ({m.depth} passes; sharing hides compute)",
        "vocabulary": f"{m.vocab_size:,} pieces",
        "tokenizer": m.tokenizer,
        "unknown": ", ".join(f"{r:.1%} of tokens ({g})" for g, r in handle.unknown_rate.items()),
        "longest": f"{m.max_tokens} tokens",
        "device": f"{handle.device}, float32, {m.attention} attention",
        "model": m.sha256,
        "weights": m.weights_sha256,
        "config": m.config_sha256,
        "tokenizer files": m.tokenizer_sha256,
        "packs": ", ".join(testable(handle.can)) or "none of the shipped ones yet",
    }
    console = _console()
    for name, value in lines.items():
        if value:
            console.print(f"{name:<16}{value}", markup=False, soft_wrap=True)
    for caveat in m.caveats:
        console.print(f"{'caveat':<16}{caveat}", markup=False, soft_wrap=True)


# --- demo -----------------------------------------------------------------------------------


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the two audits go.")] = Path("demo-audit"),
) -> None:
    """Audit the two bundled models: one with a planted bias, and its twin without. Needs no network."""
    from albert_audit import demo as known

    results = known.run(out, watcher=_Bar(_console(stderr=True)))
    for result in results:
        _show_verdict(result.audit)
        typer.echo(f"  {'as planted' if result.as_planted else 'NOT AS PLANTED'}: {result.reason}\n")
    raise typer.Exit(0 if all(r.as_planted for r in results) else 3)


# --- packs ----------------------------------------------------------------------------------


@packs_app.command("list")
def packs_list() -> None:
    """List the shipped packs."""
    from albert_audit import packs

    for name in packs.shipped():
        pack = packs.load(packs.find(name))
        s, role = pack.spec, "floor" if pack.is_floor else pack.spec.role
        typer.echo(f"{s.name:<25}{s.measure:<21}{s.language:<9}{role:<9}{s.title}")


@packs_app.command("show")
def packs_show(name: Annotated[str, typer.Argument(metavar="NAME|DIR")]) -> None:
    """Show a pack and the checks it gives, whose ids a policy names."""
    from albert_audit import packs
    from albert_audit.findings import checks
    from albert_audit.types import Head

    folder = packs.find(name)
    pack = packs.load(folder)
    s = pack.spec
    typer.echo(
        f"{s.name} version {s.version}: {s.title}\nlanguage  {s.language}\nmeasure   {s.measure}\nlicence   {s.licence}"
    )
    typer.echo(f"sha256    {pack.sha256}\ncontrols  {', '.join(s.controls) or 'none'}")
    typer.echo(
        f"may gate  {', '.join(s.may_gate) or 'never: it only informs'}\nreadme    {folder / 'README.md'}\nchecks"
    )
    if pack.shape.brings:
        typer.echo(f"  known when you bring your own {', '.join(pack.shape.brings)}: see --plan")
        return
    for check in checks(pack, Head.MASKED_LM) or ["  none of its own: a control or a floor"]:
        typer.echo(f"  {check.strip()}")


@packs_app.command("check")
def packs_check(
    name: Annotated[str, typer.Argument(metavar="NAME|DIR")],
    model: Annotated[
        str | None, typer.Option(help="Also under this model: pieces, unknown tokens, cost.")
    ] = None,
) -> None:
    """Check a pack for mistakes and show what it can resolve; with --model also pieces and cost."""
    from albert_audit.packcheck import report as check

    for line in check(name, model):
        typer.echo(line)


@packs_app.command("new")
def packs_new(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The new pack's folder; its name is the pack's.")
    ],
    measure: Annotated[
        str,
        typer.Option(
            help="association, choice_bias, name_swap, pair_preference, template_gap or template_score."
        ),
    ] = "template_gap",
) -> None:
    """Start a pack of your own: a small one that passes `packs check`, to be changed."""
    from albert_audit.packcheck import create

    for path in create(directory, measure):
        typer.echo(path)
    typer.echo(f"now edit these and run: albert-audit packs check {directory}")
