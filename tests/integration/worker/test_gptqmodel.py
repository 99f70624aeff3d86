"""GPTQModel for real, in its own environment: the gptq layout it writes, read back by arithmetic."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from factories.backends import (
    CORPORA,
    MASTER,
    ROOT,
    RUN_BACKEND,
    SCRIPTS,
    estimated_bytes,
    example_windows,
    run_python,
    shortened_master,
)
from factories.families import family_master

GPTQMODEL_PYTHON = ROOT / ".venvs" / "gptqmodel" / "bin" / "python"

pytestmark = pytest.mark.long


def quantize(directory: Path, master: Path, windows: Path, **spec: Any) -> tuple[Path, dict[str, Any]]:
    """Returns the output folder and what the backend said."""
    output = directory / "output"
    output.mkdir(parents=True)
    whole = {"base": "m", "method": "gptqmodel", "calibration": {"datasets": ["text@1"], "length_tokens": 64}, "quality": None, **spec}
    (directory / "spec.json").write_text(json.dumps(whole))
    environment = {"PATH": os.defpath, "HOME": str(directory), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [str(GPTQMODEL_PYTHON), str(RUN_BACKEND), *map(str, (directory / "spec.json", master, output, windows))]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    said: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    assert "refused" not in said, said
    return output, said


def dequantized(tensors: dict[str, Any], module: str, bits: int) -> Any:
    """Returns the weight [out, in] of a module by the layout's definition, version 1: zero points are stored less one."""
    words, per_word = tensors[f"{module}.qweight"].astype(np.uint32), 32 // bits
    levels = np.stack([words >> (bits * index) & (2**bits - 1) for index in range(per_word)], axis=1).reshape(-1, words.shape[1])
    packed = tensors[f"{module}.qzeros"].astype(np.uint32)
    zeros = np.stack([packed >> (bits * index) & (2**bits - 1) for index in range(per_word)], axis=2).reshape(len(packed), -1) + 1
    group_of = tensors[f"{module}.g_idx"]
    return ((levels.astype(np.float64) - zeros[group_of]) * tensors[f"{module}.scales"].astype(np.float64)[group_of]).T


def relative_error(original: Any, found: Any) -> float:
    return float(np.linalg.norm(found - original) / np.linalg.norm(original))


def test_the_gptq_layout_stands_for_the_master(tmp_path: Path) -> None:
    master = shortened_master(tmp_path / "master", 2)
    example_windows(tmp_path / "windows.npy", 16, 64)
    output, said = quantize(tmp_path / "run", master, tmp_path / "windows.npy", group_size=64, keep_16bit=["*.layers.1.mlp.*"])
    tensors, original = load_file(output / "model.safetensors"), load_file(master / "model.safetensors")
    modules = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    assert len(modules) == 7 + 4
    for module in modules:
        assert relative_error(original[f"{module}.weight"].astype(np.float64), dequantized(tensors, module, 4)) < 0.2
        assert (np.diff(tensors[f"{module}.g_idx"]) >= 0).all()
    kept = original.keys() & tensors.keys()
    assert "model.layers.1.mlp.up_proj.weight" in kept and all((tensors[name] == original[name]).all() for name in kept)
    config, stated = json.loads((output / "config.json").read_text()), json.loads((master / "config.json").read_text())
    quantization = config.pop("quantization_config")
    assert config == stated
    assert (quantization["bits"], quantization["group_size"], quantization["desc_act"]) == (4, 64, False)
    assert r"-:^model\.layers\.1\.mlp\.gate_up_proj$" in quantization["dynamic"]
    assert sorted(path.name for path in output.iterdir()) == ["config.json", "model.safetensors"]
    assert (output / "model.safetensors").stat().st_size == estimated_bytes(
        master, json.loads((tmp_path / "run" / "spec.json").read_text())
    )
    assert [one[2] for one in said["progress"] if one[2:] and one[2]] == [[1, 2, "layers"], [2, 2, "layers"]]


def test_transposed_matrices_of_gpt2_are_quantized_along_their_inputs(tmp_path: Path) -> None:
    master = family_master("gpt2", tmp_path)
    example_windows(tmp_path / "windows.npy", 16, 64)
    output, _ = quantize(tmp_path / "run", master, tmp_path / "windows.npy", group_size=32)
    tensors, original = load_file(output / "model.safetensors"), load_file(master / "model.safetensors")
    modules = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    assert len(modules) == 4 * 2
    assert (output / "model.safetensors").stat().st_size == estimated_bytes(
        master, json.loads((tmp_path / "run" / "spec.json").read_text())
    )
    assert all(relative_error(original[f"{name}.weight"].astype(np.float64).T, dequantized(tensors, name, 4)) < 0.2 for name in modules)


@pytest.mark.parametrize(
    ("scheme", "options", "most"), [("W4A16", {}, 1.03), ("W4A16", {"symmetric": False}, 1.03), ("W8A16", {"damping": 0.1}, 1.005)]
)
def test_perplexity_stays_near_the_masters(tmp_path: Path, scheme: str, options: dict[str, Any], most: float) -> None:
    example_windows(tmp_path / "windows.npy", 64, 64)
    output, _ = quantize(tmp_path / "run", MASTER, tmp_path / "windows.npy", scheme=scheme, group_size=64, options=options)
    tensors = load_file(output / "model.safetensors")
    bits = int(scheme[1])
    plain = {name: tensor for name, tensor in tensors.items() if not name.endswith((".qweight", ".qzeros", ".scales", ".g_idx"))}
    modules = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    # safetensors writes the bytes of a transposed array in their order, not in its own.
    plain |= {f"{module}.weight": np.ascontiguousarray(dequantized(tensors, module, bits), np.float32) for module in modules}
    (tmp_path / "plain").mkdir()
    save_file(plain, tmp_path / "plain" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "plain" / "config.json").write_text((MASTER / "config.json").read_text())
    script, text = SCRIPTS / "perplexity_by_transformers.py", CORPORA / "kjv.test.txt"
    found, reference = (run_python(script, folder, MASTER, text, 256) for folder in (tmp_path / "plain", MASTER))
    assert 0.98 * reference < found < most * reference
