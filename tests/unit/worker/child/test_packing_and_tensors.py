"""Packed integers and tensors read with numpy, against other ways to the same numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories.checkpoints import MemoryCheckpoint
from factories.quantized import pack_word
from quantry_core.checkpoints import inspect_checkpoint
from quantry_worker.child.formats.integers import packed_columns, unpack_rows
from quantry_worker.child.formats.stored import spread_groups
from quantry_worker.child.numerics.tensors import TensorReader, bits_of, nonfinite_tensors


@given(st.lists(st.integers(-8, 7), min_size=16, max_size=16))
def test_unpacking_undoes_packing(values: list[int]) -> None:
    packed = np.array([[pack_word(values[:8]), pack_word(values[8:])]], dtype=np.int64)
    assert unpack_rows(packed, bits=4, in_features=16).tolist() == [values]


@given(st.lists(st.integers(-4, 3), min_size=21, max_size=21))
def test_three_bits_run_over_the_edges_of_words(values: list[int]) -> None:
    stream = sum((value + 4) << (3 * index) for index, value in enumerate(values))
    words = np.frombuffer(stream.to_bytes(8, "little"), dtype="<i4").astype(np.int64)
    assert packed_columns(21, 3) == 2
    assert unpack_rows(words[None, :], bits=3, in_features=21).tolist() == [values]


def test_each_group_has_its_own_scale() -> None:
    assert spread_groups(np.array([[0.5, 10.0]], dtype=np.float32), 4).tolist() == [[0.5, 0.5, 10.0, 10.0]]


def checkpoint(dtype: str, raw: bytes, shape: tuple[int, ...]) -> tuple[TensorReader, MemoryCheckpoint]:
    header = json.dumps({"a": {"dtype": dtype, "shape": list(shape), "data_offsets": [0, len(raw)]}}).encode()
    memory = MemoryCheckpoint(
        {"config.json": b'{"model_type": "llama"}', "model.safetensors": len(header).to_bytes(8, "little") + header + raw}
    )
    return TensorReader(memory, inspect_checkpoint(memory)), memory


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    exact = np.array([[1.0, -2.5], [0.15625, 3e38]], dtype=np.float32)
    upper_halves = (exact.view(np.uint32) >> 16).astype("<u2")
    reader, _ = checkpoint("BF16", upper_halves.tobytes(), (2, 2))
    assert reader.float_rows("a", 1, 1)[0, 0] == 0.15625
    np.testing.assert_allclose(reader.floats("a"), exact, rtol=2**-7)


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
@pytest.mark.parametrize(("value", "is_broken"), [(np.inf, True), (-np.inf, True), (np.nan, True), (65504.0, False), (0.0, False)])
def test_infinities_and_nan_are_found(dtype: str, value: float, is_broken: bool) -> None:
    array = np.ones(1000, dtype=dtype)
    array[-1] = value
    reader, memory = checkpoint({"<f2": "F16", "<f4": "F32"}[dtype], array.tobytes(), (1000,))
    assert nonfinite_tensors(reader, inspect_checkpoint(memory)) == (["a"] if is_broken else [])


def test_an_infinite_bfloat16_is_found() -> None:
    array = np.array([0x3F80, 0x7F80], dtype="<u2")
    reader, _ = checkpoint("BF16", array.tobytes(), (2,))
    assert reader.has_nonfinite("a")
    finite, _ = checkpoint("BF16", array[:1].tobytes(), (1,))
    assert not finite.has_nonfinite("a")


def test_integers_keep_their_sign_and_are_never_broken() -> None:
    reader, memory = checkpoint("I32", np.array([[-1, 2]], dtype="<i4").tobytes(), (1, 2))
    assert reader.integers("a").tolist() == [[-1, 2]]
    assert reader.integer_rows("a", 0, 1).tolist() == [[-1, 2]]
    assert not reader.has_nonfinite("a")
    assert bits_of(inspect_checkpoint(memory), "a") == 64
