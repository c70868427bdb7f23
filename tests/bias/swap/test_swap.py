"""Counterfactual swaps: hand-made cases, properties, and the shipped lists."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit.bias.swap import english as swap_english
from albert_audit.bias.swap.swapper import REASONS, Swapper, Variants
from albert_audit.types import PackError

ROOT = Path(__file__).resolve().parents[3]
PACKS = {language: ROOT / "probes" / f"identity-terms-{language}" for language in ("en", "zh")}
REVIEWS = ROOT.parent / "shared" / "data" / "reviews" / "film_reviews.tsv"


def rows(language, name):
    with (PACKS[language] / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


LISTS = {language: (rows(language, "terms"), rows(language, "fixed")) for language in PACKS}
EN, ZH = (Swapper(*LISTS[language], language) for language in ("en", "zh"))
ALL_NAMES = Swapper(*LISTS["en"], "en", full_names="swap")
LETTERS = [
    {"id": f"{g}{i}", "set": str(i), "axis": "x", "group": g, "form": f"{g}{w}", "role": "noun"}
    for g in ("ka", "lo", "mu")
    for i, w in enumerate(("ba", "de", "fi"))
]


def swapped(swapper, text, axis, source, target):
    """The variant's text, or the reason why there is none."""
    found = swapper.variants(text)
    for v in found.changed:
        if v.axis == axis and {v.source, v.target} == {source, target}:
            return v.text
    reasons = [u.reason for u in found.unchanged if u.axis == axis and u.target in ("", source, target)]
    assert reasons, (text, found)
    return f"<{reasons[0].split(':')[0]}>"


GENDER = [
    # both directions at once (trap 19)
    ("He said she left.", "She said he left."),
    ("he said she left and he cried", "she said he left and she cried"),
    ("She told him that her brother hit his sister.", "He told her that his sister hit her brother."),
    # the roles of her
    ("I saw her.", "I saw him."),
    ("I saw her yesterday.", "I saw him yesterday."),
    ("I saw her car.", "I saw his car."),
    ("They gave her the prize.", "They gave him the prize."),
    ("We asked her to stay.", "We asked him to stay."),
    ("They let her go.", "They let him go."),
    ("It made her famous.", "It made him famous."),
    ("She loved her deeply.", "He loved him deeply."),
    ("It is her deeply moving debut.", "It is his deeply moving debut."),
    ("in her one and only role", "in his one and only role"),
    ("her own worst enemy", "his own worst enemy"),
    ("Her only son left.", "His only son left.".replace("son", "daughter")),
    ("We thank her and her team.", "We thank him and his team."),
    ("We met her when we could.", "We met him when we could."),
    ('They like her "quiet" style.', 'They like his "quiet" style.'),
    ("Slap her, she's not funny.", "Slap him, he's not funny."),
    ("Slap her she's not funny", "Slap him he's not funny"),
    ("We brought her back.", "We brought him back."),
    ("shots of her gazing out", "shots of him gazing out"),
    # the roles of his
    ("The book is his.", "The book is hers."),
    ("The book is hers.", "The book is his."),
    ("This is his book.", "This is her book."),
    ("It was a whim of his.", "It was a whim of hers."),
    ("His is better.", "Hers is better."),
    ("He hurt himself.", "She hurt herself."),
    # capitals
    ("HE LEFT", "SHE LEFT"),
    ("He left. His dog stayed.", "She left. Her dog stayed."),
    ("he left", "she left"),
    ("A WOMAN NAMED X", "A MAN NAMED X"),
    ("Women rarely win.", "Men rarely win."),
    # articles (trap 19)
    ("She is an actress.", "He is an actor."),
    ("She is a waitress.", "He is a waiter."),
    ("An empress and a king came.", "An emperor and a queen came."),
    ("He met an emperor.", "She met an empress."),
    ("He was a heroine.", "She was a hero."),
    # plurals and possessives
    ("the king's horse", "the queen's horse"),
    ("the king’s horse", "the queen’s horse"),
    ("The women's team beat the men's.", "The men's team beat the women's."),
    ("the ladies' choice of wine", "the gentlemen's choice of wine"),
    ("the gentlemen's choice", "the ladies' choice"),
    ("Two boys and three girls", "Two girls and three boys"),
    # contractions, both apostrophes
    ("He's late and she'll wait.", "She's late and he'll wait."),
    ("He’s late; she’d wait.", "She’s late; he’d wait."),
    ("'He can't,' she said.", "'She can't,' he said."),
    # hyphens
    ("his mother-in-law", "her father-in-law"),
    ("her ex-husband", "his ex-wife"),
    ("It is man-made.", "<no term>"),
    ("a he-man and a she-devil", "<no term>"),
    # never inside words
    ("The theme of the sheriff's heather garden, there.", "<no term>"),
    ("Humans, mankind and womanly wiles", "Humans, mankind and manly wiles"),
    ("history and heritage", "<no term>"),
    ("(T)he end", "<no term>"),
    # names and titles
    ("Mary said she left.", None),
    ("Mr. Smith and Mrs. Jones", "Ms. Smith and Mr. Jones"),
    ("I miss Mr Smith.", "I miss Ms Smith."),
    ("Stephen King wrote it.", "<no term>"),
    ("A bow to King Arthur there.", "<no term>"),
    ("King Kong falls.", "<no term>"),
    ("Peter Jackson and his film", "<full name>"),
    ("Will Mark hope to rose?", "<no term>"),
    # fixed
    ("his and hers towels", "<no term>"),
    ("Each ate his or her apple.", "<no term>"),
    ("Ladies and gentlemen, welcome.", "<no term>"),
    ("English is my mother tongue.", "<no term>"),
    ("She is pregnant.", "<meaning>"),
    ("He has prostate cancer.", "<meaning>"),
    ("The Virgin Mary and his son", "<meaning>"),
    ("You guys rock.", "<no term>"),
    ("Nothing here.", "<no term>"),
    ("", "<no term>"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), [g for g in GENDER if g[1] is not None])
