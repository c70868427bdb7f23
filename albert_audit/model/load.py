"""From a checkpoint on disk or on the hub to a model handle, or to a refusal that says what to do.

A checkpoint is refused when it would load and then be scored wrongly: a head that would be freshly
initialised, weights that are not numbers, a tokenizer of another model; or when loading it could
run somebody's code: pickles, remote code.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer

from albert_audit import resources
from albert_audit.types import Ability, Head, ModelId, ModelRefused, UsageError

_CLASSES = {
    "AlbertForMaskedLM": Head.MASKED_LM,
    "AlbertForPreTraining": Head.PRETRAINING,
    "AlbertForSequenceClassification": Head.SEQUENCE_CLASSIFICATION,
    "AlbertForTokenClassification": Head.TOKEN_CLASSIFICATION,
    "AlbertForQuestionAnswering": Head.QUESTION_ANSWERING,
    "AlbertForMultipleChoice": Head.MULTIPLE_CHOICE,
    "AlbertModel": Head.ENCODER,
}
_ENCODER = frozenset({Ability.EMBEDDINGS, Ability.ATTENTION})
_MASKED = _ENCODER | {Ability.MASK_LOGPROBS, Ability.TOKEN_LOGPROBS}
ABILITIES: dict[Head, frozenset[Ability]] = {
    Head.MASKED_LM: _MASKED,
    Head.PRETRAINING: _MASKED | {Ability.ORDER_LOGITS},
    Head.SEQUENCE_CLASSIFICATION: _ENCODER | {Ability.CLASS_LOGITS},
    Head.TOKEN_CLASSIFICATION: _ENCODER | {Ability.TAG_LOGITS},
    Head.QUESTION_ANSWERING: _ENCODER | {Ability.SPAN_LOGITS},
    Head.MULTIPLE_CHOICE: _ENCODER | {Ability.CHOICE_LOGITS},
    Head.ENCODER: _ENCODER,
}
_TOKENIZER_FILES = (
    "tokenizer.json",
    "spiece.model",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.msgpack", "*.h5", "*.ckpt*")
MOST_UNKNOWN = 0.10
"""Share of unknown tokens in plain sentences above which a vocabulary lacks their language."""


@dataclass(frozen=True)
class ModelHandle:
    """A loaded checkpoint in eval mode, fp32, on its device.

    Attributes
    ----------
    model : transformers.PreTrainedModel
    tokenizer : transformers tokenizer with a Rust backend, truncation and padding off
    id : ModelId
    can : frozenset of Ability
    device : torch.device
    unknown_rate : dict
        Share of unknown tokens in the shipped reference sentences, by language.
    folder : Path
        Where the checkpoint lies on this machine.
    """

    model: Any
    tokenizer: Any
    id: ModelId
    can: frozenset[Ability]
    device: torch.device
    unknown_rate: dict[str, float]
    folder: Path | None = None

    @property
    def threads(self) -> int:
        """Threads that torch computes with."""
        return torch.get_num_threads()


def load(name: str | Path, *, revision: str | None = None, device: str = "auto") -> ModelHandle:
    """Load an ALBERT checkpoint for scoring.

    Parameters
    ----------
    name : str or Path
        A folder with ``config.json``, ``*.safetensors`` and a tokenizer, or a hub id.
    device : {"auto", "cpu", "cuda", "mps"}

    Raises
    ------
    UsageError
        When the folder or hub id cannot be found, or the device does not exist here.
    ModelRefused
        When the checkpoint would be scored wrongly or is unsafe to load.
    """
    chosen = _device(device)
    folder = folder_of(str(name), revision)
    config = _config(folder)
    weights = _weights(folder)
    head = _head(config, weights)
    model = _model(folder, head)
    tokenizer = _tokenizer(folder)
    caveats = _check_tokenizer(tokenizer, model.config, head)
    unknown = _unknown_rates(tokenizer)
    hashes = {p.name: _sha256(p) for p in [*weights, folder / "config.json", *_tokenizer_files(folder)]}

    def digest(names: list[str]) -> str:
        return hashlib.sha256(json.dumps({n: hashes[n] for n in sorted(names)}).encode()).hexdigest()

    layer = 4 * model.config.hidden_size**2 + 2 * model.config.hidden_size * model.config.intermediate_size
    passes = model.config.num_hidden_layers * model.config.inner_group_num
    labels: dict[int, str] = model.config.id2label if head in _LABELLED else {}
    identity = ModelId(
        name=folder.resolve().name if Path(name).expanduser().exists() else str(name),
        revision=revision,
        head=head,
        sha256=digest(list(hashes)),
        weights_sha256=digest([p.name for p in weights]),
        config_sha256=hashes["config.json"],
        tokenizer_sha256=digest([p.name for p in _tokenizer_files(folder)]),
        tokenizer=f"{type(tokenizer).__name__} ({type(tokenizer._tokenizer.model).__name__})",
        depth=passes,
        parameters=sum(p.numel() for p in model.parameters()),
        flops_per_token=2 * (model.config.embedding_size * model.config.hidden_size + passes * layer),
        vocab_size=model.config.vocab_size,
        max_tokens=model.config.max_position_embeddings,
        labels=tuple(labels[i] for i in sorted(labels)),
        attention=model.config._attn_implementation,
        caveats=tuple(caveats),
    )
    return ModelHandle(model.to(chosen), tokenizer, identity, ABILITIES[head], chosen, unknown, folder)


def peek_head(name: str | Path, revision: str | None = None) -> Head:
    """Return the head a checkpoint says it has, without reading its weights."""
    folder = folder_of(str(name), revision)
    return _head(_config(folder), _weights(folder))


_LABELLED = (Head.SEQUENCE_CLASSIFICATION, Head.TOKEN_CLASSIFICATION)


# --- finding the files ----------------------------------------------------------------------


def _device(name: str) -> torch.device:
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if available[d]))
    if name not in available:
        raise UsageError(f"expected a device among auto, cpu, cuda, mps, found {name!r}")
    if not available[name]:
        raise UsageError(f"the device {name!r} is not available here", "use --device cpu, or auto")
    return torch.device(name)


def folder_of(name: str, revision: str | None = None) -> Path:
    """Return where a checkpoint lies: a folder, or one that the hub's client keeps.

    Raises
    ------
    UsageError
        When it cannot be found.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UsageError(
            f"expected a folder, found the file {name}", "give the folder that holds config.json"
        )
    if not re.fullmatch(r"[\w][\w.-]*(/[\w][\w.-]*)?", name):
        raise UsageError(
            f"there is no folder {name}", "give a local folder or a hub id such as albert/albert-base-v2"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.safetensors", "*.safetensors.index.json", "config.json", *_TOKENIZER_FILES]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except LocalEntryNotFoundError:
        raise UsageError(
            f"there is no folder {name!r}, and the hub cannot be reached for a model of that name",
            "check the path, or download the model first and give its folder",
        ) from None
    except (HfHubHTTPError, ValueError) as exc:
        raise UsageError(
            f"there is no folder {name!r}, and the hub has no model of that name: {exc}",
            "check the spelling; for a private model run `hf auth login` first",
        ) from None
    except Exception as exc:  # the hub's client lets some of its transport's errors through, e.g. of a proxy
        raise UsageError(
            f"downloading {name!r} failed: {type(exc).__name__}: {exc}", "check the connection and try again"
        ) from None


def _config(folder: Path) -> dict[str, Any]:
    config = _json(folder / "config.json")
    if config is None:
        raise ModelRefused(f"{folder.name} has no config.json", "give the folder that save_pretrained wrote")
    extra = _json(folder / "tokenizer_config.json") or {}
    if "auto_map" in config or "auto_map" in extra:
        raise ModelRefused(
            "the checkpoint asks to run remote code (auto_map); it is never run",
            "save it again with a transformers class of its own, without auto_map",
        )
    if config.get("model_type") != "albert":
        raise ModelRefused(
            f"expected model_type 'albert', found {config.get('model_type')!r}",
            "albert-audit audits ALBERT models only",
        )
    # Each of these makes transformers load something else than the weights that are checked and hashed.
    if "transformers_weights" in config or (folder / "adapter_config.json").exists():
        raise ModelRefused(
            "the checkpoint points to other weights (transformers_weights, or an adapter)",
            "merge the adapter where there is one, and save everything as one model.safetensors",
        )
    if config.get("position_embedding_type") not in (None, "absolute"):
        raise ModelRefused(
            f"expected absolute position embeddings, found {config['position_embedding_type']!r}, which transformers 5 "
            "ignores",
            "audit a checkpoint trained with absolute position embeddings",
        )
    if config.get("num_hidden_layers") == 0:
        raise ModelRefused(
            "the model has no layers", "audit a checkpoint with num_hidden_layers of at least 1"
        )
    return config


def _json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, OSError) as exc:
        raise ModelRefused(
            f"{path.name} is not JSON: {exc}", "download or save the checkpoint again"
        ) from None
    if not isinstance(data, dict):
        raise ModelRefused(f"{path.name}: expected an object, found {type(data).__name__}")
    return data


