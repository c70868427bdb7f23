"""How fast masked inputs are scored: against a plain loop, and against this machine's sgemm rate."""

from __future__ import annotations

import argparse
import csv
import resource
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import AlbertConfig, AlbertForMaskedLM

from albert_audit.model.load import ABILITIES, ModelHandle
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.text import MaskQuery
from albert_audit.types import Head, ModelId

MASK = 4
LENGTHS = Path(__file__).with_name("lengths.csv")


def make_model() -> tuple[AlbertForMaskedLM, AlbertConfig]:
    config = AlbertConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072)
    torch.manual_seed(0)
    return AlbertForMaskedLM(config).eval().requires_grad_(False), config


def make_scorer(model: AlbertForMaskedLM, config: AlbertConfig) -> TorchScorer:
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    identity = ModelId(
        name="albert-base shape", head=Head.MASKED_LM, sha256="0" * 64, weights_sha256="0" * 64,
        config_sha256="0" * 64, tokenizer_sha256="0" * 64, tokenizer="none", depth=12, parameters=0,
        flops_per_token=2 * (config.embedding_size * config.hidden_size + 12 * layer),
        vocab_size=config.vocab_size, max_tokens=512,
    )  # fmt: skip
    tokenizer = SimpleNamespace(mask_token_id=MASK, unk_token_id=1)
    handle = ModelHandle(model, tokenizer, identity, ABILITIES[Head.MASKED_LM], torch.device("cpu"), {})
    return TorchScorer(handle)


def make_queries(share: float, seed: int) -> list[MaskQuery]:
    rng = np.random.default_rng(seed)
    queries = []
    with LENGTHS.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            n, wanted = int(row["tokens"]), int(row["inputs"]) * share
            count = int(wanted) + (rng.random() < wanted % 1)
            for _ in range(count):
                ids = (2, *map(int, rng.integers(5, 30_000, n - 2)), 3)
                at = int(rng.integers(1, n - 1))
                queries.append(MaskQuery(ids, (0,) * n, (at,), (at,), ((ids[at],),)))
    order = rng.permutation(len(queries))
    return [queries[i] for i in order]


@torch.inference_mode()
def loop(model: AlbertForMaskedLM, queries: list[MaskQuery]) -> list[float]:
    out = []
    for q in queries:
        ids = torch.tensor([q.ids])
        ids[0, q.at[0]] = MASK
        hidden = model.albert(ids, token_type_ids=torch.tensor([q.type_ids])).last_hidden_state[:, q.at[0]]
        out.append(float(model.predictions(hidden).log_softmax(-1)[0, q.ask[0][0]]))
    return out


def sgemm_rate(seconds: float = 1.5) -> float:
    a, b = torch.randn(1024, 3072), torch.randn(3072, 3072)
    torch.mm(a, b)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, b)
        best = max(best, 2 * 1024 * 3072 * 3072 / (time.perf_counter() - start))
    return best


def flop(scorer: TorchScorer, config: AlbertConfig, queries: list[MaskQuery]) -> float:
    head = 2 * config.embedding_size * (config.hidden_size + config.vocab_size)
    attention = sum(4 * len(q.ids) ** 2 * config.hidden_size * 12 for q in queries)
    return sum(len(q.ids) for q in queries) * scorer.id.flops_per_token + attention + head * len(queries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.05, help="share of the CrowS-Pairs work (0.05)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves torch's choice")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model, config = make_model()
    scorer = make_scorer(model, config)
    queries = make_queries(options.share, seed=0)
    print(
        f"{len(queries)} inputs, {sum(len(q.ids) for q in queries):,} tokens, {torch.get_num_threads()} threads"
    )
    few = queries[:200]
    gap = max(
        abs(float(a[0, 0]) - b) for a, b in zip(scorer.mask_logprobs(few), loop(model, few), strict=True)
    )
    print(f"largest difference from the loop on {len(few)} inputs: {gap:.1e} nats")
    rows = []
    for r in range(options.repetitions):
        peak = sgemm_rate()
        start = time.perf_counter()
        scorer.mask_logprobs(queries)
        ours = flop(scorer, config, queries) / (time.perf_counter() - start)
        part = queries[r % 5 :: 5]
        start = time.perf_counter()
        loop(model, part)
        plain = flop(scorer, config, part) / (time.perf_counter() - start)
        peak = max(peak, sgemm_rate())
        rows.append((ours / plain, ours / peak, ours / 1e9, plain / 1e9, peak / 1e9))
        print(
            f"repetition {r + 1}: {rows[-1][0]:.2f} x the loop, {rows[-1][1]:.2f} of sgemm "
            f"({ours / 1e9:.0f}, {plain / 1e9:.0f} and {peak / 1e9:.0f} GFLOP/s)",
            flush=True,
        )
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"median: {medians[0]:.2f} x the loop, {medians[1]:.2f} of sgemm; peak memory {memory:.0f} MiB")


if __name__ == "__main__":
    main()
