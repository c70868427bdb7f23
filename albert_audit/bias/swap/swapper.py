"""Counterfactual texts: the same text with the words for one group exchanged for those of another.

All terms of the two groups are exchanged in one pass over the original text, so nothing is ever
swapped twice: with female and male, "he said she left" gives "she said he left". With k groups the
variant for g and r is the text under the permutation that exchanges g and r; the words of all
other groups stay. What cannot be exchanged with confidence is left, with a reason: a rate over
texts that were not changed is no rate.

Sources: Garg et al. 2019 (counterfactual token fairness, and the exclusion of texts whose meaning
depends on the group); Hall Maudslay et al. 2019 (names and grammatical roles in a swap).
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from albert_audit.bias.swap import english as swap_english
from albert_audit.bias.swap import verbs as swap_verbs
from albert_audit.bias.swap.terms import (
    CASED,
    PRONOUNS,
    RESOLVERS,
    Entry,
    Term,
    axes_of,
    counterparts_of,
    entries_of,
    fixed_of,
    names_of,
    term_of,
)
from albert_audit.types import PackError

NO_TERM = "no term"
MEANING = "meaning"
FULL_NAME = "full name"
NO_COUNTERPART = "no counterpart"
AGREEMENT = "agreement"
REASONS = (NO_TERM, MEANING, FULL_NAME, NO_COUNTERPART, AGREEMENT)
"""What the reason of an unchanged text begins with."""

_PROPER = frozenset({*CASED, "adjective", "demonym"})
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Replacement:
    """What stands at ``text[start:end]`` of the original, and what in its place.

    `term` is the id of the row replaced; "article", "agreement" for words that only follow suit.
    """

    start: int
    end: int
    old: str
    new: str
    term: str


@dataclass(frozen=True, slots=True)
class Variant:
    """One counterfactual.

    Attributes
    ----------
    source, target : str
        The exchanged groups. `source` is the one that the text names; where it names both
        (`mixed`), the one it names first: then the change has no direction.
    replacements : tuple of Replacement
        In order, not overlapping; outside of them the text is the original.
    doubts : tuple of str
        What may be wrong with it: "role" (which role a word has is a guess), "name left" (on
        an axis with pronouns, a capitalised word that may be a person's name stays), "full name".
    """

    axis: str
    source: str
    target: str
    mixed: bool
    text: str
    replacements: tuple[Replacement, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Why there is no variant for an axis, or (source and target given) for two of its groups."""

    axis: str
    source: str
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Variants:
    """All counterfactuals of a text, and why there are no more."""

    text: str
    changed: tuple[Variant, ...]
    unchanged: tuple[Unchanged, ...]


@dataclass(frozen=True, slots=True)
class _Hit:
    start: int
    end: int
    term: Term
    doubtful: bool
    full_name: bool


class Swapper:
    """Makes counterfactual texts from lists of terms and of fixed forms.

    Parameters
    ----------
    terms : iterable of mappings
        Rows with the keys id, set, axis, group, form, role. Rows of one set and role are
        counterparts across the groups of an axis; where a group has several, the first is the one
        that is put in. For the role name all of a group's forms are counterparts of all of the
        other's: which one is put in depends on the rest of the text, one to one in a text.
    fixed : iterable of mappings
        Rows with the keys id, form, reason. A reason "phrase: ..." or "phrase(axis, ...): ..." keeps
        this occurrence as it is (the longest form wins, at equal length the fixed one);
        "meaning(axis, ...): ..." leaves a text with this form unchanged on these axes. Forms in lower case match in any capitals, forms
        with a capital as written or in all capitals.
    language : {"en", "zh"}
        English forms match whole words in any capitals (names and titles: as written, or all
        capitals). Chinese forms match the longest characters, left to right.
    full_names : {"leave-out", "swap"}
        English: what to do with a text in which a listed name stands before another capitalised
        word. It may be a known person, whose name carries more than a group.

    Raises
    ------
    PackError
        A row that lacks a value, an unknown kind of reason, an axis of one group, a form with
        roles that no rule tells apart or in two groups of an axis, unequal numbers of names.
    """

    def __init__(
        self,
        terms: Iterable[Mapping[str, str]],
        fixed: Iterable[Mapping[str, str]],
        language: str,
        *,
        full_names: Literal["leave-out", "swap"] = "leave-out",
    ) -> None:
        if language not in RESOLVERS:
            raise PackError(f"swaps: expected a language of {', '.join(RESOLVERS)}, found {language!r}")
        self.language, self.full_names = language, full_names
        self._english = language == "en"
        rows = [term_of(row) for row in terms]
        self.axes: dict[str, tuple[str, ...]] = axes_of(rows)
        self._counterparts = counterparts_of(rows)
        self._names = names_of(rows)
        self._with_pronouns = {t.axis for t in rows if t.role in PRONOUNS and self._english}
        self._index: dict[str, list[Entry]] = defaultdict(list)
        for entry in [*fixed_of(fixed, self.axes), *entries_of(rows, language)]:
            first = _WORD.search(entry.form)
            key = first[0].lower() if self._english and first else entry.form[0]
            self._index[key].append(entry)
        for found in self._index.values():  # stable: fixed forms stay before terms of their length
            found.sort(key=lambda e: -len(e.form))

    def variants(self, text: str) -> Variants:
        """Return one variant for each axis and two of its groups of which the text names one or both."""
        hits, barred = self._scan(text)
        changed: list[Variant] = []
        unchanged: list[Unchanged] = []
        for axis, groups in self.axes.items():
            if found := barred.get(axis):
                unchanged.append(Unchanged(axis, "", "", f"{MEANING}: {found}"))
            elif not (here := hits.get(axis)):
                unchanged.append(Unchanged(axis, "", "", NO_TERM))
            elif self.full_names == "leave-out" and any(h.full_name for h in here):
                unchanged.append(Unchanged(axis, "", "", f"{FULL_NAME}: it may be a known person's"))
            else:
                order = list(dict.fromkeys(h.term.group for h in here))
                for pair in combinations(groups, 2):
                    named = [g for g in order if g in pair]
                    if not named:
                        continue
                    source, target = named[0], pair[pair[0] == named[0]]
                    made = self._exchange(text, axis, source, target, len(named) > 1, here)
                    changed.append(made) if isinstance(made, Variant) else unchanged.append(made)
        return Variants(text, tuple(changed), tuple(unchanged))

    # --- finding ------------------------------------------------------------------------------

    def _scan(self, text: str) -> tuple[dict[str, list[_Hit]], dict[str, str]]:
        """One pass, left to right: the longest form at each place, apart for each axis."""
        plain = text.replace("’", "'").replace("\u00a0", " ")
        headline = self._english and swap_english.headline(text)
        free: dict[str, int] = dict.fromkeys(self.axes, 0)
        hits: dict[str, list[_Hit]] = defaultdict(list)
        barred: dict[str, str] = {}
        for start, key in self._places(plain):
            for entry in self._index.get(key, ()):
                end = start + len(entry.form)
                if not self._matches(plain, start, end, entry):
                    continue
                for axis in entry.axes:
                    if entry.excludes:  # English: a word is a word; Chinese: not inside a longer one
                        if self._english or start >= free[axis]:
                            barred.setdefault(axis, entry.form)
                    elif start < free[axis]:
                        continue
                    elif not entry.terms:
                        free[axis] = end
                    elif not self._english or not _part_of_a_name(text, start, end, entry.terms[0], headline):
                        free[axis] = end
                        hits[axis].append(self._hit(text, start, end, entry.terms))
        return hits, barred

    def _places(self, text: str) -> Iterable[tuple[int, str]]:
        if self._english:
            return [(m.start(), m[0].lower()) for m in _WORD.finditer(text)]
        return list(enumerate(text))

    def _matches(self, text: str, start: int, end: int, entry: Entry) -> bool:
        shown = text[start:end]
        if not self._english:
            return shown == entry.form
        if shown.lower() != entry.form.lower() or (text[end : end + 1].isalnum() and entry.form[-1] != "."):
            return False
        role = entry.terms[0].role if entry.terms else ""
        cased = role in CASED if role else not entry.form.islower()
        if cased and shown not in (entry.form, entry.form.upper()):
            return False
        if role == "title" and entry.form[0].isupper():
            return bool(re.match(r" ?[A-Z]", text[end:])) and not text[end : end + 1].isalnum()
        return True

    def _hit(self, text: str, start: int, end: int, terms: tuple[Term, ...]) -> _Hit:
        roles = frozenset(t.role for t in terms)
        role, doubtful = terms[0].role, False
        if len(roles) > 1:
            role, doubtful = RESOLVERS[self.language][roles](text, start, end)
        full = self._english and role == "name" and swap_english.CAPITAL.match(text, end) is not None
        return _Hit(start, end, next(t for t in terms if t.role == role), doubtful, full)

    # --- exchanging ---------------------------------------------------------------------------

    def _exchange(
        self, text: str, axis: str, source: str, target: str, mixed: bool, hits: list[_Hit]
    ) -> Variant | Unchanged:
        turn = {source: target, target: source}
        edits: list[Replacement] = []
        doubts = set()
        for hit in hits:
            if hit.term.group not in turn:
                continue
            old, to = hit.term, turn[hit.term.group]
            new = self._counterpart(text, old, to, hits)
            if new is None:
                return Unchanged(axis, source, target, f"{NO_COUNTERPART}: {old.form}")
            more = self._edits(text, hit, new)
            if more is None:
                return Unchanged(axis, source, target, f"{AGREEMENT}: {old.form}")
            edits += more
            doubts |= {d for d, is_so in (("role", hit.doubtful), ("full name", hit.full_name)) if is_so}
        edits.sort(key=lambda e: e.start)
        out, at = [], 0
        for e in edits:
            out += [text[at : e.start], e.new]
            at = e.end
        if axis in self._with_pronouns and swap_english.name_left(text, {e.start for e in edits}):
            doubts.add("name left")
        return Variant(
            axis, source, target, mixed, "".join(out) + text[at:], tuple(edits), tuple(sorted(doubts))
        )

    def _counterpart(self, text: str, old: Term, group: str, hits: list[_Hit]) -> Term | None:
        if old.role != "name":
            return self._counterparts.get((old.axis, old.set, old.role, group))
        mine, others = (self._names.get((old.axis, old.set, g), []) for g in (old.group, group))
        if not others:
            return None
        # The rest of the text, which an exchange does not change, so that exchanging twice restores.
        kept, at = [], 0
        for hit in hits:
            kept.append(text[at : hit.start])
            at = hit.end
        kept.append(text[at:])
        rest = " ".join(w for w in _WORD.findall("\n".join(kept)) if w.lower() not in ("a", "an", "s"))
        shift = int.from_bytes(hashlib.blake2b(rest.encode(), digest_size=4).digest())
        sign = 1 if old.group < group else -1
        return others[(mine.index(old) + sign * shift) % len(others)]

    def _edits(self, text: str, hit: _Hit, new: Term) -> list[Replacement] | None:
        """The replacement of a term and of what follows suit; None where agreement is not certain."""
        shown, old = text[hit.start : hit.end], hit.term
        if not self._english:
            return [Replacement(hit.start, hit.end, shown, new.form, old.id)]
        form = swap_english.recase(
            shown, old.form, new.form, first=swap_english.opens_sentence(text, hit.start)
        )
        if "’" in shown or "’" in text:
            form = form.replace("'", "’")
        taken, mark = swap_english.possessive(text, hit.end, shown, form, plural=old.role == "plural")
        end = hit.end + taken
        edits = [Replacement(hit.start, end, text[hit.start : end], form + mark, old.id)]
        if found := swap_english.article(text, hit.start, old.form, new.form):
            edits.insert(0, _follow(text, found, "article"))
        if old.role == "subject" and new.form == "they":
            verbs, certain = swap_verbs.agree(text, hit.end, swap_english.previous_word(text, hit.start))
            if not certain:
                return None
            edits += [_follow(text, v, "agreement") for v in verbs]
        return edits


# --- English, in a text -----------------------------------------------------------------------


def _follow(text: str, edit: swap_verbs.Edit, kind: str) -> Replacement:
    start, end, new = edit
    return Replacement(start, end, text[start:end], new, kind)


def _part_of_a_name(text: str, start: int, end: int, term: Term, headline: bool) -> bool:
    """Whether a common word seems to belong to a compound (he-man) or to a name (Stephen King)."""
    shown = text[start:end]
    if term.role in PRONOUNS:
        before, after = text[max(0, start - 2) : start], text[end : end + 2]
        if re.fullmatch(r"\w[-)\]]", before) or re.fullmatch(r"-\w", after):
            return True  # also (T)he, [s]he
    if term.role == "adjective" and term.form[0].isupper():  # Per Christian Ellefsen, the American Dream
        return shown[0].isupper() and not headline and swap_english.CAPITAL.match(text, end) is not None
    if term.role in _PROPER or not term.form[0].islower() or headline:
        return False
    if (shown.isupper() and len(shown) > 1) or not shown[0].isupper():
        return False
    if not swap_english.opens_sentence(text, start):
        return True
    return term.role not in PRONOUNS and swap_english.CAPITAL.match(text, end) is not None