def _weights(folder: Path) -> list[Path]:
    # Like transformers: one whole file goes before an index, or what is hashed is not what is scored.
    single = folder / "model.safetensors"
    index = None if single.is_file() else _json(folder / "model.safetensors.index.json")
    files = [single]
    if index is not None:
        parts = index.get("weight_map")
        named: list[Any] = list(parts.values()) if isinstance(parts, dict) else [None]
        if not all(isinstance(n, str) and n == Path(n).name for n in named):
            raise ModelRefused(
                "model.safetensors.index.json: expected a weight_map of tensors to files of the same folder",
                "download or save the checkpoint again",
            )
        files = [folder / n for n in sorted(set(named))]
    missing = [p.name for p in files if not p.is_file()]
    if not files or missing:
        pickled = sorted({p.name for pattern in _PICKLES for p in folder.glob(pattern)})
        if pickled and index is None:
            raise ModelRefused(
                f"the weights are in {', '.join(pickled)}: pickled or foreign formats can run code and are refused",
                "convert them where you trust them: load with transformers, then save_pretrained(…) "
                "writes model.safetensors",
            )
        raise ModelRefused(
            f"{folder.name} lacks {', '.join(missing) or 'weights'}", "download or save the checkpoint again"
        )
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (not a mapping)
                    file.get_slice(key).get_shape()
        except (SafetensorError, OSError) as exc:
            raise ModelRefused(
                f"{path.name} is truncated or corrupt: {exc}", "download or save the checkpoint again"
            ) from None
    return files


