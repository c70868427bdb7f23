"""Every head is recognised, and whatever would be scored wrongly is refused with a next step."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from safetensors.torch import load_file, save_file
from tokenizers import normalizers, pre_tokenizers, processors
from transformers import AlbertTokenizer, AutoTokenizer, BertTokenizer

from albert_audit import resources
from albert_audit.model.load import ABILITIES, load, peek_head
from albert_audit.model.scorer import TorchScorer
from albert_audit.types import Ability, Head, ModelRefused, UsageError
from tests import tiny

CLASSIFIERS = (Head.SEQUENCE_CLASSIFICATION, Head.TOKEN_CLASSIFICATION)
GENERIC = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "pad_token": "<pad>",
}


def refused(folder: Path, match: str, *, error: type = ModelRefused) -> str:
    with pytest.raises(error, match=match) as caught:
        load(folder, device="cpu")
    assert caught.value.exit_code == 2
    assert caught.value.hint, "a refusal says what to do"
    return str(caught.value)


def pll(folder: Path, text: str = "The nurse is at work.") -> np.ndarray:
    return TorchScorer(load(folder, device="cpu")).token_logprobs([text], rule="pll")[0]


def spoil(path: Path, change) -> Path:
    """Change the tensors of a safetensors file."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return path.parent


@pytest.fixture
def copy(tiny_mlm, tmp_path):
    return tiny.clone(tiny_mlm, tmp_path / "model")


@pytest.fixture
def bare(tmp_path):
    """A masked LM without a tokenizer."""
    return tiny.checkpoint(tmp_path / "model", tokenizer=False)


# --- what is recognised ---------------------------------------------------------------------


@pytest.mark.parametrize("head", list(Head))
def test_every_head_by_its_architecture(tiny_folders, tiny_handles, head):
    handle = tiny_handles[head]
    assert peek_head(tiny_folders[head]) is head
    assert handle.id.head is head
    assert type(handle.model).__name__ == tiny.CLASSES[head]
    assert handle.can == ABILITIES[head]
    assert handle.id.labels == (("LABEL_0", "LABEL_1", "LABEL_2") if head in CLASSIFIERS else ())
    assert handle.id.name == head.value
    assert not handle.model.training
    assert {p.dtype for p in handle.model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in handle.model.parameters())
    assert handle.unknown_rate["en"] == 0
    assert handle.id.tokenizer == "AlbertTokenizer (Unigram)"


def test_abilities_name_what_a_head_can_answer():
    masked = {Ability.MASK_LOGPROBS, Ability.TOKEN_LOGPROBS}
    own = {
        Head.MASKED_LM: masked,
        Head.PRETRAINING: masked | {Ability.ORDER_LOGITS},
        Head.SEQUENCE_CLASSIFICATION: {Ability.CLASS_LOGITS},
        Head.TOKEN_CLASSIFICATION: {Ability.TAG_LOGITS},
        Head.QUESTION_ANSWERING: {Ability.SPAN_LOGITS},
        Head.MULTIPLE_CHOICE: {Ability.CHOICE_LOGITS},
        Head.ENCODER: set(),
    }
    assert {h: a | {Ability.EMBEDDINGS, Ability.ATTENTION} for h, a in own.items()} == ABILITIES


@pytest.mark.parametrize(
    "absent", [{"drop": ["architectures"]}, {"architectures": None}, {"architectures": []}]
)
@pytest.mark.parametrize("head", [h for h in Head if h not in CLASSIFIERS])
def test_heads_by_their_tensors(tiny_folders, tmp_path, head, absent):
    folder = tiny.clone(tiny_folders[head], tmp_path / "model")
    tiny.edit(folder / "config.json", **absent)
    assert peek_head(folder) is head


@pytest.mark.parametrize("head", CLASSIFIERS)
def test_a_classifier_without_a_name_is_ambiguous(tiny_folders, tmp_path, head):
    folder = tiny.clone(tiny_folders[head], tmp_path / "model")
    tiny.edit(folder / "config.json", drop=["architectures"])
    refused(folder, "for sequences or for tokens")


