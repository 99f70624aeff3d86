"""Rewrites a master in bfloat16, in its place: ``python to_bfloat16.py <master>``. numpy has no such numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

if __name__ == "__main__":
    weights, config = (Path(sys.argv[1]) / name for name in ("model.safetensors", "config.json"))
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in load_file(weights).items()}, weights)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "bfloat16"}))
    print(json.dumps("bfloat16"))