def _keys(weights: list[Path]) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for path in weights:
        with safe_open(path, framework="pt") as file:
            shapes.update({k: file.get_slice(k).get_shape() for k in file.keys()})  # noqa: SIM118
    return shapes


def _head(config: dict[str, Any], weights: list[Path]) -> Head:
    named = config.get("architectures") or []
    if named:
        named = [str(n) for n in named] if isinstance(named, list) else [str(named)]
        unknown = [n for n in named if n not in _CLASSES]
        if len(named) != 1 or unknown:
            raise ModelRefused(
                f"expected one architecture among {', '.join(_CLASSES)}, found {', '.join(named)}",
                "save the checkpoint with one of these classes",
            )
        return _CLASSES[named[0]]
    keys = _keys(weights)
    if any(k.startswith("predictions.") for k in keys):
        order = any(k.startswith("sop_classifier.") for k in keys)
        return Head.PRETRAINING if order else Head.MASKED_LM
    if "qa_outputs.weight" in keys:
        return Head.QUESTION_ANSWERING
    if "classifier.weight" in keys:
        # One row is a choice, unless config.json says that there is one label: then it may be a regression.
        if keys["classifier.weight"][0] == 1 and len(config.get("id2label", "two")) != 1:
            return Head.MULTIPLE_CHOICE
        raise ModelRefused(
            "config.json names no architecture, and a classifier head may be for sequences or for tokens",
            'add "architectures": ["AlbertForSequenceClassification"] (or …TokenClassification) to config.json',
        )
    return Head.ENCODER