def test_a_regression_is_not_taken_for_multiple_choice(tmp_path):
    folder = tiny.checkpoint(tmp_path / "m", Head.SEQUENCE_CLASSIFICATION, num_labels=1)
    assert load(folder, device="cpu").id.labels == ("LABEL_0",)
    tiny.edit(folder / "config.json", drop=["architectures"])
    refused(folder, "no architecture")


def test_labels_keep_their_order(tmp_path):
    labels = {i: f"name {i}" for i in range(12)}
    folder = tiny.checkpoint(
        tmp_path / "m", Head.TOKEN_CLASSIFICATION, id2label=labels, label2id={v: k for k, v in labels.items()}
    )
    assert load(folder, device="cpu").id.labels == tuple(labels.values())


def test_parameters_and_flops_by_hand(tmp_path):
    shape = {"num_hidden_layers": 4, "inner_group_num": 2, "num_hidden_groups": 2}
    identity = load(tiny.checkpoint(tmp_path / "m", Head.ENCODER, **shape), device="cpu").id
    v, e, h, i, n = len(tiny.unigram_pieces()), 16, 24, 40, 96
    layer = 4 * (h * h + h) + (h * i + i) + (i * h + h) + 2 * 2 * h
    assert identity.parameters == (v + n + 2) * e + 2 * e + (e * h + h) + 4 * layer + (h * h + h)
    assert identity.depth == 8
    assert identity.flops_per_token == 2 * (e * h + 8 * (4 * h * h + 2 * h * i))
    assert identity.max_tokens == n
    assert identity.vocab_size == v


def test_shared_parameters_count_once_and_flops_for_each_pass(tmp_path):
    few, many = (
        load(tiny.checkpoint(tmp_path / str(n), num_hidden_layers=n), device="cpu").id for n in (2, 6)
    )
    assert few.parameters == many.parameters
    assert many.flops_per_token - few.flops_per_token == 4 * 2 * (4 * 24**2 + 2 * 24 * 40)


def test_an_encoder_without_a_pooler(tmp_path):
    folder = tiny.write_unigram(tmp_path / "m")
    made = tiny.model(Head.ENCODER)
    made.pooler = None
    made.save_pretrained(folder)
    handle = load(folder, device="cpu")
    assert handle.model.pooler is None
    with pytest.raises(UsageError, match="no pooler"):
        TorchScorer(handle).embeddings(["a"], pool="pooler")
    assert TorchScorer(handle).embeddings(["a"], pool="cls").shape == (1, 24)


def test_the_encoder_of_a_masked_lm_may_be_audited_as_encoder(copy, tiny_scorers):
    tiny.edit(copy / "config.json", architectures=["AlbertModel"])
    found = TorchScorer(load(copy, device="cpu")).embeddings(["the nurse"], pool="mean")
    expected = tiny_scorers[Head.MASKED_LM].embeddings(["the nurse"], pool="mean")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_pretraining_checkpoint_may_be_audited_as_masked_lm(tiny_folders, tmp_path):
    folder = tiny.clone(tiny_folders[Head.PRETRAINING], tmp_path / "m")
    before = pll(folder)
    tiny.edit(folder / "config.json", architectures=["AlbertForMaskedLM"])
    np.testing.assert_allclose(pll(folder), before, atol=1e-6)


def test_the_scores_are_those_of_the_weights_not_of_a_fresh_model(copy, tmp_path):
    # Trap 1: a tool that builds from the configuration scores a random network.
    other = tiny.checkpoint(tmp_path / "other", seed=99)
    assert np.abs(pll(copy) - pll(other)).max() > 0.1
    np.testing.assert_array_equal(pll(copy), pll(copy))


# --- identity -------------------------------------------------------------------------------


