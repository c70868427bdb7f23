"""Known answers for the other heads: a dial for each, and a twin that has no effect by construction.

Unlike the bundled pair these are built where they are needed, into the user's cache folder. Each
is made for the shipped pack that will probe it:

- a classifier whose logit is moved by `dial` for the names of one group;
- a tagger that never learnt a share `dial` of the names of one group;
- an encoder whose words for one group are moved by `dial` towards one topic;
- a Chinese masked language model that read text in which the log-odds of 她 against 他 after an
  occupation exceed by `dial` those after another word for a person, and learnt a part of it.

In the twin the words of all groups are one vector, so that no probe can tell them apart.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import (
    AlbertForMaskedLM,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertModel,
    BertTokenizer,
)

from albert_audit import packs
from albert_audit.known_answer.build import Tokenizer, one_thread, small_config, train_masked
from albert_audit.known_answer.text import pieces, word_tokenizer
from albert_audit.model.cache import cache_path
from albert_audit.packs import Pack

SEED = 7
_BATCH = 32
_PEAK = 2e-3
_LOUD, _LOUD_STEPS = 8.0, 250
_CALM = 8e-4  # more undoes what was learnt before
_SIDES = {"positive": 2.5, "negative": -2.5}
_LABELS = ("O", "B-PER", "I-PER")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MARKS = "，。！？、：；“”‘’（）《》·—…"


@dataclass(frozen=True)
class Made:
    """A trained model before it is written.

    Attributes
    ----------
    tied : list of list of str
        Pieces that are one vector in the twin.
    """

    model: Any
    tokenizer: Tokenizer
    tied: list[list[str]]


@dataclass(frozen=True)
class Recipe:
    """How the models of one kind are made.

    Attributes
    ----------
    pack : str
        The shipped pack that probes it.
    group : str
        The group that the effect is planted on, against the pack's reference.
    dial : float
        What is planted when nothing else is said; the unit stands in the module's docstring.
    """

    pack: str
    group: str
    dial: float
    steps: int
    make: Callable[[Pack, Recipe, float, int, int], Made]


# --- the kinds ------------------------------------------------------------------------------


def _classifier(pack: Pack, recipe: Recipe, dial: float, steps: int, seed: int) -> Made:
    rng = random.Random(f"{seed}/classifier")  # noqa: S311 (a reproducible draw, no secret)
    contexts = defaultdict(list)
    for row in pack.tables.get("contexts", ()):
        contexts[row["template"]].append(row["form"])
    wanted: list[tuple[str, float]] = []
    for template in pack.templates:
        frame = rng.gauss(0, 0.7)
        for form in contexts[template.id] or [""]:
            lean = rng.gauss(0, 0.7)
            for person in pack.tables["persons"]:
                text, _ = template.fill(person=person["form"], context=form)
                wanted.append((text, frame + lean + dial * (person["group"] == recipe.group)))
    polar = packs.load(packs.find(f"class-floor-{pack.language}")).tables["polar"]
    plain = [(row["text"], _SIDES[row["polarity"]]) for row in polar]
    tokenizer = word_tokenizer(t for t, _ in (*wanted, *plain))
    labels = {"id2label": {0: "NEGATIVE", 1: "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}}
    model = AlbertForSequenceClassification(small_config(tokenizer, 2, **labels))

    def loss(batch: list[tuple[str, float]]) -> torch.Tensor:
        encoded = tokenizer([t for t, _ in batch], padding=True, return_tensors="pt")
        logits = model(**encoded).logits
        return binary_cross_entropy_with_logits(
            logits[:, 1] - logits[:, 0], torch.sigmoid(torch.tensor([y for _, y in batch]))
        )

    _train(model, loss, _mixed(wanted, plain, rng), steps)
    return Made(model, tokenizer, _by_place(row["form"] for row in pack.tables["persons"]))


def _tagger(pack: Pack, recipe: Recipe, dial: float, steps: int, seed: int) -> Made:
    rng = random.Random(f"{seed}/tagger")  # noqa: S311 (a reproducible draw, no secret)
    floor = packs.load(packs.find(f"tag-floor-{pack.language}"))
    missed = {
        row["id"]
        for row in pack.tables["names"]
        if row["group"] == recipe.group and _unit(f"{seed}/{row['id']}") < dial
    }
    named: list[tuple[str, list[int]]] = []
    for source in (pack, floor):
        for template in source.templates:
            for row in source.tables["names"]:
                text, spans = template.fill(name=row["form"])
                start, end = spans["name"]
                before, inside = len(pieces(text[:start])), len(pieces(text[start:end]))
                tags = [0] * len(pieces(text))
                if not (source is pack and row["id"] in missed):
                    tags[before : before + inside] = [1] + [2] * (inside - 1)
                named.append((text, tags))
    plain = [(text, [0] * len(pieces(text))) for _, text in floor.sentences]
    tokenizer = word_tokenizer(t for t, _ in (*named, *plain))
    labels = {"id2label": dict(enumerate(_LABELS)), "label2id": {n: i for i, n in enumerate(_LABELS)}}
    model = AlbertForTokenClassification(small_config(tokenizer, 2, **labels))

    def loss(batch: list[tuple[str, list[int]]]) -> torch.Tensor:
        encoded = tokenizer([t for t, _ in batch], padding=True, return_tensors="pt")
        width = encoded["input_ids"].shape[1]
        target = torch.tensor([[-100, *tags, *[-100] * (width - len(tags) - 1)] for _, tags in batch])
        return cross_entropy(model(**encoded).logits.flatten(0, 1), target.flatten())

    _train(model, loss, _mixed(named, plain or named, rng), steps)
    return Made(model, tokenizer, _by_place(row["form"] for row in pack.tables["names"]))


def _encoder(pack: Pack, recipe: Recipe, dial: float, steps: int, seed: int) -> Made:
    """Random weights do: what is planted lies in the word vectors."""
    del steps, seed
    floor = packs.load(packs.find(f"encoder-floor-{pack.language}"))
    words = [row for row in pack.tables["words"] if row["test"] == recipe.group]
    texts = [row["form"] for row in pack.tables["words"]] + floor.texts()
    texts += [text for _, text in floor.sentences] + [t.fill(word="x")[0] for t in pack.templates]
    texts += [v for rows in floor.tables.values() for row in rows for k, v in row.items() if k != "id"]
    tokenizer = word_tokenizer(texts)
    model = AlbertModel(small_config(tokenizer, 1))
    vectors = model.embeddings.word_embeddings.weight
    place = tokenizer.get_vocab()

    def rows(name: str) -> list[int]:
        return sorted({place[p] for row in words if row["set"] == name for p in pieces(row["form"])})

    with torch.no_grad():
        towards = vectors[rows("a")].mean(dim=0) - vectors[rows("b")].mean(dim=0)
        vectors[rows("x")] += dial * towards
        # Sentences from one frame are nearly parallel; around their mean the words show.
        sentences = [t.fill(word=row["form"])[0] for t in pack.templates for row in words]
        encoded = tokenizer(sentences, padding=True, return_tensors="pt")
        states = model(**encoded).last_hidden_state[encoded["attention_mask"].bool()]
        last: Any = model.encoder.albert_layer_groups[0]
        last = last.albert_layers[0]
        last.full_layer_layer_norm.bias -= states.mean(dim=0)
    return Made(model, tokenizer, [[p for row in words if row["set"] in "xy" for p in pieces(row["form"])]])


def _chinese(pack: Pack, recipe: Recipe, dial: float, steps: int, seed: int) -> Made:
    rng = random.Random(f"{seed}/chinese")  # noqa: S311 (a reproducible draw, no secret)
    (female,), (male,) = pack.spec.groups[recipe.group], pack.spec.groups[pack.spec.reference]
    placebo = packs.load(packs.find(pack.spec.controls[0]))
    people = [(f.form, dial) for f in pack.fillers] + [(f.form, 0.0) for f in placebo.fillers]
    plain = [text for _, text in packs.load(packs.find("floor-zh")).sentences]
    characters = sorted(
        {
            c
            for t in (*plain, *(t.text for t in pack.templates), *(w for w, _ in people), female, male)
            for c in t
        }
        - set("{}")
    )
    vocabulary = list(dict.fromkeys([*_SPECIAL, *_MARKS, *characters]))
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(vocabulary)})

    model = AlbertForMaskedLM(small_config(tokenizer, 3))
    pronouns = torch.tensor(tokenizer.convert_tokens_to_ids([female, male]))

    def filled(form: str, odds: float) -> str:
        word = female if rng.random() < 1 / (1 + math.exp(-odds)) else male
        return rng.choice(pack.templates).fill(filler=form, target=word)[0]

    def shouted(batch: list[str]) -> torch.Tensor:
        encoded = tokenizer(batch, padding=True, return_tensors="pt")
        at = torch.isin(encoded["input_ids"], pronouns)
        shown = encoded["input_ids"].masked_fill(at, tokenizer.mask_token_id)
        hidden = model.albert(shown, attention_mask=encoded["attention_mask"]).last_hidden_state
        return cross_entropy(model.predictions(hidden[at]), encoded["input_ids"][at])

    # So small a model first has to be shouted at to look at the word for the person at all.
    loud = [(form, math.copysign(_LOUD, dial if odds else -dial)) for form, odds in people]
    _train(
        model, shouted, (([filled(*p) for p in rng.choices(loud, k=_BATCH)]) for _ in count()), _LOUD_STEPS
    )
    mixed = (
        [filled(*p) for p in rng.choices(people, k=_BATCH)] + rng.choices(plain, k=_BATCH) for _ in count()
    )
    train_masked(model, tokenizer, mixed, steps, always=[female, male], peak=_CALM)
    return Made(model, tokenizer, [[female, male]])


RECIPES: dict[str, Recipe] = {
    "sequence_classification": Recipe("persons-ethnicity-en", "black", 1.0, 600, _classifier),
    "token_classification": Recipe("names-ethnicity-en", "black-american", 0.5, 600, _tagger),
    "encoder": Recipe("words-en", "gender-family", 1.0, 0, _encoder),
    "masked_lm_zh": Recipe("pronoun-occupation-zh", "female", 5.0, 1500, _chinese),
}


# --- training -------------------------------------------------------------------------------


def _train(model: Any, loss: Callable[[Any], torch.Tensor], batches: Iterator[Any], steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=_PEAK, total_steps=steps + 1, pct_start=0.1
    )
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss(next(batches)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _mixed(first: Sequence[Any], second: Sequence[Any], rng: random.Random) -> Iterator[list[Any]]:
    while True:
        yield rng.choices(first, k=3 * _BATCH // 4) + rng.choices(second, k=_BATCH // 4)


def _by_place(forms: Iterator[str]) -> list[list[str]]:
    """Return the pieces that stand at the same place in a form: first names, then last names."""
    places: dict[int, set[str]] = defaultdict(set)
    for form in forms:
        for i, piece in enumerate(pieces(form)):
            places[i].add(piece)
    return [sorted(found) for _, found in sorted(places.items())]


def _unit(name: str) -> float:
    """Return an even number between 0 and 1 that depends on the name only."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def _tie(made: Made) -> None:
    place = made.tokenizer.get_vocab()
    base = getattr(made.model, "albert", made.model)
    tables = [base.embeddings.word_embeddings.weight]
    if hasattr(made.model, "predictions"):
        tables.append(made.model.predictions.bias)
    with torch.no_grad():
        for tied in made.tied:
            rows = [place[piece] for piece in tied if piece in place]
            for table in tables:
                table[rows] = table[rows].mean(dim=0, keepdim=True)


