"""Runs one quantization backend on a master, without the recipe around it. In the ml environment:

``python run_backend.py <spec.json> <master> <output> [<windows.npy>]``. The last line is a JSON object: ``report`` and
``progress`` of what was done, or ``refused`` with the words.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.errors import QuantryError
from quantry_core.jobs import QuantizeSpec
from quantry_worker.child.backends.table import QuantizationOrder, load_backend
from quantry_worker.child.plan import plan_quantization


def main(spec_file: str, master: str, output: str, windows_file: str | None = None) -> dict[str, Any]:
    spec = QuantizeSpec.model_validate_json(Path(spec_file).read_bytes())
    info = inspect_checkpoint(DirectoryCheckpoint(Path(master)))
    progress: list[list[Any]] = []
    try:
        plan = plan_quantization(spec, info)
        order = QuantizationOrder(
            plan=plan,
            master=info,
            master_dir=Path(master),
            output_dir=Path(output),
            windows=None if windows_file is None else np.load(windows_file),
            seed=0,
            num_threads=2,
            on_progress=lambda *told: progress.append(list(told)),
        )
        report = load_backend(plan.method.backend)(order)
    except QuantryError as error:
        return {"refused": error.detail}
    return {"report": asdict(report), "progress": progress}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
