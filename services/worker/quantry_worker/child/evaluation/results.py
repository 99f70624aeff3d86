"""Raw results as files: what every figure was computed from. They become artifacts of the job.

- ``results.json``: every evidence, the spec with its seed, versions of libraries.
- ``tokens/<corpus>.safetensors``: for each scored token ``nll`` (float32, nats) and ``window`` (int32); with a reference also
  ``reference_nll`` and ``kl`` (float32, nats) and ``same_top1`` (uint8).
- ``tasks.jsonl``: one line for each document of each ``task``: what was asked, answered and scored.
- ``speed.jsonl``: one line for each request that was counted, seconds from the start of its measurement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from quantry_core.versions import EvidenceDraft
from quantry_worker.child.evaluation.figures import TokenScores

RESULTS = "results.json"
TASKS = "tasks.jsonl"
TOKENS = "tokens"
"""Folder of the scores of an evaluation; the quality gate has one of its own. Paths of artifacts have one folder at most."""


def write_results(directory: Path, evidence: list[EvidenceDraft], about: dict[str, Any]) -> None:
    """Writes results.json: evidence, and what it was measured with."""
    document = about | {"evidence": [one.model_dump(mode="json") for one in evidence]}
    (directory / RESULTS).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tokens(directory: Path, ref: str, scores: TokenScores) -> None:
    """Writes the scores of every token of one corpus into a folder, made if it is not there."""
    tensors: dict[str, Any] = {"nll": scores.nll.astype(np.float32), "window": scores.window.astype(np.int32)}
    reference = scores.reference
    if reference is not None:
        tensors |= {
            "reference_nll": reference.nll.astype(np.float32),
            "kl": reference.kl.astype(np.float32),
            "same_top1": reference.same_top1.astype(np.uint8),
        }
    path = directory / f"{ref.replace('@', '-v')}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    # Written with mode 0600.
    path.chmod(0o644)


def write_rows(directory: Path, name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Writes JSON Lines; what JSON does not know is written as text."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
