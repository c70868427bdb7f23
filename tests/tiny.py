"""Tiny ALBERT checkpoints with random weights, for tests.

`checkpoint` writes one to a folder: any head, a Unigram ``tokenizer.json`` that loads as
`AlbertTokenizer`, or BERT's WordPiece ``vocab.txt`` as Chinese checkpoints have it. Every parameter
is random, biases and norms too, so that a forgotten one shows.

The fixtures are session-scoped folders and handles: do not write into them, `clone` them.
"""

from __future__ import annotations

import json
import shutil
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from albert_audit import resources
from albert_audit.model.load import ModelHandle, load
from albert_audit.model.scorer import TorchScorer
from albert_audit.types import Head

SPECIAL = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
CLASSES = {
    Head.MASKED_LM: "AlbertForMaskedLM",
    Head.PRETRAINING: "AlbertForPreTraining",
    Head.SEQUENCE_CLASSIFICATION: "AlbertForSequenceClassification",
    Head.TOKEN_CLASSIFICATION: "AlbertForTokenClassification",
    Head.QUESTION_ANSWERING: "AlbertForQuestionAnswering",
    Head.MULTIPLE_CHOICE: "AlbertForMultipleChoice",
    Head.ENCODER: "AlbertModel",
}
SIZES: dict[str, Any] = {
    "embedding_size": 16,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
# Whole words; "nurse", "carpenter", "hairdresser" and the like fall into several pieces.
_WORDS = (
    "he she they him her them his their man woman men women person people i you we it this that not am are be been "
    "had have do did said says went works worked as doctor teacher john mary anna peter friend job house car dog cat "
    "good bad very who what where when why how can will would red blue old new day night time work home school"
)
_PARTS = "er ing ed ly tion ist man woman s es or ian al re un th in an on en at ar"


# --- tokenizers -----------------------------------------------------------------------------


def unigram_pieces(words: int = 150) -> list[tuple[str, float]]:
    """Return a Unigram vocabulary: specials, every ASCII character, frequent words, word parts."""
    seen = Counter(
        w.strip(string.punctuation) for t in resources.reference_sentences("en") for w in t.lower().split()
    )
    common = [w for w, _ in seen.most_common(words) if w.isalpha()]
    characters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    pieces = [(p, 0.0) for p in SPECIAL]
    scored = {
        **dict.fromkeys(("▁", *characters, *(f"▁{c}" for c in characters)), -12.0),
        **dict.fromkeys(_PARTS.split(), -9.0),
        **dict.fromkeys((f"▁{w}" for w in (*_WORDS.split(), *common)), -7.0),
    }
    return pieces + sorted(scored.items())


def unigram_backend(pieces: list[tuple[str, float]] | None = None, *, unk_id: int = 1) -> Tokenizer:
    """Return the pipeline of ALBERT's tokenizer over `pieces`."""
    pieces = pieces or unigram_pieces()
    ids = {p: i for i, (p, _) in enumerate(pieces)}
    backend = Tokenizer(models.Unigram(pieces, unk_id=unk_id, byte_fallback=False))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    backend.add_special_tokens(list(SPECIAL))
    return backend


def write_unigram(folder: Path, backend: Tokenizer | None = None, **config: Any) -> Path:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (backend or unigram_backend()).save(str(folder / "tokenizer.json"))
    return edit(folder / "tokenizer_config.json", **{"tokenizer_class": "AlbertTokenizer", **config}).parent


def word_pieces() -> list[str]:
    """Return BERT's kind of vocabulary: the characters of the Chinese floor, letters, some words."""
    han = sorted({c for t in resources.reference_sentences("zh") for c in t if not c.isascii()})
    marks = sorted(set("，。！？、：；（）“”") - set(han))
    letters = [*string.ascii_lowercase, *string.digits]
    return list(
        dict.fromkeys(
            [
                "[PAD]",
                "[UNK]",
                "[CLS]",
                "[SEP]",
                "[MASK]",
                *han,
                *marks,
                *"他她们的是护士医生老师男女",
                *letters,
            ]
            + [f"##{c}" for c in letters]
            + [*string.punctuation, "the", "nurse", "##ing"]
        )
    )


def write_wordpiece(folder: Path) -> Path:
    """Write ``vocab.txt`` alone, as the Chinese checkpoints on the hub do."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(word_pieces()) + "\n", encoding="utf-8")
    return folder


# --- checkpoints ----------------------------------------------------------------------------


def model(head: Head = Head.MASKED_LM, *, seed: int = 0, **config: Any) -> Any:
    """Return a stock transformers model, every parameter random, in eval mode."""
    changes = {"vocab_size": len(unigram_pieces()), **SIZES, **config}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = getattr(transformers, CLASSES[head])(transformers.AlbertConfig(**changes))
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return made.eval()


def checkpoint(
    folder: Path,
    head: Head = Head.MASKED_LM,
    *,
    seed: int = 0,
    chinese: bool = False,
    shards: str | None = None,
    dtype: torch.dtype = torch.float32,
    tokenizer: bool = True,
    **config: Any,
) -> Path:
    """Write a checkpoint that `load` takes, and return its folder.

    Parameters
    ----------
    shards : str, optional
        ``max_shard_size`` of `save_pretrained`, to split the weights.
    dtype : torch.dtype
        Of the weights on disk.
    **config
        Changes to the `AlbertConfig`.
    """
    if chinese:
        config = {"vocab_size": len(word_pieces()), **config}
    made = model(head, seed=seed, **config).to(dtype)
    options = {"max_shard_size": shards} if shards else {}
    made.save_pretrained(folder, **options)
    if tokenizer:
        (write_wordpiece if chinese else write_unigram)(folder)
    return folder


def clone(folder: Path, into: Path) -> Path:
    """Copy a checkpoint, to spoil the copy."""
    return Path(shutil.copytree(folder, into))


def edit(path: Path, *, drop: Iterable[str] = (), **changes: Any) -> Path:
    """Change keys of a JSON file, which need not exist; return its path."""
    data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    data = {k: v for k, v in {**data, **changes}.items() if k not in set(drop)}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


# --- fixtures -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Head, Path]:
    """One checkpoint a head; classifiers have three labels."""
    root = tmp_path_factory.mktemp("tiny")
    labels = {"num_labels": 3}
    return {
        head: checkpoint(
            root / head.value,
            head,
            seed=i,
            **(labels if head in (Head.SEQUENCE_CLASSIFICATION, Head.TOKEN_CLASSIFICATION) else {}),
        )
        for i, head in enumerate(Head)
    }


@pytest.fixture(scope="session")
def tiny_handles(tiny_folders: dict[Head, Path]) -> dict[Head, ModelHandle]:
    """The loaded checkpoint of each head, on the CPU."""
    return {head: load(folder, device="cpu") for head, folder in tiny_folders.items()}


@pytest.fixture(scope="session")
def tiny_scorers(tiny_handles: dict[Head, ModelHandle]) -> dict[Head, TorchScorer]:
    """A scorer a head, with the default budget."""
    return {head: TorchScorer(handle) for head, handle in tiny_handles.items()}


@pytest.fixture(scope="session")
def tiny_mlm(tiny_folders: dict[Head, Path]) -> Path:
    """The folder of a masked LM."""
    return tiny_folders[Head.MASKED_LM]


@pytest.fixture(scope="session")
def tiny_zh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Chinese masked LM with BERT's ``vocab.txt``."""
    return checkpoint(tmp_path_factory.mktemp("tiny") / "zh", chinese=True)


@pytest.fixture(scope="session")
def mlm(tiny_scorers: dict[Head, TorchScorer]) -> TorchScorer:
    """The scorer of `tiny_mlm`."""
    return tiny_scorers[Head.MASKED_LM]
