"""What corrects vLLM's CPU build: its own operations, with requests of the base and of adapters in one batch."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]
TOLERANCE = 1e-5
"""float32 against float64."""


def test_tokens_of_the_base_are_left_alone_beside_those_of_adapters() -> None:
    generator = np.random.default_rng(0)
    inputs, a, b = (generator.normal(size=shape) for shape in ((6, 8), (3, 4, 8), (3, 5, 4)))
    indices = [-1, 0, 2, -1, 1, 2]
    case = {"inputs": inputs.tolist(), "a": a.tolist(), "b": b.tolist(), "indices": indices}
    finished = subprocess.run(
        [str(ROOT / ".venvs/engine-cpu/bin/python"), str(Path(__file__).with_name("mixed_batches.py"))],
        input=json.dumps(case),
        env={**os.environ, "PYTHONPATH": str(ROOT / "services/engine/plugins"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    wanted = np.stack([np.zeros(5) if index < 0 else b[index] @ a[index] @ row for index, row in zip(indices, inputs, strict=True)])
    np.testing.assert_allclose(found["after"], wanted, atol=TOLERANCE)
    # Once a vLLM leaves them alone by itself, the plugin has done its work and can go.
    assert not np.allclose(found["before"], wanted, atol=TOLERANCE)
