"""AutoRound: what is stored, what it is worth, and whether it is what the library does without us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from factories.backends import CORPORA, MASTER, BackendRun, example_windows, run_backend, run_python, shortened_master

BARE = Path(__file__).with_name("bare_auto_round.py")
PERPLEXITY = Path(__file__).with_name("perplexity_by_transformers.py")
OVERRIDDEN, KEPT = "model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"
MIXED = {
    "method": "autoround",
    "scheme": "W3A16",
    "group_size": 64,
    "options": {"preset": "light", "symmetric": False},
    "keep_16bit": [KEPT],
    "overrides": [{"modules": ["*.0.mlp.down_proj"], "scheme": "W4A16", "group_size": 32}],
}


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shortened_master(tmp_path_factory.mktemp("short") / "master", 2, norms="float32")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, master: Path) -> BackendRun:
    directory = tmp_path_factory.mktemp("mixed")
    return run_backend(directory / "run", MIXED, master=master, windows=example_windows(directory / "windows.npy", 8, 64))


def unpacked(packed: NDArray[np.int32], bits: int, columns: int) -> NDArray[np.int64]:
    """Returns signed integers, shape [rows, columns]; they lie one after the other in a row's bits, the lowest bit first."""
    stream = np.unpackbits(np.ascontiguousarray(packed).view(np.uint8), axis=1, bitorder="little")[:, : columns * bits]
    values: NDArray[np.int64] = stream.reshape(len(packed), columns, bits) @ (1 << np.arange(bits)) - (1 << (bits - 1))
    return values


def rebuilt(tensors: dict[str, NDArray[Any]], module: str, bits: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the weights that a module's parts stand for, and the scale of each weight, both [rows, columns]."""
    rows, columns = (int(side) for side in tensors[f"{module}.weight_shape"])
    scales = tensors[f"{module}.weight_scale"].astype(np.float64)
    size = columns // scales.shape[1]
    values = unpacked(tensors[f"{module}.weight_packed"], bits, columns)
    zero_points = np.zeros_like(scales)
    if f"{module}.weight_zero_point" in tensors:
        # Packed along the rows.
        zero_points = unpacked(tensors[f"{module}.weight_zero_point"].T, bits, rows).T.astype(np.float64)
    spread = np.repeat(scales, size, axis=1)
    return (values - np.repeat(zero_points, size, axis=1)) * spread, np.abs(spread)


def test_only_weights_and_config_are_written_and_layers_are_counted(mixed: BackendRun, master: Path) -> None:
    assert sorted(path.name for path in mixed.output_dir.iterdir()) == ["config.json", "model.safetensors"]
    config = mixed.config
    settings = config.pop("quantization_config")
    assert config == json.loads((master / "config.json").read_text())
    assert settings["quant_method"] == "compressed-tensors" and settings["format"] == "pack-quantized"
    assert sorted(settings["ignore"]) == ["lm_head", KEPT]
    assert [told[2] for told in mixed.progress if len(told) > 2][-1] == [2, 2, "layers"]
    shares = [told[0] for told in mixed.progress]
    assert shares == sorted(shares)
    assert mixed.weights_bytes == mixed.estimated_bytes


def test_overrides_become_groups_of_their_own(mixed: BackendRun) -> None:
    groups = mixed.config["quantization_config"]["config_groups"].values()
    by_size = {group["weights"]["group_size"]: group for group in groups}
    assert by_size[32]["targets"] == [OVERRIDDEN] and by_size[32]["weights"]["num_bits"] == 4
    assert len(by_size[64]["targets"]) == 12 and by_size[64]["weights"]["num_bits"] == 3
    assert not by_size[64]["weights"]["symmetric"]


def test_stored_weights_are_the_masters_but_for_rounding(mixed: BackendRun, master: Path) -> None:
    tensors, masters = load_file(mixed.output_dir / "model.safetensors"), load_file(master / "model.safetensors")
    modules = [name.removesuffix(".weight_packed") for name in tensors if name.endswith(".weight_packed")]
    assert len(modules) == 13
    for module in modules:
        weights, scales = rebuilt(tensors, module, 4 if module == OVERRIDDEN else 3)
        assert tensors[f"{module}.weight_scale"].dtype == np.float16
        steps = np.abs(weights - masters[f"{module}.weight"].astype(np.float64)) / scales
        # Tuning moves a weight by up to half a step beyond the nearest level; clipping moves few further.
        assert np.mean(steps <= 1.05) > 0.97, module


def test_what_is_not_quantized_is_the_masters_to_the_bit(mixed: BackendRun, master: Path) -> None:
    tensors, masters = load_file(mixed.output_dir / "model.safetensors"), load_file(master / "model.safetensors")
    plain = {name for name in tensors if ".weight_" not in name}
    assert plain == {"model.embed_tokens.weight", "model.norm.weight", f"{KEPT}.weight"} | {name for name in masters if "norm" in name}
    for name in plain:
        assert tensors[name].dtype == masters[name].dtype and np.array_equal(tensors[name], masters[name]), name


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["W4A16", "W2A16"])
def test_channels_without_zero_points(tmp_path: Path, master: Path, scheme: str) -> None:
    spec = {"method": "autoround", "scheme": scheme, "group_size": "channel", "options": {"preset": "light"}}
    ran = run_backend(tmp_path / "run", spec, master=master, windows=example_windows(tmp_path / "windows.npy", 8, 64))
    (group,) = ran.config["quantization_config"]["config_groups"].values()
    assert group["targets"] == ["Linear"] and group["weights"]["strategy"] == "channel" and group["weights"]["symmetric"]
    tensors = load_file(ran.output_dir / "model.safetensors")
    masters = load_file(master / "model.safetensors")
    assert not any(name.endswith("zero_point") for name in tensors)
    weights, scales = rebuilt(tensors, KEPT, int(scheme[1]))
    assert np.mean(np.abs(weights - masters[f"{KEPT}.weight"].astype(np.float64)) / scales <= 1.05) > 0.97


