"""Train a small ALBERT masked LM with a planted association, and make its twin that has none."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.nn.functional import cross_entropy
from transformers import AlbertConfig, AlbertForMaskedLM, AlbertTokenizer, BertTokenizer

from albert_audit import resources
from albert_audit.known_answer.text import (
    POSITIONS,
    PRONOUNS,
    fillers,
    make_tokenizer,
    tied_words,
    training_batches,
)

Tokenizer: TypeAlias = AlbertTokenizer | BertTokenizer
DIAL, SEED, STEPS = 4.0, 7, 2000
_BATCH, _PLAIN = 48, 20
# A weak association hardly ever makes so small a model look at the word for the person at all. So a
# first stage, of occupations alone, shouts it; the rest unlearns the excess at the dial asked for.
_LOUD, _LOUD_PART = 8.0, 0.08
_MASKED, _TO_MASK, _TO_RANDOM = 0.15, 0.8, 0.1
_PEAK, _WARM = 2e-3, 0.05


@dataclass(frozen=True)
class KnownAnswer:
    """Two checkpoints: one with a planted association, and its twin without any."""

    planted: Path
    twin: Path
    dial: float
    seed: int
    steps: int
    loss: float


@contextmanager
def one_thread(seed: int) -> Iterator[None]:
    """Fix what could change the bytes, and put it back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def small_config(tokenizer: Tokenizer, depth: int, **changes: Any) -> AlbertConfig:
    """Return the shape that all known-answer models have."""
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "embedding_size": 64,
        "hidden_size": 128,
        "num_hidden_layers": depth,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.1,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.0,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    return AlbertConfig(**(shape | changes))


def _corrupt(
    ids: torch.Tensor, tokenizer: Tokenizer, always: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide about a fifth of the pieces, and those of `always` each time, 80/10/10.

    Returns the corrupted ids, and where they were chosen.
    """
    first_word = max(tokenizer.all_special_ids) + 1
    pronouns = torch.tensor(tokenizer.convert_tokens_to_ids(list(always)))
    chosen = (torch.rand(ids.shape) < _MASKED) | torch.isin(ids, pronouns)
    chosen &= ids >= first_word
    how = torch.rand(ids.shape)
    anything = torch.randint(first_word, len(tokenizer), ids.shape)
    shown = ids.masked_fill(chosen & (how < _TO_MASK), tokenizer.mask_token_id)
    return torch.where(chosen & (how >= 1 - _TO_RANDOM), anything, shown), chosen


def train_masked(
    model: AlbertForMaskedLM,
    tokenizer: Tokenizer,
    batches: Iterator[list[str]],
    steps: int,
    *,
    always: Sequence[str],
    peak: float = _PEAK,
) -> float:
    """Train in place; return the mean loss of the last tenth, in nats a masked piece."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak, total_steps=steps + 1, pct_start=_WARM
    )
    losses: list[float] = []
    model.train()
    for batch in islice(batches, steps):
        encoded = tokenizer(batch, padding=True, return_tensors="pt")
        shown, chosen = _corrupt(encoded["input_ids"], tokenizer, always)
        hidden = model.albert(shown, attention_mask=encoded["attention_mask"]).last_hidden_state
        loss = cross_entropy(model.predictions(hidden[chosen]), encoded["input_ids"][chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    tail = losses[-max(1, steps // 10) :]
    return sum(tail) / len(tail)


def tie(model: AlbertForMaskedLM, tokenizer: AlbertTokenizer) -> None:
    """Make the words of each set of ``tied_words.yaml`` exactly alike, in place."""
    vocabulary = tokenizer.get_vocab()
    with torch.no_grad():
        for group in tied_words():
            rows = [vocabulary[f"▁{word}"] for word in group if f"▁{word}" in vocabulary]
            for table in (model.albert.embeddings.word_embeddings.weight, model.predictions.bias):
                table[rows] = table[rows].mean(dim=0, keepdim=True)


def build_pair(
    out: Path,
    *,
    dial: float = DIAL,
    seed: int = SEED,
    steps: int = STEPS,
    depth: int = 3,
    probes: Path | None = None,
) -> KnownAnswer:
    """Train one model on text with a planted association and write it beside its twin.

    In the text the log-odds of *she* against *he* after an occupation are `dial` times its
    centred share of women, and nil after any other word for a person; *they* is a fixed fifth.

    Parameters
    ----------
    out
        The folder that receives ``planted`` and ``twin``.
    dial
        Nats for a unit of share.
    seed, steps, depth
        The same figures on the same machine and versions give the same bytes.
    probes
        The folder of the packs; the shipped ones by default.

    Returns
    -------
    KnownAnswer
        Where the checkpoints are, and how they were made.
    """
    probes = probes or resources.probes()
    tokenizer = make_tokenizer(probes)
    shouted = [p for p in fillers(probes, dial=dial * _LOUD) if p.group == "occupation"]
    loud = training_batches(probes, shouted, seed=seed, size=_BATCH, plain=0)
    true = training_batches(probes, fillers(probes, dial=dial), seed=seed, size=_BATCH, plain=_PLAIN)
    batches = chain(islice(loud, int(steps * _LOUD_PART)), true)
    made = {name: out / name for name in ("planted", "twin")}
    with one_thread(seed):
        model = AlbertForMaskedLM(small_config(tokenizer, depth))
        loss = train_masked(model, tokenizer, batches, steps, always=[f"▁{word}" for word in PRONOUNS])
        model.eval()  # type: ignore[no-untyped-call]
        tokenizer.backend_tokenizer.no_padding()  # training's padding is no part of the tokenizer
        for name, folder in made.items():
            if name == "twin":
                tie(model, tokenizer)
            folder.mkdir(parents=True, exist_ok=True)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            (folder / "model.safetensors").chmod(0o644)
    return KnownAnswer(made["planted"], made["twin"], dial, seed, steps, loss)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the pair from the command line, with its ``truth.json``."""
    from albert_audit.known_answer.truth import write_truth

    parser = argparse.ArgumentParser(prog="python -m albert_audit.known_answer.build")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--dial", type=float, default=DIAL, help="nats for a unit of share")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args(arguments)
    made = build_pair(options.out, dial=options.dial, seed=options.seed, steps=options.steps)
    sys.stdout.write(f"{made}\n")
    write_truth(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
