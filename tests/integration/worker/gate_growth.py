"""Makes a version in the ml environment without any text, and tells how far memory grows in one check of the gate.

``python gate_growth.py <master> <output> <corpus> <spec.json> <check>``: the version is made if the output is not there. Prints one
JSON line with ``growth_bytes`` and the check's ``problems``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.gate import GateCheck
from quantry_core.jobs import InputRole, QuantizeSpec
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.child.backends.llm_compressor import quantize
from quantry_worker.child.backends.table import QuantizationOrder
from quantry_worker.child.gate.findings import GateInput
from quantry_worker.child.gate.table import run_gate
from quantry_worker.child.plan import plan_quantization
from quantry_worker.child.recipes.quantize import carry_over
from quantry_worker.protocol import ChildInput, ChildTask


def main(master_dir: Path, output_dir: Path, corpus: Path, spec: QuantizeSpec, check: GateCheck) -> None:
    master = inspect_checkpoint(DirectoryCheckpoint(master_dir))
    plan = plan_quantization(spec, master)
    if not output_dir.exists():
        output_dir.mkdir()
        quantize(
            QuantizationOrder(
                plan=plan,
                master=master,
                master_dir=master_dir,
                output_dir=output_dir,
                windows=None,
                seed=0,
                num_threads=2,
                on_progress=lambda _share, _detail, _layers=None: None,
            )
        )
        carry_over(master_dir, output_dir)
    task = ChildTask(
        job_id="job_1",
        attempt=1,
        spec=spec,
        inputs=[
            ChildInput(role=InputRole.BASE, id="ver_1", ref="base@1", kind=VersionKind.MASTER, format=Format.SAFETENSORS, path=master_dir),
            ChildInput(role=InputRole.CORPUS, id="dat_2", ref="test@1", path=corpus),
        ],
        output_dir=output_dir,
        artifacts_dir=output_dir.with_name("artifacts"),
        checkpoints_dir=output_dir.with_name("checkpoints"),
        import_roots=[],
        num_threads=2,
    )
    before = resident_bytes("VmRSS")
    # Lets the high-water mark begin here (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    (said,) = run_gate(GateInput(output_dir=output_dir, plan=plan, master=master, master_dir=master_dir, task=task), [check])
    growth = resident_bytes("VmHWM") - before
    print(json.dumps({"growth_bytes": growth, "problems": said.metrics["problems"]}), flush=True)


def resident_bytes(line: str) -> int:
    """Returns a figure of this process's memory from /proc/self/status."""
    text = Path("/proc/self/status").read_text()
    return next(int(one.split()[1]) * 1024 for one in text.splitlines() if one.startswith(f"{line}:"))


if __name__ == "__main__":
    _, master, output, text, given, name = sys.argv
    main(Path(master), Path(output), Path(text), QuantizeSpec.model_validate_json(given), GateCheck(name))
