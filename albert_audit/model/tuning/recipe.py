"""How a checkpoint is fine-tuned: what the auditor says of the audited model's own training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field, model_validator

from albert_audit.types import AuditError, Document, UsageError

_RATES = {"full": 2e-5, "head": 1e-3, "lora": 2e-4}
_Share = Annotated[float, Field(gt=0, lt=1)]


class Recipe(Document):
    """A fine-tuning recipe; the defaults are those of the BERT paper (Devlin et al. 2019).

    Attributes
    ----------
    method : {"full", "head", "lora"}
        What is trained: every weight; only what comes after the encoder; low-rank updates of the
        attention's query and value (Hu et al. 2022) and the classifier.
    epochs, batch_size : int
        Passes over the texts, and texts a step.
    learning_rate : float
        The highest that a step reaches: 2e-5, for ``head`` 1e-3 and for ``lora`` 2e-4 when left out.
    schedule : {"linear", "constant"}
        After the warm-up: down to nought at the last step, or no change.
    warmup : float
        Share of all steps over which the rate rises from nought.
    weight_decay : float
        Of AdamW; biases and layer norms have none.
    max_grad_norm : float
        Longer gradients are cut to this length.
    max_length : int, optional
        Longest text in tokens, [CLS] and [SEP] counted; what is longer loses its end. The model's
        own limit when left out.
    dropout : float, optional
        In place of the rates that the base checkpoint's configuration names.
    freeze_embeddings : bool
        Keep the embeddings as they are.
    mask_share : float
        Share of tokens that a masked language model is asked for, drawn anew in each epoch: 80 %
        shown as the mask, 10 % as any token, 10 % as they are.
    patience : int, optional
        Stop after so many epochs without a lower loss on the held-out texts, and go back to the
        epoch with the lowest. None trains all epochs and holds nothing out.
    held_out : float
        Share of the texts that is held out for `patience`, and not trained on.
    lora_rank, lora_alpha : int
        For ``lora``.
    """

    kind: ClassVar[str] = "recipe"
    by_hand: ClassVar[bool] = True
    method: Literal["full", "head", "lora"] = "full"
    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-5
    batch_size: Annotated[int, Field(ge=1)] = 16
    schedule: Literal["linear", "constant"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Annotated[int, Field(ge=4)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    freeze_embeddings: bool = False
    mask_share: _Share = 0.15
    patience: Annotated[int, Field(ge=1)] | None = None
    held_out: _Share = 0.1
    lora_rank: Annotated[int, Field(ge=1)] = 8
    lora_alpha: Annotated[int, Field(ge=1)] = 16

    @model_validator(mode="before")
    @classmethod
    def _usual_rate(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("learning_rate") is None:
            return {**data, "learning_rate": _RATES.get(str(data.get("method", "full")), _RATES["full"])}
        return data

    @classmethod
    def read(
        cls, data: Mapping[str, Any], *, where: str = "the recipe", error: type[AuditError] = UsageError
    ) -> Recipe:
        """Validate the keys of a recipe, e.g. those under ``recipe`` in ``audit.yaml``.

        Raises
        ------
        UsageError
            With every mistake.
        """
        recipe: Recipe = super().read(data, where=where, error=error)
        return recipe

    @classmethod
    def read_file(cls, path: Path) -> Recipe:
        """Read a recipe from a YAML file.

        Raises
        ------
        UsageError
            When the file cannot be read or has a mistake.
        """
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as exc:
            raise UsageError(
                f"cannot read the recipe {path}: {exc}", "write it as `key: value` lines, in UTF-8"
            ) from None
        if data is not None and not isinstance(data, dict):
            raise UsageError(
                f"{path}: expected a mapping, found {type(data).__name__}", "write it as `key: value` lines"
            )
        return cls.read(data or {}, where=str(path))

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0, when there are `steps` in all."""
        rising = round(self.warmup * steps)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (steps - step) / max(1, steps - rising)
