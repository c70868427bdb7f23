"""How fast integrated gradients converge: `attribute` against Captum's default call, sentence by sentence."""

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
from captum.attr import LayerIntegratedGradients
from transformers import AlbertConfig, AlbertForSequenceClassification

from albert_audit.explain.integrated import integrate, judged
from albert_audit.explain.network import Network, Row
from albert_audit.explain.paths import Options
from albert_audit.explain.targets import Place
from albert_audit.explain.types import Attribution, Target
from albert_audit.explain.validity import converged
from albert_audit.model.load import ABILITIES, ModelHandle
from albert_audit.model.text import Encoded
from albert_audit.types import Head, ModelId

LENGTHS = Path(__file__).with_name("lengths.csv")
TARGET = Target("contrast", "log-odds of label 1", label=1, rest=True)
PLACE = Place("contrast", True, columns=(1, 1))


def make_handle(spread: float) -> ModelHandle:
    """Return the shape of albert-base-v2 with random weights; the pad row is random too."""
    torch.manual_seed(0)
    config = AlbertConfig(
        hidden_size=768, num_attention_heads=12, intermediate_size=3072, initializer_range=spread
    )
    model = AlbertForSequenceClassification(config).eval().requires_grad_(False)
    model.albert.embeddings.word_embeddings.weight[0].normal_(std=spread)
    identity = ModelId(
        name="albert-base shape", head=Head.SEQUENCE_CLASSIFICATION, sha256="0" * 64, weights_sha256="0" * 64,
        config_sha256="0" * 64, tokenizer_sha256="0" * 64, tokenizer="none", depth=12, parameters=0,
        flops_per_token=0, vocab_size=config.vocab_size, max_tokens=512, labels=("0", "1"),
    )  # fmt: skip
    tokenizer = SimpleNamespace(pad_token_id=0, convert_ids_to_tokens=lambda ids: [str(i) for i in ids])
    can = ABILITIES[Head.SEQUENCE_CLASSIFICATION]
    return ModelHandle(model, tokenizer, identity, can, torch.device("cpu"), {})


def make_rows(count: int, seed: int) -> list[Row]:
    """Draw inputs with the lengths of the CrowS-Pairs sentences."""
    rng = np.random.default_rng(seed)
    with LENGTHS.open(encoding="utf-8") as file:
        table = [(int(r["tokens"]), int(r["inputs"]) / int(r["tokens"])) for r in csv.DictReader(file)]
    lengths, weights = zip(*table, strict=True)
    out = []
    for n in rng.choice(lengths, count, p=np.array(weights) / sum(weights)):
        ids = (2, *map(int, rng.integers(5, 30_000, n - 2)), 3)
        special = (True, *[False] * (n - 2), True)
        words = (-1, *range(n - 2), -1)
        encoded = Encoded(ids, (0,) * n, ((0, 0),) * n, words, special)
        out.append(Row("", None, encoded, (2, *[0] * (n - 2), 3), TARGET, PLACE))
    return out


def ours(handle: ModelHandle, rows: list[Row]) -> list[Attribution]:
    """Do what `attribute` does after encoding, checks of validity included."""
    network = Network(handle)
    outputs = network.outputs(rows)
    found = integrate(network, rows, outputs, Options())
    return judged(network, rows, outputs, found, "integrated_gradients", "pad")


def by_captum(handle: ModelHandle, row: Row) -> tuple[np.ndarray, bool, int]:
    """Call Captum with its defaults (50 steps); where that has not converged, again with twice the steps."""
    model = handle.model

    def forward(ids: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids, token_type_ids=types).logits
        return logits[:, 1] - logits[:, 0]

    layer = LayerIntegratedGradients(forward, model.albert.embeddings.word_embeddings)
    ids, base = torch.tensor([row.encoded.ids]), torch.tensor([row.baseline])
    types = torch.tensor([row.encoded.type_ids])
    for steps in (50, 100, 200, 400):
        values, delta = layer.attribute(
            ids, base, additional_forward_args=(types,), n_steps=steps, return_convergence_delta=True
        )
        summed = values.detach().double().sum(-1)[0].numpy()
        done = converged(float(delta), float(summed.sum() - float(delta)), 0.01, 1e-4)
        if done:
            break
    return summed, done, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=12, help="in each repetition (12)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="4 sentences, 2 repetitions")
    parser.add_argument("--spread", type=float, default=0.02, help="standard deviation of the weights (0.02)")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves torch's choice")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sentences, repetitions = (4, 2) if options.quick else (options.sentences, options.repetitions)
    handle = make_handle(options.spread)
    ours(handle, make_rows(1, seed=99))  # warm up
    print(f"peak memory before: {memory():.0f} MiB; {torch.get_num_threads()} threads")
    ratios, rates, gaps = [], [], []
    for r in range(repetitions):
        rows = make_rows(sentences, seed=r)
        start = time.perf_counter()
        found = ours(handle, rows)
        mine = len(rows) / (time.perf_counter() - start)
        peak = memory()
        start = time.perf_counter()
        theirs = [by_captum(handle, row) for row in rows]
        other = len(rows) / (time.perf_counter() - start)
        gaps += [
            np.abs(a.values - t[0]).max() / np.abs(t[0]).sum() for a, t in zip(found, theirs, strict=True)
        ]
        ratios.append(mine / other)
        rates.append(mine)
        print(
            f"repetition {r + 1}: {mine:.2f} against {other:.2f} sentences/s, ratio {mine / other:.2f}; "
            f"converged {sum(a.valid for a in found)} and {sum(t[1] for t in theirs)} of {len(rows)}; steps "
            f"{sorted({a.steps for a in found})} and {sorted({t[2] for t in theirs})}; "
            f"|change| from {min(abs(a.change) for a in found):.2g} to {max(abs(a.change) for a in found):.2g}; "
            f"peak memory after ours {peak:.0f} MiB",
            flush=True,
        )
    print(
        f"median: {statistics.median(rates):.2f} sentences/s, {statistics.median(ratios):.2f} x Captum's call "
        f"({min(ratios):.2f} to {max(ratios):.2f}); largest difference of a token {max(gaps):.1e} of the sum of "
        f"absolute contributions; peak memory in all {memory():.0f} MiB"
    )


def memory() -> float:
    """Return this process's peak memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
