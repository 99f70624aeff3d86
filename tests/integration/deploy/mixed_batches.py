"""Adds the updates of adapters to a batch as vLLM's CPU build does, before and after what corrects it. Imports nothing of Quantry.

Runs under the Python of the engine's environment with its plugins on the path. Reads ``{"inputs", "a", "b", "indices"}`` from stdin,
[tokens, in], [adapters, rank, in], [adapters, out, rank] and [tokens]; prints ``{"before", "after"}``, both [tokens, out].
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

import torch

FIXES: Any = import_module("quantry_vllm_fixes")
PUNICA: Any = import_module("vllm.lora.punica_wrapper.punica_cpu")


def main() -> None:
    case = json.load(sys.stdin)
    before = updates(case)
    FIXES.apply()
    print(json.dumps({"before": before, "after": updates(case)}))


def updates(case: dict[str, Any]) -> list[list[float]]:
    inputs, a, b = (torch.tensor(case[name]) for name in ("inputs", "a", "b"))
    indices = torch.tensor(case["indices"])
    shrunk, output = torch.zeros(len(inputs), a.shape[1]), torch.zeros(len(inputs), b.shape[1])
    PUNICA.bgmv_shrink(inputs, a.unsqueeze(1), shrunk, indices, 1.0)
    PUNICA.bgmv_expand_slice(shrunk, b.unsqueeze(1), output, indices, 0, b.shape[1], True)
    rows: list[list[float]] = output.tolist()
    return rows


if __name__ == "__main__":
    main()
