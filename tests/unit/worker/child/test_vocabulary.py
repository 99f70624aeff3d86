"""Which pre-tokenizer of llama.cpp a tokenizer.json is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantry_worker.child.backends.auto_round_vocabulary import known_pre_tokenizer

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "bard-6m"


def changed(directory: Path, **changes: Any) -> Path:
    tokenizer = json.loads((EXAMPLE / "tokenizer.json").read_text())
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer | changes))
    return directory


def test_the_example_splits_as_gpt2_does() -> None:
    assert known_pre_tokenizer(EXAMPLE) == "gpt-2"


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}},
        {"model": {"type": "Unigram", "vocab": []}},
    ],
    ids=["normalizer", "none", "prefix-space", "no-expression", "unigram"],
)
def test_what_splits_otherwise_is_not_taken_for_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert known_pre_tokenizer(changed(tmp_path, **changes)) is None


def test_a_checkpoint_without_tokenizer_json_is_unknown(tmp_path: Path) -> None:
    assert known_pre_tokenizer(tmp_path) is None
