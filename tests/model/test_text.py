"""Words, masks and shared tokens, against the published algorithms written out again."""

from __future__ import annotations

import difflib
import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.text import (
    TOKEN_RULES,
    Encoded,
    find_word,
    shared_positions,
    token_queries,
    word_indices,
    word_spans,
)

CLS, SEP, MASK = 2, 3, 4


def words(text: str) -> list[str]:
    return [text[a:b] for a, b in word_spans(text)]


def sentence(*ids: int, words: tuple[int, ...] | None = None) -> Encoded:
    """[CLS] ids [SEP], each id a word of three characters."""
    n = len(ids)
    return Encoded(
        (CLS, *ids, SEP),
        (0,) * (n + 2),
        ((0, 0), *((4 * i, 4 * i + 3) for i in range(n)), (0, 0)),
        (-1, *(words or range(n)), -1),
        (True, *(False,) * n, True),
    )


# --- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\n", []),
        ("He is a nurse.", ["He", "is", "a", "nurse", "."]),
        ("nurse?!", ["nurse", "?", "!"]),
        ("“Well,” she said…", ["“", "Well", ",", "”", "she", "said", "…"]),
        ("isn't the nurse’s", ["isn't", "the", "nurse’s"]),
        ("rock'n'roll", ["rock'n'roll"]),
        ("the girls' 'quoted'", ["the", "girls", "'", "'", "quoted", "'"]),
        ("well-known $3.50", ["well", "-", "known", "$", "3", ".", "50"]),
        ("a_b", ["a_b"]),
        ("他是护士。", ["他", "是", "护", "士", "。"]),
        ("AI医生2号", ["AI", "医", "生", "2", "号"]),
        ("\U00020000\U00020001", ["\U00020000", "\U00020001"]),
        ("cafe\u0301s", ["cafe\u0301s"]),
        ("o\u0302\u0301n", ["o\u0302\u0301n"]),
        ("n'e\u0301tait", ["n'e\u0301tait"]),
        ("nur\u00adse", ["nur\u00adse"]),
        ("nur\u200bse", ["nur\u200bse"]),
        ("😀ok", ["😀", "ok"]),
        ("❤\ufe0f", ["❤\ufe0f"]),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize("text", ["Zoë's café", "naïve Ångström", "coöperate"])
def test_composed_and_decomposed_accents_have_the_same_words(text):
    decomposed = unicodedata.normalize("NFD", text)
    assert [unicodedata.normalize("NFC", w) for w in words(decomposed)] == words(text)


@given(st.text())
def test_words_cover_every_visible_character_once_and_in_order(text):
    spans = word_spans(text)
    covered = [i for a, b in spans for i in range(a, b)]
    assert covered == sorted(set(covered))
    assert set(range(len(text))) - set(covered) == {i for i, c in enumerate(text) if c.isspace()}


@given(st.text(alphabet=string.ascii_letters + string.digits + " ", max_size=40))
def test_words_of_plain_text_are_its_chunks(text):
    assert words(text) == text.split()


def test_word_indices_of_pieces():
    text = "the nurse, he"
    offsets = [(0, 0), (0, 3), (4, 6), (6, 9), (9, 10), (11, 13), (0, 0)]
    special = [True, *[False] * 5, True]
    assert word_indices(text, offsets, special) == (-1, 0, 1, 1, 2, 3, -1)


def test_a_lone_word_mark_belongs_to_the_word_that_follows():
    assert word_indices("a 护", [(0, 1), (1, 1), (2, 3)], [False] * 3) == (0, 1, 1)
    assert word_indices("a b", [(0, 1), (1, 2), (2, 3)], [False] * 3) == (0, 1, 1)


def test_word_indices_without_any_word():
    assert word_indices(" ", [(0, 0), (0, 1), (0, 0)], [True, False, True]) == (-1, 0, -1)
    assert word_indices("", [], []) == ()


@given(st.text(alphabet="ab' ,.护é\u0301", max_size=30), st.data())
def test_word_indices_never_fall_and_name_the_word_of_the_character(text, data):
    visible = [i for i, c in enumerate(text) if not c.isspace()]
    cuts = sorted(data.draw(st.sets(st.sampled_from(visible)) if visible else st.just(set())))
    found = word_indices(text, [(c, c + 1) for c in cuts], [False] * len(cuts))
    assert list(found) == sorted(found)
    spans = word_spans(text)
    assert all(spans[w][0] <= c < spans[w][1] for w, c in zip(found, cuts, strict=True))


# --- masks ----------------------------------------------------------------------------------


def test_pll_masks_each_token_alone():
    encoded = sentence(10, 11, 12, words=(0, 0, 1))
    queries = token_queries(encoded, "pll")
    assert [q.masked for q in queries] == [(1,), (2,), (3,)]
    assert [q.at for q in queries] == [(1,), (2,), (3,)]
    assert [q.ask for q in queries] == [((10,),), ((11,),), ((12,),)]
    assert {q.ids for q in queries} == {encoded.ids}, "masking is by id, and the scorer's work"


