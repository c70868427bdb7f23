"""The protocol by which measures ask a model, and its implementation in batches.

Scores are natural logarithms in float32 on the CPU, in the order of the input. Batches hold inputs
of one length (so nothing is padded), are a function of the inputs alone, and fill across all
sentences: a measure asks for everything in one call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from albert_audit.model.text import Encoded, MaskQuery, TokenRule, token_queries, word_indices
from albert_audit.types import Ability, ModelId, UsageError

if TYPE_CHECKING:
    import torch

    from albert_audit.model.load import ModelHandle

Array = NDArray[np.float32]
Progress = Callable[[int], None]
"""Called after each batch with the number of tokens that it scored."""

SCORER_VERSION = 1
"""Raised whenever a score could change; part of every cache key."""

TASKS: dict[str, Ability] = {
    "class": Ability.CLASS_LOGITS,
    "tags": Ability.TAG_LOGITS,
    "spans": Ability.SPAN_LOGITS,
    "choice": Ability.CHOICE_LOGITS,
    "order": Ability.ORDER_LOGITS,
    "pooler": Ability.EMBEDDINGS,
    "cls": Ability.EMBEDDINGS,
    "mean": Ability.EMBEDDINGS,
    "states": Ability.EMBEDDINGS,
    "attention": Ability.ATTENTION,
}
"""What `run_batches` answers, and the ability it needs.

``class`` gives (labels,); ``tags`` (tokens, labels); ``spans`` (tokens, 2); ``choice`` (1,);
``order`` (2,); ``pooler`` (hidden,); ``cls:L`` and ``mean:L``, with a layer, (hidden,);
``states:L`` (tokens, hidden); ``attention`` (tokens,).
"""

CPU_BUDGET, GPU_BUDGET = 512, 32_768
_HEAD_ROWS = 256  # rows of the vocabulary head at a time: 30,000 logits each


@runtime_checkable
class Scorer(Protocol):
    """What a measure may ask of a model.

    Attributes
    ----------
    id : ModelId
    can : frozenset of Ability
        A primitive that is not in `can` raises `UsageError`.
    """

    id: ModelId
    can: frozenset[Ability]

    @property
    def mask_id(self) -> int:
        """The id that replaces a masked token."""

    @property
    def unknown_id(self) -> int:
        """The id of a piece the vocabulary lacks."""

    @property
    def hidden_size(self) -> int:
        """Width of a hidden state."""

    @property
    def pieces(self) -> tuple[str, ...]:
        """The vocabulary, in the order of its ids; a piece that starts a word has ▁ before it."""

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoded]:
        """Tokenise texts, or pairs of texts; never truncates."""

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return the indices of each batch for inputs of these lengths."""

    def mask_batches(self, batches: Sequence[Sequence[MaskQuery]]) -> Iterator[list[Array]]:
        """Yield the answers of each batch, in order; the queries of a batch have one length."""

    def run_batches(self, task: str, batches: Sequence[Sequence[Encoded]]) -> Iterator[list[Array]]:
        """Yield what a head answers to each input of each batch; see `TASKS` for shapes."""

    def mask_logprobs(self, queries: Sequence[MaskQuery]) -> list[Array]:
        """Return for each query an array (len(at), len(ask[0])), or (len(at), vocabulary)."""

    def token_logprobs(self, texts: Sequence[str], *, rule: TokenRule) -> list[Array]:
        """Return for each text the log-probability of each token that is not special, shape (t,)."""

    def attention_received(self, texts: Sequence[str]) -> list[Array]:
        """Return for each text the attention each token receives, shape (n,), specials included.

        Mean over depths, heads and querying positions; computed with eager attention.
        """

    def class_logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Array:
        """Return logits of shape (n, labels)."""

    def tag_logits(self, texts: Sequence[str]) -> list[Array]:
        """Return for each text logits of shape (tokens, labels), specials included."""

    def span_logits(self, questions: Sequence[str], contexts: Sequence[str]) -> list[Array]:
        """Return for each question start and end logits, shape (tokens, 2)."""

    def choice_logits(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Array]:
        """Return for each prompt one logit a choice, shape (choices,)."""

    def order_logits(self, firsts: Sequence[str], seconds: Sequence[str]) -> Array:
        """Return sentence-order logits (n, 2): kept, swapped. This is not next-sentence prediction."""

    def embeddings(self, texts: Sequence[str], *, pool: str, layer: int = -1) -> Array:
        """Return pooled hidden states (n, hidden); `pool` is ``cls``, ``mean`` or ``pooler``."""

    def hidden_states(self, texts: Sequence[str], *, layer: int = -1) -> list[Array]:
        """Return for each text the states of one layer, shape (tokens, hidden), specials included."""


