"""Differentially private fine-tuning of a classifier with opacus, for the worked example on remedies.

Abadi et al. (2016), Deep Learning with Differential Privacy: each record's own gradient is cut to a
length, and noise is added to their sum. ALBERT is not what opacus was made for: one layer is used at
every depth, and its position embeddings are asked for once for a whole batch. Gradients of single
records are right only where the positions are given for every record; `tests` hold them against a loop.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from albert_audit.model.load import _quiet, load
from albert_audit.model.tuning import Job, Recipe
from albert_audit.model.tuning.examples import padded
from albert_audit.model.tuning.job import encode, targets_of
from albert_audit.model.tuning.start import start
from albert_audit.model.tuning.training import steady
from albert_audit.types import Head, UsageError


def tune_privately(
    base: Path,
    rows: Sequence[tuple[str, str]],
    recipe: Recipe,
    *,
    epsilon: float,
    delta: float,
    labels: Sequence[str],
    out: Path,
    seed: int,
) -> Path:
    """Fine-tune a classifier with DP-SGD and write it to a folder.

    The unit of privacy is one row: whoever has several rows, or one row that stands there several
    times, is protected less. Batches are drawn by Poisson sampling, as the accountant assumes, and
    AdamW takes the noisy gradients. The draws come of `seed`, so that the figures can be had again: a
    model that is to be given away must draw its noise from the system's entropy instead.

    Parameters
    ----------
    rows : sequence of (str, str)
        Text and label.
    recipe : Recipe
        Its `max_grad_norm` is the length that each record's gradient is cut to; its schedule,
        `warmup` and `patience` are not used.
    epsilon, delta : float
        Of the whole training, by opacus' accountant of Rényi divergences.

    Raises
    ------
    UsageError
        When opacus is not installed.
    """
    try:
        from opacus import PrivacyEngine
    except ImportError:
        raise UsageError(
            "differentially private training needs the package opacus", "pip install 'albert-audit[dp]'"
        ) from None
    job = Job(
        base,
        out,
        [t for t, _ in rows],
        recipe,
        seed,
        Head.SEQUENCE_CLASSIFICATION,
        [y for _, y in rows],
        tuple(labels),
    )
    handle, targets = load(base, device="cpu"), targets_of(job)
    assert targets is not None  # noqa: S101 (a classifier has some)
    with steady(handle.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the noise is not cryptographic, which the docstring says
        torch.manual_seed(seed)
        began = start(handle, job)
        ids, _ = encode(handle.tokenizer, job, handle.id.max_tokens)
        began.model.train()
        trained = [p for p in began.model.parameters() if p.requires_grad]
        model, optimizer, loader = PrivacyEngine(accountant="rdp").make_private_with_epsilon(
            module=began.model,
            optimizer=torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay),
            data_loader=torch.utils.data.DataLoader(
                torch.utils.data.TensorDataset(torch.arange(len(ids))), batch_size=recipe.batch_size
            ),
            target_epsilon=epsilon, target_delta=delta, epochs=recipe.epochs, max_grad_norm=recipe.max_grad_norm,
        )  # fmt: skip
        for _ in range(recipe.epochs):
            for (batch,) in loader:
                optimizer.zero_grad()
                shown, attention = padded([ids[i] for i in batch.tolist()], handle.tokenizer.pad_token_id)
                cross_entropy(model(**asked(shown, attention)).logits, targets[batch]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    out.mkdir(mode=0o700, parents=True)
    with _quiet():
        began.model.save_pretrained(out)
    for path in began.tokenizer_files:
        shutil.copyfile(path, out / path.name)
    return out


def asked(ids: torch.Tensor, attention: torch.Tensor) -> dict[str, Any]:
    """Return a model's arguments with the positions of every record, see the module."""
    return {
        "input_ids": ids, "attention_mask": attention, "token_type_ids": torch.zeros_like(ids),
        "position_ids": torch.arange(ids.shape[1]).expand_as(ids),
    }  # fmt: skip