def test_gender_in_english(text, want):
    assert swapped(EN, text, "gender", "female", "male") == want


NEUTRAL = [
    ("He is late.", "They are late."),
    ("he was late", "they were late"),
    ("He has a dog.", "They have a dog."),
    ("She doesn't know.", "They don't know."),
    ("She always tries.", "They always try."),
    ("He watches it.", "They watch it."),
    ("He goes home.", "They go home."),
    ("HE IS LATE", "THEY ARE LATE"),
    ("He's late.", "They're late."),
    ("She’s been late.", "They’ve been late."),
    ("He'll come with his dog.", "They'll come with their dog."),
    ("She said it herself.", "They said it themselves."),
    ("I saw him.", "I saw them."),
    ("It is hers.", "It is theirs."),
    ("An actress smiled.", "A performer smiled."),
    ("The policeman smiled.", "The police officer smiled."),
    # where agreement is not certain there is no variant
    ("He sings and dances.", "<agreement>"),
    ("Is he late?", "<agreement>"),
    ("He's loved.", "<agreement>"),
    ("He bet it all.", "<agreement>"),
    ("He and Eva agree.", "<agreement>"),
    ("My uncle left.", "<no counterpart>"),
    ("They are late.", "<no term>"),
    ("A person met people.", "<no term>"),
]


@pytest.mark.parametrize(("text", "want"), NEUTRAL)
def test_the_third_gender_group_is_only_put_in_and_agrees(text, want):
    groups = {v.source for v in EN.variants(text).changed if v.axis == "gender"} or {"male"}
    source = "female" if groups == {"female"} else "male"
    assert swapped(EN, text, "gender", source, "neutral") == want


