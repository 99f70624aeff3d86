"""Checkpoints of the example model that are wrong in one way each: the whole gate refuses every one, for its own reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from factories.child_runs import MASTER
from factories.fake_vllm import write_fake_vllm
from factories.gated import Gated, gated
from quantry_core.jobs import CalibrationSpec, QualitySpec, QuantizeSpec

SPEC = QuantizeSpec(base="bard", method="rtn", group_size=64, options={"symmetric": False}, quality=None)
KV_SPEC = QuantizeSpec(
    base="bard", method="kv-cache", quality=None, calibration=CalibrationSpec(datasets=["text"], num_samples=8, length_tokens=128)
)
NUM_LAYERS = 6
TIGHT, WIDE = (
    SPEC.model_copy(update={"quality": QualitySpec(thresholds={"perplexity_ratio": bound, "attention_similarity_min": 0.5}, max_windows=6)})
    for bound in (1.0001, 1.2)
)
Q0, K0, UP3, UP4 = (
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.self_attn.k_proj",
    "model.layers.3.mlp.up_proj",
    "model.layers.4.mlp.up_proj",
)
Tensors = dict[str, Any]


def edit(directory: Path, change: Callable[[Tensors, dict[str, Any]], object]) -> None:
    """Lets ``change`` at the tensors and at config.json."""
    tensors: Tensors = load_file(directory / "model.safetensors")
    config = json.loads((directory / "config.json").read_text())
    change(tensors, config)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config))


def full_precision(directory: Path) -> None:
    """As a merge leaves it that was quantized in memory and saved from the wrong model: the master's weights, a config that lies."""

    def change(tensors: Tensors, _config: dict[str, Any]) -> None:
        tensors.clear()
        tensors.update(load_file(MASTER / "model.safetensors"))

    edit(directory, change)


def with_kv_scales(k_scale: float, v_scale: float, default_in_layer: int | None = None) -> Callable[[Path], None]:
    """As ``kv-cache`` writes them; the values of ``default_in_layer`` were left out of the calibration."""

    def change(tensors: Tensors, config: dict[str, Any]) -> None:
        tensors.clear()
        tensors.update(load_file(MASTER / "model.safetensors"))
        for layer in range(NUM_LAYERS):
            for kind, value in (("k_scale", k_scale), ("v_scale", v_scale)):
                is_left_out = layer == default_in_layer and kind == "v_scale"
                tensors[f"model.layers.{layer}.self_attn.{kind}"] = np.array([1.0 if is_left_out else value], dtype=np.float16)
        stated = config["quantization_config"]
        stated |= {"config_groups": {}, "format": "dense"}
        stated["kv_cache_scheme"] = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}

    return lambda directory: edit(directory, change)


def other_scheme_for_k(tensors: Tensors, config: dict[str, Any]) -> None:
    for part in ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape"):
        del tensors[f"{K0}.{part}"]
    tensors[f"{K0}.weight"] = load_file(MASTER / "model.safetensors")[f"{K0}.weight"]
    config["quantization_config"]["ignore"].append(K0)


def nan_scale(tensors: Tensors, _config: dict[str, Any]) -> None:
    scales = tensors[f"{UP3}.weight_scale"].copy()
    scales[7, 1] = np.nan
    tensors[f"{UP3}.weight_scale"] = scales


def zero_points_along_rows(tensors: Tensors, _config: dict[str, Any]) -> None:
    """Packed along the groups, as weights are, in place of down the outputs; then given the shape that was expected."""
    name = f"{Q0}.weight_zero_point"
    packed = tensors[name]
    bits = np.unpackbits(np.ascontiguousarray(packed.T).view(np.uint8), axis=1, bitorder="little")
    elements = bits.reshape(packed.shape[1], -1, 4)
    wrong = np.packbits(elements.transpose(1, 0, 2).reshape(-1, 32), axis=1, bitorder="little").view("<i4")
    tensors[name] = np.ascontiguousarray(wrong.reshape(packed.shape))


def swapped_layers(tensors: Tensors, _config: dict[str, Any]) -> None:
    for part in ("weight_packed", "weight_scale", "weight_zero_point"):
        first, second = f"{UP3}.{part}", f"{UP4}.{part}"
        tensors[first], tensors[second] = tensors[second], tensors[first]


def truncated(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4096])


def tokenizer_of_another_model(directory: Path) -> None:
    """Two tokens change places, as in any vocabulary that was trained on other text."""
    path = directory / "tokenizer.json"
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    ids = sorted(vocabulary, key=vocabulary.__getitem__)
    for first, second in zip(ids[300:2300:2], ids[301:2301:2], strict=True):
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(document))


