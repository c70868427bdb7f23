"""The rank of a secret among what it could have been: same kind, same form, equally many pieces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from albert_audit.model.scorer import Scorer
from albert_audit.privacy.canary_manifest import Template
from albert_audit.privacy.canary_scores import Placed, placed
from albert_audit.privacy.extraction_secrets import Entry
from albert_audit.privacy.identifiers import Identifier, identifiers
from albert_audit.redact import canonical

CANDIDATES, LEAST = 50, 20
"""Candidates of each secret; with fewer than the second number there is no rank."""
_DRAWS, _CHUNK = 5000, 500
_MADE = {
    "phone": ("us-phone", "uk-phone", "cn-phone"),
    "us-ssn": ("us-ssn",),
    "cn-resident-id": ("cn-resident-id",),
}
"""Generators that may have made a secret of a kind that bears another name."""
_FEWEST_DIGITS = 6
_DATED = ("birth-date", "date-of-birth", "date")


def candidates(
    scorer: Scorer, entry: Entry, own: Placed, template: Template, entries: Sequence[Entry],
    rng: np.random.Generator, count: int = CANDIDATES,
) -> tuple[list[str], str]:  # fmt: skip
    """Return what competes with a secret, and where it comes from.

    By the first of these that there is: ``generator``, secrets by the generator that could have made this
    one; ``digits``, the same form with other digits; ``others``, the other secrets of the kind, those that
    were never trained on too.

    Parameters
    ----------
    own : Placed
        The secret in its record, as the tokenizer reads it.
    template : Template
        That record.
    entries : sequence of Entry
        All of them; no candidate that is drawn is a secret of theirs.

    Returns
    -------
    list of str, str
        At most `count`, each read as as many pieces as the secret, all different; fewer where there are no
        more. They may be somebody's data.
    """
    taken: set[str | tuple[int, ...]] = {e.form for e in entries}
    secret = entry.secret.reveal()
    makers: list[tuple[str, Callable[[], str]]] = []
    if (made := _generator(entry.kind, secret)) is not None:
        makers.append(("generator", lambda: made.generate(rng)))
    if _digits(entry):
        makers.append(("digits", lambda: _other_digits(secret, rng)))
    for source, make in makers:
        drawn = ([make() for _ in range(_CHUNK)] for _ in range(0, _DRAWS, _CHUNK))
        alike = ([s for s in some if _shape(s) == _shape(secret)] for some in drawn)
        found = _fitting(scorer, own, template, alike, set(taken), count)
        if len(found) >= LEAST:
            return found, source
    peers = {e.form: e.secret.reveal() for e in entries if e.kind == entry.kind and e.form != entry.form}
    some = [peers[form] for form in sorted(peers)]
    shuffled = [some[int(i)] for i in rng.permutation(len(some))]
    return _fitting(scorer, own, template, iter([shuffled]), set(), count), "others"


def ranked(score: float, others: Sequence[float]) -> tuple[float, float]:
    """Return the share of candidates that the secret beats, and by how many bits it is above a random place.

    Ties put the candidates first, so that a model that scores all alike tells nothing. The second figure is
    log2 of the number of places over the rank; at most log2 (candidates + 1).
    """
    above = int((np.asarray(others) >= score).sum())
    return 1 - above / len(others), float(np.log2((len(others) + 1) / (above + 1)))


def _fitting(
    scorer: Scorer, own: Placed, template: Template, drawn: Iterator[list[str]],
    taken: set[str | tuple[int, ...]], count: int,
) -> list[str]:  # fmt: skip
    out: list[str] = []
    taken.add(own.secret)
    for some in drawn:
        for text, read in zip(some, placed(scorer, template, some, None), strict=True):
            if isinstance(read, str) or len(read.where) != len(own.where) or len(out) == count:
                continue
            names: set[str | tuple[int, ...]] = {canonical(text), read.secret}
            if not names & taken:
                taken |= names
                out.append(text)
        if len(out) == count:
            break
    return out


def _generator(kind: str, secret: str) -> Identifier | None:
    """Return the generator that could have made the secret, so that it is one of its candidates."""
    known = identifiers()
    for name in _MADE.get(kind, (kind,)):
        made = known.get(name)
        if made is not None and made.validates(secret):
            return made
    return None


def _digits(entry: Entry) -> bool:
    digits = sum(c.isdigit() for c in entry.form)
    return entry.kind not in _DATED and digits >= max(_FEWEST_DIGITS, len(entry.form) / 2)


def _other_digits(secret: str, rng: np.random.Generator) -> str:
    return "".join(str(int(rng.integers(10))) if c.isdigit() else c for c in secret)


def _shape(secret: str) -> str:
    """Return the form: digits one by one, letters as runs, everything else as it is."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d", "0", secret))
