"""Which of llama.cpp's named pre-tokenizers splits text as a model's own tokenizer.json does. No library is imported.

The converter knows pre-tokenizers by what published tokenizers make of one sample text, so every vocabulary trained
since is unknown to it. The pre-tokenizer itself is in tokenizer.json, and the common ones can be told by it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOKENIZER_FILE = "tokenizer.json"
GPT2 = "gpt-2"
_GPT2_STEP = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
"""GPT-2's expression is the one that ByteLevel has built in: huggingface/tokenizers, pre_tokenizers/byte_level.rs."""


def known_pre_tokenizer(checkpoint: Path) -> str | None:
    """Returns llama.cpp's name for the pre-tokenizer of a byte-level BPE vocabulary; None if it is none that this module knows."""
    path = checkpoint / TOKENIZER_FILE
    if not path.is_file():
        return None
    tokenizer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    step = tokenizer.get("pre_tokenizer") or {}
    is_gpt2 = tokenizer.get("normalizer") is None and all(step.get(name) == value for name, value in _GPT2_STEP.items())
    return GPT2 if is_gpt2 and tokenizer.get("model", {}).get("type") == "BPE" else None