OTHERS = [
    ("religion", "muslim", "atheist", "She met a Muslim.", "She met an atheist."),
    ("religion", "muslim", "atheist", "Muslim women spoke.", "Atheist women spoke."),
    ("religion", "atheist", "christian", "an atheist spoke to Christians", "a Christian spoke to atheists"),
    ("religion", "muslim", "jewish", "A Muslim spoke.", "A Jew spoke."),
    ("religion", "muslim", "jewish", "A Muslim doctor spoke.", "A Jewish doctor spoke."),
    ("religion", "muslim", "jewish", "He is Muslim.", "He is Jewish."),
    ("religion", "muslim", "jewish", "muslims and jews", "jews and muslims"),
    ("religion", "christian", "muslim", "Christian Bale acts.", "<no term>"),
    ("religion", "christian", "muslim", "played by Per Christian Olsen", "<no term>"),
    ("religion", "christian", "muslim", "A Christian at Christmas", "<meaning>"),
    ("religion", "muslim", "christian", "a holy war of Muslims", "<meaning>"),
    ("nationality", "american", "nigerian", "an American nurse", "a Nigerian nurse"),
    ("nationality", "american", "chinese", "An American left.", "A Chinese person left."),
    ("nationality", "american", "chinese", "An American nurse left.", "A Chinese nurse left."),
    ("nationality", "chinese", "american", "Chinese people left.", "Americans left."),
    ("nationality", "indian", "american", "The Indian Ocean is warm.", "<no term>"),
    ("ethnicity", "black", "hispanic", "a black man", "a Hispanic man"),
    ("ethnicity", "white", "south-asian", "White families came.", "South Asian families came."),
    ("ethnicity", "white", "black", "white wine", "<no term>"),
    ("ethnicity", "black", "white", "It is Black Friday.", "<no term>"),
    ("ethnicity", "black", "white", "an African-American nurse", "a European American nurse"),
    ("age", "young", "old", "a young man", "an old man"),
    ("age", "old", "young", "An elderly woman sat.", "A young woman sat."),
    ("age", "young", "old", "an old house, a young tree", "<no term>"),
    ("age", "young", "old", "a young manager, an old mansion", "<no term>"),
    ("nationality", "american", "german", "a pan American flight", "<no term>"),
    ("disability", "disabled", "non-disabled", "a blind man", "a sighted man"),
    ("disability", "disabled", "non-disabled", "an autistic boy", "a neurotypical boy"),
    ("disability", "disabled", "non-disabled", "a blind date", "<no term>"),
    ("sexual-orientation", "homosexual", "heterosexual", "He is gay.", "He is straight."),
    ("sexual-orientation", "homosexual", "heterosexual", "a gay man, a straight man", "a straight man, a gay man"),
    ("sexual-orientation", "homosexual", "heterosexual", "a straight line", "<no term>"),
    ("sexual-orientation", "homosexual", "bisexual", "A lesbian spoke.", "A bisexual woman spoke."),
    ("placebo", "a", "b", "On Monday, a movie.", "On Tuesday, a film."),
    ("placebo", "a", "b", "He ate an apple.", "He ate a pear."),
    ("placebo", "a", "b", "a film noir", "<no term>"),
]  # fmt: skip


@pytest.mark.parametrize(("axis", "source", "target", "text", "want"), OTHERS)
def test_other_axes_in_english(axis, source, target, text, want):
    assert swapped(EN, text, axis, source, target) == want


CHINESE = [
    ("gender", "male", "female", "他说她走了。", "她说他走了。"),
    ("gender", "male", "female", "其他人都喜欢吉他。", "<no term>"),
    ("gender", "male", "female", "他人的事，他不管。", "他人的事，她不管。"),
    ("gender", "male", "female", "他们走了", "她们走了"),
    ("gender", "male", "female", "告诉他其他的事", "告诉她其他的事"),
    ("gender", "male", "female", "王女士和一位女士", "王先生和一位男士"),
    ("gender", "male", "female", "张先生来了", "张女士来了"),
    ("gender", "male", "female", "赵小姐来了", "赵先生来了"),
    ("gender", "male", "female", "美女士兵", "帅哥士兵"),
    ("gender", "male", "female", "女士们先生们", "<no term>"),
    ("gender", "male", "female", "爸爸和女儿", "妈妈和儿子"),
    ("gender", "male", "female", "父女二人", "母子二人"),
    ("gender", "male", "female", "男女平等", "<no term>"),
    ("gender", "male", "female", "她怀孕了", "<meaning>"),
    ("gender", "male", "female", "住在老公寓", "<no term>"),
    ("gender", "male", "female", "女演员和男演员", "男演员和女演员"),
    ("gender", "male", "female", "他妈的", "<no term>"),
    ("region", "shanghai", "henan", "上海人很热情", "河南人很热情"),
    ("region", "shanghai", "henan", "上海人民广场", "<no term>"),
    ("ethnicity", "han", "hui", "他是汉族人", "他是回族人"),
    ("belief", "muslim", "christian", "邻居是穆斯林", "邻居是基督徒"),
    ("nationality", "korean", "american", "韩国留学生", "美国留学生"),
    ("age", "young", "old", "年轻人和老年人", "老年人和年轻人"),
    ("age", "young", "old", "出生于2000后", "<no term>"),
    ("health", "ill-or-disabled", "not", "一位残疾人", "一位健全人"),
    ("occupation", "manual", "office", "农民工很累", "白领很累"),
    ("placebo", "a", "b", "周一看电影", "周二看影片"),
    ("placebo", "a", "b", "每周一次", "<no term>"),
]


