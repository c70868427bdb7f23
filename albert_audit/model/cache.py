"""Scores on disk, the cost of scores that are not computed, and a scorer without a model."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from albert_audit.model.scorer import SCORER_VERSION, TASKS, Array, Progress, Scorer, ScorerBase
from albert_audit.model.text import Encoded, MaskQuery, word_indices, word_spans
from albert_audit.types import Ability, Head, ModelId, UsageError

_Q = TypeVar("_Q", MaskQuery, Encoded)


def cache_path() -> Path:
    """Return the file of the score cache, in the user's cache folder.

    ``ALBERT_AUDIT_CACHE`` names another folder; ``XDG_CACHE_HOME`` is respected.
    """
    own = os.environ.get("ALBERT_AUDIT_CACHE")
    base = (
        Path(own)
        if own
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "albert-audit"
    )
    return base.expanduser() / "scores.sqlite"


class ScoreStore:
    """A SQLite file of scores, readable by its owner only.

    Keys are HMACs, so that the file does not tell which sentences were scored.

    Parameters
    ----------
    path : Path
        Created with mode 0600 when missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            path.chmod(0o600)
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB)")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
            )
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('key', ?)", (secrets.token_bytes(32),))
            self._key = bytes(self._db.execute("SELECT value FROM meta WHERE name = 'key'").fetchone()[0])
        except (sqlite3.DatabaseError, OSError) as exc:
            raise self._broken(exc) from None

    def _broken(self, exc: Exception) -> UsageError:
        return UsageError(
            f"the score cache {self.path} cannot be used: {exc}",
            "delete the file (scores are computed again), or name another folder in ALBERT_AUDIT_CACHE",
        )

    def key(self, *parts: object) -> bytes:
        """Return the key of one score."""
        return hmac.digest(self._key, repr(parts).encode(), "sha256")

    def has(self, keys: Sequence[bytes]) -> bool:
        """Return whether all keys are there."""
        return len(self._find("key", keys)) == len(set(keys))

    def get(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the values of keys that are all there."""
        found = dict(self._find("key, value", keys))
        return [found[k] for k in keys]

    def _find(self, columns: str, keys: Sequence[bytes]) -> list[Any]:
        rows = []
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            marks = ",".join("?" * len(some))
            query = f"SELECT {columns} FROM scores WHERE key IN ({marks})"  # noqa: S608 (no value in it)
            try:
                rows += self._db.execute(query, some).fetchall()
            except sqlite3.DatabaseError as exc:
                raise self._broken(exc) from None
        return rows

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Commit a batch whole."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?)", zip(keys, values, strict=True)
            )
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as exc:
            raise self._broken(exc) from None
        finally:
            if self._db.in_transaction:
                self._db.rollback()

    def close(self) -> None:
        """Close the file."""
        self._db.close()


class Delegating(ScorerBase):
    """Hands everything to another scorer; a subclass takes over what it is for."""

    def __init__(self, inner: Scorer) -> None:
        self.inner, self.id, self.can = inner, inner.id, inner.can

    @property
    def mask_id(self) -> int:
        """See `Scorer`."""
        return self.inner.mask_id

    @property
    def unknown_id(self) -> int:
        """See `Scorer`."""
        return self.inner.unknown_id

    @property
    def hidden_size(self) -> int:
        """See `Scorer`."""
        return self.inner.hidden_size

    @property
    def pieces(self) -> tuple[str, ...]:
        """See `Scorer`."""
        return self.inner.pieces

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoded]:
        """See `Scorer`."""
        return self.inner.encode(texts, pairs)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """See `Scorer`."""
        return self.inner.batches(lengths)

    def mask_batches(self, batches: Sequence[Sequence[MaskQuery]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        return self.inner.mask_batches(batches)

    def run_batches(self, task: str, batches: Sequence[Sequence[Encoded]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        return self.inner.run_batches(task, batches)


class CachedScorer(Delegating):
    """Remembers log-probabilities on disk, a batch whole or not at all.

    A batch is taken from the cache only when all of it is there. So the batches that reach the
    model are those of an uncached run, and a run that was killed gives the same bytes.

    Parameters
    ----------
    inner : Scorer
    store : ScoreStore
    device : str
        Device type and threads; part of the key.
    """

    def __init__(
        self, inner: Scorer, store: ScoreStore, *, device: str, progress: Progress | None = None
    ) -> None:
        super().__init__(inner)
        self._store, self.progress = store, progress
        self._scope = hashlib.sha256(
            repr(
                (
                    inner.id.weights_sha256, inner.id.config_sha256, inner.id.tokenizer_sha256,
                    inner.id.head, inner.id.dtype, inner.id.attention, device,
                    version("torch"), version("transformers"), SCORER_VERSION,
                )
            ).encode()
        ).hexdigest()  # fmt: skip
        self.scored = self.cached = 0

    def mask_batches(self, batches: Sequence[Sequence[MaskQuery]]) -> Iterator[list[Array]]:
        """See `Scorer`. Rows over the whole vocabulary are not cached."""
        yield from self._through(
            batches,
            [
                self._keys("mask", [(q.ids, q.type_ids, q.masked, q.at, q.ask) for q in batch])
                if all(q.ask for q in batch)
                else []
                for batch in batches
            ],
            self.inner.mask_batches,
            lambda q: (len(q.at), -1),
        )

    def run_batches(self, task: str, batches: Sequence[Sequence[Encoded]]) -> Iterator[list[Array]]:
        """See `Scorer`. States are not cached: they are large, and a text can be read out of them."""
        kept = not task.startswith("states:")
        yield from self._through(
            batches,
            [self._keys(task, [(e.ids, e.type_ids, e.special) for e in b]) if kept else [] for b in batches],
            partial(self.inner.run_batches, task),
            lambda e: (len(e.ids), -1) if task in ("tags", "spans") else (-1,),
        )

    def _through(
        self,
        batches: Sequence[Sequence[_Q]],
        keys: Sequence[list[bytes]],
        compute: Callable[[Sequence[Sequence[_Q]]], Iterator[list[Array]]],
        shape: Callable[[_Q], tuple[int, ...]],
    ) -> Iterator[list[Array]]:
        """Take each batch from the cache, or compute it and put it there."""
        known = [self._store.has(k) if k else False for k in keys]
        fresh = compute([b for b, k in zip(batches, known, strict=True) if not k])
        for batch, names, stored in zip(batches, keys, known, strict=True):
            tokens = sum(len(q.ids) for q in batch)
            if stored:
                values = self._store.get(names)
                self.cached += tokens
                if self.progress is not None:
                    self.progress(tokens)
                yield [
                    np.frombuffer(v, np.float32).reshape(shape(q)).copy()
                    for v, q in zip(values, batch, strict=True)
                ]
            else:
                answers = next(fresh)
                if names:
                    self._store.put(names, [a.tobytes() for a in answers])
                self.scored += tokens
                yield answers

    def _keys(self, task: str, batch: Sequence[object]) -> list[bytes]:
        # The last digits of a score come from its batch, so the batch is part of the key.
        whole = self._store.key(self._scope, task, *batch)
        return [self._store.key(whole, i) for i in range(len(batch))]


class CountingScorer(Delegating):
    """Answers zeros and counts what the answers would have cost.

    Attributes
    ----------
    inputs, tokens : int
        Forward passes and the tokens in them.
    """

    def __init__(self, inner: Scorer) -> None:
        super().__init__(inner)
        self.inputs = self.tokens = 0

    def mask_batches(self, batches: Sequence[Sequence[MaskQuery]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        for batch in batches:
            self.inputs += len(batch)
            self.tokens += sum(len(q.ids) for q in batch)
            yield [
                np.zeros((len(q.at), len(q.ask[0]) if q.ask else self.id.vocab_size), np.float32)
                for q in batch
            ]

    def run_batches(self, task: str, batches: Sequence[Sequence[Encoded]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        name = task.partition(":")[0]
        for batch in batches:
            self.inputs += len(batch)
            self.tokens += sum(len(e.ids) for e in batch)
            yield [np.zeros(self._shape(name, len(e.ids)), np.float32) for e in batch]

    def _shape(self, name: str, n: int) -> tuple[int, ...]:
        labels = len(self.id.labels)
        known = {"class": (labels,), "tags": (n, labels), "spans": (n, 2), "choice": (1,), "order": (2,)}
        known["states"] = (n, self.hidden_size)
        return known.get(name, (n,) if name == "attention" else (self.hidden_size,))

    @property
    def flops(self) -> int:
        """Floating-point operations of the encoder."""
        return self.tokens * self.id.flops_per_token


Answer = Callable[[tuple[str, ...]], ArrayLike]


class FakeScorer(ScorerBase):
    """A model made of Python functions, for tests and for trying out packs.

    Parameters
    ----------
    logprob : callable, optional
        ``logprob(tokens, position, token) -> float``: the log-probability of `token` at `position`
        of `tokens`, in which masked tokens read ``[MASK]`` and the first and last are special.
        Makes it a masked LM.
    pieces : callable, optional
        ``pieces(word) -> list of str``; a word is one piece when left out.
    max_tokens : int
    answers : mapping, optional
        Of a task (see `TASKS`; of ``cls``, ``mean`` and ``states`` without a layer) to a function that takes the
        tokens of an input, ``[SEP]`` between the two of a pair, and returns that task's array.
    head, labels
        What the model says it is.
    """

    def __init__(
        self,
        logprob: Callable[[tuple[str, ...], int, str], float] | None = None,
        *,
        pieces: Callable[[str], list[str]] | None = None,
        max_tokens: int = 128,
        answers: Mapping[str, Answer] | None = None,
        head: Head = Head.MASKED_LM,
        labels: Sequence[str] = (),
    ) -> None:
        self._logprob = logprob
        self._pieces = pieces or (lambda word: [word])
        self._names = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
        self._ids = {n: i for i, n in enumerate(self._names)}
        self._answers = dict(answers or {})
        masked = {Ability.MASK_LOGPROBS, Ability.TOKEN_LOGPROBS} if logprob else set()
        self.can = frozenset(masked | {TASKS[task] for task in self._answers})
        self.id = ModelId(
            name="fake", head=head, sha256="0" * 64, weights_sha256="0" * 64,
            config_sha256="0" * 64, tokenizer_sha256="0" * 64, tokenizer="words", depth=1, parameters=0,
            flops_per_token=0, vocab_size=10_000, max_tokens=max_tokens, labels=tuple(labels),
        )  # fmt: skip

    @property
    def mask_id(self) -> int:
        """See `Scorer`."""
        return 4

    @property
    def unknown_id(self) -> int:
        """See `Scorer`."""
        return 1

    @property
    def hidden_size(self) -> int:
        """See `Scorer`."""
        return 4

    @property
    def pieces(self) -> tuple[str, ...]:
        """See `Scorer`. Every piece seen so far, as if it started a word."""
        return tuple(n if i < 5 else f"▁{n}" for i, n in enumerate(self._names))

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoded]:
        """See `Scorer`."""
        if pairs is None:
            return [self._encode(t) for t in texts]
        return [self._joined(self._encode(a), self._encode(b)) for a, b in zip(texts, pairs, strict=True)]

    @staticmethod
    def _joined(a: Encoded, b: Encoded) -> Encoded:
        later = max(a.words) + 1
        return Encoded(
            a.ids + b.ids[1:],
            (0,) * len(a.ids) + (1,) * (len(b.ids) - 1),
            a.offsets + b.offsets[1:],
            a.words + tuple(w + later if w >= 0 else w for w in b.words[1:]),
            a.special + b.special[1:],
        )

    def _encode(self, text: str) -> Encoded:
        ids, offsets = [2], [(0, 0)]
        for start, end in word_spans(text):
            at = start
            for piece in self._pieces(text[start:end].lower()):
                ids.append(self._ids.setdefault(piece, len(self._ids)))
                if len(self._ids) > len(self._names):
                    self._names.append(piece)
                # A piece may be longer than what it stands for (<unk>); it never leaves its word.
                offsets.append((at, min(at + len(piece), end)))
                at = min(at + len(piece), end - 1)
        ids.append(3)
        offsets.append((0, 0))
        special = (True, *(False,) * (len(ids) - 2), True)
        words = word_indices(text, offsets, special)
        return Encoded(tuple(ids), (0,) * len(ids), tuple(offsets), words, special)

    def mask_batches(self, batches: Sequence[Sequence[MaskQuery]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        self._need(Ability.MASK_LOGPROBS)
        for batch in batches:
            self._fits(len(q.ids) for q in batch)
            yield [self._answer(q) for q in batch]

    def _answer(self, q: MaskQuery) -> Array:
        assert self._logprob is not None  # noqa: S101 (it can answer)
        tokens = tuple("[MASK]" if i in q.masked else self._names[t] for i, t in enumerate(q.ids))
        asks: Any = q.ask or (tuple(range(len(self._names))),) * len(q.at)
        return np.array(
            [
                [self._logprob(tokens, i, self._names[t]) for t in ask]
                for i, ask in zip(q.at, asks, strict=True)
            ],
            np.float32,
        )

    def run_batches(self, task: str, batches: Sequence[Sequence[Encoded]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        answer = self._answers[task.partition(":")[0]]
        for batch in batches:
            yield [np.asarray(answer(tuple(self._names[i] for i in e.ids)), np.float32) for e in batch]