def unchanged(_directory: Path) -> None:
    """Leaves a good checkpoint as it is."""


Planted = tuple[QuantizeSpec, Callable[[Path], None], dict[str, str]]
"""What was asked for, how the checkpoint is spoilt, and what each check that must find it says."""

PLANTED: dict[str, Planted] = {
    "full precision": (SPEC, full_precision, {"precision": "takes 16.00 bits a weight, asked for were 4"}),
    "kv scales of 1.0": (KV_SPEC, with_kv_scales(1.0, 1.0), {"kv-scales": "layers.0.self_attn.k_scale is exactly 1.0"}),
    "one layer's v scale of 1.0": (
        KV_SPEC,
        with_kv_scales(0.05, 0.02, default_in_layer=3),
        {"kv-scales": "layers.3.self_attn.v_scale is exactly 1.0, which is what a layer has that was not calibrated"},
    ),
    "kv scales too small": (KV_SPEC, with_kv_scales(0.008, 0.0025), {"reader": "nats from those of its dequantized weights"}),
    "k of another scheme": (SPEC, lambda d: edit(d, other_scheme_for_k), {"fused-groups": "do not share one scheme"}),
    "nan scale": (SPEC, lambda d: edit(d, nan_scale), {"scales": f"{UP3}.weight_scale: a scale is infinite or not a number"}),
    "truncated shard": (SPEC, truncated, {"files": "model.safetensors: the header describes"}),
    "zero-point packing": (SPEC, lambda d: edit(d, zero_points_along_rows), {"reconstruction": f"{Q0} is not the master's weight"}),
    "another tokenizer": (
        SPEC,
        tokenizer_of_another_model,
        {"files": "tokenizer.json is not the master's", "reader": "cuts the probe into other tokens"},
    ),
    "layers swapped": (
        SPEC,
        lambda d: edit(d, swapped_layers),
        {"reconstruction": f"{UP3} is not the master's weight", "reader": "nats from the master's"},
    ),
}
ANOTHER_MODEL_IN_THE_ENGINE = "another model in the engine"
NOT_PLANTED: dict[str, Planted] = {
    "worse than asked": (TIGHT, unchanged, {"quality": "test@1: perplexity_ratio is 1.0"}),
    ANOTHER_MODEL_IN_THE_ENGINE: (SPEC, unchanged, {"engine": "nats from the reader's on average"}),
}
"""Good checkpoints that are refused nevertheless."""
GOOD: dict[str, Planted] = {
    "untouched": (WIDE, unchanged, {}),
    "kv scales with room": (KV_SPEC, with_kv_scales(0.05, 0.02), {}),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Gated]:
    """One good checkpoint, made by the recipe; copies of it, each spoilt; what the gate says of each."""
    folder = tmp_path_factory.mktemp("planted")
    sound = gated(folder, {"sound": SPEC}, make=True)["sound"]
    assert (sound.state, sound.problems) == ("ready", {})
    specs: dict[str, QuantizeSpec] = {}
    for name, (spec, spoil, _words) in (PLANTED | NOT_PLANTED | GOOD).items():
        shutil.copytree(sound.output_dir, folder / name)
        spoil(folder / name)
        specs[name] = spec
    return gated(folder, specs, make=False, engine_pythons={ANOTHER_MODEL_IN_THE_ENGINE: write_fake_vllm(folder)})


@pytest.mark.parametrize("name", [*PLANTED, *NOT_PLANTED])
def test_what_is_wrong_is_refused_for_its_own_reason(said: dict[str, Gated], name: str) -> None:
    _spec, _spoil, expected = (PLANTED | NOT_PLANTED)[name]
    for check, words in expected.items():
        assert any(words in problem for problem in said[name].problems.get(check, [])), said[name].problems


@pytest.mark.parametrize("name", GOOD)
def test_what_was_not_spoilt_passes(said: dict[str, Gated], name: str) -> None:
    assert said[name].problems == {}


def test_quality_is_told_with_its_figures(said: dict[str, Gated]) -> None:
    metrics = said["untouched"].evidence["quality"].metrics
    assert 1 < metrics["perplexity_ratio"] == metrics["corpora"]["test@1"]["perplexity_ratio"] < 1.2
    assert 0.5 < metrics["attention_similarity_min"] < 1
    (sampling,) = metrics["sampling"]["datasets"]
    assert (sampling["dataset"], sampling["num_samples"], metrics["sampling"]["length_tokens"]) == ("test@1", 6, 256)
