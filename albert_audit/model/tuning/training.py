"""The training loop, with a state that survives a kill.

Every draw comes of the seed, the epoch and a name, so that a run that was killed and begun again
from its last finished epoch gives the bytes of one that was not, on the same machine and versions
on a CPU. On a GPU the sums may differ in their last bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from albert_audit.model.tuning.examples import Examples, Losses, batches, generator, stream
from albert_audit.model.tuning.recipe import Recipe
from albert_audit.types import UsageError

Progress = Callable[[int], None]


class Stopped(Exception):
    """Somebody asked a run to stop; its last finished epoch is kept."""


@contextmanager
def steady(device: torch.device) -> Iterator[None]:
    """One thread on a CPU, for the same sums each time; torch's own generator is put back."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(threads)


# --- the state ------------------------------------------------------------------------------


@dataclass
class State:
    """What a run has reached at the end of an epoch.

    Attributes
    ----------
    losses, held_out : list of float
        One an epoch.
    best : dict
        The weights of the epoch with the lowest held-out loss.
    """

    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def best_epoch(self) -> int:
        """Epoch with the lowest held-out loss, counted from 1; the last one where nothing is held out."""
        return self.held_out.index(min(self.held_out)) + 1 if self.held_out else self.epoch

    def save(
        self, path: Path, trained: dict[str, Tensor], optimizer: torch.optim.Optimizer, key: str
    ) -> None:
        """Write weights and the optimiser's state, whole or not at all; no pickle."""
        tensors = {f"weight/{n}": p.detach() for n, p in trained.items()}
        tensors |= {f"best/{n}": t for n, t in self.best.items()}
        for name, parameter in trained.items():
            for part, value in optimizer.state[parameter].items():
                tensors[f"optimizer/{part}/{name}"] = value
        told = json.dumps({"epoch": self.epoch, "losses": self.losses, "held_out": self.held_out})
        temporary = path.with_suffix(".new")
        save_file(
            {n: t.detach().cpu().contiguous() for n, t in tensors.items()},
            temporary,
            metadata={"key": key, "state": told},
        )
        temporary.replace(path)

    @classmethod
    def restore(
        cls, path: Path, trained: dict[str, Tensor], optimizer: torch.optim.Optimizer, key: str
    ) -> State:
        """Put a saved state back; a fresh one where there is none, or it is of another run."""
        if not path.is_file():
            return cls()
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            if told.get("key") != key:
                return cls()
            state = cls(**json.loads(told["state"]))
            with torch.no_grad():
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    room, _, rest = name.partition("/")
                    tensor = file.get_tensor(name)
                    if room == "weight":
                        trained[rest].copy_(tensor)
                    elif room == "best":
                        state.best[rest] = tensor
                    else:
                        part, _, of = rest.partition("/")
                        optimizer.state[trained[of]][part] = tensor.to(trained[of].device)
        return state


# --- the loop -------------------------------------------------------------------------------


def adamw(model: Any, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW over what is trained; biases and norms do not decay."""
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim < 2 or "LayerNorm" in name else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate, fused=True)


def held_out(n: int, recipe: Recipe, seed: int) -> list[int]:
    """Return which of `n` texts a run with `patience` holds out and does not train on."""
    if recipe.patience is None:
        return []
    if n < 2:
        raise UsageError("one text cannot be held out and trained on", "leave patience out")
    count = min(n - 1, max(1, round(recipe.held_out * n)))
    drawn: list[int] = torch.randperm(n, generator=generator(seed, "held out"))[:count].tolist()
    return sorted(drawn)


def train(
    losses: Losses,
    examples: Examples,
    recipe: Recipe,
    *,
    seed: int,
    state: Path,
    key: str,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> State:
    """Train in place, from the last epoch that `state` holds.

    Parameters
    ----------
    state : Path
        Rewritten at the end of each epoch.
    key : str
        What the run is; a state of another is not taken up.
    progress : callable, optional
        Told how many texts each step saw.
    stop : callable, optional
        Asked before each step.

    Raises
    ------
    UsageError
        When the loss is no longer a finite number.
    Stopped
    """
    model, n = losses.model, len(examples.ids)
    apart = held_out(n, recipe, seed)
    own = sorted(set(range(n)) - set(apart))
    lengths = [len(examples.ids[i]) for i in own]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = adamw(model, recipe)
    reached = State.restore(state, trained, optimizer, key)
    per_epoch = math.ceil(len(own) / recipe.batch_size)
    if progress is not None and reached.epoch:
        progress(reached.epoch * len(own))
    while reached.epoch < recipe.epochs and not _over(reached, recipe):
        model.train()
        draw = generator(seed, "order", reached.epoch)
        torch.manual_seed(stream(seed, "dropout", reached.epoch))  # draws that torch makes by itself
        total = terms = 0.0
        for i, batch in enumerate(batches(lengths, recipe.batch_size, draw)):
            if stop is not None and stop():
                raise Stopped
            loss, count = losses(examples, [own[j] for j in batch], draw)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(reached.epoch * per_epoch + i, per_epoch * recipe.epochs)
            step(loss, trained, optimizer, recipe)
            total, terms = total + loss.item() * count, terms + count
            if not math.isfinite(total):
                raise UsageError(
                    f"training diverged in epoch {reached.epoch + 1}: its loss is not a finite number",
                    "lower the recipe's learning_rate, or lengthen its warmup",
                )
            if progress is not None:
                progress(len(batch))
        reached.epoch += 1
        reached.losses.append(total / terms)
        if apart:
            reached.held_out.append(_mean_loss(losses, examples, apart, recipe, seed))
            if reached.best_epoch == reached.epoch:
                reached.best = {name: p.detach().clone() for name, p in trained.items()}
        reached.save(state, trained, optimizer, key)
    with torch.no_grad():
        for name, tensor in reached.best.items():
            trained[name].copy_(tensor)
    return reached


def step(loss: Tensor, trained: dict[str, Tensor], optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
    """Take one step of AdamW, the gradient's length cut."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(trained.values(), recipe.max_grad_norm)
    optimizer.step()


def _over(state: State, recipe: Recipe) -> bool:
    return recipe.patience is not None and state.epoch - state.best_epoch >= recipe.patience


@torch.no_grad()
def _mean_loss(losses: Losses, examples: Examples, of: list[int], recipe: Recipe, seed: int) -> float:
    """Return the mean loss of held-out texts, the same pieces masked after each epoch."""
    losses.model.eval()
    draw = generator(seed, "held-out masks")
    total = terms = 0.0
    for i in range(0, len(of), recipe.batch_size):
        loss, count = losses(examples, of[i : i + recipe.batch_size], draw)
        total, terms = total + loss.item() * count, terms + count
    return total / terms
