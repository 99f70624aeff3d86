"""Bits of modules as they lie on disk."""

from __future__ import annotations

from math import prod

from quantry_core.gguf import GgufTensor
from quantry_core.safetensors import DTYPE_BITS, TensorInfo
from quantry_core.stored_modules import gguf_modules_of, modules_of


def tensor(dtype: str, *shape: int) -> TensorInfo:
    return TensorInfo(dtype=dtype, shape=shape, begin=0, end=prod(shape) * DTYPE_BITS[dtype] // 8)


BASE = {
    "model.embed_tokens.weight": tensor("F16", 100, 64),
    "model.layers.0.mlp.up.weight": tensor("F16", 128, 64),
    "model.layers.0.mlp.down.weight": tensor("F16", 64, 128),
    "model.layers.0.norm.weight": tensor("F16", 64),
}


def test_a_master_has_its_own_bits() -> None:
    modules = modules_of(BASE, BASE, {"model_type": "llama"})
    told = [(one.name.rpartition(".")[2], one.bits_per_weight, one.stored_as, one.size_bytes) for one in modules]
    assert told == [("down", 16, "F16", 16384), ("up", 16, "F16", 16384)]


def test_all_that_belongs_to_a_module_counts() -> None:
    quantized = {
        "model.layers.0.mlp.up.weight_packed": tensor("I32", 128, 8),
        "model.layers.0.mlp.up.weight_scale": tensor("F16", 128, 2),
        "model.layers.0.mlp.up.weight_shape": tensor("I64", 2),
        "model.layers.0.mlp.down.weight": tensor("F16", 64, 128),
        "model.layers.0.mlp.upper.weight": tensor("F16", 64, 128),
    }
    down, up = modules_of(quantized, BASE, {"model_type": "llama"})
    assert (down.bits_per_weight, down.stored_as) == (16, "F16")
    assert up.bits_per_weight == (128 * 8 * 32 + 128 * 2 * 16 + 2 * 64) / (128 * 64)
    assert up.stored_as == "I32 and F16 and I64"


def test_gguf_has_its_own_names_and_no_embedding() -> None:
    tensors = {
        "token_embd.weight": GgufTensor(type_name="Q4_K", shape=(100, 256), begin=0, end=14400),
        "blk.0.ffn_up.weight": GgufTensor(type_name="Q4_K", shape=(8, 256), begin=0, end=8 * 144),
        "output_norm.weight": GgufTensor(type_name="F32", shape=(256,), begin=0, end=1024),
    }
    [module] = gguf_modules_of(tensors)
    assert (module.name, module.bits_per_weight, module.stored_as) == ("blk.0.ffn_up", 4.5, "Q4_K")