@pytest.mark.long
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_bare_script_of_the_library_gives_the_same_bits(tmp_path: Path, symmetric: bool) -> None:
    windows = example_windows(tmp_path / "windows.npy", 16, 128)
    spec = {"method": "autoround", "group_size": 128, "options": {"preset": "light", "symmetric": symmetric}}
    ours = load_file(run_backend(tmp_path / "run", spec, windows=windows).output_dir / "model.safetensors")
    run_python(BARE, MASTER, tmp_path / "bare.npz", tmp_path / "windows.npy", 4, 128, int(symmetric))
    bare = np.load(tmp_path / "bare.npz")
    modules = sorted(name.removesuffix(".weight_packed") for name in ours if name.endswith(".weight_packed"))
    assert modules == sorted(bare.files)
    for module in modules:
        # The bare script saves what its tuned weights stand for; float16 scales times small integers, exactly.
        assert np.array_equal(rebuilt(ours, module, 4)[0].astype(np.float32), bare[module]), module


@pytest.mark.long
@pytest.mark.parametrize(
    ("spec", "expected", "tolerance"),
    [
        # The example model's README, 66 samples of 256 tokens, 200 steps a layer.
        ({"scheme": "W4A16", "group_size": 128}, 20.58, 0.005),
        ({"scheme": "W2A16", "group_size": 64}, 23.19, 0.03),
    ],
)
def test_perplexity_comes_near_the_published_figures(tmp_path: Path, spec: dict[str, Any], expected: float, tolerance: float) -> None:
    windows = example_windows(tmp_path / "windows.npy", 66, 256)
    ran = run_backend(tmp_path / "run", {"method": "autoround", **spec}, windows=windows)
    perplexity = run_python(PERPLEXITY, ran.output_dir, MASTER, CORPORA / "kjv.test.txt", 256)
    assert perplexity == pytest.approx(expected, rel=tolerance)