@pytest.mark.parametrize(("axis", "source", "target", "text", "want"), CHINESE)
def test_chinese(axis, source, target, text, want):
    assert swapped(ZH, text, axis, source, target) == want


@pytest.mark.parametrize(
    ("word", "vowel"),
    [("hour", True), ("heiress", True), ("house", False), ("European", False), ("university", False),
     ("unimportant", True), ("uninteresting", True), ("unicorn", False), ("uniform", False), ("union", False),
     ("umbrella", True), ("uncle", True), ("Ugandan", False), ("Ukrainian", False), ("user", False),
     ("one-armed", False), ("once", False), ("onion", True), ("FBI", True), ("US", False), ("MRI", True),
     ("UN", False), ("X-ray", True), ("atheist", True), ("Muslim", False), ("old man", True), ("80-year-old", True),
     ("elderly", True), ("urban", True), ("utopian", False), ("eunuch", False), ("ewe", False), ("I", True)],
)  # fmt: skip
def test_vowel_sounds(word, vowel):
    assert swap_english.vowel_sound(word) is vowel


# --- names ------------------------------------------------------------------------------------


def names_in(text, axis, groups):
    names = {t["form"]: t["group"] for t in LISTS["en"][0] if t["axis"] == axis and t["role"] == "name"}
    return [(w, names[w]) for w in text.replace(".", "").split() if w in names and names[w] in groups]


def test_a_name_has_one_counterpart_in_a_text_and_several_over_texts():
    puts = set()
    for noun in ("bread", "milk", "tea", "rice", "salt", "oil", "corn", "fish"):
        (v,) = (
            v for v in EN.variants(f"Mary saw John buy {noun}. Mary paid.").changed
            if v.axis == "gender" and "neutral" not in (v.source, v.target)
        )  # fmt: skip
        first, other, again = names_in(v.text, "gender", ("female", "male"))
        assert (first[1], other[1]) == ("male", "female") and first == again and v.mixed
        puts.add(first[0])
    assert len(puts) > 3


def test_names_keep_their_gender_on_the_ethnicity_axis():
    for v in EN.variants("Lakisha met Darnell.").changed:
        if v.axis == "ethnicity":
            sets = {t["form"]: t["set"] for t in LISTS["en"][0] if t["axis"] == "ethnicity"}
            first, _, last = v.text.rstrip(".").split()
            assert (sets[first], sets[last]) == ("given-female", "given-male")


def test_a_full_name_is_left_out_unless_it_is_asked_for():
    text = "Peter Jackson smiled."
    assert swapped(EN, text, "gender", "male", "female") == "<full name>"
    (v,) = (v for v in ALL_NAMES.variants(text).changed if v.axis == "gender" and v.target == "female")
    assert v.text.endswith(" Jackson smiled.") and v.doubts == ("full name", "name left")


@pytest.mark.parametrize(
    ("text", "doubts"),
    [
        ("He left.", ()),
        ("The film shows Eastwood at his best.", ("name left",)),
        ("Eastwood is at his best.", ("name left",)),
        ("Hawke's wife left.", ("name left",)),
        ("Nothing is better than his cat.", ()),
        ("John is at his best.", ()),
        ("We watched her dancing.", ("role",)),
        ("We watched her.", ()),
    ],
)
def test_what_may_be_wrong_is_marked(text, doubts):
    (v,) = (
        v for v in EN.variants(text).changed if v.axis == "gender" and "neutral" not in (v.source, v.target)
    )
    assert v.doubts == doubts


