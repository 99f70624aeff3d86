"""bitsandbytes checkpoints: taken apart by arithmetic, and loaded by transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from factories.backends import BackendRun, run_backend, run_python, shortened_master

AGREEMENT = Path(__file__).with_name("agreement_by_transformers.py")
KEPT = "model.layers.0.mlp.down_proj"
MODULE = "model.layers.0.mlp.up_proj"
# Quantiles of a normal distribution with an exact zero: Dettmers et al. 2023, arXiv:2305.14314, appendix E.
NF4_NEGATIVE = (-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004)
NF4_POSITIVE = (0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0)
NF4_LEVELS = np.array([*NF4_NEGATIVE, 0.0, *NF4_POSITIVE])

# make test holds both schemes to the gate, in test_gate.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shortened_master(tmp_path_factory.mktemp("short") / "master", 2, norms="float32")


@pytest.fixture(scope="module")
def nf4(tmp_path_factory: pytest.TempPathFactory, master: Path) -> BackendRun:
    return run_backend(tmp_path_factory.mktemp("nf4") / "run", {"method": "bitsandbytes", "keep_16bit": [KEPT]}, master=master)


def weight_of(master: Path, module: str) -> NDArray[np.float64]:
    weight: NDArray[np.float64] = load_file(master / "model.safetensors")[f"{module}.weight"].astype(np.float64)
    return weight


def nf4_values(tensors: dict[str, NDArray[Any]], module: str, absmax: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Returns the weights that NF4 bytes and one scale for each 64 of them stand for, shape [rows, columns]."""
    stored = tensors[f"{module}.weight"].reshape(-1)
    indices = np.stack([stored >> 4, stored & 15], axis=1).reshape(-1, 64)
    values: NDArray[np.float64] = (NF4_LEVELS[indices] * absmax.astype(np.float64)[:, None]).reshape(shape)
    return values


def assert_is_nearest_level(values: NDArray[np.float64], weight: NDArray[np.float64], *, slack: float) -> None:
    """Each weight lies within half the widest gap between levels, as a share of its block's largest."""
    largest = np.abs(weight.reshape(-1, 64)).max(axis=1, keepdims=True)
    errors = np.abs(values - weight).reshape(-1, 64) / largest
    assert errors.max() <= np.diff(NF4_LEVELS).max() / 2 + slack


def test_only_tensors_and_config_are_written(nf4: BackendRun, master: Path) -> None:
    assert sorted(path.name for path in nf4.output_dir.iterdir()) == ["config.json", "model.safetensors"]
    config = nf4.config
    settings = config.pop("quantization_config")
    assert config == json.loads((master / "config.json").read_text())
    assert settings["quant_method"] == "bitsandbytes" and settings["load_in_4bit"] and settings["bnb_4bit_use_double_quant"]
    assert settings["bnb_4bit_quant_type"] == "nf4" and settings["llm_int8_skip_modules"] == ["lm_head", KEPT]
    assert any("vLLM" in note for note in nf4.report["notes"])
    # The mean of each module's scales is written out in as many digits as it has.
    assert nf4.weights_bytes == pytest.approx(nf4.estimated_bytes, abs=8 * 13)


def test_nf4_with_quantized_scales_is_the_master_rounded(nf4: BackendRun, master: Path) -> None:
    tensors, weight = load_file(nf4.output_dir / "model.safetensors"), weight_of(master, MODULE)
    state = json.loads(tensors[f"{MODULE}.weight.quant_state.bitsandbytes__nf4"].tobytes())
    assert state["blocksize"] == 64 and state["nested_blocksize"] == 256 and tuple(state["shape"]) == weight.shape
    nested = tensors[f"{MODULE}.weight.nested_quant_map"][tensors[f"{MODULE}.weight.absmax"]].astype(np.float64)
    absmax = nested * np.repeat(tensors[f"{MODULE}.weight.nested_absmax"], 256)[: len(nested)] + state["nested_offset"]
    assert_is_nearest_level(nf4_values(tensors, MODULE, absmax, weight.shape), weight, slack=0.05)


def test_what_is_kept_is_the_masters_to_the_bit(nf4: BackendRun, master: Path) -> None:
    tensors, masters = load_file(nf4.output_dir / "model.safetensors"), load_file(master / "model.safetensors")
    plain = {name for name in masters if "norm" in name} | {"model.embed_tokens.weight", f"{KEPT}.weight"}
    assert "lm_head.weight" not in tensors
    for name in plain:
        assert tensors[name].dtype == masters[name].dtype and np.array_equal(tensors[name], masters[name]), name


def test_nf4_with_plain_scales_is_the_master_rounded(tmp_path: Path, master: Path) -> None:
    ran = run_backend(tmp_path / "run", {"method": "bitsandbytes", "options": {"double_quantization": False}}, master=master)
    tensors, weight = load_file(ran.output_dir / "model.safetensors"), weight_of(master, MODULE)
    assert not any("nested" in name for name in tensors)
    assert ran.weights_bytes == ran.estimated_bytes
    absmax = tensors[f"{MODULE}.weight.absmax"]
    np.testing.assert_allclose(absmax, np.abs(weight.reshape(-1, 64)).max(axis=1), rtol=1e-6)
    assert_is_nearest_level(nf4_values(tensors, MODULE, absmax, weight.shape), weight, slack=1e-5)


def test_int8_is_the_master_rounded(tmp_path: Path, master: Path) -> None:
    ran = run_backend(tmp_path / "run", {"method": "bitsandbytes", "scheme": "INT8", "keep_16bit": [KEPT]}, master=master)
    tensors, weight = load_file(ran.output_dir / "model.safetensors"), weight_of(master, MODULE)
    assert ran.config["quantization_config"]["load_in_8bit"]
    assert ran.weights_bytes == ran.estimated_bytes
    scales = tensors[f"{MODULE}.SCB"].astype(np.float64)
    np.testing.assert_allclose(scales, np.abs(weight).max(axis=1), rtol=1e-3)
    stored = tensors[f"{MODULE}.weight"]
    assert stored.dtype == np.int8
    assert np.abs(stored * scales[:, None] / 127 - weight).max() <= scales.max() / 127 * 0.51
    assert tensors[f"{KEPT}.weight"].dtype == np.float16
    assert run_python(AGREEMENT, ran.output_dir, master)["top1"] > 0.95


def test_transformers_loads_it_on_a_cpu_and_it_speaks_like_the_master(nf4: BackendRun, master: Path) -> None:
    said = run_python(AGREEMENT, nf4.output_dir, master)
    assert said["num_quantized"] == 13
    assert said["top1"] > 0.8
