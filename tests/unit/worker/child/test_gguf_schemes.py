"""What a GGUF scheme refuses of a model, and what is not believed of an exported file."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import InvalidInput
from quantry_core.gguf import GgufInfo, GgufTensor
from quantry_core.gguf_schemes import FILE_TYPES, MATRIX_TYPES, block_weights
from quantry_core.jobs import QuantizeSpec
from quantry_core.methods import SCHEMES, NumberType, Scheme
from quantry_core.safetensors import TensorInfo
from quantry_worker.child.backends.gguf_schemes import check_exported
from quantry_worker.child.plan import plan_quantization

DOWN = "model.layers.0.mlp.down_proj"


def master(columns: int = 256) -> CheckpointInfo:
    """A master of one matrix of 256 x ``columns`` beside its embedding of 64 x 256."""
    shapes = {"model.embed_tokens.weight": (64, 256), f"{DOWN}.weight": (256, columns), "model.norm.weight": (256,)}
    tensors = {name: TensorInfo(dtype="F16", shape=shape, begin=0, end=0) for name, shape in shapes.items()}
    return CheckpointInfo(config={"model_type": "llama", "tie_word_embeddings": True}, files={}, tensors=tensors, tensor_files={})


def spec(**changes: Any) -> QuantizeSpec:
    return QuantizeSpec.model_validate({"base": "bard@master", "method": "gguf", "scheme": "Q4_K_M", "quality": None} | changes)


def exported(types: dict[str, str], file_type: int = 15) -> GgufInfo:
    shapes = {"token_embd.weight": (64, 256), "blk.0.ffn_down.weight": (256, 256), "output_norm.weight": (256,)}
    tensors = {name: GgufTensor(type_name=types.get(name, "F32"), shape=shapes[name], begin=0, end=0) for name in types}
    return GgufInfo(version=3, key_values={"general.file_type": file_type}, tensors=tensors)


GOOD = {"token_embd.weight": "Q6_K", "blk.0.ffn_down.weight": "Q4_K", "output_norm.weight": "F32"}


def test_every_k_quant_scheme_is_described() -> None:
    schemes = {row.scheme for row in SCHEMES.values() if row.number_type is NumberType.K_QUANT}
    assert set(MATRIX_TYPES) == set(FILE_TYPES) == schemes
    for scheme in schemes:
        assert SCHEMES[scheme].weight_bits == MATRIX_TYPES[scheme][0].bits
    assert [block_weights(scheme) for scheme in (Scheme.Q8_0, Scheme.Q5_K_M, Scheme.Q4_K_M)] == [32, 256, 256]
    assert [one.bits for one in MATRIX_TYPES[Scheme.Q4_K_M]] == [4.5, 6.5625]


def test_whole_blocks_are_accepted() -> None:
    assert list(plan_quantization(spec(), master()).targets) == [DOWN]


@pytest.mark.parametrize(
    ("scheme", "columns", "words"),
    [
        ("Q4_K_M", 288, r"blocks of 256 weights, which do not fit model.layers.0.mlp.down_proj \(288\); take Q8_0, whose blocks are of 32"),
        ("Q5_K_M", 288, "take Q8_0"),
    ],
)
def test_rows_that_are_no_whole_blocks_are_refused_with_an_alternative(scheme: str, columns: int, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        plan_quantization(spec(scheme=scheme), master(columns))


def test_q8_0_takes_rows_of_any_multiple_of_32() -> None:
    assert list(plan_quantization(spec(scheme="Q8_0"), master(288)).targets) == [DOWN]


def test_q8_0_is_not_named_where_it_would_not_fit_either() -> None:
    info = master()
    odd = {"model.extra_embed.weight": TensorInfo(dtype="F16", shape=(4, 100), begin=0, end=0)}
    with pytest.raises(InvalidInput, match=r"model.extra_embed \(100\); take another method"):
        plan_quantization(spec(), info.model_copy(update={"tensors": info.tensors | odd}))


def test_modules_to_keep_are_refused_by_name() -> None:
    two = master()
    up = {"model.layers.0.mlp.up_proj.weight": TensorInfo(dtype="F16", shape=(256, 256), begin=0, end=0)}
    both = two.model_copy(update={"tensors": two.tensors | up})
    with pytest.raises(InvalidInput, match=f"cannot keep {DOWN} at 16 bit"):
        plan_quantization(spec(keep_16bit=[DOWN]), both)


def test_a_file_of_the_scheme_is_believed() -> None:
    check_exported(exported(GOOD), Scheme.Q4_K_M, master())


@pytest.mark.parametrize(
    ("types", "file_type", "words"),
    [
        (GOOD, 7, "type 7 where Q4_K_M is 15"),
        (GOOD | {"blk.0.ffn_down.weight": "Q6_K"}, 15, "matrices of Q6_K into a Q4_K_M file"),
        (GOOD | {"token_embd.weight": "BF16"}, 15, "matrices of BF16, Q4_K into"),
        ({"blk.0.ffn_down.weight": "Q4_K"}, 15, "wrote 65536 weights of matrices; the master has 81920"),
    ],
)
def test_another_file_than_was_asked_for_is_not(types: dict[str, str], file_type: int, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        check_exported(exported(types, file_type), Scheme.Q4_K_M, master())