def test_word_l2r_also_masks_the_later_pieces_of_the_word():
    encoded = sentence(10, 11, 12, 13, 14, words=(0, 1, 1, 1, 2))
    assert [q.masked for q in token_queries(encoded, "pll_word_l2r")] == [
        (1,),
        (2, 3, 4),
        (3, 4),
        (4,),
        (5,),
    ]


def test_unmasked_reads_all_in_one_pass():
    (query,) = token_queries(sentence(10, 11), "unmasked")
    assert (query.masked, query.at, query.ask) == ((), (1, 2), ((10,), (11,)))


@pytest.mark.parametrize("rule", TOKEN_RULES)
def test_a_text_without_tokens_asks_nothing(rule):
    assert token_queries(sentence(), rule) == []


@given(st.lists(st.integers(0, 3), max_size=12), st.sampled_from(TOKEN_RULES))
def test_rules_ask_each_token_once_and_mask_no_special(indices, rule):
    steps = tuple(sorted(indices))
    encoded = sentence(*range(20, 20 + len(steps)), words=steps)
    queries = token_queries(encoded, rule)
    assert [i for q in queries for i in q.at] == list(encoded.positions)
    assert [t for q in queries for (t,) in q.ask] == [encoded.ids[i] for i in encoded.positions]
    for q in queries:
        assert not any(encoded.special[i] for i in q.masked)
        assert {encoded.words[i] for i in q.masked} <= {encoded.words[i] for i in q.at}
        assert all(i >= q.at[0] for i in q.masked)
        assert rule == "unmasked" or q.at[0] in q.masked


def test_punctuation_is_not_masked_with_the_word_before_it(mlm):
    # Trap 13: the tokenizer's own word ids give "nurse." one word.
    (encoded,) = mlm.encode(["He is a nurse."])
    pieces = [i for i in encoded.positions if encoded.words[i] == 3]
    assert len(pieces) > 1
    stop = encoded.positions[-1]
    assert "".join("He is a nurse."[a:b] for a, b in (encoded.offsets[i] for i in pieces)) == "nurse"
    own = mlm.handle.tokenizer(["He is a nurse."]).word_ids(0)
    assert own[stop] == own[pieces[0]], "if this fails the trap is gone"
    masked = {i for q in token_queries(encoded, "pll_word_l2r") if q.at[0] in pieces for i in q.masked}
    assert masked == set(pieces)


def test_masking_by_id_keeps_the_other_pieces(mlm):
    # Trap 10: a mask written into the text gives the stop after it a stray mark.
    (encoded,) = mlm.encode(["He is a doctor."])
    (written,) = mlm.encode(["He is a [MASK]."])
    (at,) = find_word(encoded, 8, 14)
    (query,) = [q for q in token_queries(encoded, "pll") if q.at == (at,)]
    by_id = tuple(MASK if i in query.masked else t for i, t in enumerate(query.ids))
    assert by_id[:4] == written.ids[:4]
    assert by_id != written.ids, "if this fails the trap is gone"
    assert MASK not in mlm.encode(["He is a [mask]."])[0].ids


# --- shared tokens --------------------------------------------------------------------------


def crows_pairs_template(ids1: tuple[int, ...], ids2: tuple[int, ...]) -> list[tuple[int, int]]:
    """get_span and the loop of the published metric.py: positions 1 … N-2 of the shared ones."""
    seq1, seq2 = [str(x) for x in ids1], [str(x) for x in ids2]
    template1: list[int] = []
    template2: list[int] = []
    for op in difflib.SequenceMatcher(None, seq1, seq2).get_opcodes():
        if op[0] == "equal":
            template1 += list(range(op[1], op[2]))
            template2 += list(range(op[3], op[4]))
    assert len(template1) == len(template2)
    return [(template1[i], template2[i]) for i in range(1, len(template1) - 1)]


IDS = st.lists(st.integers(5, 12), max_size=14)


@given(IDS, IDS)
def test_shared_positions_are_those_of_the_published_script(first, second):
    a, b = sentence(*first), sentence(*second)
    found = shared_positions(a, b)
    assert found == crows_pairs_template(a.ids, b.ids)
    assert all(a.ids[i] == b.ids[j] for i, j in found)
    assert found == sorted(found)


@given(IDS)
def test_a_sentence_shares_everything_with_itself(ids):
    encoded = sentence(*ids)
    assert shared_positions(encoded, encoded) == [(i, i) for i in encoded.positions]


