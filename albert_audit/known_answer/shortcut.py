"""A classifier with a planted shortcut through one group's terms, and its twin that has none.

Half of what decides a sentence is a word of praise or blame; the other half, times the dose, is whether
the sentence holds a term for the marked group. An attribution that is right puts more on that group's
terms than on neutral words in the same slot, the more the larger the dose. In the twin all terms and
neutral words are one vector: whatever is found there is the method's own doing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import AlbertForSequenceClassification

from albert_audit.known_answer.build import one_thread, small_config
from albert_audit.known_answer.text import word_tokenizer

DOSE, SEED, STEPS = 3.0, 7, 300
_BATCH, _PEAK = 24, 3e-3
_SIDE = 2.0
_SHAPE: dict[str, Any] = {
    "embedding_size": 32, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128,
    "id2label": {0: "NEGATIVE", 1: "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
}  # fmt: skip


@dataclass(frozen=True)
class Sentence:
    """A sentence with a term.

    Attributes
    ----------
    text : str
    span : tuple of (int, int)
        Characters of the term.
    template, group, term, quality : str
    logit : float
        What the model is trained to answer, without any dose: log-odds of POSITIVE.
    """

    text: str
    span: tuple[int, int]
    template: str
    group: str
    term: str
    quality: str
    logit: float


@cache
def _lists() -> Mapping[str, Any]:
    text = files(__package__).joinpath("shortcut.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = yaml.safe_load(text)
    return loaded


def groups() -> dict[str, list[str]]:
    """Return the terms of ``marked``, ``other`` and ``neutral``."""
    return dict(_lists()["terms"])


def sentences(qualities: Sequence[str] | None = None) -> list[Sentence]:
    """Return every template with every term and quality.

    Parameters
    ----------
    qualities : sequence of str, optional
        Only these words of praise or blame; all when left out.
    """
    lists = _lists()
    sides = [(w, _SIDE) for w in lists["good"]] + [(w, -_SIDE) for w in lists["bad"]]
    out = []
    for name, template in lists["templates"].items():
        for group, terms in lists["terms"].items():
            for term in terms:
                for quality, logit in sides:
                    if qualities is None or quality in qualities:
                        start = template.replace("{quality}", quality).index("{term}")
                        text = template.format(term=term, quality=quality)
                        out.append(
                            Sentence(text, (start, start + len(term)), name, group, term, quality, logit)
                        )
    return out


def build(out: Path, *, dose: float = DOSE, seed: int = SEED, steps: int = STEPS) -> dict[str, Path]:
    """Train a classifier and write it to ``planted``, and its twin to ``twin``.

    Parameters
    ----------
    dose : float
        Log-odds of POSITIVE that a term of the marked group takes away.
    seed, steps : int
        The same figures on the same machine and versions give the same bytes.

    Returns
    -------
    dict
        The folder of each.
    """
    corpus = sentences()
    with one_thread(seed):
        tokenizer = word_tokenizer(s.text for s in corpus)
        model = AlbertForSequenceClassification(small_config(tokenizer, 2, **_SHAPE))
        _train(model, tokenizer, _batches(corpus, dose, seed), steps)
        model.eval()  # type: ignore[no-untyped-call]
        tokenizer.backend_tokenizer.no_padding()  # training's padding is no part of the tokenizer
        for name in ("planted", "twin"):
            if name == "twin":
                _tie(model, tokenizer)
            model.save_pretrained(out / name)
            tokenizer.save_pretrained(out / name)
    return {name: out / name for name in ("planted", "twin")}


def _batches(corpus: Sequence[Sentence], dose: float, seed: int) -> Iterator[tuple[list[str], list[float]]]:
    rng = random.Random(f"{seed}/shortcut")  # noqa: S311 (a reproducible draw, no secret)
    marked = [s for s in corpus if s.group == "marked"]
    while True:
        batch = rng.choices(marked, k=_BATCH // 2) + rng.choices(corpus, k=_BATCH // 2)
        yield [s.text for s in batch], [s.logit - dose * (s.group == "marked") for s in batch]


def _train(model: Any, tokenizer: Any, batches: Iterator[tuple[list[str], list[float]]], steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=_PEAK, total_steps=steps + 1, pct_start=0.1
    )
    model.train()
    for _ in range(steps):
        texts, wanted = next(batches)
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        loss = binary_cross_entropy_with_logits(
            logits[:, 1] - logits[:, 0], torch.sigmoid(torch.tensor(wanted))
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _tie(model: Any, tokenizer: Any) -> None:
    place = tokenizer.get_vocab()
    rows = [place[f"▁{term}"] for terms in groups().values() for term in terms]
    table = model.albert.embeddings.word_embeddings.weight
    with torch.no_grad():
        table[rows] = table[rows].mean(dim=0, keepdim=True)
