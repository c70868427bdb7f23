"""Which personal data the auditor's texts hold: counts and row numbers, never a text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pandas as pd

from albert_audit.privacy.detectors import DETECTORS, LEAST, NAME, Hit, Names, find, searched
from albert_audit.redact import Secret, canonical

COLUMNS = ("kind", "rows", "hits", "distinct", "valid", "row_numbers", "skipped")


@dataclass(slots=True)
class _Tally:
    rows: list[int] = field(default_factory=list)
    hits: int = 0
    valid: int = 0
    distinct: set[Secret] = field(default_factory=set)

    def add(self, row: int, hit: Hit, text: str) -> None:
        if not self.rows or self.rows[-1] != row:
            self.rows.append(row)
        self.hits += 1
        self.valid += hit.valid is True
        self.distinct.add(Secret(canonical(text[hit.start : hit.end])))


def scan(
    texts: Sequence[str],
    *,
    language: str | None = None,
    kinds: Collection[str] | None = None,
    names: Names | None = None,
    least: float = LEAST,
) -> pd.DataFrame:
    """Count personal data in texts.

    Parameters
    ----------
    texts : sequence of str
        One a row of the auditor's file.
    language, kinds, names, least
        As in `detectors.find`.

    Returns
    -------
    DataFrame
        One row for each kind asked for, with `COLUMNS`:

        rows, hits : int or None
            How many texts hold one, and how many there are in all; None when the kind was skipped.
        distinct : int or None
            How many different ones, by their canonical form: one address of a firm in 50 texts counts once.
        valid : int or None
            How many a check digit or numbering plan confirms; None where nothing can be checked.
        row_numbers : tuple of int
            From 1, in order. Ids of the texts are not used: they may be names themselves.
        skipped : str
            Why the kind was not looked for, else empty.

    Raises
    ------
    ValueError
        When there are no texts, or as `detectors.searched`.
    """
    if not texts:
        raise ValueError("there are no texts to scan")
    looked_for = searched(kinds, names)
    tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
    for number, text in enumerate(texts, 1):
        for hit in find(text, language=language, kinds=looked_for, names=names, least=least):
            tallies[hit.kind].add(number, hit, text)
    table = [_row(kind, tallies[kind]) for kind in looked_for]
    if kinds is None and names is None:
        reason = "no list of names was given, so no name was looked for"
        table.append((NAME, None, None, None, None, (), reason))
    return pd.DataFrame(table, columns=list(COLUMNS), dtype=object)


def _row(kind: str, tally: _Tally) -> tuple[object, ...]:
    valid = tally.valid if DETECTORS[kind].check else None
    return kind, len(tally.rows), tally.hits, len(tally.distinct), valid, tuple(tally.rows), ""
