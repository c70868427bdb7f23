"""``audit.yaml``: read, overridden by flags, and every mistake named."""

from __future__ import annotations

from pathlib import Path

import pytest

from albert_audit.config import AuditConfig, load_config
from albert_audit.types import UsageError


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "audit.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "model: ./m\n"))
    assert config == AuditConfig(model="./m")
    assert (config.seed, config.device, config.packs, config.data) == (0, "auto", None, {})


def test_everything_can_be_set(tmp_path: Path) -> None:
    text = """
schema: albert-audit/config@1
model: 模型
revision: main
out: here
packs: [a, ./b]
data: {crows-pairs: x.csv}
policy: p.yaml
device: cpu
seed: 7
batch_tokens: 64
"""
    config = load_config(write(tmp_path, text))
    assert config.packs == ("a", "./b")
    assert config.data == {"crows-pairs": "x.csv"}
    assert (config.seed, config.batch_tokens, config.model) == (7, 64, "模型")


def test_flags_that_were_given_win(tmp_path: Path) -> None:
    path = write(tmp_path, "model: m\nseed: 3\npacks: [a]\nout: there\n")
    config = load_config(path, model="other", seed=0, packs=("b",), out=None)
    assert (config.model, config.seed, config.packs, config.out) == ("other", 0, ("b",), "there")


def test_flags_alone_are_enough() -> None:
    assert load_config(None, model="m").model == "m"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: m\npakcs: [a]\n", ["pakcs", "did you mean 'packs'"]),
        ("model: m\nsed: 1\nbatch_token: 2\n", ["sed", "seed", "batch_token", "batch_tokens"]),
        ("model: m\n1: 2\n", ["1"]),
        ("model: m\nseed: -1\n", ["seed"]),
        ("model: m\nseed: x\n", ["seed"]),
        ("model: m\nseed: .nan\n", ["seed"]),
        ("model: m\ndevice: tpu\n", ["device"]),
        ("model: m\npacks: a\n", ["packs"]),
        ("model: m\ndata: [a]\n", ["data"]),
        ("model: m\nbatch_tokens: 0\n", ["batch_tokens"]),
        ("model: [m]\n", ["model"]),
        ("model: m\nschema: albert-audit/config@2\n", ["newer"]),
        ("model: m\nschema: albert-audit/policy@1\n", ["schema"]),
        ("- m\n", ["mapping", "list"]),
        ("m\n", ["mapping", "str"]),
        ("model: [m\n", ["not YAML"]),
        (b"model: \xff\n", ["not YAML"]),
        ("model: !!python/object:os.system {}\n", ["not YAML"]),
        ("seed: 1\n", ["no model"]),
        ("", ["no model"]),
    ],
)
def test_mistakes_are_named_with_a_next_step(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(write(tmp_path, text))
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(write(tmp_path, "model: m\nseed: -1\nnope: 1\ndevice: x\n"))
    assert all(word in str(caught.value) for word in ("seed", "nope", "device"))


@pytest.mark.parametrize("path", ["none.yaml", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError, match="cannot read") as caught:
        load_config(tmp_path / path)
    assert caught.value.hint


def test_an_empty_list_of_packs_is_told_so(tmp_path: Path) -> None:
    from albert_audit import audit, resources

    model = resources.known_answer_models() / "twin"
    config = load_config(write(tmp_path, f"model: {model}\npacks: []\n"))
    with pytest.raises(UsageError, match="empty"):
        audit.plan(config)
