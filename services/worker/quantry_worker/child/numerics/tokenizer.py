"""The model's own tokenizer, as the engine will load it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np

from quantry_core.errors import InvalidInput
from quantry_worker.child.inputs import read_text
from quantry_worker.child.numerics.text import TokenStream
from quantry_worker.protocol import ChildInput


def tokenize(checkpoint: Path, datasets: list[ChildInput]) -> list[TokenStream]:
    """Returns each dataset's text as one stream of token ids, without special tokens; raises InvalidInput if no tokenizer loads."""
    # By name, when it is needed: this takes seconds, and a recipe's own checks come first.
    transformers = import_module("transformers")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"the model's tokenizer cannot be loaded: {error}") from error
    return [
        # Not verbose: a text longer than the context is what we want, and no reason for a warning.
        TokenStream(one.ref, np.asarray(tokenizer(read_text(one), add_special_tokens=False, verbose=False).input_ids, dtype=np.int64))
        for one in datasets
    ]
