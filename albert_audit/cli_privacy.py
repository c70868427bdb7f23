"""The commands around privacy: the project's key, canaries, and a scan of training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from albert_audit.types import Head, UsageError

canaries_app = typer.Typer(
    no_args_is_help=True,
    help="Plant made-up secrets before a training, and measure what of them is remembered.",
)

_MAKE_EXAMPLES = """
[bold]Examples[/bold]

  albert-audit canaries make ./base --out canaries.json --lines canaries.csv

  albert-audit canaries make ./base --out canaries.json --lines canaries.csv --label NEGATIVE --label POSITIVE

  albert-audit canaries make ./base-zh --language zh --out canaries.json --lines canaries.csv
"""


@canaries_app.command("make", epilog=_MAKE_EXAMPLES)
def make(
    base: Annotated[
        str, typer.Argument(metavar="MODEL", help="The checkpoint that the training begins from.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The manifest: a new file, for your eyes alone.")],
    lines: Annotated[
        Path, typer.Option(metavar="FILE", help="What to mix into the training data: a new CSV.")
    ],
    language: Annotated[str, typer.Option(help="en or zh.")] = "en",
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A label of the classifier to be trained; give each of them."),
    ] = None,
    text_column: Annotated[
        str, typer.Option(metavar="NAME", help="The column of texts in the lines.")
    ] = "text",
    label_column: Annotated[str, typer.Option(metavar="NAME", help="The column of labels.")] = "label",
    coins: Annotated[
        int, typer.Option(min=0, help="Canaries that a fair coin each inserts once or not.")
    ] = 200,
    copies: Annotated[int, typer.Option(min=1, help="Canaries a template and number of repetitions.")] = 1,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only these kinds of secrets; may be repeated.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=8, help="Where the training cuts texts; longer canaries are not drawn.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The training data: no canary may stand there already."),
    ] = None,
) -> None:
    """Draw canaries before the training: a secret manifest, and the lines to mix into the training data."""
    from albert_audit import texts
    from albert_audit.config import Texts
    from albert_audit.model.load import load
    from albert_audit.model.scorer import TorchScorer
    from albert_audit.privacy import canaries

    if language not in ("en", "zh"):
        raise UsageError(
            f"expected --language en or zh, found {language!r}", "canaries are drawn in these two"
        )
    for path in (out, lines):
        if path.exists():
            raise UsageError(f"{path} is there already", "a manifest is never overwritten; give new files")
    manifest = canaries.make(
        head=Head.SEQUENCE_CLASSIFICATION if label else Head.MASKED_LM, language=language,  # type: ignore[arg-type]
        labels=tuple(label or ()), coins=coins, copies=copies, identifiers=kind,
        scorer=TorchScorer(load(base, device="cpu")), max_tokens=max_tokens,
    )  # fmt: skip
    if data is not None:
        given = texts.load(Texts(path=str(data), text=text_column))
        if found := canaries.clashes(manifest, [t.text for t in given.texts]):
            raise UsageError(f"{len(found)} canaries stand in {data} already", "run the command again")
    canaries.save(manifest, out)
    drawn = canaries.lines(manifest)
    _write_lines(lines, drawn, text_column, label_column if label else "")
    inserted = sum(c.included for c in manifest.canaries)
    typer.echo(f"manifest  {out}: {len(manifest.canaries)} canaries, {inserted} of them to be inserted")
    typer.echo(f"lines     {lines}: {len(drawn)} rows to mix into the training data")
    typer.echo(f"sha256    {manifest.sha256}: publish it before the training, as proof of the manifest's age")
    typer.echo("Keep the manifest secret, and switch off any removal of duplicates.")


_AUDIT_EXAMPLES = """
[bold]Example[/bold]

  albert-audit canaries audit ./my-albert canaries.json --base ./base --epsilon 8
"""


@canaries_app.command("audit", epilog=_AUDIT_EXAMPLES)
def audit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The trained model: a folder or a hub id.")],
    manifest: Annotated[
        Path, typer.Argument(metavar="FILE", help="The manifest that was made before the training.")
    ],
    base: Annotated[str | None, typer.Option(metavar="MODEL", help="What the training began from.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The audit's folder.")] = None,
    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="A policy file.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="The declared privacy loss of the training.")] = None,
    delta: Annotated[float | None, typer.Option(help="Its delta.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what lies in DIR.")] = False,
) -> None:
    """Measure what the trained model remembers of its canaries. The exit code is the verdict."""
    from albert_audit.cli import carry_out
    from albert_audit.config import load_config

    given = {"canaries": str(manifest), "base": base, "epsilon": epsilon, "delta": delta}
    settings = load_config(
        None, model=model, out=str(out) if out else None, policy=str(policy) if policy else None,
        privacy={k: v for k, v in given.items() if v is not None}, only="privacy",
    )  # fmt: skip
    carry_out(settings, show=False, force=force)


def _write_lines(path: Path, drawn: list[tuple[str, str]], text: str, label: str) -> None:
    import csv
    import os

    header = [text, label] if label else [text]
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", newline="", encoding="utf-8"
    ) as f:
        writer = csv.writer(f)
        writer.writerow(header)
        writer.writerows([row[: len(header)] for row in drawn])


def key(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A new file; the user's own place when left out.")
    ] = None,
) -> None:
    """Make the project's key, which digests of people and files are made with. Keep it out of reports."""
    from albert_audit.redact import Key

    made = Key.make(path)
    typer.echo(f"{path or Key.path()}: key {made.name}")


SCAN_EXAMPLES = """
[bold]Examples[/bold]

  albert-audit scan train.csv

  albert-audit scan train.jsonl --text-column content --language zh --names names.txt --rows
"""


def scan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSONL, parquet or a datasets folder.")],
    text_column: Annotated[str, typer.Option(metavar="NAME", help="Its column of texts.")] = "text",
    language: Annotated[str | None, typer.Option(help="en or zh; both when left out.")] = None,
    names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of people to look for, one a line.")
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Also print the numbers of the rows.")] = False,
) -> None:
    """Count personal data in texts, such as training data. Prints kinds and counts, never a text."""
    from rich.console import Console
    from rich.table import Table

    from albert_audit import texts
    from albert_audit.config import Texts
    from albert_audit.privacy.detectors import Names
    from albert_audit.privacy.scan import scan as count

    given = texts.load(Texts(path=str(file), text=text_column))
    listed = None
    if names is not None:
        try:
            listed = Names([n for n in names.read_text(encoding="utf-8").splitlines() if n.strip()])
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"cannot read the names {names}: {exc}", "one name a line, in UTF-8") from None
    found = count([t.text for t in given.texts], language=language, names=listed)
    table = Table("kind", "rows", "hits", "distinct", "valid", *(["row numbers"] if rows else []), box=None)
    for r in found.to_dict("records"):
        if r["skipped"]:
            table.add_row(r["kind"], "not looked for:", r["skipped"])
            continue
        numbers = ", ".join(map(str, r["row_numbers"][:20])) + (", ..." if len(r["row_numbers"]) > 20 else "")
        valid = "–" if r["valid"] is None else f"{r['valid']:,}"
        table.add_row(r["kind"], f"{r['rows']:,}", f"{r['hits']:,}", f"{r['distinct']:,}", valid,
                      *([numbers] if rows else []))  # fmt: skip
    Console(highlight=False).print(table)
    typer.echo(f"{len(given.texts):,} texts. A pattern finds what is written as it expects, and no more.")
