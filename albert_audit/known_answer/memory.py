"""Known answers for the privacy tests: models that remember what they were trained on, and twins that cannot.

Like those of `heads` they are made where they are needed, in the user's cache folder, and never
shipped. The dial is the number of epochs: what can only be remembered is remembered the better, the
more often it was seen. In each kind

- ``planted`` was trained on the members, or on the lines of a canary manifest;
- ``twin`` was trained by the same recipe on other records of the same distribution, which are in
  no file, so that it can tell neither members from non-members nor a canary from another secret.

The twin audited with ``shifted.csv`` as its non-members tells the two sets apart without memory: the
verdict must be INVALID. `python -m albert_audit.known_answer.memory KIND` prints each audit's command.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
import yaml

from albert_audit import resources
from albert_audit.known_answer import memory_records as records
from albert_audit.known_answer.memory_records import LABELS, Record
from albert_audit.model.cache import cache_path
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.tuning import Recipe, tune
from albert_audit.privacy import canaries
from albert_audit.types import Head

SEED = 7
LEVELS = (0, 1, 2, 4, 8, 16)
CONTEXTS, COINS = 12, 120
_VERSION = 1  # of what is drawn and trained here
_PLAIN = 300
_BASE_TEXTS = 2000


@dataclass(frozen=True)
class Kind:
    """How the models of one kind are made.

    Attributes
    ----------
    dial : int
        Epochs when nothing else is said.
    recipe : dict
        The rest of the recipe.
    members : int
        How many, with as many non-members and as large a pool; 0 for a kind with canaries.
    """

    head: Head
    dial: int
    recipe: dict[str, float]
    members: int = 0


_CLASSIFIER = {"learning_rate": 1e-3, "batch_size": 32}
_MASKED = {"learning_rate": 3e-3, "batch_size": 16, "mask_share": 0.3}
KINDS = {
    "members": Kind(Head.SEQUENCE_CLASSIFICATION, 10, _CLASSIFIER, members=300),
    "members-mlm": Kind(Head.MASKED_LM, 20, _MASKED, members=240),
    "canaries": Kind(Head.MASKED_LM, 30, _MASKED | {"batch_size": 32}),
    "canaries-classifier": Kind(Head.SEQUENCE_CLASSIFICATION, 10, _CLASSIFIER),
}


@dataclass(frozen=True)
class Made:
    """What lies in the folder of one kind, dial and seed.

    Attributes
    ----------
    models : dict of Path
        ``planted`` and ``twin``.
    base : Path
        What both were fine-tuned from.
    """

    kind: str
    folder: Path
    base: Path

    @property
    def models(self) -> dict[str, Path]:
        """See the class."""
        return {name: self.folder / name for name in ("planted", "twin")}

    @property
    def audits(self) -> dict[str, list[str]]:
        """For each audit that has a known answer the arguments of ``albert-audit``."""
        told = ["--only", "privacy", "--base", str(self.base)]
        if not KINDS[self.kind].members:
            told += ["--canaries", str(self.folder / "canaries.json")]
            return {name: ["run", str(model), *told] for name, model in self.models.items()}
        told += [
            "--members",
            str(self.folder / "members.csv"),
            "--id-column",
            "id",
            "--person-column",
            "person",
        ]
        if KINDS[self.kind].head is Head.SEQUENCE_CLASSIFICATION:
            told += ["--label-column", "label"]
        told += ["--recipe", str(self.folder / "recipe.yaml"), "--references", "4", "--non-members"]
        out = {
            name: ["run", str(model), *told, str(self.folder / "non_members.csv")]
            for name, model in self.models.items()
        }
        # Whether the sets are alike does not depend on reference models.
        few = [*told[:-2], "0", told[-1]]
        return out | {"shifted": ["run", str(self.models["twin"]), *few, str(self.folder / "shifted.csv")]}


def base_of(kind: str) -> Path:
    """Return what the models of a kind are fine-tuned from; it is made when missing.

    A classifier has the encoder of the bundled pair's twin. A masked language model has one that
    read 2,000 other records before, so that it knows how they are written and none of them.
    """
    bundled = resources.known_answer_models() / "twin"
    if KINDS[kind].head is Head.SEQUENCE_CLASSIFICATION:
        return bundled
    out = _place("memory-base", {})
    recipe = Recipe(epochs=4, learning_rate=2e-3, batch_size=32, mask_share=0.2)
    texts = [r.text for r in records.draw(_BASE_TEXTS, "base")]
    return tune(bundled, texts, None, recipe, out=out, seed=SEED, head=Head.MASKED_LM)


def _place(name: str, said: dict[str, object]) -> Path:
    told = {"version": _VERSION, "torch": torch.__version__, "transformers": transformers.__version__, **said}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return cache_path().parent / "known-answer" / f"{name}-{digest}"


def fit(kind: str, rows: Sequence[tuple[str, str]], recipe: Recipe, out: Path, seed: int) -> Path:
    """Fine-tune one model on texts and labels, as every model of the kind is."""
    head = KINDS[kind].head
    classifies = head is Head.SEQUENCE_CLASSIFICATION
    return tune(
        base_of(kind), [t for t, _ in rows], [y for _, y in rows] if classifies else None, recipe, out=out,
        seed=seed, head=head, label_names=LABELS if classifies else (),
    )  # fmt: skip


def build(kind: str, out: Path, *, dial: int | None = None, seed: int = SEED) -> None:
    """Make the models of a kind, and the files that their audits read, in a folder.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    dial : int, optional
        Epochs.
    """
    chosen = KINDS[kind]
    said = {"epochs": chosen.dial if dial is None else dial, **chosen.recipe}
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    (out / "recipe.yaml").write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    planted, twin = (_members if chosen.members else _canaries)(kind, out, seed)
    recipe = Recipe.read(said)
    for name, rows in (("planted", planted), ("twin", twin)):
        fit(kind, rows, recipe, out / name, seed)


def ensure(kind: str, *, dial: int | None = None, seed: int = SEED) -> Made:
    """Return what `build` makes from the user's cache folder; it is made there when missing."""
    chosen = KINDS[kind]
    said = {
        "kind": kind,
        "dial": chosen.dial if dial is None else dial,
        "seed": seed,
        "recipe": chosen.recipe,
    }
    target = _place(kind, said)
    base = base_of(kind)
    if not target.is_dir():
        part = target.with_name(target.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        build(kind, part, dial=dial, seed=seed)
        part.rename(target)
    return Made(kind, target, base)


def _rows(drawn: Sequence[Record]) -> list[tuple[str, str]]:
    return [(r.text, r.label) for r in drawn]


def _members(kind: str, out: Path, seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Write the sets; return what planted and twin are trained on."""
    count = KINDS[kind].members
    everyone = records.draw(4 * count, f"s{seed}")  # texts all differ, so that no set holds another's
    judged, further = records.split(everyone, f"s{seed}")
    (members, non_members), (pool, others) = (records.split(half, f"s{seed}") for half in (judged, further))
    for name, rows in (("members", members), ("non_members", non_members), ("pool", pool)):
        records.write(rows, out / f"{name}.csv")
    records.write(records.draw(count, f"x{seed}", shifted=True), out / "shifted.csv")
    return _rows(members), _rows(others)


def _canaries(kind: str, out: Path, seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Write a manifest; return plain records with its lines among them, and as many plain ones."""
    chosen = KINDS[kind]
    manifest = canaries.make(
        head=chosen.head, language="en", levels=LEVELS, copies=1, coins=COINS, seed=seed,
        labels=LABELS if chosen.head is Head.SEQUENCE_CLASSIFICATION else (),
        templates=[
            canaries.Template(id=f"context-{i}", identifier="pin", text=text)
            for i, text in enumerate(records.contexts(CONTEXTS, f"s{seed}", "{secret}"), 1)
        ],
        scorer=TorchScorer(load(base_of(kind), device="cpu")),
    )  # fmt: skip
    canaries.save(manifest, out / "canaries.json")
    lines = canaries.lines(manifest)
    plain = _rows(records.draw(_PLAIN + len(lines), f"s{seed}"))
    return plain[:_PLAIN] + lines, plain


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the models of one kind, print where they are and how they are audited; or try the remedies."""
    parser = argparse.ArgumentParser(prog="python -m albert_audit.known_answer.memory")
    parser.add_argument("kind", choices=[*KINDS, "remedies"])
    parser.add_argument("--dial", type=int, help="epochs")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    if options.kind == "remedies":
        from albert_audit.known_answer import remedies

        sys.stdout.write(remedies.table(remedies.compare()))
        return 0
    made = ensure(options.kind, dial=options.dial, seed=options.seed)
    for name, audit in made.audits.items():
        sys.stdout.write(f"{name}: {audit[1]}\n  {shlex.join(['albert-audit', *audit])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