class ScorerBase:
    """What every scorer shares: token rules on top of `mask_logprobs`, the batch plan, refusals."""

    id: ModelId
    can: frozenset[Ability]
    budget: int = CPU_BUDGET

    @property
    def mask_id(self) -> int:
        """See `Scorer`."""
        raise NotImplementedError

    @property
    def hidden_size(self) -> int:
        """See `Scorer`."""
        raise NotImplementedError

    @property
    def pieces(self) -> tuple[str, ...]:
        """See `Scorer`."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoded]:
        """See `Scorer`."""
        raise NotImplementedError

    def mask_batches(self, batches: Sequence[Sequence[MaskQuery]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        raise NotImplementedError

    def mask_logprobs(self, queries: Sequence[MaskQuery]) -> list[Array]:
        """See `Scorer`: the batches of all queries, put back into their order.

        What is asked twice is computed once; two scores of a sentence share many masked inputs.
        """
        places: dict[MaskQuery, list[int]] = {}
        for i, query in enumerate(queries):
            places.setdefault(self._bare(query), []).append(i)
        unique = list(places)
        plan = self.batches([len(q.ids) for q in unique])
        out: list[Array | None] = [None] * len(queries)
        for batch, found in zip(plan, self.mask_batches([[unique[k] for k in b] for b in plan]), strict=True):
            for k, answer in zip(batch, found, strict=True):
                for i in places[unique[k]]:
                    out[i] = answer
        return [a for a in out if a is not None]

    def _bare(self, query: MaskQuery) -> MaskQuery:
        """Return the query with masks in place: what stood under them does not matter."""
        ids = list(query.ids)
        for i in query.masked:
            ids[i] = self.mask_id
        return MaskQuery(tuple(ids), query.type_ids, query.masked, query.at, query.ask)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """See `Scorer`: one length a batch, at most `budget` tokens, longest first."""
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        out: list[list[int]] = []
        for i in order:
            last = out[-1] if out else None
            if last and lengths[last[0]] == lengths[i] and (len(last) + 1) * lengths[i] <= self.budget:
                last.append(i)
            else:
                out.append([i])
        return out

    def token_logprobs(self, texts: Sequence[str], *, rule: TokenRule) -> list[Array]:
        """See `Scorer`."""
        per_text = [token_queries(e, rule) for e in self.encode(texts)]
        answers = iter(self.mask_logprobs([q for queries in per_text for q in queries]))
        return [
            np.concatenate([next(answers)[:, 0] for _ in queries]) if queries else np.empty(0, np.float32)
            for queries in per_text
        ]

    # --- the other heads --------------------------------------------------------------------

    def run_batches(self, task: str, batches: Sequence[Sequence[Encoded]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        raise NotImplementedError

    def _run(self, task: str, encoded: Sequence[Encoded]) -> list[Array]:
        """Answer a task in batches, in the order of the input; what is asked twice is computed once."""
        self._need(TASKS[task.partition(":")[0]])
        self._fits(len(e.ids) for e in encoded)
        places: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
        for i, e in enumerate(encoded):
            places.setdefault((e.ids, e.type_ids), []).append(i)
        unique = [encoded[where[0]] for where in places.values()]
        plan = self.batches([len(e.ids) for e in unique])
        answers: list[Array] = [np.empty(0, np.float32)] * len(unique)
        for batch, found in zip(
            plan, self.run_batches(task, [[unique[k] for k in b] for b in plan]), strict=True
        ):
            for k, answer in zip(batch, found, strict=True):
                answers[k] = answer
        out = [answers[0] if answers else np.empty(0, np.float32)] * len(encoded)
        for where, answer in zip(places.values(), answers, strict=True):
            for i in where:
                out[i] = answer
        return out

    def attention_received(self, texts: Sequence[str]) -> list[Array]:
        """See `Scorer`."""
        return self._run("attention", self.encode(texts))

    def class_logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Array:
        """See `Scorer`."""
        self._need(Ability.CLASS_LOGITS)
        return _stacked(self._run("class", self.encode(texts, pairs)), len(self.id.labels))

    def tag_logits(self, texts: Sequence[str]) -> list[Array]:
        """See `Scorer`."""
        self._need(Ability.TAG_LOGITS)
        return self._run("tags", self.encode(texts))

    def span_logits(self, questions: Sequence[str], contexts: Sequence[str]) -> list[Array]:
        """See `Scorer`."""
        self._need(Ability.SPAN_LOGITS)
        return self._run("spans", self.encode(questions, contexts))

    def choice_logits(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Array]:
        """See `Scorer`."""
        self._need(Ability.CHOICE_LOGITS)
        flat = [(p, c) for p, options in zip(prompts, choices, strict=True) for c in options]
        logits = iter(self._run("choice", self.encode([p for p, _ in flat], [c for _, c in flat])))
        return [
            np.concatenate([next(logits) for _ in options]) if options else np.empty(0, np.float32)
            for options in choices
        ]

    def order_logits(self, firsts: Sequence[str], seconds: Sequence[str]) -> Array:
        """See `Scorer`."""
        self._need(Ability.ORDER_LOGITS)
        return _stacked(self._run("order", self.encode(firsts, seconds)), 2)

    def embeddings(self, texts: Sequence[str], *, pool: str, layer: int = -1) -> Array:
        """See `Scorer`. `mean` leaves special tokens out; `pooler` ignores `layer`."""
        self._need(Ability.EMBEDDINGS)
        encoded = self.encode(texts)
        if pool not in ("cls", "mean", "pooler"):
            raise UsageError(f"expected pool among cls, mean, pooler, found {pool!r}")
        depth = self._depth(layer)
        if pool == "mean" and not all(e.positions for e in encoded):
            raise UsageError(
                "a text without tokens has no mean", "leave the text out and count it as skipped"
            )
        task = pool if pool == "pooler" else f"{pool}:{depth}"
        return _stacked(self._run(task, encoded), self.hidden_size)

    def hidden_states(self, texts: Sequence[str], *, layer: int = -1) -> list[Array]:
        """See `Scorer`."""
        self._need(Ability.EMBEDDINGS)
        return self._run(f"states:{self._depth(layer)}", self.encode(texts))

    def _depth(self, layer: int) -> int:
        """Return the one name of a layer, so that asking for -1 and for the last is asking for the same."""
        depth = self.id.depth
        if not -depth - 1 <= layer <= depth:
            raise UsageError(f"expected a layer from {-depth - 1} to {depth}, found {layer}")
        return layer % (depth + 1)

    def _cannot(self, ability: Ability) -> UsageError:
        return UsageError(
            f"a model with the head {self.id.head} cannot answer {ability}",
            f"it can answer: {', '.join(sorted(self.can))}",
        )

    def _need(self, ability: Ability) -> None:
        if ability not in self.can:
            raise self._cannot(ability)

    def _fits(self, lengths: Iterable[int]) -> None:
        longest = max(lengths, default=0)
        if longest > self.id.max_tokens:
            raise UsageError(
                f"an input has {longest} tokens, the model takes {self.id.max_tokens}; nothing is truncated",
                "leave the text out and count it as skipped",
            )


class TorchScorer(ScorerBase):
    """The batched implementation.

    Parameters
    ----------
    handle : ModelHandle
    budget : int, optional
        Tokens a batch; about 512 on a CPU, far more on a GPU.
    progress : callable, optional
        Called after each batch with its number of tokens.
    """

    def __init__(
        self, handle: ModelHandle, *, budget: int | None = None, progress: Progress | None = None
    ) -> None:
        import torch

        from albert_audit.model.forward import Encoder, activation

        self.handle, self.id, self.can = handle, handle.id, handle.can
        self.budget = budget or (CPU_BUDGET if handle.device.type == "cpu" else GPU_BUDGET)
        self.progress = progress
        self._torch = torch
        self._base = getattr(handle.model, "albert", handle.model)
        with torch.inference_mode():
            self._encoder = Encoder(self._base)
        if Ability.MASK_LOGPROBS in self.can:
            head = handle.model.predictions
            self._head = head
            self._activation = activation(handle.model.config, head.activation)

    @property
    def mask_id(self) -> int:
        """See `Scorer`."""
        return int(self.handle.tokenizer.mask_token_id)

    @property
    def unknown_id(self) -> int:
        """See `Scorer`."""
        return int(self.handle.tokenizer.unk_token_id)

    @property
    def hidden_size(self) -> int:
        """See `Scorer`."""
        return int(self.handle.model.config.hidden_size)

    @property
    def pieces(self) -> tuple[str, ...]:
        """See `Scorer`."""
        tokenizer = self.handle.tokenizer
        return tuple(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoded]:
        """See `Scorer`. The tokenizer's own segment ids are kept, which ALBERT's default call drops."""
        backend = self.handle.tokenizer._tokenizer
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        out = []
        for i, e in enumerate(backend.encode_batch(inputs)):
            special = tuple(bool(s) for s in e.special_tokens_mask)
            offsets = list(e.offsets)
            words = [-1] * len(e.ids)
            for sequence, text in ((0, texts[i]), *(((1, pairs[i]),) if pairs is not None else ())):
                own = [k for k, s in enumerate(e.sequence_ids) if s == sequence]
                for k in own:
                    offsets[k] = _trimmed(text, *offsets[k])
                found = word_indices(text, [offsets[k] for k in own], [False] * len(own))
                start = max(words) + 1
                for k, w in zip(own, found, strict=True):
                    words[k] = start + w
            out.append(Encoded(tuple(e.ids), tuple(e.type_ids), tuple(offsets), tuple(words), special))
        return out

    # --- masked-LM primitives ---------------------------------------------------------------

    def mask_batches(self, batches: Sequence[Sequence[MaskQuery]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        self._need(Ability.MASK_LOGPROBS)
        self._fits(len(q.ids) for batch in batches for q in batch)
        for batch in batches:
            answers = self._halving(self._mask_batch, batch)
            self._advance(sum(len(q.ids) for q in batch))
            yield answers

    def _mask_batch(self, queries: Sequence[MaskQuery]) -> list[Array]:
        torch = self._torch
        ids = np.array([q.ids for q in queries])
        width = max(len(q.at) for q in queries)
        at = np.zeros((len(queries), width), np.int64)
        for row, q in enumerate(queries):
            ids[row, list(q.masked)] = self.mask_id
            at[row, : len(q.at)] = q.at
        with torch.inference_mode():
            hidden = self._encoder(
                self._tensor(ids), self._tensor(np.array([q.type_ids for q in queries])), self._tensor(at)
            )
            wanted = self._tensor(
                np.concatenate([r * width + np.arange(len(q.at)) for r, q in enumerate(queries)])
            )
            rows = hidden.reshape(-1, hidden.shape[-1]).index_select(0, wanted)
            head = self._head
            rows = head.LayerNorm(self._activation(head.dense(rows)))
            return self._read(rows, queries)

    def _read(self, rows: torch.Tensor, queries: Sequence[MaskQuery]) -> list[Array]:
        """Apply the decoder, some rows at a time, and keep only what was asked for."""
        torch, decoder = self._torch, self._head.decoder
        asks = [q.ask[k] if q.ask else () for q in queries for k in range(len(q.at))]
        answers: list[Array] = []
        for start in range(0, len(asks), _HEAD_ROWS):
            logp = torch.log_softmax(decoder(rows[start : start + _HEAD_ROWS]), dim=-1)
            block = asks[start : start + _HEAD_ROWS]
            most = max(map(len, block))
            index = np.zeros((len(block), most), np.int64)
            for r, ask in enumerate(block):
                index[r, : len(ask)] = ask
            picked = logp.gather(1, self._tensor(index)).cpu().numpy() if most else None
            for r, ask in enumerate(block):
                answers.append(picked[r, : len(ask)] if ask and picked is not None else logp[r].cpu().numpy())
        done, out = 0, []
        for q in queries:
            out.append(np.stack(answers[done : done + len(q.at)]).astype(np.float32, copy=False))
            done += len(q.at)
        return out

    # --- the other heads --------------------------------------------------------------------

    def run_batches(self, task: str, batches: Sequence[Sequence[Encoded]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        name, _, layer = task.partition(":")
        self._need(TASKS[name])
        self._fits(len(e.ids) for batch in batches for e in batch)
        kinds = self.handle.model.config.type_vocab_size
        if any(t >= kinds for batch in batches for e in batch for t in e.type_ids):
            raise UsageError(f"this model has {kinds} segment: it takes no text pairs")
        if name == "pooler" and self._base.pooler is None:
            raise UsageError("this checkpoint has no pooler", "use pool='cls' or pool='mean'")
        special: dict[str, Callable[[Sequence[Encoded]], list[Array]]] = {
            "attention": self._attention_batch,
            "cls": partial(self._hidden_batch, int(layer or 0), first=True),
            "mean": partial(self._hidden_batch, int(layer or 0), first=False),
            "states": partial(self._states_batch, int(layer or 0)),
        }
        run = special.get(name, partial(self._head_batch, name))
        for batch in batches:
            answers = self._halving(run, batch)
            self._advance(sum(len(e.ids) for e in batch))
            yield answers

    def speed(self, length: int = 16) -> float:
        """Return the tokens a second of one batch of made-up inputs, after one to warm up."""
        count = max(self.budget // length, 1)
        ids = (self.unknown_id,) * length
        encoded = Encoded(ids, (0,) * length, ((0, 0),) * length, (0,) * length, (False,) * length)
        query = MaskQuery(ids, (0,) * length, (1,), (1,), ((0,),))
        heads = [t for t in ("class", "tags", "spans", "choice") if TASKS[t] in self.can]
        taken = 0.0
        for _ in range(2):
            start = time.perf_counter()
            if Ability.MASK_LOGPROBS in self.can:
                self._mask_batch([query] * count)
            elif heads:
                self._head_batch(heads[0], [encoded] * count)
            else:
                self._hidden_batch(0, [encoded] * count, first=True)
            taken = time.perf_counter() - start
        return count * length / taken

    def _head_batch(self, name: str, batch: Sequence[Encoded]) -> list[Array]:
        torch, model = self._torch, self.handle.model
        ids, types = self._inputs(batch)
        with torch.inference_mode():
            if name in ("tags", "spans"):
                hidden = self._encoder(ids, types)
                logits = model.classifier(hidden) if name == "tags" else model.qa_outputs(hidden)
            else:
                first = self._encoder(
                    ids, types, torch.zeros((len(batch), 1), dtype=torch.long, device=ids.device)
                )
                pooled = self._base.pooler_activation(self._base.pooler(first[:, 0]))
                head = {"pooler": None, "order": getattr(model, "sop_classifier", None)}.get(
                    name, getattr(model, "classifier", None)
                )
                logits = pooled if head is None else (head.classifier if name == "order" else head)(pooled)
        return list(logits.float().cpu().numpy())

    def _states_batch(self, layer: int, batch: Sequence[Encoded]) -> list[Array]:
        ids, types = self._inputs(batch)
        with self._torch.inference_mode():
            output = self._base(
                input_ids=ids, token_type_ids=types, return_dict=True, output_hidden_states=True
            )
            return list(output.hidden_states[layer].float().cpu().numpy())

    def _hidden_batch(self, layer: int, batch: Sequence[Encoded], *, first: bool) -> list[Array]:
        hidden = self._states_batch(layer, batch)
        if first:
            return [h[0] for h in hidden]
        return [h[list(e.positions)].mean(axis=0) for h, e in zip(hidden, batch, strict=True)]

    def _attention_batch(self, batch: Sequence[Encoded]) -> list[Array]:
        model, ids_types = self.handle.model, self._inputs(batch)
        before = model.config._attn_implementation
        # Fused attention returns no weights; nothing warns of it.
        model.set_attn_implementation("eager")
        try:
            with self._torch.inference_mode():
                output = self._base(
                    input_ids=ids_types[0],
                    token_type_ids=ids_types[1],
                    return_dict=True,
                    output_attentions=True,
                )
                layers = self._torch.stack(output.attentions).float().cpu().numpy()
        finally:
            model.set_attn_implementation(before)
        return list(layers.mean(axis=(0, 2, 3)))

    def _inputs(self, batch: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            self._tensor(np.array([e.ids for e in batch])),
            self._tensor(np.array([e.type_ids for e in batch])),
        )

    # --- helpers ----------------------------------------------------------------------------

    def _halving(self, run: Callable[[Sequence[Any]], list[Any]], batch: Sequence[Any]) -> list[Any]:
        """Run a batch; when the GPU's memory is too small, run its halves."""
        try:
            return run(batch)
        except self._torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        if self.handle.device.type == "cuda":
            self._torch.cuda.empty_cache()
        half = len(batch) // 2
        return self._halving(run, batch[:half]) + self._halving(run, batch[half:])

    def _tensor(self, array: NDArray[np.integer[Any]]) -> torch.Tensor:
        return self._torch.as_tensor(np.asarray(array, np.int64), device=self.handle.device)

    def _advance(self, tokens: int) -> None:
        if self.progress is not None:
            self.progress(tokens)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out the blanks that some tokenizers count to the piece after them."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _stacked(found: Sequence[Array], width: int) -> Array:
    """Stack vectors; no vectors are none rows."""
    return np.stack(found) if found else np.empty((0, width), np.float32)
