"""What the auditor brought for the privacy tests: read and checked before any weights are loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albert_audit import texts
from albert_audit.config import Privacy
from albert_audit.packs import Given
from albert_audit.privacy import (
    canary_findings,
    canary_manifest,
    embedding_findings,
    extraction,
    extraction_findings,
    membership,
    membership_findings,
)
from albert_audit.privacy.canary_manifest import Manifest
from albert_audit.privacy.extraction_secrets import Secrets
from albert_audit.privacy.membership import Attack
from albert_audit.redact import Key
from albert_audit.types import Decision, Head, PackRef, UsageError

if TYPE_CHECKING:
    from albert_audit.model.tuning.recipe import Recipe

HEADS = (Head.MASKED_LM, Head.PRETRAINING, Head.SEQUENCE_CLASSIFICATION)
TITLES = {
    "membership": "Membership inference",
    "canaries": "Canaries",
    "extraction": "Extraction of personal data",
    "embeddings": "What stored vectors give away",
}
MASKED = (Head.MASKED_LM, Head.PRETRAINING)
_INFORM = ("canaries/epsilon/", "extraction/completions/", "embeddings/")


@dataclass(frozen=True)
class Brought:
    """What the auditor brought, read and checked before any weights are loaded.

    Attributes
    ----------
    tests : tuple of str
        The tests that will run, by the names of `TITLES`.
    told : dict
        What the audit keeps of it: digests under the project's key, never a text or a plain hash.
    """

    config: Privacy
    head: Head
    key: Key
    members: Given | None = None
    non_members: Given | None = None
    pool: Given | None = None
    base: Path | None = None
    recipe: Recipe | None = None
    attacks: tuple[Attack, ...] = ()
    manifest: Manifest | None = None
    secrets: Secrets | None = None
    texts: Given | None = None

    @property
    def references(self) -> int:
        """Reference models that will be trained."""
        able = self.base is not None or (self.recipe is not None and self.recipe.method == "head")
        return self.config.references if able and self.members is not None else 0

    @property
    def tests(self) -> tuple[str, ...]:
        """See the class."""
        there = {
            "membership": self.members, "canaries": self.manifest, "extraction": self.secrets,
            "embeddings": self.texts,
        }  # fmt: skip
        found = tuple(name for name, given in there.items() if given is not None)
        # With nothing but the model and its base, completions of general prompts can be compared.
        return found or (("extraction",) if self.base is not None and self.head in MASKED else ())

    @property
    def told(self) -> dict[str, Any]:
        """See the class."""
        config = self.config
        files = {
            "members": (self.members, config.members), "non_members": (self.non_members, config.non_members),
            "pool": (self.pool, config.pool),
        }  # fmt: skip
        out: dict[str, Any] = {
            name: {
                "digest": self.key.digest(given.sha256, purpose="file"), "rows": len(given.texts),
                **table.model_dump(mode="json", exclude={"path"}),
            }
            for name, (given, table) in files.items()
            if given is not None and table is not None
        }  # fmt: skip
        if self.base is not None:
            out["base"] = _checkpoint(self.base)
        if self.members is not None:
            out |= {"references": self.references, "maskings": self.config.maskings}
        if self.recipe is not None and self.references:
            out["recipe"] = self.recipe.model_dump(mode="json", by_alias=True)
        if self.manifest is not None:
            out["canaries"] = {
                "sha256": self.manifest.sha256, "epsilon": self.config.epsilon, "delta": self.config.delta,
            }  # fmt: skip
        if self.secrets is not None:
            out["secrets"] = {
                "digest": self.key.digest(self.secrets.sha256, purpose="file"),
                "rows": len(self.secrets.entries),
            }
        return {**out, "key": self.key.name}

    @property
    def counts(self) -> dict[str, int]:
        """How many records of each set there are."""
        given = {"members": self.members, "non-members": self.non_members, "pool": self.pool}
        found = {name: len(g.texts) for name, g in given.items() if g is not None}
        found |= {"canaries": len(self.manifest.canaries)} if self.manifest is not None else {}
        return found | ({"secrets": len(self.secrets.entries)} if self.secrets is not None else {})

    @property
    def groups(self) -> dict[str, list[str]]:
        """For each axis the groups of members and non-members."""
        out: dict[str, list[str]] = {}
        for given in filter(None, (self.members, self.non_members)):
            for text in given.texts:
                for axis, group in text.groups:
                    out.setdefault(axis, []).append(group)
        return out

    def ids(self) -> dict[str, bool]:
        """Return the id of every finding that can be judged, and whether it may gate."""
        found: list[str] = []
        if self.members is not None:
            names, main = [a.name for a in self.attacks], membership.primary(self.attacks).name
            several = [t.person for g in (self.members, self.non_members) if g for t in g.texts if t.person]
            found += membership_findings.ids(
                names, main, self.groups, persons=len(set(several)) < len(several)
            )
        if self.manifest is not None:
            found += canary_findings.ids(self.manifest)
        if "extraction" in self.tests:
            found += extraction_findings.ids(self.secrets)
        if self.texts is not None:
            found += embedding_findings.ids(self.texts)
        return {i: not i.startswith(_INFORM) for i in found}

    def refs(self) -> tuple[PackRef, ...]:
        """Return how the manifest and the card name the tests."""
        digest = hashlib.sha256(json.dumps(self.told, sort_keys=True).encode()).hexdigest()
        return tuple(
            PackRef(name=t, version=1, sha256=digest, licence="the auditor's own", title=TITLES[t])
            for t in self.tests
        )


def known(head: Head) -> list[str]:
    """Return the ids of the findings on all people together that some audit of this head could make."""
    if head not in HEADS:
        return []
    out = [f"{canary_findings.NAME}/exposure_gap/all/{canary_findings.ONCE}"]
    if head in MASKED:
        out += [f"extraction/{m}/all/{extraction_findings.CONTRAST}" for m in extraction_findings.MEASURES]
    for k, base in ((0, False), (0, True), (4, True), (16, True)):
        made = membership.known(head, k, pool=False, base=base)
        out += membership_findings.ids([a.name for a in made], membership.primary(made).name, {})
    return list(dict.fromkeys(out))


def read(config: Privacy, head: Head, given: Given | None = None) -> Brought:
    """Read what was brought.

    Parameters
    ----------
    given : Given, optional
        The auditor's own texts, of which vectors are made.

    Raises
    ------
    UsageError
        When a file cannot be read, half of what a test needs is missing, or the head has no such test.
    """
    masked = head in MASKED
    asked = (config.members, config.non_members, config.canaries, config.secrets, masked and config.base)
    if not any(asked) and (given is None or head is not Head.ENCODER):
        raise UsageError(
            "nothing was brought that a privacy test could use",
            "give --members and --non-members, --canaries"
            + (", --secrets, or at least --base" if masked else ""),
        )
    if (config.members is None) != (config.non_members is None):
        lacking = "members" if config.members is None else "non-members"
        raise UsageError(
            f"membership is told by comparing two sets, and the {lacking} are missing",
            "hold out a random part of the data before training and give it with --non-members",
        )
    if head not in HEADS and any(asked):
        raise UsageError(
            f"these privacy tests are for masked language models and text classifiers; this model has the head {head}",
            "leave what was brought for them out; --texts shows what its vectors give away",
        )
    if config.secrets is not None and not masked:
        raise UsageError(
            "a classifier fills nothing in", "leave --secrets out, or audit the masked language model"
        )
    from albert_audit.model.load import folder_of, peek_head
    from albert_audit.model.tuning.recipe import Recipe

    if masked and config.base is not None and (found := peek_head(config.base)) not in MASKED:
        raise UsageError(
            f"the base has the head {found}, the model {head}",
            "give the checkpoint that the training began from",
        )
    brought = Brought(
        config, head, _key(config.key), texts=given, base=folder_of(config.base) if config.base else None
    )
    if config.members is not None and config.non_members is not None:
        sets = [
            texts.load(t) if t is not None else None
            for t in (config.members, config.non_members, config.pool)
        ]
        members, non_members, pool = sets
        if head is Head.SEQUENCE_CLASSIFICATION and not all(g.labelled for g in sets if g is not None):
            raise UsageError(
                "a classifier's memory shows in its loss, which needs labels", "give --label-column"
            )
        brought = replace(
            brought, members=members, non_members=non_members, pool=pool, recipe=Recipe.read(config.recipe)
        )
        made = membership.known(
            head, brought.references, pool=pool is not None, base=brought.base is not None
        )
        brought = replace(brought, attacks=tuple(made))
    if config.canaries is not None:
        manifest = canary_manifest.load(Path(config.canaries).expanduser())
        if (manifest.head is Head.SEQUENCE_CLASSIFICATION) != (head is Head.SEQUENCE_CLASSIFICATION):
            raise UsageError(
                f"the canaries were made for a model with the head {manifest.head}, this one has {head}",
                "give the manifest that was made for this training",
            )
        brought = replace(brought, manifest=manifest)
    if config.secrets is not None:
        brought = replace(brought, secrets=extraction.read(Path(config.secrets).expanduser()))
    return brought


def check(brought: Brought, decision: Decision | None) -> None:
    """Refuse what the attacks are not defined for; known once the model is loaded.

    Raises
    ------
    UsageError
    """
    if brought.members is not None and decision is not None and decision.kind != "single":
        raise UsageError(
            "membership is told from the loss of one label a text; this model gives "
            + ("several labels" if decision.kind == "multi" else "a number"),
            "leave --members out",
        )


def _key(path: str | None) -> Key:
    """Return the project's key; the user's own is made when there is none yet."""
    if path is not None:
        return Key.load(Path(path).expanduser())
    return Key.load() if Key.path().exists() else Key.make()


def not_tested(brought: Brought | None, head: Head) -> list[str]:
    """Say in plain words which privacy questions stayed open, and what they would need."""
    out = []
    if brought is None or brought.texts is None:
        out.append(
            "What stored vectors give away: it needs texts (--texts), and for this head one of the privacy flags"
            if head is not Head.ENCODER
            else "What stored vectors give away: it needs texts (--texts)"
        )
    if head not in HEADS:
        return [
            *out,
            f"What the model gives away of its training data: no test for the head {head.replace('_', ' ')}",
        ]
    if brought is None or brought.members is None:
        out.append(
            "Membership inference: it needs records the model was trained on and others (--members, --non-members)"
        )
    elif not brought.references:
        out.append("Membership against reference models: no --base was given, so that none could be trained")
    if brought is None or brought.manifest is None:
        out.append("Canaries: no manifest was given; it must be made before the training")
    if head in MASKED and (brought is None or brought.secrets is None):
        out.append("Extraction of personal data: no secrets to look for were given (--secrets)")
    return out


def _checkpoint(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's weights and configuration."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
