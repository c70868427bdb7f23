"""What English needs when a word is exchanged: roles, capitals, articles, possessives, names.

Everything here looks at a few words beside a span and answers; where the words do not decide, the
answer says so, and the caller leaves the text as it is or marks it. Rules, no model.
"""

from __future__ import annotations

import re

from albert_audit.bias.swap.verbs import Edit, base_form, finite

_NEXT = re.compile(r"[ \t\u00a0]+[\"“‘'(\[]*(\w+(?:['’-]\w+)*)|/(\w+)")
_BEFORE = re.compile(r"(\w+(?:['’-]\w+)*)[ \t\u00a0]+$")
_END = re.compile(r"[.!?:;…\n\r—–*•|/]$|--$|(?:^|\s)-$")
_ABBREVIATION = re.compile(r"(?:^|\W)(?:Mr|Mrs|Ms|Mx|Dr|Prof|St|Jr|Sr|vs|[A-Z])\.$")
_QUOTES = "\"'“”‘’([{ \t\u00a0"
_ARTICLE = re.compile(r"(?<![\w'’-])(an?)([ \t\u00a0]+[\"“‘'(]*)$", re.IGNORECASE)
_SILENT_H = re.compile(r"hour|honou?r|honest|heir")
_CONSONANT = re.compile(
    r"eu|ewe|uni(?!n[^e]|m[^aeiou]|d)|unanim|us[aeiu]|ut[aeio]|ub[ei]q?|uk[ru]|ug[a]|ur[aeoiu]|one(?!i)|once|oui"
)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# What no noun phrase begins with: after `her` these show an object, not a possessive.
_FUNCTION = _set(
    "to in on at for from with by of as into onto about over under through after before between against "
    "without within during among along across around behind beside beyond near off out up down away than like "
    "upon until till since unless although though because if when while where whether that which who whom "
    "whose what how why and or but nor so yet is was are were be been being am has have had does do did will "
    "would can could shall should may might must cannot isn't wasn't hasn't doesn't didn't won't wouldn't can't "
    "he i it you we they me us them him she this these those the a an some any no each both either neither "
    "again here there now then today tonight tomorrow yesterday too also not never always ever just even only "
    "instead anyway anymore alone together along apart everything something nothing anything one "
    "his hers its our your my their himself herself itself throughout toward towards once besides except"
)
# Of these, words that also open a noun phrase after a possessive (her one wish, her only son).
_ALSO_DETERMINED = _set(
    "one only near always ever never just even now then once like about over away about-face"
)
_AFTER_HIS = _set(
    "is was are were and or but to in for with on at by from that than when if because who which alone too had has "
    "have will would does did as until while though"
)
_CAUSE = re.compile(
    r"(?:let|make|help|see|watch|hear|have|feel|bid)(?:s|ing|ed|es)?|made|making|saw|seen|seeing|heard|felt|letting|"
    r"having|had|has|watches"
)
_KEEP = re.compile(
    r"(?:make|find|call|consider|keep|leave|think|render|deem|drive|declare|consider|want|get|catch|stop|see|watch|"
    r"hear|imagine|picture|show|portray|spot|notice)(?:s|ing|ed|es)?|made|making|found|kept|left|thought|drove|drives|"
    r"caught|saw|seen|heard|got|getting|stopped|shown|considering|portrayed"
)
_PICTURE = re.compile(r"\b(?:shot|picture|photo|image|video|footage|scene|glimpse)s? of $")
_MOVE = re.compile(
    r"(?:bring|take|send|drive|walk|follow|call|carry|invite|see|want|welcome|lead|get|have|win|escort|accompan)"
    r"(?:s|ing|ed|ies|ied|es)?|brought|took|taken|taking|sent|drove|driven|led|got|getting|won|winning|carried|having"
)
_BARE = _set(
    "go come be do get look feel see know think say speak talk sing dance cry laugh smile run walk leave stay live die "
    "eat drink sleep find take give make have keep become seem appear understand realize learn grow move sit stand "
    "win lose decide choose believe forget remember try start begin stop finish write read listen watch wait want"
)
_STATES = _set(
    "happy sad angry dead alive alone pregnant famous rich poor attractive beautiful likable likeable sympathetic "
    "funny uncomfortable crazy mad jealous sick proud responsible guilty interesting awake asleep busy safe warm "
    "appealing irresistible unlikable unbearable guessing believable charming boring compelling vulnerable human real"
)
_LY_ADJECTIVES = _set(
    "lovely only early daily family friendly lonely elderly likely ugly silly costly deadly belly ally reply supply "
    "earthly motherly fatherly sisterly brotherly womanly manly weekly monthly worldly bodily curly jelly holy"
)
_DETERMINERS = _set("a an another every each one the this that no any")
_AFTER_NOUN = _FUNCTION | _set("said says himself herself themselves living born himself walked came went")


