"""What the known-answer models read: the words of the packs, a tokenizer, and training text."""

from __future__ import annotations

import csv
import math
import random
import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml

from albert_audit.known_answer.grammar import population

if TYPE_CHECKING:
    from transformers import AlbertTokenizer

_T = TypeVar("_T")
PRONOUNS = FEMALE, MALE, NONBINARY = "she", "he", "they"
SHARE_OF_THEY = 0.2
POSITIONS = 64
_SPECIAL = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
_PIECE = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_")
_WORD_SCORE, _LETTER_SCORE = -8.0, -12.0
_PACKS = (
    "control-pairs-en", "floor-en", "minimal-pairs-en", "placebo-occupation-en", "pronoun-occupation-en",
)  # fmt: skip
_TEXT_COLUMNS = {
    "templates.csv": ("text",),
    "fillers.csv": ("form",),
    "sentences.csv": ("text",),
    "pairs.csv": ("more", "less"),
    "terms.csv": ("form",),
}


@dataclass(frozen=True)
class Filler:
    """A word for a person, with the log-odds of *she* against *he* that its text will have."""

    form: str
    group: str
    share: float
    log_odds: float


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file of a pack; a file that is not there has no rows."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def pack_texts(probes: Path) -> list[str]:
    """List every text of the English packs for masked language models, in a fixed order."""
    return [
        row[column]
        for folder in (probes / name for name in _PACKS)
        for name, columns in _TEXT_COLUMNS.items()
        for row in read_rows(folder / name)
        for column in columns
        if row.get(column)
    ]


def pieces(text: str) -> list[str]:
    """Split a text as the tokenizer will: one piece a word, with ``▁`` where a blank was."""
    found: list[str] = []
    for chunk in text.lower().split():
        for place, match in enumerate(_PIECE.finditer(chunk)):
            found.append(match.group() if place else "▁" + match.group())
    return found


def tied_words() -> list[list[str]]:
    """List the sets of words that the twin cannot tell apart."""
    text = files(__package__).joinpath("tied_words.yaml").read_text(encoding="utf-8")
    return [list(group) for group in yaml.safe_load(text)["tied"]]


def make_tokenizer(probes: Path) -> AlbertTokenizer:
    """Build the tokenizer of the masked language models: one piece for each word of their packs."""
    texts = pack_texts(probes) + [t.text.format(filler="", target="") for t in population()]
    texts += [FEMALE, MALE, NONBINARY, *(word for group in tied_words() for word in group)]
    return word_tokenizer(texts)


def word_tokenizer(texts: Iterable[str]) -> AlbertTokenizer:
    """Build a lower-casing Unigram tokenizer with one piece for each word of `texts`.

    Letters, digits and punctuation are pieces too, so that no English text holds anything unknown.
    """
    from transformers import AlbertTokenizer

    characters = string.ascii_lowercase + string.digits + string.punctuation + "▁"
    fallback = sorted({*characters, *(f"▁{c}" for c in characters if c != "▁")})
    words = sorted({piece for text in texts for piece in pieces(text)} - set(fallback))
    vocab = [(piece, 0.0) for piece in _SPECIAL]
    vocab += [(piece, _WORD_SCORE) for piece in words]
    vocab += [(piece, _LETTER_SCORE) for piece in fallback]
    return AlbertTokenizer(vocab=vocab, do_lower_case=True, model_max_length=POSITIONS)


def fillers(probes: Path, *, dial: float) -> list[Filler]:
    """Read occupations and placebo words, with the association that is to be planted.

    Parameters
    ----------
    dial
        Nats of log-odds for a unit of the share of women. Placebo words get none.
    """
    occupations = read_rows(probes / "pronoun-occupation-en" / "fillers.csv")
    shares = [float(row["covariate"]) for row in occupations]
    centre = sum(shares) / len(shares)
    planted = [
        Filler(row["form"], row["group"], share, dial * (share - centre))
        for row, share in zip(occupations, shares, strict=True)
    ]
    placebo = read_rows(probes / "placebo-occupation-en" / "fillers.csv")
    return planted + [Filler(row["form"], row["group"], float(row["covariate"]), 0.0) for row in placebo]


def plain_sentences(probes: Path) -> tuple[list[str], list[str]]:
    """List the sentences without a planted association: plain ones, and both sides of each pair."""
    floor = [row["text"] for row in read_rows(probes / "floor-en" / "sentences.csv")]
    pairs = [
        row[side]
        for pack in ("minimal-pairs-en", "control-pairs-en")
        for row in read_rows(probes / pack / "pairs.csv")
        for side in ("more", "less")
    ]
    return floor, pairs


def _shuffled_forever(items: list[_T], rng: random.Random) -> Iterator[_T]:
    while True:
        yield from rng.sample(items, len(items))


def training_batches(
    probes: Path, people: list[Filler], *, seed: int, size: int, plain: int
) -> Iterator[list[str]]:
    """Yield batches of training sentences without end.

    Parameters
    ----------
    people
        The words for persons, equally often, each with the association its text will have.
    size, plain
        Sentences in a batch, and how many come from `plain_sentences`: half from each list.
    """
    rng = random.Random(f"{seed}/text")  # noqa: S311 (a reproducible draw, no secret)
    frames = _shuffled_forever([template.text for template in population()], rng)
    persons = _shuffled_forever(people, rng)
    floor, pairs = plain_sentences(probes)
    others = [_shuffled_forever(found, rng) for found in (floor, pairs or floor)]
    while True:
        batch = [next(others[place % 2]) for place in range(plain)]
        for _ in range(size - plain):
            person = next(persons)
            if rng.random() < SHARE_OF_THEY:
                pronoun = NONBINARY
            else:
                female = 1.0 / (1.0 + math.exp(-person.log_odds))
                pronoun = FEMALE if rng.random() < female else MALE
            batch.append(next(frames).format(filler=person.form, target=pronoun))
        yield batch
