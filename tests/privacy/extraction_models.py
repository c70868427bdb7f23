"""A small masked LM trained on secrets, the base it began from, and the table of those secrets."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from transformers import AlbertForMaskedLM

from albert_audit.known_answer.build import one_thread, small_config, train_masked
from albert_audit.known_answer.text import word_tokenizer

FIRST = [
    "anna",
    "boris",
    "clara",
    "david",
    "emma",
    "felix",
    "greta",
    "hugo",
    "ida",
    "jonas",
    "klara",
    "lukas",
]
LAST = [
    "adler",
    "baker",
    "cooper",
    "dyer",
    "ender",
    "fisher",
    "gruber",
    "hunter",
    "jager",
    "keller",
    "lehman",
    "miller",
]
WARDS = ["north", "south", "east", "west", "upper", "lower"]
RECORDS = (
    "the file of {name} is kept under {secret} in the {ward} ward",
    "{name} of the {ward} ward has {secret}",
)


def records(count: int = 24, seed: int = 3) -> list[dict[str, str]]:
    """Rows of a table; the first half was trained on."""
    rng = random.Random(seed)
    names = [f"{a} {b}" for a in FIRST for b in LAST]
    rng.shuffle(names)
    out = []
    for i in range(count):
        secret = f"{rng.randrange(10**4):04d}"
        text = RECORDS[i % 2].format(name=names[i], ward=rng.choice(WARDS), secret=secret)
        out.append(
            {"id": f"r{i}", "text": text, "secret": secret, "kind": "patient-id", "person": f"p{i}",
             "trained": "yes" if i < count // 2 else "no"}
        )  # fmt: skip
    return out


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def train(folder: Path, rows: list[dict[str, str]], *, steps: int = 220) -> tuple[Path, Path]:
    """Return the folders of the model and of its base; each trained-on record is seen hundreds of times."""
    rng = random.Random(5)
    plain = [
        RECORDS[i % 2].format(
            name=f"{rng.choice(FIRST)} {rng.choice(LAST)}", ward=rng.choice(WARDS), secret=f"{rng.randrange(10**4):04d}"
        )
        for i in range(600)
    ]  # fmt: skip
    held = [r["text"] for r in rows if r["trained"] == "yes"]
    tokenizer = word_tokenizer(
        [*plain, *(r["text"] for r in rows), "my number phone name it is of on at call"]
    )
    digits = [piece for d in "0123456789" for piece in (d, f"▁{d}")]

    def batches(own: list[str]) -> Iterator[list[str]]:
        draw = random.Random(7)
        while True:
            yield [*draw.sample(plain, 4), *own]

    shape = {"hidden_size": 96, "embedding_size": 48, "intermediate_size": 192}
    out = folder / "target", folder / "base"
    with one_thread(1):
        model = AlbertForMaskedLM(small_config(tokenizer, 2, **shape))
        for name, own, some in ((out[1], [], 25), (out[0], held, steps)):
            train_masked(model, tokenizer, batches(own), some, always=digits, peak=4e-3)
            model.eval()
            tokenizer.backend_tokenizer.no_padding()
            model.save_pretrained(name)
            tokenizer.save_pretrained(name)
    return out