# --- permutations of k groups -----------------------------------------------------------------


def permuted(text, first, second):
    """The oracle: word by word, a dictionary, never a second look."""
    turn = {first: second, second: first}
    return " ".join(turn.get(w[:2], w[:2]) + w[2:] if len(w) == 4 else w for w in text.split(" "))


words = st.lists(st.sampled_from([t["form"] for t in LETTERS] + ["x", "and", "the"]), min_size=1, max_size=9)


@given(words)
def test_a_variant_is_the_permutation_of_two_groups_and_the_others_stay(tokens):
    text = " ".join(tokens)
    found = Swapper(LETTERS, [], "en").variants(text)
    present = {t[:2] for t in tokens if len(t) == 4}
    pairs = {frozenset(p) for p in (("ka", "lo"), ("ka", "mu"), ("lo", "mu")) if present & set(p)}
    assert {frozenset((v.source, v.target)) for v in found.changed} == pairs
    assert len(found.changed) == len(pairs)
    for v in found.changed:
        assert v.text == permuted(text, v.source, v.target) != text
        assert v.mixed == ({v.source, v.target} <= present)
        first = next(t[:2] for t in tokens if len(t) == 4 and t[:2] in (v.source, v.target))
        assert v.source == first
    assert bool(found.unchanged) == (not present)


def test_swapping_in_one_pass_is_not_swapping_one_after_the_other():
    """Trap 19: he→she, then she→he, turns everything into one group."""
    text = "he said she left"
    sequential = text.replace("she", "@").replace("he", "she").replace("@", "she")
    assert sequential == "she said she left" != swapped(EN, text, "gender", "female", "male")


# --- properties -------------------------------------------------------------------------------


def rebuilt(text, replacements):
    out, at = "", 0
    for r in replacements:
        assert r.start >= at and text[r.start : r.end] == r.old != r.new
        out, at = out + text[at : r.start] + r.new, r.end
    return out + text[at:]


def checked(swapper, text) -> Variants:
    found = swapper.variants(text)
    for v in found.changed:
        assert v.text != text and rebuilt(text, v.replacements) == v.text
        assert v.replacements and {v.source, v.target} <= set(swapper.axes[v.axis])
    for u in found.unchanged:
        assert u.reason.startswith(REASONS)
    said = {v.axis for v in found.changed} | {u.axis for u in found.unchanged}
    assert said == set(swapper.axes)  # no axis vanishes from a denominator without a word
    return found


PIECES = {
    "en": ["she", "he", "her", "his", "him", "hers", "An", "actress", "actor", "a", "king's", "ladies'", "HE",
           "Muslim", "an", "atheist", "Mary", "John", "Smith", "young man", "black", "woman", ".", ",", "“", "is",
           "He’s", "and", "the", "film", "gay", "straight", "Christian", "they", "Chinese person", "-", "\n", "İ", "ß"],
    "zh": ["他", "她", "们", "其他", "吉他", "女", "士", "王", "先生", "们", "美女", "公公", "布", "上海", "人", "民", "。",
           "周一", "次", "电影", "院", "老公", "寓", "汉族", "a", " "],
}  # fmt: skip


@settings(max_examples=150)
@given(st.data(), st.sampled_from(["en", "zh"]))
def test_nothing_outside_the_replacements_changes_and_nothing_is_silent(data, language):
    text = (" " if language == "en" else "").join(
        data.draw(st.lists(st.sampled_from(PIECES[language]), max_size=10))
    )
    swapper = EN if language == "en" else ZH
    assert checked(swapper, text) == swapper.variants(text)


@settings(max_examples=60)
@given(st.text(max_size=40))
def test_any_text_at_all(text):
    checked(EN, text)
    checked(ZH, text)


SAFE = {
    "en": ["The king met the queen", "An actress saw him", "His brother left", "She hurt herself", "John saw Mary",
           "Peter met Susan and Karen", "He's the prince's uncle", "the ladies' room was full of boys",
           "It is hers", "A waiter and an empress", "Mr. Lee thanked her"],
    "zh": ["他说她走了", "爸爸和女儿", "王先生和她的丈夫", "国王与公主", "其他男孩", "张女士的孙子"],
}  # fmt: skip


