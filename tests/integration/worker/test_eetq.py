"""EETQ without an NVIDIA GPU: refused before work, and all that it would do on one but its kernels' own arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from factories.backends import run_backend, run_python, shortened_master
from factories.gated import gated
from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.jobs import QualitySpec, QuantizeSpec
from quantry_core.versions import Verdict

CONTRACT = Path(__file__).with_name("eetq_with_fake_kernels.py")
TO_BFLOAT16 = Path(__file__).with_name("to_bfloat16.py")
KEPT = "model.layers.0.mlp.down_proj"
SPEC = QuantizeSpec(
    base="bard", method="eetq", keep_16bit=[KEPT], quality=QualitySpec(thresholds={"perplexity_ratio": 1.05}, max_windows=4)
)

pytestmark = pytest.mark.long


def test_a_worker_without_a_gpu_says_so_and_names_another_method(tmp_path: Path) -> None:
    ran = run_backend(tmp_path / "run", {"method": "eetq"})
    assert ran.refused is not None
    assert "NVIDIA GPUs only" in ran.refused and "W8A16 by method gptq or rtn" in ran.refused
    assert list(ran.output_dir.iterdir()) == [] and ran.progress == []


def test_what_the_library_makes_is_stored_read_and_ready(tmp_path: Path) -> None:
    master = shortened_master(tmp_path / "master", 1, norms="float32")
    made = gated(tmp_path / "made", {"eetq": SPEC}, make=True, master=master, script=CONTRACT)["eetq"]
    assert (made.state, made.problems) == ("ready", {})
    assert made.evidence["reconstruction"].verdict is Verdict.INCONCLUSIVE
    assert 0 < made.evidence["reader"].metrics["kl_master_nats"] < 0.01
    said = json.loads((tmp_path / "made" / "calls.json").read_text())
    assert set(said["kernels"]) == {"kernels-community/quantization-eetq"}
    # Six modules of the layer, each handed over transposed, [inputs, outputs], in float16, to become int8.
    assert sorted(said["rounded"]) == sorted(
        [[[256, 256], "torch.float16", "torch.int8", False]] * 2
        + [[[256, 128], "torch.float16", "torch.int8", False]] * 2
        + [[[256, 768], "torch.float16", "torch.int8", False]] * 2
    )
    config = json.loads((made.output_dir / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "eetq" and config["modules_to_not_convert"] == ["lm_head", KEPT]
    tensors, masters = load_file(made.output_dir / "model.safetensors"), load_file(master / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert tensors[name].dtype == np.int8 and tensors[f"{name}_scales"].dtype == np.float16
    rebuilt = tensors[name].T * tensors[f"{name}_scales"].astype(np.float64)[:, None]
    assert np.abs(rebuilt - masters[name].astype(np.float64)).max() < np.abs(masters[name]).max() / 100
    # Where what EETQ needs is not there, the refusal says how it is got.
    assert "install 'kernels>=" in said["without_library"] and "into its ml environment" in said["without_library"]
    assert "does not have the compiled kernel kernels-community/quantization-eetq" in said["without_kernel"]
    assert "KERNELS_CACHE (docs/methods.md)" in said["without_kernel"]


def test_a_master_in_bfloat16_keeps_what_is_not_quantized(tmp_path: Path) -> None:
    """EETQ computes in float16, in which the master is loaded for it."""
    master = shortened_master(tmp_path / "master", 1)
    run_python(TO_BFLOAT16, master)
    made = gated(tmp_path / "made", {"eetq": SPEC}, make=True, master=master, script=CONTRACT)["eetq"]
    assert (made.state, made.problems) == ("ready", {})
    dtypes = {tensor.dtype for tensor in inspect_checkpoint(DirectoryCheckpoint(made.output_dir)).tensors.values()}
    assert dtypes == {"BF16", "I8", "F16"}
