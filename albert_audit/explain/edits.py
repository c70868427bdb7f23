"""Inputs with tokens masked or deleted, and a model that is asked for them in a few calls.

Tokens are taken out of the ids that were explained, never out of text: text that is decoded and
tokenised again can fall into other pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from albert_audit.explain.types import Attribution, Target
from albert_audit.model.text import Encoded
from albert_audit.types import UsageError

if TYPE_CHECKING:
    from albert_audit.explain.network import Row
    from albert_audit.model.load import ModelHandle

Array = NDArray[np.float64]
Edit = Literal["mask", "delete"]
EDITS: tuple[Edit, ...] = ("mask", "delete")


@dataclass(frozen=True, slots=True)
class Edited:
    """An input with tokens masked or deleted.

    Attributes
    ----------
    text : int
        Which of the attributions it was made of.
    ids, type_ids : tuple of int
    kept : tuple of int
        For each token the position it had before; a target at a position finds its place by it.
    """

    text: int
    ids: tuple[int, ...]
    type_ids: tuple[int, ...]
    kept: tuple[int, ...]


Outputs = Callable[[Sequence[Edited]], Array]
"""Returns the explained scalar of each input, shape (n,)."""


def outputs_of(
    handle: ModelHandle,
    texts: Sequence[str],
    target: Target | Sequence[Target],
    *,
    pairs: Sequence[str] | None = None,
) -> tuple[Outputs, list[tuple[int, ...]]]:
    """Return a model's outputs for edits of these texts, and the positions of each that must stay.

    Parameters
    ----------
    handle : ModelHandle
    texts, target, pairs
        As `attribute` was given them, in the same order.

    Returns
    -------
    callable, list of tuple of int
        For `faithfulness.faithfulness`: its `outputs` and `fixed`.
    """
    from albert_audit.explain.network import Network, make_rows

    targets = [target] * len(texts) if isinstance(target, Target) else list(target)
    rows, network = make_rows(handle, texts, pairs, targets, "pad"), Network(handle)

    def edited(e: Edited) -> Row:
        row, n = rows[e.text], len(e.ids)
        at = row.place.at
        return replace(
            row,
            # What else is told of an input does not enter its output.
            encoded=Encoded(e.ids, e.type_ids, ((0, 0),) * n, (0,) * n, (False,) * n),
            place=replace(row.place, at=(e.kept.index(at[0]), e.kept.index(at[1]))),
        )

    return lambda inputs: network.outputs([edited(e) for e in inputs]), [r.place.at for r in rows]


_Key = tuple[int, Edit, tuple[int, ...]]


class Asked:
    """What the model answered, by text, edit and the tokens taken out.

    Parameters
    ----------
    attributions : sequence of Attribution
    outputs : callable
    mask_id : int
    """

    def __init__(self, attributions: Sequence[Attribution], outputs: Outputs, mask_id: int) -> None:
        self._attributions, self._outputs, self._mask_id = attributions, outputs, mask_id
        self._known: dict[_Key, float] = {}

    def ask(self, keys: Iterable[_Key]) -> None:
        """Ask for everything that is not yet known, in one call."""
        new = [k for k in dict.fromkeys(map(self._key, keys)) if k not in self._known]
        if not new:
            return
        found = np.asarray(self._outputs([self._edited(k) for k in new]), np.float64)
        if found.shape != (len(new),) or not np.isfinite(found).all():
            raise UsageError(
                f"expected {len(new)} finite outputs, found shape {found.shape} with "
                f"{int((~np.isfinite(found)).sum())} that are not",
                "the function must return one number an input, in their order",
            )
        self._known.update(zip(new, found.tolist(), strict=True))

    def answer(self, text: int, edit: Edit, removed: Iterable[int]) -> float:
        """Return the output of a text without some of its tokens; it must have been asked for."""
        return self._known[self._key((text, edit, tuple(removed)))]

    @staticmethod
    def _key(key: _Key) -> _Key:
        text, edit, removed = key
        # Nothing taken out is the same input by any edit.
        return (text, edit if removed else "mask", tuple(sorted(removed)))

    def _edited(self, key: _Key) -> Edited:
        text, edit, removed = key
        a, out = self._attributions[text], set(removed)
        if edit == "mask":
            ids = tuple(self._mask_id if i in out else t for i, t in enumerate(a.ids))
            return Edited(text, ids, tuple(a.type_ids), tuple(range(len(ids))))
        kept = tuple(i for i in range(len(a.ids)) if i not in out)
        return Edited(text, tuple(a.ids[i] for i in kept), tuple(a.type_ids[i] for i in kept), kept)
