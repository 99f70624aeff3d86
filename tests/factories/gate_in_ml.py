"""Runs in the ml environment: makes quantized versions with the quantize recipe, or puts ones that lie there through the gate.

    <ml python> gate_in_ml.py <requests.json> <answers.json>

A request has ``spec``, ``output_dir`` (made anew if ``make`` is true, else gated as it is), ``master_dir``, ``calibration_dir``,
``corpus_dir``, ``engine_python`` and ``engine_script``. An answer has ``state`` (of a made version)
and ``evidence``; or ``refused`` with the words.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.errors import QuantryError
from quantry_core.jobs import InputRole, QuantizeSpec
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.child.gate.findings import GateInput
from quantry_worker.child.gate.table import due_checks, run_gate
from quantry_worker.child.plan import plan_quantization
from quantry_worker.child.recipes import quantize
from quantry_worker.child.reporter import Reporter
from quantry_worker.protocol import ChildInput, ChildTask


def main() -> None:
    requests, answers = (Path(word) for word in sys.argv[1:])
    said = [answer(request) for request in json.loads(requests.read_text())]
    answers.write_text(json.dumps(said))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    spec = QuantizeSpec.model_validate(request["spec"])
    output_dir, master_dir = Path(request["output_dir"]), Path(request["master_dir"])
    artifacts_dir = output_dir.with_name(f"{output_dir.name}-artifacts")
    artifacts_dir.mkdir(parents=True, exist_ok=True)
    inputs = [
        ChildInput(role=InputRole.BASE, id="ver_1", ref="base@1", kind=VersionKind.MASTER, format=Format.SAFETENSORS, path=master_dir)
    ]
    if spec.calibration is not None:
        inputs.append(ChildInput(role=InputRole.CALIBRATION, id="dat_1", ref="text@1", path=Path(request["calibration_dir"])))
    if spec.quality is not None:
        inputs.append(ChildInput(role=InputRole.CORPUS, id="dat_2", ref="test@1", path=Path(request["corpus_dir"])))
    task = ChildTask(
        job_id="job_1",
        attempt=1,
        spec=spec,
        inputs=inputs,
        output_dir=output_dir,
        artifacts_dir=artifacts_dir,
        checkpoints_dir=output_dir.with_name(f"{output_dir.name}-checkpoints"),
        import_roots=[],
        num_threads=2,
        engine_python=request["engine_python"],
        engine_script=request["engine_script"],
        checks_with_engine=request["engine_python"] is not None,
    )
    if not request["make"]:
        master = inspect_checkpoint(DirectoryCheckpoint(master_dir))
        plan = plan_quantization(spec, master)
        given = GateInput(output_dir=output_dir, plan=plan, master=master, master_dir=master_dir, task=task)
        return {"evidence": [one.model_dump(mode="json") for one in run_gate(given, due_checks(given))]}
    output_dir.mkdir(parents=True)
    try:
        result = quantize.run(task, Reporter(lambda _line: None))
    except QuantryError as error:
        return {"refused": error.detail, "evidence": []}
    assert result.version is not None
    return {"state": result.version.state, "evidence": [one.model_dump(mode="json") for one in result.evidence]}


if __name__ == "__main__":
    main()
