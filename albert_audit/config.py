"""The configuration of an audit: one YAML file, one frozen model; flags override it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field

from albert_audit.types import Document, Frozen, UsageError


class Texts(Frozen):
    """The auditor's own texts: a CSV, JSONL or parquet file, or a folder saved by ``datasets``.

    Attributes
    ----------
    path : str
    text, id, label : str
        Columns; rows are numbered from 1 where there is no `id`.
    groups : tuple of str
        Columns that say which group of people a text is by or about.
    person : str
        Column that says whose text it is; each row is a person of its own without it.
    language : str
    """

    path: str
    text: str = "text"
    id: str = ""
    label: str = ""
    groups: tuple[str, ...] = ()
    person: str = ""
    language: str = "en"


class Privacy(Frozen):
    """What the auditor brings for the privacy tests; each test runs where its input is there.

    Attributes
    ----------
    members, non_members : Texts, optional
        Records that the model was trained on, and records of the same kind that it was not.
    pool : Texts, optional
        Further records like the members, in neither set, to train reference models on. Without it
        these are trained on halves of both sets.
    base : str, optional
        The checkpoint that the model was fine-tuned from: a folder or a hub id.
    recipe : dict
        How it was fine-tuned; see `albert_audit.model.tuning.Recipe`.
    references : int
        Reference models to train from `base` by `recipe`, an even number; 0 trains none.
    maskings : int
        Random maskings of a text, for a masked language model.
    canaries : str, optional
        A manifest that ``albert-audit canaries make`` wrote before the training.
    epsilon, delta : float
        The differential privacy that was declared for the training.
    secrets : Texts, optional
        Records with what the model must not fill in; see the how-to.
    key : str, optional
        The project's key file; the user's own when left out.
    reveal : str, optional
        A new file, for the owner's eyes alone, that what was found is written to in clear. Refused in CI.
    """

    members: Texts | None = None
    non_members: Texts | None = None
    pool: Texts | None = None
    base: str | None = None
    recipe: dict[str, Any] = {}
    references: Annotated[int, Field(ge=0, le=64, multiple_of=2)] = 4
    maskings: Annotated[int, Field(ge=1, le=100)] = 10
    canaries: str | None = None
    epsilon: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(ge=0, lt=1)] = 0.0
    secrets: str | None = None
    key: str | None = None
    reveal: str | None = None


class AuditConfig(Document):
    """``audit.yaml``.

    Attributes
    ----------
    model : str
        A folder or a hub id.
    packs : tuple of str, optional
        Names of shipped packs or folders; all that the model can answer when left out.
    data : dict
        Benchmarks that are not shipped, by name: ``crows-pairs: path/to/file.csv``.
    texts : Texts, optional
        The auditor's own texts.
    privacy : Privacy, optional
        What the privacy tests need.
    only : {"bias", "privacy"}, optional
        One pillar alone.
    language : str, optional
        Only shipped packs and the shipped policy of this language (``en``, ``zh``); all that the
        vocabulary knows when left out.
    positive : str, optional
        The label of a classifier whose probability is compared; with two labels the second.
    threshold : float, optional
        From which probability on the decision is that label; the likeliest label when left out. Of a
        regression any number, in its own unit; it decides nothing when left out.
    profile : {"quick", "standard", "full"}, optional
        ``quick`` runs the shipped packs that take least, ``standard`` all of them, ``full`` also the
        benchmarks of `data`. By default ``full`` where `data` is given, else ``standard``.
    policy : str, optional
        A policy file; the shipped policy of the model's head when left out.
    seed : int
        All randomness is drawn from it, by name.
    batch_tokens : int, optional
        Tokens a batch.
    workers : int or "auto"
        Processes that score on a CPU, one thread each; 1 scores in this process with torch's
        threads. ``auto``, the command line's default, starts one a core where the work is long
        enough. A script that asks for more than 1 needs the ``if __name__ == "__main__"`` guard.
    """

    kind: ClassVar[str] = "config"
    by_hand: ClassVar[bool] = True
    model: str = ""
    revision: str | None = None
    out: str | None = None
    packs: tuple[str, ...] | None = None
    data: dict[str, str] = {}
    texts: Texts | None = None
    privacy: Privacy | None = None
    only: Literal["bias", "privacy"] | None = None
    language: str | None = None
    positive: str | None = None
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    profile: Literal["quick", "standard", "full"] | None = None
    policy: str | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    batch_tokens: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = 1


def load_config(path: Path | None, **flags: Any) -> AuditConfig:
    """Read ``audit.yaml`` and put the flags that were given over it.

    Parameters
    ----------
    flags
        Fields of `AuditConfig`; None means not given.

    Raises
    ------
    UsageError
        When the file cannot be read or has a mistake; every mistake is listed.
    """
    data: Any = {}
    if path is not None:
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as exc:
            raise UsageError(
                f"cannot read the configuration {path}: {exc.strerror}", "give the path of an audit.yaml"
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as exc:
            raise UsageError(
                f"{path} is not YAML: {exc}", "write it as `key: value` lines, in UTF-8"
            ) from None
        if not isinstance(data, dict):
            raise UsageError(
                f"{path}: expected a mapping, found {type(data).__name__}", "write it as `key: value` lines"
            )
    given = {k: v for k, v in flags.items() if v is not None}
    if isinstance(data.get("privacy"), dict) and "privacy" in given:
        given["privacy"] = {**data["privacy"], **given["privacy"]}
    merged = {**data, **given}
    config: AuditConfig = AuditConfig.read(merged, where=str(path or "the command line"))
    if not config.model:
        raise UsageError("no model was given", "name it: albert-audit run MODEL, or `model:` in audit.yaml")
    return config
