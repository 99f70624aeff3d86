"""EETQ without an NVIDIA GPU: refused before work, and the calls it would make on one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from factories.backends import MASTER, run_backend, run_python, shortened_master

CONTRACT = Path(__file__).with_name("eetq_with_fake_kernels.py")
KEPT = "model.layers.0.mlp.down_proj"


@pytest.mark.long
def test_a_worker_without_a_gpu_says_so_and_names_another_method(tmp_path: Path) -> None:
    ran = run_backend(tmp_path / "run", {"method": "eetq"})
    assert ran.refused is not None
    assert "NVIDIA GPUs only" in ran.refused and "W8A16 by method gptq or rtn" in ran.refused
    assert list(ran.output_dir.iterdir()) == [] and ran.progress == []


@pytest.mark.long
def test_weights_go_through_the_library_and_come_out_as_transformers_stores_them(tmp_path: Path) -> None:
    master = shortened_master(tmp_path / "master", 1)
    said = run_python(CONTRACT, master, tmp_path / "output", KEPT)
    assert said["without_library"].startswith("EETQ's CUDA code comes with the Python package kernels")
    assert said["kernels"] == ["kernels-community/quantization-eetq"]
    # Six modules of the layer, each handed over transposed, [inputs, outputs], in float16, to become int8.
    assert sorted(said["calls"]) == sorted(
        [[[256, 256], "torch.float16", "torch.int8", False]] * 2
        + [[[256, 128], "torch.float16", "torch.int8", False]] * 2
        + [[[256, 768], "torch.float16", "torch.int8", False]] * 2
    )
    assert said["config"]["quant_method"] == "eetq" and said["config"]["modules_to_not_convert"] == ["lm_head", KEPT]
    tensors, masters = load_file(tmp_path / "output" / "model.safetensors"), load_file(MASTER / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert tensors[name].dtype == np.int8 and tensors[f"{name}_scales"].dtype == np.float16
    rebuilt = tensors[name].T * tensors[f"{name}_scales"].astype(np.float64)[:, None]
    assert np.abs(rebuilt - masters[name].astype(np.float64)).max() < np.abs(masters[name]).max() / 100
    assert np.array_equal(tensors[f"{KEPT}.weight"], masters[f"{KEPT}.weight"])
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == ["config.json", "model.safetensors"]
