"""Cuts texts into windows of tokens: ``python windows_of.py <output.npy> <checkpoint> <num_samples> <length_tokens> <text ...>``.

Takes as many windows from the beginning of each text, prints their number, and imports nothing of Quantry.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer


def main(output: str, checkpoint: str, num_samples: str, length_tokens: str, *texts: str) -> int:
    tokenizer = Tokenizer.from_file(str(Path(checkpoint) / "tokenizer.json"))
    length, each = int(length_tokens), -(-int(num_samples) // len(texts))
    tokens = [np.array(tokenizer.encode(Path(text).read_text()).ids[: each * length], dtype=np.int64) for text in texts]
    windows = np.concatenate([one.reshape(each, length) for one in tokens])[: int(num_samples)]
    np.save(output, windows)
    return len(windows)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
