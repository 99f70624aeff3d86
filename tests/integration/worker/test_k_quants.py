"""Blocks of GGUF files dequantized by our reader, against the gguf library's own, on random bytes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from factories.child_runs import ROOT

SCRIPT = """
import json
import gguf
import numpy as np
from quantry_worker.child.formats.k_quants import BLOCK_TYPES

random = np.random.default_rng(5)
errors = {}
for name, kind in BLOCK_TYPES.items():
    blocks = random.integers(0, 256, (200, kind.num_bytes), dtype=np.uint8)
    for at in kind.scale_at:
        # Random bytes would be NaN now and then.
        blocks[:, at : at + 2] = random.standard_normal(200).astype("<f2").view(np.uint8).reshape(200, 2)
    expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
    ours = kind.dequantize(blocks)
    assert ours.shape == (200, kind.elements)
    errors[name] = float(np.abs(ours - expected.reshape(ours.shape)).max())
print(json.dumps(errors))
"""


def test_every_block_type_gives_the_librarys_numbers(tmp_path: Path) -> None:
    ended = subprocess.run(
        [ROOT / ".venvs" / "ml" / "bin" / "python", "-c", SCRIPT],
        env={"PATH": os.defpath, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == dict.fromkeys(["Q8_0", "Q4_K", "Q5_K", "Q6_K"], 0.0)