# --- the model ------------------------------------------------------------------------------


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' load report while loading, and put its settings back."""
    level = transformers.logging.get_verbosity()
    bar = transformers.logging.is_progress_bar_enabled()
    hub_bar = not are_progress_bars_disabled()
    transformers.logging.set_verbosity(logging.ERROR)
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        if bar:
            transformers.logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        # transformers switches the hub's bars with its own.
        (enable_progress_bars if hub_bar else disable_progress_bars)()


_BODY = re.compile(r"(^|\.)(embeddings|encoder)\.")


def _model(folder: Path, head: Head) -> Any:
    cls = getattr(transformers, next(n for n, h in _CLASSES.items() if h is head))
    model, info = _from_pretrained(cls, folder)
    if info["mismatched_keys"]:
        found = (f"{k} {tuple(a)} for {tuple(b)}" for k, a, b in sorted(info["mismatched_keys"]))
        raise ModelRefused(
            f"weights of other shapes than config.json says: {_some(found)}",
            "config.json and weights belong to different models; download the checkpoint again",
        )
    missing = set(info["missing_keys"])
    if head is Head.ENCODER and missing and all(k.startswith("pooler.") for k in missing):
        model, info = _from_pretrained(cls, folder, add_pooling_layer=False)
        missing = set(info["missing_keys"])
    if missing:
        raise ModelRefused(
            f"{cls.__name__} needs weights that the checkpoint lacks; they would be random: "
            + _some(sorted(missing)),
            "audit the checkpoint under the architecture it was trained with (config.json, architectures), "
            "or fine-tune that head first",
        )
    ignored = sorted(k for k in info["unexpected_keys"] if _BODY.search(k) and not k.endswith("_ids"))
    if ignored:
        raise ModelRefused(
            f"the checkpoint has encoder weights that config.json has no place for: {_some(ignored)}",
            "config.json and weights belong to different models (num_hidden_groups, inner_group_num?); "
            "download the checkpoint again",
        )
    broken = [n for n, p in model.named_parameters() if not torch.isfinite(p).all()]
    if broken:
        raise ModelRefused(
            f"weights that are not finite numbers: {_some(broken)}",
            "the training run diverged or the file is damaged; audit an earlier checkpoint",
        )
    return model.eval().requires_grad_(requires_grad=False)


