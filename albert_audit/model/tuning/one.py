"""Carry out one training, and tell beforehand how long it takes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from albert_audit.model.load import _quiet, load
from albert_audit.model.tuning.examples import Examples, Losses, Vocabulary, generator
from albert_audit.model.tuning.job import Job, encode, key_of, targets_of
from albert_audit.model.tuning.recipe import Recipe
from albert_audit.model.tuning.start import Start, start
from albert_audit.model.tuning.training import Progress, adamw, held_out, steady, step, train
from albert_audit.types import Head, UsageError

RECORD = "tuning.json"
"""File in a tuned folder that says what it is and how training went."""
_FIRST_STEPS, _TIMED_STEPS = 1, 2


def tune(
    base: Path,
    texts: Sequence[str],
    labels: Sequence[Any] | None,
    recipe: Recipe,
    *,
    out: Path,
    seed: int,
    head: Head,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    **options: Any,
) -> Path:
    """Fine-tune a checkpoint and write it to a folder.

    A folder that the same job finished is kept as it is; a run that was killed goes on from its
    last finished epoch, in ``<out>.part`` beside it. The same job gives the same bytes on the same
    machine and versions on a CPU. Longer texts lose their end, as in training; ``tuning.json`` says
    how many did.

    Parameters
    ----------
    progress : callable, optional
        Told how many texts were seen; in all ``len(texts) * recipe.epochs``.
    stop : callable, optional
        Asked before each step whether to give up.
    **options
        Further fields of `Job`, where the others are explained.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UsageError
        When texts and labels do not fit, `out` holds something else, training diverges, or the
        recipe needs a package that is not there.
    ModelRefused
        When the base checkpoint would be refused by an audit.
    Stopped
    """
    return run(Job(base, out, texts, recipe, seed, head, labels, **options), progress=progress, stop=stop)


def run(job: Job, *, progress: Progress | None = None, stop: Callable[[], bool] | None = None) -> Path:
    """Carry out a job; see `tune`."""
    wanted = targets_of(job)
    handle = load(job.base, device=job.device)
    key = key_of(job, handle.id.sha256)
    part = job.out.with_name(f"{job.out.name}.part")
    due = _Counted(len(job.texts) * job.recipe.epochs, progress)
    if job.out.exists():
        if _recorded(job.out) != key:
            raise UsageError(
                f"{job.out} holds something else than this training would write",
                "give another folder, or remove that one",
            )
        shutil.rmtree(part, ignore_errors=True)
        due.finish()
        return job.out
    with steady(handle.device):
        began = start(handle, job)
        ids, cut = encode(handle.tokenizer, job, handle.id.max_tokens)
        part.mkdir(mode=0o700, parents=True, exist_ok=True)  # weights can give away what they were trained on
        losses = Losses(began.model, Vocabulary.of(handle.tokenizer), job.recipe.mask_share, handle.device)
        reached = train(
            losses, Examples(ids, wanted), job.recipe, seed=job.seed, state=part / "epoch.safetensors",
            key=key, progress=due, stop=stop,
        )  # fmt: skip
        told = {
            "key": key, "recipe": job.recipe.model_dump(mode="json", by_alias=True), "seed": job.seed,
            "base": handle.id.sha256, "drawn_anew": list(began.drawn), "texts": len(ids), "cut": cut,
            "epochs": reached.epoch, "kept_epoch": reached.best_epoch, "losses": reached.losses,
            "held_out": held_out(len(ids), job.recipe, job.seed), "held_out_losses": reached.held_out,
            "torch": torch.__version__, "device": handle.device.type,
        }  # fmt: skip
        _write(began, part / "model", told)
    (part / "model").rename(job.out)
    shutil.rmtree(part)
    due.finish()
    return job.out


class _Counted:
    """Passes progress on, and makes up at the end for epochs that were not needed."""

    def __init__(self, due: int, progress: Progress | None) -> None:
        self.left, self._progress = due, progress

    def __call__(self, count: int) -> None:
        self.left -= count
        if self._progress is not None and count:
            self._progress(count)

    def finish(self) -> None:
        self(self.left)


def _recorded(folder: Path) -> str:
    try:
        return str(json.loads((folder / RECORD).read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write(began: Start, folder: Path, told: dict[str, Any]) -> None:
    """Write the checkpoint with the base's own tokenizer files, and load it as an audit would."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    with _quiet():
        began.finished().save_pretrained(folder)
    for path in began.tokenizer_files:
        shutil.copyfile(path, folder / path.name)
    (folder / RECORD).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    load(folder, device="cpu")


def forecast(
    base: Path,
    n_texts: int,
    tokens: float,
    recipe: Recipe,
    count: int = 1,
    *,
    head: Head = Head.SEQUENCE_CLASSIFICATION,
    labels: int = 2,
    workers: int = 1,
    device: str = "cpu",
) -> float:
    """Return about how many seconds `tune_many` will take, from two timed steps.

    Parameters
    ----------
    n_texts : int
        Texts that one model is trained on.
    tokens : float
        Mean tokens of a text, [CLS] and [SEP] counted.
    count, workers : int
        Models, and how many are trained at a time, each on a core of its own.
    """
    handle = load(base, device=device)
    names = [f"label {i}" for i in range(max(2, labels))] if head is Head.SEQUENCE_CLASSIFICATION else []
    job = Job(base, base, (), recipe, 0, head, label_names=names, init_head="auto", device=device)
    length = max(3, min(round(tokens), recipe.max_length or handle.id.max_tokens))
    size = min(recipe.batch_size, n_texts)
    with steady(handle.device):
        began = start(handle, job)
        words = Vocabulary.of(handle.tokenizer)
        draw = generator(0, "forecast")
        rows = words.words[torch.randint(len(words.words), (size, length), generator=draw)].tolist()
        targets = torch.arange(size) % len(names) if names else None
        losses, optimizer = (
            Losses(began.model, words, recipe.mask_share, handle.device),
            adamw(began.model, recipe),
        )
        trained = {n: p for n, p in began.model.named_parameters() if p.requires_grad}
        began.model.train()
        for i in range(_FIRST_STEPS + _TIMED_STEPS):
            if i == _FIRST_STEPS:
                since = time.perf_counter()
            loss, _ = losses(Examples(rows, targets), range(size), draw)
            step(loss, trained, optimizer, recipe)
            loss.item()  # waits for a GPU
        a_step = (time.perf_counter() - since) / _TIMED_STEPS
    return a_step * n_texts / size * recipe.epochs * -(-count // max(1, workers))
