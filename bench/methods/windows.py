"""Writes the calibration samples that a job draws. Runs in the ml environment.

``windows.py <master> <out.npy> <num samples> <length> <text ...>``
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from quantry_worker.child.numerics.text import TokenStream, sample_windows


def main(master: str, output: str, num_samples: str, length_tokens: str, *texts: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(master)
    streams = [
        TokenStream(text, np.asarray(tokenizer(Path(text).read_text(encoding="utf-8"), add_special_tokens=False, verbose=False).input_ids))
        for text in texts
    ]
    np.save(output, sample_windows(streams, num_samples=int(num_samples), length_tokens=int(length_tokens), seed=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
