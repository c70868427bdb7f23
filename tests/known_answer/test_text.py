"""The tokenizer knows every word of the packs, and the training text has what was planted."""

import math
import subprocess
import sys
from itertools import islice

import pytest

from albert_audit import resources
from albert_audit.known_answer import text

PROBES = resources.probes()


@pytest.fixture(scope="module")
def tokenizer():
    return text.make_tokenizer(PROBES)


def test_every_word_of_the_english_packs_is_one_piece(tokenizer):
    for line in text.pack_texts(PROBES):
        line = line.replace("{filler}", "nurse").replace("{target}", "she")
        assert tokenizer.tokenize(line) == text.pieces(line)


def test_nothing_in_english_is_unknown(tokenizer):
    assert tokenizer.unk_token not in tokenizer.tokenize("Xylophones (42%) aren't quiz-worthy, #7!")


def test_the_text_holds_the_log_odds_that_the_dial_asks_for():
    people = [
        text.Filler("nurse", "occupation", 0.9, 1.5),
        text.Filler("guest", "placebo", 0.9, 0.0),
    ]
    batches = text.training_batches(PROBES, people, seed=3, size=200, plain=0)
    lines = [f" {line}" for batch in islice(batches, 60) for line in batch]
    for person in people:
        mine = [line for line in lines if person.form in line]
        she, he, they = (sum(f" {word} " in line for line in mine) for word in text.PRONOUNS)
        assert math.log(she / he) == pytest.approx(person.log_odds, abs=0.15)
        assert they / len(mine) == pytest.approx(text.SHARE_OF_THEY, abs=0.03)


def test_no_word_is_tied_twice():
    words = [word for group in text.tied_words() for word in group]
    assert len(words) == len(set(words))


def test_the_package_itself_imports_neither_torch_nor_transformers():
    code = (
        "import sys, albert_audit.known_answer;"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