def _from_pretrained(cls: Any, folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    with _quiet():
        try:
            model, info = cls.from_pretrained(
                folder,
                output_loading_info=True,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                attn_implementation="sdpa",  # config.json may name one that is fetched and run
                chunk_size_feed_forward=0,  # computes the same, but only for lengths it divides
                output_attentions=False,  # config.json may ask for them, which sdpa refuses
                ignore_mismatched_sizes=True,  # reported, and refused by name
                **options,
            )
        except Exception as exc:
            raise ModelRefused(
                f"{cls.__name__} could not be loaded: {type(exc).__name__}: {exc}",
                "config.json and weights may belong to different models",
            ) from exc
    return model, info


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


# --- the tokenizer --------------------------------------------------------------------------


def _tokenizer_files(folder: Path) -> list[Path]:
    return [folder / n for n in _TOKENIZER_FILES if (folder / n).is_file()]


def _tokenizer(folder: Path) -> Any:
    names = {p.name for p in _tokenizer_files(folder)}
    if not names & {"tokenizer.json", "spiece.model", "vocab.txt"}:
        raise ModelRefused(
            f"{folder.name} has no tokenizer (tokenizer.json, spiece.model or vocab.txt)",
            "save the tokenizer it was trained with beside the model: tokenizer.save_pretrained(folder)",
        )
    if not names & {"tokenizer.json", "vocab.txt"} and not _can_read_sentencepiece():
        raise ModelRefused(
            "the tokenizer is a SentencePiece file, which transformers reads with sentencepiece and protobuf",
            "run `pip install sentencepiece protobuf`, or save the tokenizer as tokenizer.json elsewhere",
        )
    # Chinese ALBERT checkpoints carry BERT's WordPiece vocabulary, which AlbertTokenizer reads as junk.
    word_piece = "vocab.txt" in names and not names & {"tokenizer.json", "spiece.model"}
    if "tokenizer.json" in names and "tokenizer_class" not in (_json(folder / "tokenizer_config.json") or {}):
        model = (_json(folder / "tokenizer.json") or {}).get("model")
        word_piece = isinstance(model, dict) and model.get("type") == "WordPiece"
    with _quiet():
        try:
            cls = BertTokenizer if word_piece else AutoTokenizer
            tokenizer = cls.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except Exception as exc:
            raise ModelRefused(
                f"the tokenizer could not be loaded: {type(exc).__name__}: {exc}",
                "save the tokenizer it was trained with beside the model",
            ) from exc
    backend = getattr(tokenizer, "_tokenizer", None)
    if backend is None:
        raise ModelRefused(
            f"{type(tokenizer).__name__} has no offsets, which masking by word needs",
            "save the tokenizer as tokenizer.json",
        )
    backend.no_truncation()
    backend.no_padding()
    _check_rebuilt(folder, tokenizer)
    return tokenizer


def _check_rebuilt(folder: Path, tokenizer: Any) -> None:
    """Refuse when transformers' class splits text otherwise than the file it was made from.

    `AlbertTokenizer` takes pieces from ``tokenizer.json`` and builds the rest anew: always lower-casing
    unless told, always with id 1 for the unknown.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    own = Tokenizer.from_file(str(path))
    own.no_truncation()
    own.no_padding()
    texts = [*resources.reference_sentences("en"), *resources.reference_sentences("zh"), "\U0001f600"]
    both = zip(own.encode_batch(texts), tokenizer._tokenizer.encode_batch(texts), strict=True)
    if any(a.ids != b.ids for a, b in both):
        raise ModelRefused(
            f"{type(tokenizer).__name__} splits plain sentences otherwise than tokenizer.json says",
            'if the model was trained with tokenizer.json as it is, set "tokenizer_class": "PreTrainedTokenizerFast" '
            "and the special tokens in tokenizer_config.json; else save the tokenizer again with save_pretrained",
        )


def _can_read_sentencepiece() -> bool:
    try:
        for name in ("sentencepiece", "google.protobuf"):
            importlib.import_module(name)
    except ImportError:
        return False
    return True


def _check_tokenizer(tokenizer: Any, config: Any, head: Head) -> list[str]:
    size, top = config.vocab_size, max(tokenizer.get_vocab().values())
    wrong = ""
    if top >= size:
        wrong = f"its highest id is {top}, the model has {size} embeddings"
    elif size - top - 1 > max(128, 0.02 * size):
        wrong = f"it has {top + 1} ids, the model {size} embeddings"
    elif tokenizer.unk_token_id is None:
        wrong = "it has no unknown token"
    elif tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        wrong = "it has no [CLS] or [SEP] token"
    elif not _frames(tokenizer):
        wrong = "it does not put [CLS] before and [SEP] after a text"
    elif Ability.MASK_LOGPROBS in ABILITIES[head] and tokenizer.mask_token_id in (
        None,
        tokenizer.unk_token_id,
    ):
        wrong = "its mask token is the unknown token: every mask would be noise"
    else:
        rates = _unknown_rates(tokenizer)
        if min(rates.values()) > MOST_UNKNOWN:
            listed = ", ".join(f"{r:.0%} ({language})" for language, r in rates.items())
            wrong = f"it does not know the words of plain sentences: unknown tokens {listed}"
    if wrong:
        raise ModelRefused(
            f"the tokenizer does not belong to the model: {wrong}",
            "put the tokenizer files that the model was trained with into its folder",
        )
    caveats = []
    if (pad := tokenizer.pad_token_id) is not None and config.pad_token_id not in (None, pad):
        caveats.append(
            f"pad id {pad} in the tokenizer, {config.pad_token_id} in config.json (no score uses padding)"
        )
    return caveats


def _frames(tokenizer: Any) -> bool:
    ids = tokenizer._tokenizer.encode("a").ids
    return bool(ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id)


def _unknown_rates(tokenizer: Any) -> dict[str, float]:
    rates = {}
    for language in ("en", "zh"):
        encodings = tokenizer._tokenizer.encode_batch(
            list(resources.reference_sentences(language)), add_special_tokens=False
        )
        ids = [i for e in encodings for i in e.ids]
        rates[language] = ids.count(tokenizer.unk_token_id) / len(ids) if ids else math.nan
    return rates


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