def next_word(text: str, end: int) -> str:
    """Return the word after a span in lower case, or nothing where punctuation or the end follows."""
    found = _NEXT.match(text, end)
    return (found[1] or found[2]).lower().replace("’", "'") if found else ""


def previous_word(text: str, start: int) -> str:
    """Return the word just before a span in lower case, or nothing."""
    found = _BEFORE.search(text, max(0, start - 40), start)
    return found[1].lower().replace("’", "'") if found else ""


def opens_sentence(text: str, start: int) -> bool:
    """Whether a capital at this place is due to the sentence and not to a name."""
    before = text[max(0, start - 12) : start]
    bare = before.rstrip(_QUOTES)
    if not bare:
        return start <= 12 or bool(before.strip())
    if before != bare and before[len(bare) :].strip(" \t\u00a0([{"):  # a quotation opens here
        return True
    return bool(_END.search(bare)) and not _ABBREVIATION.search(bare)


def vowel_sound(word: str) -> bool:
    """Whether a word is spoken with a vowel first: an hour, an FBI agent; a European, a US state."""
    if re.match(r"[A-Z](?![a-z])", word) and not word[1:2].islower() and len(re.match(r"\w*", word)[0]) <= 4:  # type: ignore[index]
        return word[0] in "AEFHILMNORSX"
    low = word.lower()
    if low[:1] == "h":
        return bool(_SILENT_H.match(low))
    return low[:1] in tuple("aeiouáéíóú8") and not _CONSONANT.match(low)


def article(text: str, start: int, old: str, new: str) -> Edit | None:
    """Return the edit of the article right before a span where the first sound changes.

    `old` and `new` are dictionary forms: in capitals only where they are acronyms.
    """
    found = _ARTICLE.search(text, max(0, start - 8), start)
    if not found or vowel_sound(old) == vowel_sound(new):
        return None
    shown, fitting = found[1], "an" if vowel_sound(new) else "a"
    if shown.lower() == fitting:
        return None
    if shown == "AN" or (shown == "A" and text[start : start + 2].isupper()):
        fitting = fitting.upper()
    elif shown[0].isupper():
        fitting = fitting.capitalize()
    return found.start(1), found.end(1), fitting


def recase(shown: str, old: str, new: str, *, first: bool) -> str:
    """Return the form `new` with the capitals that `shown` has beyond its dictionary form `old`.

    `first`: whether the sentence opens here.
    """
    if shown.isupper() and (len(shown) > 1 or old.isupper()) and not old.isupper():
        return new.upper()
    if shown.islower():
        return new if old.islower() else new.lower()
    if shown == old:
        return new[0].upper() + new[1:] if first else new
    words = re.findall(r"[^\W\d_]+", shown)
    if len(words) > 1 and all(w[0].isupper() for w in words):
        return re.sub(r"(?<![\w'’])[a-z]", lambda m: m[0].upper(), new)
    return new[0].upper() + new[1:]


def possessive(text: str, end: int, old: str, new: str, *, plural: bool) -> tuple[int, str]:
    """Return how many characters after a span belong to its possessive mark, and what replaces them.

    ladies' becomes gentlemen's; James' becomes Mary's; gentlemen's becomes ladies'.
    """
    mark = text[end : end + 1]
    if mark not in ("'", "’") or not mark:
        return 0, ""
    s_follows = re.match(r"['’][sS](?!\w)", text[end : end + 3]) is not None
    ends_old, ends_new = old.lower().endswith("s"), new.lower().endswith("s")
    if s_follows and plural and ends_new and not ends_old:
        return 2, mark
    opened = re.search(r"(?<!\w)['‘](?=\w)", text[:end]) is not None
    if (
        not s_follows
        and ends_old
        and not ends_new
        and not opened
        and re.match(r" \w", text[end + 1 : end + 3])
    ):
        return 1, mark + "s"
    return 0, ""


