"""The commands that look into a model: the vectors of texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from albert_audit.explain.embed import Embedded, Plan

EMBED_EXAMPLES = """
[bold]Examples[/bold]

  albert-audit embed ./my-albert reviews.csv --out reviews.parquet

  albert-audit embed ./my-albert reviews.jsonl --id-column id --pool cls --layer 4 --out layer4.parquet

  albert-audit embed ./my-albert reviews.csv --pool tokens --out tokens.parquet

[bold]Keep the file as you keep the texts[/bold]: vectors give their texts away, see docs/explanation/stored-embeddings.md.
"""


def embed(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder with safetensors, or a hub id.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Texts: CSV, TSV, JSONL, parquet or a datasets folder.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.parquet", help="A new file, for your eyes alone.")],
    pool: Annotated[
        str,
        typer.Option(help="mean (no special tokens), cls or pooler: one vector a text; tokens: one a token."),
    ] = "mean",
    layer: Annotated[
        int, typer.Option(help="0 is what the first layer reads, -1 what the last one gives.")
    ] = -1,
    text_column: Annotated[str, typer.Option(metavar="NAME", help="Its column of texts.")] = "text",
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its column of ids; rows are numbered without it.")
    ] = None,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Also write the texts (of tokens their pieces).")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    revision: Annotated[str | None, typer.Option(help="A revision of a hub model.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file; drop what another run left unfinished.")
    ] = False,
) -> None:
    """Write the vectors of your texts to parquet. An interrupted run goes on; nothing is truncated."""
    from rich.console import Console

    from albert_audit.config import Texts
    from albert_audit.explain import embed as work
    from albert_audit.model.load import MOST_UNKNOWN, load

    given = Texts(path=str(file), text=text_column, id=id_column or "")
    console = Console(stderr=True, highlight=False)
    planned = work.plan(
        load(model, revision=revision, device=device), given, out,
        pool=pool, layer=layer, with_text=with_text, force=force,
    )  # fmt: skip
    if planned.done:
        console.print(f"going on: {planned.done:,} of {len(planned.texts):,} texts are done", markup=False)
    done = _watched(planned, console)
    shape = "one a token" if pool == "tokens" else "one a text"
    typer.echo(
        f"{done.out}: vectors of {done.embedded:,} of {done.texts:,} texts, {shape}, "
        f"{planned.scorer.hidden_size} numbers each"
    )
    for reason, count in done.skipped.items():
        typer.echo(f"skipped {count:,}: {reason}")
    if done.unknown > MOST_UNKNOWN * done.tokens:
        share = done.unknown / done.tokens
        console.print(
            f"warning: the vocabulary lacks {share:.0%} of the tokens; their vectors say little of the texts",
            style="yellow", markup=False,
        )  # fmt: skip
    typer.echo("Vectors give their texts away: keep the file as you keep the texts.")


def _watched(planned: Plan, console: Console) -> Embedded:
    """Embed under a progress bar with rate; a plain line where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from albert_audit.explain import embed as work

    if not console.is_terminal:
        console.print(f"embedding {len(planned.texts) - planned.done:,} texts", markup=False)
        return work.execute(planned)
    columns = (
        TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:>12}"),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=len(planned.texts), completed=planned.done, rate="")

        def advance(n: int) -> None:
            bar.advance(task, n)
            if speed := bar.tasks[0].speed:
                bar.update(task, rate=f"{speed:,.0f} texts/s")

        return work.execute(planned, progress=advance)
