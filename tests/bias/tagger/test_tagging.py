"""Labels, words and spans of taggers, against spans written out in each scheme again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_audit.bias.tagger import tagging
from albert_audit.bias.tagger.tagging import (
    PERSON,
    Span,
    names_persons,
    read,
    spans_of,
    tags_of,
    word_tags,
    words_of,
)
from albert_audit.model.cache import FakeScorer
from albert_audit.model.text import Encoded
from albert_audit.types import Head

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def tagger(tags, labels=LABELS, **options):
    """A tagger that gives each token the label that `tags` has for it, else the first."""

    def answer(tokens):
        named = tags(tokens) if callable(tags) else [tags.get(t, labels[0]) for t in tokens]
        return np.eye(len(labels))[[labels.index(n) for n in named]]

    return FakeScorer(answers={"tags": answer}, head=Head.TOKEN_CLASSIFICATION, labels=labels, **options)


def spans(*labels):
    return [(s.first, s.last, s.kind) for s in spans_of(tags_of(labels))]


# --- labels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label",
    ["PER", "per", "B-PER", "I-PERSON", "S-Person", "B_PER", "nr", "B-nr", "B-NAME", "M-NAME", "name", "人名",
     "B-PER.NAM", "PERSON_NAME", "人物", "Ｂ-ＰＥＲ".replace("Ｂ-", "B-")],
)  # fmt: skip
def test_labels_that_mean_a_person(label):
    assert names_persons(["O", label])


@pytest.mark.parametrize(
    "label",
    ["O", "B-ORG", "LABEL_0", "LABEL_1", "PERCENT", "B-PERCENT", "PRODUCT_NAME", "ns", "B-", "perform"],
)
def test_labels_that_do_not(label):
    """PERCENT begins with PER: a rule that looks at the beginning would audit percentages."""
    assert not names_persons([label, "B-LOC"])


def test_without_a_label_for_persons_nothing_is_scored_and_the_reason_is_said():
    one = read(tagger({}, labels=("LABEL_0", "LABEL_1")), ["anna left"])[0]
    assert one.reason == tagging.NO_PERSON and one.spans == ()


# --- spans ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["B-PER", "I-PER", "O"], [(0, 1, PERSON)]),
        (["B-PER", "B-PER"], [(0, 0, PERSON), (1, 1, PERSON)]),
        (["I-PER", "I-PER", "B-PER"], [(0, 1, PERSON), (2, 2, PERSON)]),  # IOB
        (["O", "I-PER"], [(1, 1, PERSON)]),  # a bare I starts a span
        (["I-LOC", "I-PER"], [(0, 0, "loc"), (1, 1, PERSON)]),
        (["B-PER", "I-LOC"], [(0, 0, PERSON), (1, 1, "loc")]),
        (["B-PER", "E-PER", "S-PER", "O"], [(0, 1, PERSON), (2, 2, PERSON)]),
        (["B-PER", "L-PER", "U-PER", "I-PER"], [(0, 1, PERSON), (2, 2, PERSON), (3, 3, PERSON)]),
        (["E-PER", "I-PER"], [(0, 0, PERSON), (1, 1, PERSON)]),
        (["B-NAME", "M-NAME", "E-NAME"], [(0, 2, PERSON)]),
        (["PER", "PER", "O", "ORG"], [(0, 1, PERSON), (3, 3, "org")]),
        (["O", "O"], []),
        ([], []),
    ],
)
def test_spans_of_each_scheme(labels, expected):
    assert spans(*labels) == expected


@st.composite
def layouts(draw):
    """Disjoint spans with types, in order, over a number of words."""
    found, at = [], 0
    for _ in range(draw(st.integers(0, 5))):
        first = at + draw(st.integers(0, 2))
        last = first + draw(st.integers(0, 3))
        found.append((first, last, draw(st.sampled_from([PERSON, "loc"]))))
        at = last + 1
    return found, at + draw(st.integers(0, 2))


def written(found, count, scheme):
    out = ["O"] * count
    for first, last, kind in found:
        kind = {PERSON: "PER"}.get(kind, kind)
        inner = ["I"] * (last - first + 1)
        inner[0] = "B"
        if scheme in ("BIOES", "BILOU"):
            inner[-1] = scheme[3] if scheme == "BIOES" else "L"
            if first == last:
                inner[0] = "S" if scheme == "BIOES" else "U"
        for k, p in enumerate(inner):
            out[first + k] = f"{p}-{kind}"
    return out


@given(layouts(), st.sampled_from(["BIO", "BIOES", "BILOU"]))
def test_what_a_scheme_writes_is_read_back(layout, scheme):
    found, count = layout
    assert spans(*written(found, count, scheme)) == found


@given(
    st.lists(
        st.sampled_from(["O", *(f"{p}-{t}" for p in "BIESLU" for t in ("PER", "LOC")), "PER"]), max_size=12
    )
)
def test_spans_cover_every_tagged_word_once_whatever_the_labels(labels):
    covered = [k for first, last, _ in spans(*labels) for k in range(first, last + 1)]
    assert covered == [k for k, label in enumerate(labels) if label != "O"]


# --- words and pieces -----------------------------------------------------------------------


def test_words_are_those_that_taggers_are_trained_on():
    def parts(text):
        return [text[s:e] for s, e in words_of(text)]

    assert parts("Anne-Marie O'Neil-Ray left.") == ["Anne-Marie", "O'Neil-Ray", "left", "."]
    assert parts("Yes - no, 'Anna' -") == ["Yes", "-", "no", ",", "'", "Anna", "'", "-"]
    assert parts("王-李·买") == ["王", "-", "李", "·", "买"]
    assert parts("") == []


def pieces(word):
    return [word[:2], *(f"+{c}" for c in word[2:])]


@pytest.mark.parametrize(
    ("first", "rest", "expected"), [("B-PER", "O", [Span(0, 0, PERSON)]), ("O", "B-PER", [])]
)
def test_a_word_has_the_tag_of_its_first_piece_only(first, rest, expected):
    """Trap 9: spans over pieces would end, or begin, inside the word."""
    model = tagger({"an": first, "+n": rest, "+a": rest}, pieces=pieces)
    assert list(read(model, ["anna"])[0].spans) == expected


def test_later_parts_of_a_hyphenated_word_do_not_count():
    """Trap 13: the pieces after the hyphen were never trained; their tags mean nothing."""
    one = read(tagger({"anne": "B-PER", "-": "O", "marie": "B-LOC"}), ["so anne-marie left"])[0]
    assert list(one.spans) == [Span(1, 1, PERSON)] and one.inside(3, 13) == (1, 1)


def test_a_piece_over_two_ideographs_tags_both():
    """A SentencePiece vocabulary joins characters; the second must not count as untagged."""
    text = "王芳说好"
    e = Encoded((2, 5, 6, 7, 3), (0,) * 5, ((0, 0), (0, 2), (2, 3), (3, 4), (0, 0)), (-1, 0, 2, 3, -1),
                (True, False, False, False, True))  # fmt: skip
    for label in ("B-PER", "S-PER", "PER"):
        tags = word_tags(text, e, words_of(text), tags_of(["O", label, "O", "O", "O"]))
        assert spans_of(tags) == (Span(0, 1, PERSON),)
    tags = word_tags(text, e, words_of(text), tags_of(["O"] * 5))
    assert spans_of(tags) == ()


def test_a_piece_without_width_stands_for_the_word_after_it():
    text = "so anna"
    e = Encoded((2, 5, 6, 7, 3), (0,) * 5, ((0, 0), (0, 2), (3, 3), (3, 7), (0, 0)), (-1, 0, 1, 1, -1),
                (True, False, False, False, True))  # fmt: skip
    assert word_tags(text, e, words_of(text), tags_of(["O", "O", "PER", "O", "O"])) == tags_of(["O", "PER"])


def test_answers_keep_their_texts_whatever_the_batches_and_what_is_too_long():
    """Trap 15, and 26: a text that is too long is skipped, and the answers after it do not move up."""
    texts = [
        "anna left",
        "so very many words that it is too long for anna",
        "we saw anna",
        "nobody",
        "anna left",
    ]
    model = tagger({"anna": "B-PER"}, max_tokens=8)
    model.budget = 8
    found = read(model, texts)
    assert [bool(t.reason) for t in found] == [False, True, False, False, False]
    assert "8 tokens" in found[1].reason
    assert [[s.first for s in t.spans] for t in found] == [[0], [], [2], [], [0]]
    alone = [read(model, [t])[0] for t in texts]
    assert [t.spans for t in alone] == [t.spans for t in found]


def test_logits_that_are_not_finite_are_no_answer():
    model = FakeScorer(answers={"tags": lambda t: np.full((len(t), 5), np.nan)}, labels=LABELS)
    assert "finite" in read(model, ["anna"])[0].reason
