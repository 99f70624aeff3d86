"""Run in the ml environment: scores the same ways with room for all texts at once, and with room for a few windows of one.

``python measured_in_rounds.py <folder>``; prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from quantry_core.training import MergeTarget
from quantry_worker.child.evaluation.corpora import Corpus
from quantry_worker.child.merging.held_out import HeldOut
from quantry_worker.child.merging.measure import TRAINED, UNTOUCHED, Candidate, Texts, measure
from quantry_worker.child.numerics.text import TokenStream
from quantry_worker.child.numerics.windows import cut_windows
from quantry_worker.child.reporter import Reporter
from quantry_worker.child.training.samples import Sample

CHECK_ROOM = "quantry_worker.child.merging.measure.check_room"
VOCABULARY = 16
TOKEN_BYTES = 2 * 4 * VOCABULARY
"""Of two references."""


class Bigrams(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Predicts the next token from the last one alone."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(VOCABULARY, VOCABULARY)
        generator = torch.Generator().manual_seed(seed)
        self.table.weight.data = torch.randn(VOCABULARY, VOCABULARY, generator=generator)

    def get_output_embeddings(self) -> torch.nn.Embedding:
        return self.table

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return type("Output", (), {"logits": self.table(input_ids)})


def corpus(ref: str, num_tokens: int) -> Corpus:
    tokens = np.random.default_rng(num_tokens).integers(0, VOCABULARY, num_tokens)
    stream = TokenStream(ref, tokens)
    return Corpus(stream, cut_windows(stream, window_tokens=10, stride_tokens=None, max_windows=None))


def main(folder: Path) -> dict[str, Any]:
    num_loads = 0

    def loading(seed: int) -> Any:
        def load() -> Bigrams:
            nonlocal num_loads
            num_loads += 1
            return Bigrams(seed)

        return load

    needed: list[int] = []
    candidates = [Candidate(way, loading(seed), 1) for seed, way in enumerate(MergeTarget)]
    references = {TRAINED: loading(7), UNTOUCHED: loading(8)}
    sample = Sample([1, 2, 3], [1, 2, 3])
    texts = Texts(HeldOut("rows", [sample], 0, 0), [corpus("long", 73), corpus("short", 25), corpus("other", 40)])
    said: dict[str, Any] = {}
    found = {}
    for name, kept_bytes in (("at_once", 10**9), ("in_rounds", 30 * TOKEN_BYTES), ("one_by_one", 1)):
        num_loads = 0
        needed.clear()
        with patch(CHECK_ROOM, lambda _, num_bytes: needed.append(num_bytes)):
            told: list[bytes] = []
            # Later each time: nothing is passed over.
            reporter = Reporter(told.append, clock=count().__next__)
            found[name] = measure(candidates, references, texts, folder / name, reporter, kept_bytes=kept_bytes)
        fractions = [json.loads(line)["fraction"] for line in told]
        said[name] = {
            "num_loads": num_loads,
            "kept_tokens": [num // TOKEN_BYTES for num in needed],
            "left": (folder / name).exists(),
            "first_fractions": fractions[:5],
            "grows": len(fractions) == num_loads and all(one < next_one < 1 for one, next_one in pairwise(fractions)),
        }
    said["is_alike"] = all(
        [one.metrics for one in found[name].evidence] == [one.metrics for one in found["at_once"].evidence] for name in found
    )
    said["num_tokens"] = {ref: figures["num_tokens"] for ref, figures in found["in_rounds"].evidence[0].metrics["corpora"].items()}
    return said


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