def test_long_sentences_have_difflibs_popular_tokens():
    # From 200 tokens on difflib leaves out frequent ones; the published script does so too.
    a = sentence(*([5, 6, 7, 8] * 60), 9)
    b = sentence(*([5, 6, 7, 8] * 60), 10)
    assert shared_positions(a, b) == crows_pairs_template(a.ids, b.ids)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("She is a doctor.", "He is a doctor.", 4),
        ("The woman is old.", "The man is old.", 4),
        ("He", "She", 0),
        ("They went home.", "They went home.", 4),
    ],
)
def test_shared_positions_of_sentences(mlm, first, second, shared):
    # Trap 4: with the first word differing, no special token slips in.
    a, b = mlm.encode([first, second])
    found = shared_positions(a, b)
    assert len(found) == shared
    assert found == crows_pairs_template(a.ids, b.ids)
    assert not any(a.special[i] or b.special[j] for i, j in found)


# --- one word in a sentence -----------------------------------------------------------------


def test_find_word_gives_all_pieces(mlm):
    text = "His carpenter has a dog, he said."
    (encoded,) = mlm.encode([text])
    for word in ("His", "carpenter", "dog", "he", "said"):
        start = text.index(word)
        found = find_word(encoded, start, start + len(word))
        assert "".join(text[slice(*encoded.offsets[i])] for i in found) == word
    assert len(find_word(encoded, 4, 13)) > 1


def test_find_word_refuses_a_token_across_the_border(mlm):
    (encoded,) = mlm.encode(["He works."])
    with pytest.raises(ValueError, match="across the span"):
        find_word(encoded, 0, 1)


@pytest.mark.parametrize("span", [(2, 3), (50, 60), (3, 3)])
def test_find_word_refuses_a_span_without_tokens(mlm, span):
    (encoded,) = mlm.encode(["He works."])
    with pytest.raises(ValueError, match="no token"):
        find_word(encoded, *span)


def test_the_piece_he_is_not_the_word_he(mlm):
    # Trap 9: ids are read off the sentence, so they are those with the word mark.
    vocabulary = mlm.handle.tokenizer.get_vocab()
    (encoded,) = mlm.encode(["so he said"])
    (at,) = find_word(encoded, 3, 5)
    assert encoded.ids[at] == vocabulary["▁he"]


# --- real tokenizers, odd texts -------------------------------------------------------------

ODD = st.text(
    alphabet=st.one_of(
        st.characters(blacklist_categories=("Cs",)),
        st.sampled_from(" \t\u00a0\u3000\u200b\u200d\ufeff\u0301\u202e'’``\"▁[]他护😀ﬁé"),
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def both(mlm, tiny_zh):
    return mlm, TorchScorer(load(tiny_zh, device="cpu"))


@pytest.mark.parametrize("which", [0, 1], ids=["unigram", "wordpiece"])
@given(text=ODD)
def test_odd_texts_are_framed_and_counted(both, which, text):
    scorer = both[which]
    (encoded,) = scorer.encode([text])
    n = len(encoded.ids)
    assert {len(encoded.type_ids), len(encoded.offsets), len(encoded.words), len(encoded.special)} == {n}
    assert (encoded.ids[0], encoded.ids[-1]) == (CLS, SEP)
    assert encoded.positions == tuple(range(1, n - 1))
    assert set(encoded.type_ids) == {0}
    own = [encoded.words[i] for i in encoded.positions]
    assert own == sorted(own)
    assert all(0 <= w < max(1, len(word_spans(text))) for w in own)
    assert all(0 <= a <= b <= len(text) for a, b in encoded.offsets)
    assert list(encoded.ids) == scorer.handle.tokenizer(text)["input_ids"]


@given(text=ODD, pair=ODD)
def test_odd_pairs_have_two_segments(both, text, pair):
    (encoded,) = both[0].encode([text], [pair])
    border = encoded.ids.index(SEP) if "[SEP]" not in text else None
    if border is not None:
        assert set(encoded.type_ids[: border + 1]) == {0}
        assert set(encoded.type_ids[border + 1 :]) == {1}
    alone, other = both[0].encode([text, pair])
    assert encoded.ids == alone.ids + other.ids[1:]
    first = [encoded.words[i] for i in range(len(alone.ids)) if not encoded.special[i]]
    second = [encoded.words[i] for i in range(len(alone.ids), len(encoded.ids)) if not encoded.special[i]]
    assert not set(first) & set(second), "words of the two texts are not mixed up"


@pytest.mark.parametrize("text", ["nurse", " nurse", "nurse  ", "\tnurse\n", "\u3000nurse"])
def test_blanks_around_a_text_change_no_id(mlm, text):
    (plain,), (odd,) = mlm.encode(["nurse"]), mlm.encode([text])
    assert odd.ids == plain.ids
    assert odd.words == plain.words
    start = text.index("n")
    assert find_word(odd, start, start + 5) == find_word(plain, 0, 5)