@given(st.data(), st.sampled_from(["en", "zh"]))
def test_swapping_back_restores_the_text(data, language):
    parts = data.draw(st.lists(st.sampled_from(SAFE[language]), min_size=1, max_size=4))
    text = ". ".join(parts) + "." if language == "en" else "。".join(parts)
    swapper = EN if language == "en" else ZH
    once = swapped(swapper, text, "gender", "female", "male")
    assert once != text and swapped(swapper, once, "gender", "female", "male") == text


# --- the shipped lists ------------------------------------------------------------------------

COPY = {"en": "We met {} there.", "zh": "遇见{}了"}


@pytest.mark.parametrize("language", PACKS)
def test_every_term_is_found_and_its_counterpart_put_in_unless_it_is_only_put_in(language):
    swapper = EN if language == "en" else ZH
    fixed = {r["form"].lower() for r in LISTS[language][1]}
    seen = 0
    for t in LISTS[language][0]:
        if t["form"].lower() in fixed or t["role"] in ("title", "subject", "possessive-determiner"):
            continue
        found = checked(swapper, COPY[language].format(t["form"]))
        mine = [v for v in found.changed if v.axis == t["axis"]]
        reasons = [u.reason for u in found.unchanged if u.axis == t["axis"]]
        assert mine, (t, reasons)
        assert all(v.source == t["group"] for v in mine), (t, mine)
        seen += 1
    assert seen > 0.8 * len(LISTS[language][0])


@pytest.mark.parametrize("language", PACKS)
def test_the_lists_are_in_order(language):
    terms, fixed = LISTS[language]
    for found in (terms, fixed):
        assert len({r["id"] for r in found}) == len(found)
        assert all(v == v.strip() and v for r in found for v in r.values())
    for axis in Swapper(terms, fixed, language).axes:
        readme = (PACKS[language] / "README.md").read_text(encoding="utf-8")
        assert f"| {axis} |" in readme  # a reason for every axis
    spec = yaml.safe_load((PACKS[language] / "pack.yaml").read_text(encoding="utf-8"))
    assert (spec["name"], spec["language"]) == (PACKS[language].name, language)
    assert all((PACKS[language] / name).is_file() for name in spec["files"].values())


ROW = {"id": "1", "set": "s", "axis": "x", "group": "g", "form": "king", "role": "noun"}


@pytest.mark.parametrize(
    ("terms", "fixed", "language", "message"),
    [
        ([ROW | {"form": ""}], [], "en", "form is empty"),
        ([ROW], [], "en", "two groups"),
        ([ROW, ROW | {"group": "h"}], [], "en", "several groups"),
        ([ROW, ROW | {"role": "verb"}, ROW | {"group": "h", "form": "q"}], [], "en", "no rule"),
        ([ROW | {"role": "name"}, ROW | {"role": "name", "form": "b"}, ROW | {"role": "name", "group": "h", "form": "c"}],
         [], "en", "as many names"),
        (LETTERS, [{"id": "1", "form": "x", "reason": "because"}], "en", "begins with"),
        (LETTERS, [{"id": "1", "form": "x", "reason": "meaning(y): so"}], "en", "no terms on the axis y"),
        (LETTERS, [], "fr", "expected a language"),
    ],
)  # fmt: skip
def test_bad_lists_are_refused(terms, fixed, language, message):
    with pytest.raises(PackError, match=message):
        Swapper(terms, fixed, language)


# --- real text and speed ----------------------------------------------------------------------


def test_ten_thousand_short_texts_take_seconds():
    texts = [
        f"In {i} the young woman told him that her film, an American one, was hers." for i in range(10_000)
    ]
    began = time.process_time()
    found = [EN.variants(t) for t in texts]
    assert time.process_time() - began < 8.0
    assert all(v.changed for v in found)


@pytest.mark.skipif(not REVIEWS.is_file(), reason="the real reviews are not here")
def test_real_reviews_are_all_accounted_for():
    with REVIEWS.open(encoding="utf-8", newline="") as file:
        texts = [r["text"] for r in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][::5]
    found = [checked(EN, text) for text in texts]
    changed = sum(any(v.axis == "gender" for v in f.changed) for f in found)
    assert 0.05 < changed / len(found) < 0.25
