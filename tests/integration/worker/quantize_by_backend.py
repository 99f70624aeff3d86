"""Runs quantization orders one after another in the ml environment, without the recipe and its gate around them.

``python quantize_by_backend.py <orders.json>``: a list of {"master", "output", "spec", "windows"}, windows being a .npy file of token
ids or null. Prints one JSON line for each: what the backend reported, or its error, and how far memory grew meanwhile.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.errors import QuantryError
from quantry_core.jobs import QuantizeSpec
from quantry_worker.child.backends.llm_compressor import quantize
from quantry_worker.child.backends.table import QuantizationOrder
from quantry_worker.child.plan import plan_quantization
from quantry_worker.child.reporter import Units


def main(orders: str) -> None:
    for order in json.loads(Path(orders).read_text()):
        started, before = time.monotonic(), resident_bytes("VmRSS")
        # Lets the high-water mark begin here (proc(5), clear_refs).
        Path("/proc/self/clear_refs").write_text("5")
        told = run(order)
        growth = resident_bytes("VmHWM") - before
        print(json.dumps(told | {"seconds": time.monotonic() - started, "growth_bytes": growth}), flush=True)


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Returns what the backend said, and the layers it counted on its way."""
    counted: list[tuple[int, int]] = []

    def on_progress(share: float, detail: str, layers: Units | None = None) -> None:
        if layers is not None:
            counted.append((layers.done, layers.total))

    master, output = Path(order["master"]), Path(order["output"])
    output.mkdir(parents=True)
    info = inspect_checkpoint(DirectoryCheckpoint(master))
    windows = None if order["windows"] is None else np.load(order["windows"])
    try:
        plan = plan_quantization(QuantizeSpec.model_validate(order["spec"]), info)
        report = quantize(
            QuantizationOrder(
                plan=plan,
                master=info,
                master_dir=master,
                output_dir=output,
                windows=windows,
                seed=0,
                num_threads=2,
                on_progress=on_progress,
            )
        )
    except QuantryError as error:
        return {"error": error.detail}
    return {"metrics": report.metrics, "notes": report.notes, "toolchain": report.toolchain, "layers": counted}


def resident_bytes(line: str) -> int:
    """Returns a figure of this process's memory from /proc/self/status."""
    text = Path("/proc/self/status").read_text()
    return next(int(one.split()[1]) * 1024 for one in text.splitlines() if one.startswith(f"{line}:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
