"""English verbs: whether a word is a finite form, and the form that *they* asks for."""

from __future__ import annotations

import re

Edit = tuple[int, int, str]
"""Start, end and the new text."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ADVERBS = _set(
    "also never always still just only often really then now ever even soon once sometimes usually actually "
    "almost already quite rarely seldom again"
)
_PLAIN = _set(
    "can could will would shall should may might must had did can't couldn't won't wouldn't shouldn't mustn't hadn't "
    "didn't cannot said went came saw took made got gave knew thought told found left felt became brought began kept "
    "held wrote stood heard let meant set met ran paid sat spoke lay led read grew lost fell sent built understood "
    "drew broke spent cut rose drove bought wore chose won sang drank ate slept taught caught fought forgot flew hid "
    "threw shot struck swore used"
)
_FINITE = {
    "is": "are", "was": "were", "has": "have", "does": "do", "isn't": "aren't", "wasn't": "weren't",
    "hasn't": "haven't", "doesn't": "don't", "goes": "go",
}  # fmt: skip
_PERFECT = _set("been got had done gone become come taken given seen")
_NO_VERBS = _set(
    "his this its always perhaps thus us yes as ours hers theirs yours besides sometimes towards unless"
)


def finite(word: str) -> bool:
    """Whether a word in lower case is a form of be, have, do, a modal, or (as far as forms show) a past."""
    return word in _PLAIN or word in _FINITE or (word.endswith("ed") and len(word) > 4)


def agree(text: str, end: int, before: str) -> tuple[list[Edit], bool]:
    """Return the edits of the verb when a singular subject becomes *they*, and whether they are certain.

    `end`: where the subject ends; `before`: the word before it in lower case.

    Handled: be, have, do and regular verbs in -s right after the subject or after adverbs, their
    contractions, modals and past forms (unchanged). Not certain, so for the caller to leave out:
    questions, further verbs of the same subject ("he sings and dances"), anything else.
    """
    nothing: list[Edit] = []
    stop = re.compile(r"[.!?;:\n]").search(text, end)
    sentence = text[end : stop.start() if stop else len(text)]
    if (stop and stop[0] == "?") or before in ("and", "or", "nor", "than", *_FINITE):
        return nothing, False
    if re.match(r"['’](?:ll|d)\b", sentence, re.IGNORECASE):
        return nothing, _alone(sentence, present=False)
    if short := re.match(r"['’][sS]\b", sentence):
        verb = _verb(sentence, short.end())
        following = verb[0].lower() if verb else ""
        if not following or following.endswith("ed"):
            return nothing, False
        new = "ve" if following in _PERFECT else "re"
        edit = (end + 1, end + 2, new.upper() if sentence[1].isupper() else new)
        return [edit], _alone(sentence[short.end() :], present=True)
    verb = _verb(sentence, 0)
    if not verb:
        return nothing, False
    shown = verb[0]
    low = shown.lower().replace("’", "'")
    rest = sentence[verb.end() :]
    if low in _PLAIN or (low.endswith("ed") and len(low) > 3):
        return nothing, _alone(rest, present=False)
    base = _FINITE.get(low) or base_form(low)
    if not base:
        return nothing, False
    base = base.replace("'", "’") if "’" in shown else base
    return [(end + verb.start(), end + verb.end(), base.upper() if shown.isupper() else base)], _alone(
        rest, present=True
    )


def _verb(sentence: str, at: int) -> re.Match[str] | None:
    """The first word that is no adverb."""
    for found in re.compile(r"\w+(?:['’-]\w+)*").finditer(sentence, at):
        if sentence[at : found.start()].strip():
            return None  # punctuation between
        word, at = found[0].lower(), found.end()
        if word not in _ADVERBS and not (word.endswith("ly") and len(word) > 4):
            return found
    return None


def base_form(verb: str) -> str:
    """Return the base form of a regular verb in -s, or nothing."""
    if not re.fullmatch(r"[a-z]{2,}s", verb) or verb.endswith(("ss", "us", "is")) or verb in _NO_VERBS:
        return ""
    if verb.endswith("ies") and len(verb) > 4:
        return verb[:-3] + "y"
    return verb[:-2] if re.search(r"(?:ch|sh|ss|x|zz|o)es$", verb) else verb[:-1]


def _alone(rest: str, *, present: bool) -> bool:
    """Whether no second finite verb seems to share the subject: none after and, but, or, then, a comma."""
    for found in re.finditer(r"(?:\b(?:and|but|or|then|yet)|,)\s+((?:\w+ly\s+)?\w+(?:['’]\w+)?)", rest):
        word = found[1].split()[-1].lower().replace("’", "'")
        if word in _FINITE or word in _ADVERBS or (present and base_form(word)):
            return False
    return True
