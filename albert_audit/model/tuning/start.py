"""What fine-tuning starts from: a checkpoint's encoder, and a head that is kept or drawn anew.

An audit refuses a checkpoint whose head would be random. Here a new head is drawn on purpose, from
the seed, and its weights are named in the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AlbertForMaskedLM, AlbertForSequenceClassification

from albert_audit.model.load import ModelHandle, _from_pretrained, _quiet, _tokenizer_files
from albert_audit.model.tuning.examples import generator, stream
from albert_audit.model.tuning.job import Job
from albert_audit.types import Head, ModelRefused, UsageError

_PROBLEMS = {
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}
_HEADS = {"classifier": "classifier.", "pooler": "albert.pooler.", "masked": "predictions."}


@dataclass(frozen=True)
class Start:
    """A model that is ready to be trained.

    Attributes
    ----------
    drawn : tuple of str
        Weights that were drawn anew.
    """

    model: Any
    drawn: tuple[str, ...]
    tokenizer_files: tuple[Path, ...]

    def finished(self) -> Any:
        """Return the model as it is saved: low-rank updates merged into its weights."""
        return self.model.merge_and_unload() if hasattr(self.model, "merge_and_unload") else self.model


def start(handle: ModelHandle, job: Job) -> Start:
    """Load the base under the head wanted, draw what it lacks, and freeze what is not trained.

    Parameters
    ----------
    handle : ModelHandle
        The base, which `load` found sound.
    """
    assert handle.folder is not None  # noqa: S101 (it was loaded from one)
    classifier = job.head is Head.SEQUENCE_CLASSIFICATION
    options: dict[str, Any] = {}
    if classifier:
        names = list(job.label_names)
        options |= {
            "id2label": dict(enumerate(names)),
            "label2id": {name: i for i, name in enumerate(names)},
            "problem_type": _PROBLEMS[job.kind],
        }
    if (rate := job.recipe.dropout) is not None:
        options |= {
            "hidden_dropout_prob": rate,
            "attention_probs_dropout_prob": rate,
            "classifier_dropout_prob": rate,
        }
    cls = AlbertForSequenceClassification if classifier else AlbertForMaskedLM
    model, info = _from_pretrained(cls, handle.folder, **options)
    drawn = _draw(model, info, handle, job)
    _fuse(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_is_trained(name, job))
    if job.recipe.method == "lora":
        model = _with_lora(model, job, classifier=classifier)
    return Start(model.to(handle.device), drawn, tuple(_tokenizer_files(handle.folder)))


def _draw(model: Any, info: dict[str, Any], handle: ModelHandle, job: Job) -> tuple[str, ...]:
    """Draw the weights of a new head and those that the base lacks, as ALBERT is initialised."""
    classifier = job.head is Head.SEQUENCE_CLASSIFICATION
    head = _HEADS["classifier" if classifier else "masked"]
    may = (head, _HEADS["pooler"]) if classifier else (head,)
    anew = {*info["missing_keys"], *(k for k, *_ in info["mismatched_keys"])}
    if classifier and (
        handle.id.head is not Head.SEQUENCE_CLASSIFICATION or handle.id.labels != tuple(job.label_names)
    ):
        # A tagger's head has the same name, and a head with other labels means something else.
        anew |= {n for n, _ in model.named_parameters() if n.startswith(head)}
    if job.init_head == "fresh":
        anew |= {n for n, _ in model.named_parameters() if n.startswith(head)}
    if other := sorted(k for k in anew if not k.startswith(may)):
        raise ModelRefused(
            f"the base lacks weights of the encoder: {', '.join(other[:3])}",
            "give the checkpoint that the model was fine-tuned from",
        )
    lacking = [k for k in anew if k.startswith(head)]
    if lacking and (job.init_head == "keep" or (job.init_head == "auto" and not classifier)):
        raise UsageError(
            f"the base has no head {job.head} with these labels that could be kept",
            'give a base that has one, or draw it anew with init_head="fresh"',
        )
    draw = generator(job.seed, "head")
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if name not in anew:
                continue
            if parameter.ndim > 1:
                parameter.normal_(0.0, model.config.initializer_range, generator=draw)
            else:
                parameter.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
    return tuple(sorted(n for n, _ in model.named_parameters() if n in anew))


def _fuse(model: Any) -> None:
    """Use torch's own tanh GELU where the model spells it out: the same function, much faster."""
    if model.config.hidden_act in ("gelu_new", "gelu_pytorch_tanh"):
        for group in model.albert.encoder.albert_layer_groups:
            for layer in group.albert_layers:
                layer.activation = torch.nn.GELU(approximate="tanh")


def _is_trained(name: str, job: Job) -> bool:
    if name.startswith("albert.embeddings."):
        return job.recipe.method == "full" and not job.recipe.freeze_embeddings
    if name.startswith("albert.encoder."):
        return job.recipe.method == "full"
    # A masked language model has no use for the pooler.
    return job.head is Head.SEQUENCE_CLASSIFICATION or not name.startswith(_HEADS["pooler"])


def _with_lora(model: Any, job: Job, *, classifier: bool) -> Any:
    try:
        import peft
    except ImportError:
        raise UsageError(
            "the recipe's method is lora, which needs the package peft", "run `pip install peft`"
        ) from None
    config = peft.LoraConfig(
        r=job.recipe.lora_rank,
        lora_alpha=job.recipe.lora_alpha,
        target_modules=["query", "value"],
        modules_to_save=["classifier", "pooler"] if classifier else None,
    )
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(stream(job.seed, "lora"))
        return peft.get_peft_model(model, config)