def test_hashes_do_not_depend_on_the_folder(copy, tiny_mlm, tmp_path):
    here, there = load(tiny_mlm, device="cpu").id, load(copy, device="cpu").id
    assert here.name != there.name
    assert here.model_copy(update={"name": there.name}) == there
    assert str(tmp_path) not in there.model_dump_json()


def test_the_name_of_a_folder_under_home_tells_no_path(copy, monkeypatch):
    monkeypatch.setenv("HOME", str(copy.parent))
    assert load("~/model", device="cpu").id.name == "model"


@pytest.mark.parametrize(
    ("spoiled", "changed"),
    [
        ("config.json", "config_sha256"),
        ("model.safetensors", "weights_sha256"),
        ("tokenizer.json", "tokenizer_sha256"),
        ("tokenizer_config.json", "tokenizer_sha256"),
        ("special_tokens_map.json", "tokenizer_sha256"),
        ("added_tokens.json", "tokenizer_sha256"),
    ],
)
def test_hashes_change_with_any_file(copy, spoiled, changed):
    before = load(copy, device="cpu").id
    path = copy / spoiled
    if spoiled == "model.safetensors":
        spoil(path, lambda t: t["predictions.bias"].add_(1e-3))
    elif path.exists():
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    else:
        path.write_text("{}", encoding="utf-8")
    after = load(copy, device="cpu").id
    parts = ("config_sha256", "weights_sha256", "tokenizer_sha256")
    assert [p for p in parts if getattr(before, p) != getattr(after, p)] == [changed]
    assert before.sha256 != after.sha256