def her(text: str, start: int, end: int) -> tuple[str, bool]:
    """Return the role of *her* (object, possessive-determiner) and whether it is open to doubt."""
    object_, possessive_ = ("object", False), ("possessive-determiner", False)
    word, before = next_word(text, end), previous_word(text, start)
    if not word:
        return object_
    at = _NEXT.match(text, end)
    after = next_word(text, at.end()) if at else ""
    closed = not after or after in _FUNCTION
    if word in ("and", "or") and after in ("his", "my", "your", "their", "our", "its"):
        return possessive_
    if word == "back" and closed:
        return ("object", True) if _MOVE.fullmatch(before) else ("possessive-determiner", True)
    if word == "home" and _MOVE.fullmatch(before):
        return "object", True
    if word in _ALSO_DETERMINED and (
        (after and after not in _FUNCTION) or text[at.end() if at else 0 :].startswith(" and only")
    ):
        return possessive_
    if word.split("'")[0] in _FUNCTION:
        return object_
    if word == "all":
        return ("object" if after in _FUNCTION else "possessive-determiner"), True
    if word.endswith("ly") and word not in _LY_ADJECTIVES:
        return object_ if closed else possessive_
    if word in _BARE and _CAUSE.fullmatch(before):
        return "object", word in (
            "look",
            "cry",
            "laugh",
            "smile",
            "walk",
            "talk",
            "dance",
            "run",
            "win",
            "try",
        )
    if word.endswith("ing") and (_KEEP.fullmatch(before) or _PICTURE.search(text[:start])):
        return "object", True
    if word in _STATES and closed and _KEEP.fullmatch(before):
        return "object", True
    return possessive_


def his(text: str, start: int, end: int) -> tuple[str, bool]:
    """Return the role of *his* (possessive-pronoun, possessive-determiner) and whether it is open to doubt."""
    del start
    word = next_word(text, end)
    at = _NEXT.match(text, end)
    after = next_word(text, at.end()) if at else ""
    if word in ("and", "or") and after in ("her", "my", "your", "their", "our", "its"):
        return "possessive-determiner", False
    if not word:  # "of his (and of hers)" against "his ... erm, friend"
        return "possessive-pronoun", text[end : end + 3] in ("...", " ..") or text[end : end + 1] in (
            "…",
            ",",
        )
    return ("possessive-pronoun" if word in _AFTER_HIS else "possessive-determiner"), False


def demonym(text: str, start: int, end: int) -> tuple[str, bool]:
    """Return the role (noun, adjective) of a word for a people or a creed that can be both."""
    word = next_word(text, end)
    closed = not word or finite(word) or word in _AFTER_NOUN
    if closed and previous_word(text, start) in _DETERMINERS:
        return "noun", False
    found = _BEFORE.search(text, 0, start)
    if closed and found and previous_word(text, found.start()) in _set("a an another every"):
        return "noun", True  # a young American, but also: it is a very American
    return "adjective", False


def headline(text: str) -> bool:
    """Whether most words have capitals, so that a capital shows nothing."""
    words = [w for w in re.findall(r"\w+", text) if len(w) > 3]
    return len(words) > 4 and sum(w[0].isupper() for w in words) > 0.8 * len(words)


def name_left(text: str, changed: set[int]) -> bool:
    """Whether a capitalised word that may be a person's name stands elsewhere than at `changed`.

    Inside a sentence any capitalised word may be one; at its start one before a possessive mark, a
    verb form, or ", who".
    """
    for found in re.finditer(r"(?<![\w'’-])[A-Z][a-z]\w*", text):
        if found.start() in changed:
            continue
        if not opens_sentence(text, found.start()):
            return True
        word, after = found[0].lower(), next_word(text, found.end())
        if word in _FUNCTION or word.endswith(("ly", "ing", "body", "one")):
            continue
        if finite(after) or base_form(after) or re.match(r"['’]s\b|,? who\b", text[found.end() :]):
            return True
    return False


CAPITAL = re.compile(r"[)\"”]?[ \u00a0](?:[A-Z]\.[ \u00a0]?)*(?!I\b)[A-ZÀ-Þ][\w’'-]+")
"""A capitalised word that follows."""
