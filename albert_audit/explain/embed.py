"""The vectors of the auditor's texts, written to one parquet file.

Texts are embedded part by part, in the order of the file. Each part is committed whole beside the
output and the parts are joined at the end, so that a run that was killed goes on where it was and
writes the bytes of one that was not. A vector gives its text away in part or in whole: what is
written is readable by its owner alone.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from albert_audit import texts
from albert_audit.config import Texts
from albert_audit.explain import embed_files as files
from albert_audit.explain.embed_tables import of_texts, of_tokens
from albert_audit.model.load import ModelHandle
from albert_audit.model.scorer import SCORER_VERSION, Array, TorchScorer
from albert_audit.model.text import Encoded
from albert_audit.packs import Text
from albert_audit.types import UsageError

POOLS = ("cls", "mean", "pooler", "tokens")
"""One vector a text: the first token's, the mean without special tokens, the pooler's; or one a token."""
PART_TOKENS = 8_192
"""Tokens of a part and of a row group, or those of a batch where these are more."""
NO_TOKEN, NOT_FINITE = "no token of its own", "the model gave numbers that are not finite"
_WINDOW = 32  # texts tokenised at a time
Progress = Callable[[int], None]
"""Called after each batch with the number of texts that it embedded; skipped ones count too."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What will be embedded, and what of it is there already.

    Attributes
    ----------
    out : Path
    pool, task : str
        One of `POOLS`, and what the scorer is asked.
    job : dict
        The provenance, but for the date and what is counted: parts of another job are refused.
    date : str
        When the run began: the clock, or ``SOURCE_DATE_EPOCH``.
    parts : dict
        The committed parts, by the place of their first text: the place after their last, and the file.
    """

    scorer: TorchScorer = field(repr=False)
    texts: tuple[Text, ...] = field(repr=False)
    out: Path
    pool: str
    task: str
    with_text: bool
    job: dict[str, object] = field(repr=False)
    date: str
    parts: dict[int, tuple[int, Path]] = field(repr=False)

    @property
    def done(self) -> int:
        """How many texts are in committed parts."""
        return sum(stop - start for start, (stop, _) in self.parts.items())

    @property
    def folder(self) -> Path:
        """Where parts lie until they are joined."""
        return self.out.with_name(f".{self.out.name}.parts")


@dataclass(frozen=True)
class Embedded:
    """What was written.

    Attributes
    ----------
    out : Path
    texts, embedded : int
        Texts of the file, and those of them that have vectors.
    skipped : dict
        How many texts have none, by reason.
    tokens, unknown : int
        Tokens of the embedded texts, special ones left out, and those that the vocabulary lacks.
    """

    out: Path
    texts: int
    embedded: int
    skipped: dict[str, int]
    tokens: int
    unknown: int


def embed(
    handle: ModelHandle,
    given: Texts,
    out: str | Path,
    *,
    pool: str = "mean",
    layer: int = -1,
    with_text: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Embedded:
    """Write the vectors of texts to a parquet file; `plan` and `execute` in one call.

    See Also
    --------
    plan : for the parameters and errors.
    """
    planned = plan(handle, given, out, pool=pool, layer=layer, with_text=with_text, force=force)
    return execute(planned, progress=progress)


def plan(
    handle: ModelHandle,
    given: Texts,
    out: str | Path,
    *,
    pool: str = "mean",
    layer: int = -1,
    with_text: bool = False,
    force: bool = False,
    budget: int | None = None,
) -> Plan:
    """Read the texts, refuse what cannot be done, and find the parts of an interrupted run.

    Parameters
    ----------
    handle : ModelHandle
    given : Texts
        The file and its columns of texts and ids.
    out : str or Path
        A new ``.parquet`` file.
    pool : {"mean", "cls", "pooler", "tokens"}
    layer : int
        0 is the input of the first layer, -1 the last layer's output.
    with_text : bool
        Also write the text, or for tokens the piece of the vocabulary.
    force : bool
        Replace `out`, and drop the parts of another job.
    budget : int, optional
        Tokens a batch.

    Raises
    ------
    UsageError
        When the pool, the layer or the output cannot be used, the texts cannot be read, or parts of
        another job lie beside the output.
    """
    target, date = Path(out).expanduser(), _date()
    files.check_target(target, Path(given.path).expanduser(), force=force)
    if pool not in POOLS:
        raise UsageError(f"expected a pool among {', '.join(POOLS)}, found {pool!r}", "give one of these")
    scorer = TorchScorer(handle, budget=budget)
    depth = scorer._depth(layer)
    if pool == "pooler" and depth != handle.id.depth:
        raise UsageError(
            f"the pooler reads the last layer, found layer {layer}",
            "leave the layer out, or choose pool 'cls'",
        )
    task = pool if pool == "pooler" else f"{'states' if pool == 'tokens' else pool}:{depth}"
    list(scorer.run_batches(task, []))  # refuses what this checkpoint cannot answer
    read = texts.load(given)
    job: dict[str, object] = {
        "schema": "albert-audit/embeddings@1",
        "model": handle.id.model_dump(mode="json"),
        "pool": pool, "layer": depth, "layers": handle.id.depth, "hidden_size": scorer.hidden_size,
        "texts": {"sha256": read.sha256, "text_column": given.text, "id_column": given.id, "count": len(read.texts)},
        "with_text": with_text,
        "versions": {"albert_audit": version("albert-audit"), "scorer": SCORER_VERSION}
        | {name: version(name) for name in ("numpy", "pyarrow", "tokenizers", "torch", "transformers")},
        "computed": {"device": handle.device.type, "threads": handle.threads, "batch_tokens": scorer.budget},
    }  # fmt: skip
    made = Plan(scorer, read.texts, target, pool, task, with_text, job, date, {})
    made.parts.update(files.resumed(made.folder, job, force=force))
    return made


def execute(planned: Plan, *, progress: Progress | None = None) -> Embedded:
    """Embed what is not there yet, join the parts, and remove them.

    Parameters
    ----------
    planned : Plan
    progress : callable, optional

    Raises
    ------
    EvidenceError
        When a file cannot be written, or a part was damaged.
    """
    files.begin(planned.folder, planned.job)
    paths: list[Path] = []
    start = 0
    while start < len(planned.texts):
        if start not in planned.parts:
            planned.parts[start] = _embed_part(planned, start, progress or (lambda _: None))
        start, path = planned.parts[start]
        paths.append(path)
    done = _join(planned, paths)
    shutil.rmtree(planned.folder, ignore_errors=True)
    return done


# --- one part -------------------------------------------------------------------------------


def _embed_part(planned: Plan, start: int, progress: Progress) -> tuple[int, Path]:
    """Embed the texts from `start` on that fill a part, and commit them."""
    scorer = planned.scorer
    encoded = _filling(planned, start)
    stop = start + len(encoded)
    reasons = [_reason(e, scorer.id.max_tokens) for e in encoded]
    fine = [i for i, reason in enumerate(reasons) if reason is None]
    progress(len(encoded) - len(fine))
    vectors: dict[int, Array] = {}
    plan = [[fine[k] for k in batch] for batch in scorer.batches([len(encoded[i].ids) for i in fine])]
    answers = scorer.run_batches(planned.task, [[encoded[i] for i in batch] for batch in plan])
    for batch, found in zip(plan, answers, strict=True):
        for i, vector in zip(batch, found, strict=True):
            if np.isfinite(vector).all():
                vectors[i] = vector
            else:
                reasons[i] = NOT_FINITE
        progress(len(batch))
    own = [i for e in (encoded[k] for k in vectors) for i, s in zip(e.ids, e.special, strict=True) if not s]
    counts = {
        "texts": len(encoded), "skipped": Counter(r for r in reasons if r is not None),
        "tokens": len(own), "unknown": own.count(scorer.unknown_id),
    }  # fmt: skip
    make = of_tokens if planned.pool == "tokens" else of_texts
    table = make(scorer, planned.with_text, planned.texts[start:stop], encoded, vectors, reasons)
    path = files.part(planned.folder, start, stop)
    with files.committed(path) as file:
        files.write(file, iter([table]), counts)
    return stop, path


def _filling(planned: Plan, start: int) -> list[Encoded]:
    """Return the texts of a part: a function of its start, the texts and the batch size alone."""
    limit, tokens = max(PART_TOKENS, planned.scorer.budget), 0
    taken: list[Encoded] = []
    for at in range(start, len(planned.texts), _WINDOW):
        for e in planned.scorer.encode([t.text for t in planned.texts[at : at + _WINDOW]]):
            tokens += len(e.ids)
            if taken and tokens > limit:
                return taken
            taken.append(e)
    return taken


def _reason(encoded: Encoded, longest: int) -> str | None:
    if len(encoded.ids) > longest:
        return f"too long: the model takes {longest} tokens"
    return None if encoded.positions else NO_TOKEN


# --- the whole ------------------------------------------------------------------------------


def _join(planned: Plan, parts: Sequence[Path]) -> Embedded:
    """Write the parts as the row groups of one file, which is there whole or not at all."""
    counts = [files.counts(path) for path in parts]
    skipped = sum((Counter(c["skipped"]) for c in counts), Counter[str]())
    total, tokens, unknown = (sum(c[name] for c in counts) for name in ("texts", "tokens", "unknown"))
    by_reason = dict(sorted(skipped.items()))
    counted = {
        "embedded": total - skipped.total(), "skipped": by_reason, "tokens": tokens, "unknown_tokens": unknown,
    }  # fmt: skip
    with files.committed(planned.out, planned.folder) as file:
        provenance = planned.job | {"counted": counted, "date": planned.date}
        files.write(file, (files.read(path) for path in parts), provenance)
    return Embedded(planned.out, total, total - skipped.total(), by_reason, tokens, unknown)


def _date() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        when = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"expected SOURCE_DATE_EPOCH in whole seconds, found {epoch!r}", "unset it"
        ) from None
    return when.isoformat(timespec="seconds")