def test_shards_score_alike_and_each_is_hashed(copy, tmp_path):
    folder = tiny.checkpoint(tmp_path / "shards", shards="20KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 1
    np.testing.assert_array_equal(pll(folder), pll(copy))
    before = load(folder, device="cpu").id.weights_sha256
    for shard in shards:
        tensors = load_file(shard)
        spoil(shard, lambda t: next(iter(t.values())).add_(1e-3))
        assert load(folder, device="cpu").id.weights_sha256 != before
        save_file(tensors, shard, metadata={"format": "pt"})


def test_what_is_hashed_is_what_is_scored(copy, tmp_path):
    # transformers takes the whole file where there are shards beside it.
    folder = tiny.checkpoint(tmp_path / "both", seed=5, shards="20KB")
    shutil.copy(copy / "model.safetensors", folder)
    np.testing.assert_array_equal(pll(folder), pll(copy))
    assert load(folder, device="cpu").id.weights_sha256 == load(copy, device="cpu").id.weights_sha256


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_scored_in_fp32(copy, tmp_path, dtype):
    folder = tiny.checkpoint(tmp_path / "m", dtype=dtype)
    handle = load(folder, device="cpu")
    assert {p.dtype for p in handle.model.parameters()} == {torch.float32}
    assert handle.id.dtype == "float32"
    rounded = load_file(folder / "model.safetensors")["predictions.dense.weight"]
    assert rounded.dtype == dtype
    assert torch.equal(handle.model.predictions.dense.weight, rounded.float())
    np.testing.assert_allclose(pll(folder), pll(copy), atol=0.2)


# --- transformers' own round trip -----------------------------------------------------------


@pytest.mark.parametrize("head", list(Head))
def test_save_pretrained_round_trip(tiny_handles, tmp_path, head):
    handle = tiny_handles[head]
    handle.model.save_pretrained(tmp_path / "m")
    handle.tokenizer.save_pretrained(tmp_path / "m")
    again = load(tmp_path / "m", device="cpu")
    text = "The nurse’s café, isn't it?"
    assert TorchScorer(again).encode([text], ["b"]) == TorchScorer(handle).encode([text], ["b"])
    assert again.id.head is head
    for (name, a), (_, b) in zip(
        handle.model.named_parameters(), again.model.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    "config",
    [
        {"return_dict": False},
        {"output_hidden_states": True},
        {"output_attentions": True},
        {"use_cache": True},
        {"torch_dtype": "float16"},
        {"dtype": "bfloat16"},
        {"chunk_size_feed_forward": 4},
        {"attn_implementation": "eager"},
        {"attn_implementation": "somebody/their-kernel"},
        {"_attn_implementation": "flash_attention_2"},
        {"net_structure_type": 0, "gap_size": 0, "num_memory_blocks": 0, "down_scale_factor": 1},
        {"position_embedding_type": "absolute"},
        {"architectures": "AlbertForSequenceClassification"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_settings_that_must_not_matter(tiny_folders, tiny_scorers, tmp_path, config):
    folder = tiny.clone(tiny_folders[Head.SEQUENCE_CLASSIFICATION], tmp_path / "m")
    tiny.edit(folder / "config.json", **config)
    scorer, expected = TorchScorer(load(folder, device="cpu")), tiny_scorers[Head.SEQUENCE_CLASSIFICATION]
    texts = ["the nurse is here", "he"]
    assert scorer.id.attention == "sdpa"
    np.testing.assert_allclose(scorer.class_logits(texts), expected.class_logits(texts), atol=1e-5)
    np.testing.assert_allclose(
        scorer.embeddings(texts, pool="mean", layer=1),
        expected.embeddings(texts, pool="mean", layer=1),
        atol=1e-5,
    )
    for a, b in zip(scorer.attention_received(texts), expected.attention_received(texts), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


# --- refused: what is not an ALBERT one can score ----------------------------------------------


@pytest.mark.parametrize(
    ("source", "declared"),
    [
        (Head.MASKED_LM, "AlbertForSequenceClassification"),
        (Head.MASKED_LM, "AlbertForPreTraining"),
        (Head.ENCODER, "AlbertForMaskedLM"),
        (Head.ENCODER, "AlbertForQuestionAnswering"),
        (Head.SEQUENCE_CLASSIFICATION, "AlbertForMaskedLM"),
        (Head.QUESTION_ANSWERING, "AlbertForTokenClassification"),
    ],
)
def test_a_head_that_would_be_random(tiny_folders, tmp_path, source, declared):
    folder = tiny.clone(tiny_folders[source], tmp_path / "m")
    tiny.edit(folder / "config.json", architectures=[declared])
    assert "architecture" in refused(folder, "they would be random")


def test_one_missing_tensor_is_named(copy):
    spoil(copy / "model.safetensors", lambda t: t.pop("predictions.LayerNorm.weight"))
    refused(copy, r"predictions\.LayerNorm\.weight")


@pytest.mark.parametrize("name", ["inner_group_num", "num_hidden_groups"])
def test_encoder_weights_that_would_be_left_out(tmp_path, name):
    folder = tiny.checkpoint(tmp_path / "m", **{name: 2})
    tiny.edit(folder / "config.json", **{name: 1})
    refused(folder, "no place for")


def test_relative_positions_are_not_scored_as_absolute_ones(copy):
    tiny.edit(copy / "config.json", position_embedding_type="relative_key_query")
    refused(copy, "position")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "tf_model.h5", "model.ckpt-best.index"])
def test_pickled_or_foreign_weights_only(copy, name):
    (copy / "model.safetensors").rename(copy / name)
    assert "save_pretrained" in refused(copy, "pickled or foreign")


def test_a_pickle_beside_the_weights_is_never_opened(copy):
    (copy / "pytorch_model.bin").write_bytes(b"not a pickle")
    assert load(copy, device="cpu").id == load(copy, device="cpu").id


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_remote_code(copy, file):
    tiny.edit(copy / file, auto_map={"AutoModel": "evil.Evil"})
    refused(copy, "remote code")


@pytest.mark.parametrize("kind", ["bert", None, "Albert"])
def test_not_an_albert(copy, kind):
    tiny.edit(copy / "config.json", model_type=kind)
    refused(copy, "model_type")


@pytest.mark.parametrize(
    "named",
    [["AlbertForNextSentence"], ["BertForMaskedLM"], ["AlbertModel", "AlbertForMaskedLM"], [["x"]], 7],
)
def test_unknown_architectures(copy, named):
    tiny.edit(copy / "config.json", architectures=named)
    refused(copy, "architecture")


def test_weights_from_elsewhere(copy):
    shutil.copy(copy / "model.safetensors", copy / "other.safetensors")
    tiny.edit(copy / "config.json", transformers_weights="other.safetensors")
    refused(copy, "other weights")


def test_an_adapter_beside_the_weights(copy):
    tiny.edit(copy / "adapter_config.json", base_model_name_or_path="somebody/else")
    refused(copy, "adapter")


# --- refused: damaged files -----------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_truncated_weights(copy, size):
    path = copy / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:size])
    refused(copy, "truncated or corrupt")


def test_weights_that_are_something_else(copy):
    (copy / "model.safetensors").write_bytes(b"\x80\x04 surely a pickle " * 100)
    refused(copy, "truncated or corrupt")


def test_no_weights(copy):
    (copy / "model.safetensors").unlink()
    refused(copy, "lacks model.safetensors")


def test_a_missing_shard(tmp_path):
    folder = tiny.checkpoint(tmp_path / "m", shards="20KB")
    lost = sorted(folder.glob("*.safetensors"))[-1]
    lost.unlink()
    refused(folder, lost.name)


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": 1}}])
def test_a_malformed_index(copy, index):
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    refused(copy, ".")


def test_an_index_that_leaves_the_folder(copy, tmp_path):
    (copy / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = {"weight_map": {"predictions.bias": "../model.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    refused(copy, "weight_map")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["albert.embeddings.word_embeddings.weight", "predictions.bias"])
def test_weights_that_are_not_numbers(copy, name, value):
    spoil(copy / "model.safetensors", lambda t: t[name].view(-1)[:1].fill_(value))
    refused(copy, "not finite")


def test_fp16_weights_that_overflowed(copy):
    def overflow(tensors):
        tensors["predictions.dense.weight"] = (tensors["predictions.dense.weight"] * 1e6).half()

    spoil(copy / "model.safetensors", overflow)
    refused(copy, "not finite")


@pytest.mark.parametrize(
    "config", [{"hidden_size": 48}, {"type_vocab_size": 1}, {"num_attention_heads": 5}, {"vocab_size": 500}]
)
def test_shapes_of_another_model(copy, config):
    tiny.edit(copy / "config.json", **config)
    refused(copy, r"other shapes.*weight")


@pytest.mark.parametrize(
    "config",
    [{"hidden_size": "wide"}, {"hidden_act": "nonesuch"}, {"num_hidden_layers": 0}, {"hidden_size": 0}],
)
def test_impossible_configurations(copy, config):
    tiny.edit(copy / "config.json", **config)
    refused(copy, ".")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b"[" * 20_000, b"\xef\xbb\xbf{}"])
def test_bad_json(copy, name, data):
    (copy / name).write_bytes(data)
    refused(copy, name.replace(".", r"\."))


def test_json_that_is_no_object(copy):
    (copy / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelRefused, match="expected an object"):
        load(copy, device="cpu")


def test_no_configuration(copy):
    (copy / "config.json").unlink()
    refused(copy, r"no config\.json")


def test_a_folder_in_place_of_the_configuration(copy):
    (copy / "config.json").unlink()
    (copy / "config.json").mkdir()
    refused(copy, r"config\.json")


# --- tokenizers -----------------------------------------------------------------------------


def test_no_tokenizer(bare):
    refused(bare, "no tokenizer")


def test_a_tokenizer_larger_than_the_model(bare):
    tiny.write_unigram(bare, tiny.unigram_backend([*tiny.unigram_pieces(), ("▁more", -9.0)]))
    refused(bare, "does not belong")


def test_a_tokenizer_far_smaller_than_the_model(tmp_path):
    folder = tiny.checkpoint(tmp_path / "m", vocab_size=len(tiny.unigram_pieces()) + 200)
    refused(folder, "does not belong")


def test_padding_of_the_embedding_table_is_no_mistake(tmp_path):
    folder = tiny.checkpoint(tmp_path / "m", vocab_size=-(-len(tiny.unigram_pieces()) // 64) * 64)
    assert load(folder, device="cpu").id.vocab_size % 64 == 0


@pytest.mark.parametrize("mask", ["<unk>", "[MASK]>"])
def test_the_mask_is_the_unknown(bare, mask):
    # An early release of ALBERT's tokenizer had the mask token "[MASK]>".
    tiny.write_unigram(bare, mask_token=mask)
    if mask == "[MASK]>":
        tiny.edit(bare / "tokenizer_config.json", **{**GENERIC, "mask_token": mask})
    refused(bare, "does not belong")


def test_a_classifier_needs_no_mask(tmp_path):
    folder = tiny.checkpoint(tmp_path / "m", Head.SEQUENCE_CLASSIFICATION)
    tiny.edit(folder / "tokenizer_config.json", mask_token="<unk>")
    assert load(folder, device="cpu").id.head is Head.SEQUENCE_CLASSIFICATION


def test_a_tokenizer_that_knows_no_words(bare):
    # Trap 29: a broken model must not look fair.
    kept = set("▁.,0123456789") | set(tiny.SPECIAL)
    pieces = [(p if p in kept else f"<filler {i}>", s) for i, (p, s) in enumerate(tiny.unigram_pieces())]
    tiny.write_unigram(bare, tiny.unigram_backend(pieces))
    assert "en" in refused(bare, "unknown tokens")


def test_an_unknown_id_that_the_class_would_take_for_another_piece(bare):
    # AlbertTokenizer hard-codes id 1: here that is the padding, and nothing would count as unknown.
    pieces = [("<unk>", 0.0), ("<pad>", 0.0), *tiny.unigram_pieces()[2:]]
    tiny.write_unigram(bare, tiny.unigram_backend(pieces, unk_id=0))
    refused(bare, r"otherwise than tokenizer\.json")
    tiny.edit(bare / "tokenizer_config.json", **GENERIC)
    tiny.edit(bare / "config.json", pad_token_id=1)
    handle = load(bare, device="cpu")
    assert handle.tokenizer.unk_token_id == 0
    assert handle.unknown_rate["zh"] > 0.4


def test_a_cased_tokenizer_is_not_lower_cased_in_silence(bare):
    backend = tiny.unigram_backend()
    backend.normalizer = normalizers.NFKC()
    tiny.write_unigram(bare, backend)
    refused(bare, r"otherwise than tokenizer\.json")


@pytest.mark.parametrize("config", [{}, GENERIC], ids=["albert", "generic"])
def test_a_tokenizer_that_frames_nothing(bare, config):
    backend = tiny.unigram_backend()
    backend.post_processor = processors.Sequence([])
    tiny.write_unigram(bare, backend, **config)
    refused(bare, r"\[CLS\]")


def test_truncation_and_padding_of_the_file_are_off(bare, mlm):
    backend = tiny.unigram_backend()
    backend.enable_truncation(5)
    backend.enable_padding(length=40)
    tiny.write_unigram(bare, backend)
    texts = ["The carpenter said that the house is old.", "He"]
    assert TorchScorer(load(bare, device="cpu")).encode(texts) == mlm.encode(texts)


def test_the_blank_before_a_word_is_no_part_of_it(bare, mlm):
    backend = tiny.unigram_backend()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tiny.write_unigram(bare, backend, **GENERIC)
    handle = load(bare, device="cpu")
    assert handle.id.tokenizer == "TokenizersBackend (Unigram)"
    found, expected = (s.encode(["He is a nurse, isn't he?"])[0] for s in (TorchScorer(handle), mlm))
    assert (found.ids, found.offsets, found.words) == (expected.ids, expected.offsets, expected.words)


def test_the_pad_ids_may_differ_with_a_caveat(copy):
    tiny.edit(copy / "config.json", pad_token_id=4)
    assert ["pad id" in c for c in load(copy, device="cpu").id.caveats] == [True]


def test_a_chinese_vocabulary_gets_berts_tokenizer(tiny_zh):
    handle = load(tiny_zh, device="cpu")
    assert isinstance(handle.tokenizer, BertTokenizer)
    assert handle.id.tokenizer == "BertTokenizer (WordPiece)"
    assert handle.unknown_rate["zh"] == 0
    encoded = TorchScorer(handle).encode(["他是护士。"])[0]
    assert encoded.words == (-1, 0, 1, 2, 3, 4, -1)
    assert [encoded.offsets[i] for i in encoded.positions] == [(i, i + 1) for i in range(5)]


def test_a_chinese_vocabulary_declared_as_alberts(tiny_zh, tmp_path):
    folder = tiny.clone(tiny_zh, tmp_path / "m")
    tiny.edit(folder / "tokenizer_config.json", tokenizer_class="AlbertTokenizer")
    assert load(folder, device="cpu").id.tokenizer == "BertTokenizer (WordPiece)"


@pytest.mark.parametrize("kept", [{"tokenizer_config.json", "vocab.txt"}, {"vocab.txt"}, set()])
def test_a_word_piece_tokenizer_json(tiny_zh, tmp_path, kept):
    folder = tiny.clone(tiny_zh, tmp_path / "m")
    BertTokenizer.from_pretrained(tiny_zh).save_pretrained(folder)
    for name in {"tokenizer_config.json", "vocab.txt"} - kept:
        (folder / name).unlink()
    handle = load(folder, device="cpu")
    assert handle.id.tokenizer == "BertTokenizer (WordPiece)"
    text = ["他是护士，不是医生。"]
    assert TorchScorer(handle).encode(text) == TorchScorer(load(tiny_zh, device="cpu")).encode(text)


def test_an_english_vocabulary_for_a_chinese_model(tiny_zh, tmp_path):
    folder = tiny.clone(tiny_zh, tmp_path / "m")
    (folder / "vocab.txt").unlink()
    tiny.write_unigram(folder)
    refused(folder, "does not belong")


@pytest.fixture
def spiece(tmp_path):
    """A folder with ``spiece.model`` alone, as the first ALBERT checkpoints have it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(resources.reference_sentences("en")).lower(), encoding="utf-8")
    folder = tmp_path / "m"
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spiece"), vocab_size=300, model_type="unigram",
        pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, pad_piece="<pad>", unk_piece="<unk>",
        control_symbols=["[CLS]", "[SEP]"], user_defined_symbols=["[MASK]"],
        num_threads=1, minloglevel=2, hard_vocab_limit=False, character_coverage=1.0, normalization_rule_name="nmt_nfkc_cf",
    )  # fmt: skip
    return folder


def test_a_sentencepiece_model_without_protobuf(spiece, monkeypatch):
    tiny.checkpoint(spiece, tokenizer=False)
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    assert "pip install" in refused(spiece, "protobuf")


def test_a_sentencepiece_model_alone(spiece):
    pytest.importorskip("google.protobuf")
    folder = spiece
    size = len(AlbertTokenizer.from_pretrained(folder))
    tiny.checkpoint(folder, tokenizer=False, vocab_size=size)
    handle = load(folder, device="cpu")
    assert handle.tokenizer.mask_token_id == 4
    encoded = TorchScorer(handle).encode(["The river is old."])[0]
    assert (encoded.ids[0], encoded.ids[-1]) == (2, 3)
    assert encoded.words[1] == 0
    assert encoded.words[-2] == 4
    assert handle.unknown_rate["en"] == 0
    # Saved again as tokenizer.json it says the same.
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / "spiece.model").unlink()
    assert TorchScorer(load(folder, device="cpu")).encode(["The river is old."])[0] == encoded


# --- finding the checkpoint -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "a/b/c", "x y", "", "../up", "-flag"])
def test_a_path_that_does_not_exist(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "..")
    if name == "":
        monkeypatch.chdir(tmp_path)  # the empty name is this folder, which holds no checkpoint
    with pytest.raises((UsageError, ModelRefused)) as caught:
        load(name)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_a_file_is_no_folder(copy):
    refused(copy / "config.json", "found the file", error=UsageError)


@pytest.mark.parametrize("device", ["tpu", "cuda:0", ""])
def test_an_unknown_device(tiny_mlm, device):
    with pytest.raises(UsageError, match="device"):
        load(tiny_mlm, device=device)


def test_a_device_that_is_not_here(tiny_mlm, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cpu"):
        load(tiny_mlm, device="cuda")


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
def test_a_hub_id_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        load("nobody/no-such-model")
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "nobody/no-such-model" in caught.value.message


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("proxy"),
        ConnectionError("reset"),
        ValueError("bad id"),
        TimeoutError("slow"),
        KeyError("x"),
    ],
)
def test_whatever_the_hub_raises(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UsageError) as caught:
        load("nobody/model")
    assert caught.value.hint


def test_an_interrupt_is_not_swallowed(monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(KeyboardInterrupt):
        load("nobody/model")


def test_a_hub_id_is_downloaded_without_pickles_and_code(tiny_mlm, monkeypatch):
    asked = []

    def download(name, *, revision, allow_patterns):
        asked.append((name, revision, tuple(allow_patterns)))
        return str(tiny_mlm)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    handle = load("somebody/albert-tiny", revision="v1", device="cpu")
    assert handle.id.name == "somebody/albert-tiny"
    assert handle.id.revision == "v1"
    assert handle.id.sha256 == load(tiny_mlm, device="cpu").id.sha256
    assert peek_head("somebody/albert-tiny", "v1") is Head.MASKED_LM
    assert {a[:2] for a in asked} == {("somebody/albert-tiny", "v1")}
    patterns = set(asked[0][2])
    assert {
        "*.safetensors",
        "*.safetensors.index.json",
        "config.json",
        "tokenizer.json",
        "vocab.txt",
    } <= patterns
    assert not [p for p in patterns if p.endswith((".bin", ".py", ".pt")) or p == "*"]


# --- side effects ---------------------------------------------------------------------------


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
@pytest.mark.parametrize("bars", [(True, True), (True, False), (False, True), (False, False)])
def test_settings_of_transformers_are_put_back(tiny_mlm, copy, level, bars):
    before = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    hub_before = are_progress_bars_disabled()
    try:
        transformers.logging.set_verbosity(level)
        (transformers.logging.enable_progress_bar if bars[0] else transformers.logging.disable_progress_bar)()
        (enable_progress_bars if bars[1] else disable_progress_bars)()
        load(tiny_mlm, device="cpu")
        spoil(copy / "model.safetensors", lambda t: t.pop("predictions.bias"))
        tiny.edit(copy / "config.json", hidden_size=48)
        refused(copy, ".")
        assert transformers.logging.get_verbosity() == level
        assert (transformers.logging.is_progress_bar_enabled(), not are_progress_bars_disabled()) == bars
    finally:
        transformers.logging.set_verbosity(before[0])
        (
            transformers.logging.enable_progress_bar
            if before[1]
            else transformers.logging.disable_progress_bar
        )()
        (disable_progress_bars if hub_before else enable_progress_bars)()


def test_loading_prints_nothing_and_changes_no_file(copy, capfd):
    files = {p: p.read_bytes() for p in copy.iterdir()}
    load(copy, device="cpu")
    assert capfd.readouterr() == ("", "")
    assert {p: p.read_bytes() for p in copy.iterdir()} == files


def test_loading_leaves_the_random_state_alone(tiny_mlm):
    before = torch.get_rng_state()
    load(tiny_mlm, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
