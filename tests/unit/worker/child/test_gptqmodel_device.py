"""GPTQModel works on the device that the job was given. Its library and torch are stand-ins: neither is in this environment."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from factories.quantized import tiny_master
from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.jobs import CalibrationSpec, QuantizeSpec
from quantry_worker.child.backends.gptqmodel import quantize
from quantry_worker.child.backends.table import QuantizationOrder
from quantry_worker.child.plan import plan_quantization


class Loaded(Exception):
    """Ends the run where the library was asked to load the master."""


@pytest.mark.parametrize(("has_cuda", "device"), [(True, "cuda:0"), (False, "cpu")])
def test_the_library_is_given_the_gpu_of_the_job_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_cuda: bool, device: str
) -> None:
    asked: dict[str, Any] = {}

    def load(_directory: str, _settings: Any, **given: Any) -> Any:
        asked.update(given)
        raise Loaded

    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: has_cuda), set_num_threads=lambda _number: None, float32="float32")
    library = SimpleNamespace(GPTQModel=SimpleNamespace(load=load), QuantizeConfig=lambda **settings: settings)
    stand_ins = {"torch": torch, "gptqmodel": library, "transformers": SimpleNamespace(set_seed=lambda _seed: None)}
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "0")
    master_dir = tiny_master().write(tmp_path / "master")
    master = inspect_checkpoint(DirectoryCheckpoint(master_dir))
    calibration = CalibrationSpec(datasets=["text"], length_tokens=64)
    order = QuantizationOrder(
        plan=plan_quantization(QuantizeSpec(base="tiny", method="gptqmodel", group_size=32, calibration=calibration), master),
        master=master,
        master_dir=master_dir,
        output_dir=tmp_path,
        windows=np.zeros((1, 64), dtype=np.int64),
        seed=0,
        num_threads=1,
        on_progress=lambda *_: None,
    )
    with pytest.raises(Loaded):
        quantize(order)
    assert asked["device"] == device