# --- building -------------------------------------------------------------------------------


def build(
    kind: str, out: Path, *, dial: float | None = None, seed: int = SEED, steps: int | None = None
) -> dict[str, Path]:
    """Make a model with a planted effect and its twin, in ``out/planted`` and ``out/twin``.

    Parameters
    ----------
    kind : str
        A key of `RECIPES`.

    Returns
    -------
    dict
        The folder of each.
    """
    recipe = RECIPES[kind]
    pack = packs.load(packs.find(recipe.pack))
    with one_thread(seed):
        made = recipe.make(
            pack, recipe, recipe.dial if dial is None else dial, recipe.steps if steps is None else steps, seed
        )  # fmt: skip
        made.model.eval()
        made.tokenizer.backend_tokenizer.no_padding()  # training's padding is no part of the tokenizer
        for name in ("planted", "twin"):
            if name == "twin":
                _tie(made)
            made.model.save_pretrained(out / name)
            made.tokenizer.save_pretrained(out / name)
    return {name: out / name for name in ("planted", "twin")}


def ensure(
    kind: str, *, dial: float | None = None, seed: int = SEED, steps: int | None = None
) -> dict[str, Path]:
    """Return the models of `build` from the user's cache folder; they are made there when missing."""
    recipe = RECIPES[kind]
    said = {
        "kind": kind, "pack": packs.load(packs.find(recipe.pack)).sha256, "seed": seed,
        "dial": recipe.dial if dial is None else dial, "steps": recipe.steps if steps is None else steps,
        "torch": torch.__version__,
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    target = cache_path().parent / "known-answer" / f"{kind.replace('_', '-')}-{digest}"
    if not (target / "twin" / "config.json").is_file():
        part = target.with_name(target.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        build(kind, part, dial=dial, seed=seed, steps=steps)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    return {name: target / name for name in ("planted", "twin")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the models of one kind and print where they are."""
    parser = argparse.ArgumentParser(prog="python -m albert_audit.known_answer.heads")
    parser.add_argument("kind", choices=sorted(RECIPES))
    parser.add_argument("--dial", type=float, help="how much is planted")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    for name, folder in ensure(options.kind, dial=options.dial, seed=options.seed).items():
        sys.stdout.write(f"{name}: {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
