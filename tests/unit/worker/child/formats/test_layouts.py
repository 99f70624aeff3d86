"""Each layout dequantized by its reader, against weights computed here one element at a time on Python's own numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.errors import SourceRefused
from quantry_core.linears import Shape
from quantry_worker.child.formats.bitsandbytes import NF4, open_bitsandbytes
from quantry_worker.child.formats.compressed_tensors import open_compressed_tensors
from quantry_worker.child.formats.eetq import open_eetq
from quantry_worker.child.formats.gptq import open_gptq
from quantry_worker.child.formats.stored import StoredCheckpoint, StoredModule, part_problems
from quantry_worker.child.formats.table import Opener
from quantry_worker.child.numerics.tensors import E4M3, TensorReader

OUT, IN, GROUP = 8, 32, 16
LINEARS: dict[str, Shape] = {"m": (OUT, IN)}
Tensors = dict[str, NDArray[Any]]
RANDOM = np.random.default_rng(7)


def opened(tmp_path: Path, opener: Opener, stated: dict[str, Any], tensors: Tensors) -> StoredCheckpoint:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": stated}))
    save_file(tensors, tmp_path / "model.safetensors")
    files = DirectoryCheckpoint(tmp_path)
    info = inspect_checkpoint(files)
    return opener(info, TensorReader(files, info), LINEARS)


def weights_of(module: StoredModule) -> NDArray[np.float32]:
    # Blocks of three rows: what holds for one block must hold across their edges.
    return np.concatenate(list(module.blocks(3 * IN)))


def check(stored: StoredCheckpoint, expected: NDArray[np.float64], rel: float = 1e-6) -> None:
    module = stored.modules["m"]
    assert part_problems(module, stored.info) == []
    np.testing.assert_allclose(weights_of(module), expected, rtol=rel, atol=1e-7)


def stream(levels: list[int], bits: int, num_words: int) -> list[int]:
    """Packs unsigned levels, the first in the lowest bits, into signed 32-bit words."""
    whole = sum(level << (bits * index) for index, level in enumerate(levels))
    words: list[int] = np.frombuffer(whole.to_bytes(num_words * 4, "little"), dtype="<i4").tolist()
    return words


def config_group(layout: str, **weights: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {"type": "int", "symmetric": True, **weights}, "input_activations": None, "format": layout}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": {"group_0": group}, "ignore": []}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_packed_integers_with_zero_points(tmp_path: Path, bits: int) -> None:
    levels = RANDOM.integers(0, 2**bits, (OUT, IN))
    zero_points = RANDOM.integers(0, 2**bits, (OUT, IN // GROUP))
    scales = RANDOM.uniform(0.01, 1, (OUT, IN // GROUP)).astype(np.float16)
    columns = [stream(column, bits, math.ceil(OUT * bits / 32)) for column in zero_points.T.tolist()]
    tensors: Tensors = {
        "m.weight_packed": np.array([stream(row, bits, math.ceil(IN * bits / 32)) for row in levels.tolist()], dtype=np.int32),
        "m.weight_zero_point": np.ascontiguousarray(np.array(columns, dtype=np.int32).T),
        "m.weight_scale": scales,
        "m.weight_shape": np.array([OUT, IN]),
    }
    stated = config_group("pack-quantized", num_bits=bits, strategy="group", group_size=GROUP, symmetric=False)
    stored = opened(tmp_path, open_compressed_tensors, stated, tensors)
    check(stored, (levels - zero_points.repeat(GROUP, 1)) * scales.astype(np.float64).repeat(GROUP, 1))
    found = stored.modules["m"].levels().zero_points
    assert found is not None
    assert found.tolist() == zero_points.tolist()


@pytest.mark.parametrize("columns", [1, 2])
def test_integers_one_a_byte_by_channel_and_by_group(tmp_path: Path, columns: int) -> None:
    values = RANDOM.integers(-128, 128, (OUT, IN)).astype(np.int8)
    scales = RANDOM.uniform(0.01, 1, (OUT, columns)).astype(np.float32)
    size = {"strategy": "channel"} if columns == 1 else {"strategy": "group", "group_size": GROUP}
    stated = config_group("int-quantized", num_bits=8, **size)
    stored = opened(tmp_path, open_compressed_tensors, stated, {"m.weight": values, "m.weight_scale": scales})
    check(stored, values * scales.astype(np.float64).repeat(IN // columns, 1))


def e4m3(byte: int) -> float:
    """By the definition: a sign, four bits of exponent with bias 7, three of mantissa; no infinities."""
    sign, exponent, mantissa = (-1) ** (byte >> 7), (byte >> 3) & 15, byte & 7
    return float(sign * (mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)))


def test_every_e4m3_number() -> None:
    expected = [math.nan if byte & 0x7F == 0x7F else e4m3(byte) for byte in range(256)]
    np.testing.assert_array_equal(E4M3, np.array(expected, dtype=np.float32))
    assert np.nanmax(E4M3) == 448


E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def fp4(nibble: int) -> float:
    return E2M1[nibble & 7] * (-1 if nibble & 8 else 1)


def save_fp8(path: Path, tensors: Tensors, names: set[str]) -> None:
    """numpy has no E4M3: the bytes go in as integers, and the header is told what they are."""
    save_file(tensors, path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    for name in names:
        header[name]["dtype"] = "F8_E4M3"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def opened_fp8(tmp_path: Path, stated: dict[str, Any], tensors: Tensors, names: set[str]) -> StoredCheckpoint:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": stated}))
    save_fp8(tmp_path / "model.safetensors", tensors, names)
    files = DirectoryCheckpoint(tmp_path)
    info = inspect_checkpoint(files)
    return open_compressed_tensors(info, TensorReader(files, info), LINEARS)


@pytest.mark.parametrize(("strategy", "shape"), [("channel", (OUT, 1)), ("tensor", (1,))])
def test_fp8(tmp_path: Path, strategy: str, shape: tuple[int, ...]) -> None:
    codes = RANDOM.integers(0, 0x7F, (OUT, IN)).astype(np.uint8)
    scales = RANDOM.uniform(0.001, 0.01, shape).astype(np.float32)
    stated = config_group("float-quantized", num_bits=8, type="float", strategy=strategy)
    stored = opened_fp8(tmp_path, stated, {"m.weight": codes, "m.weight_scale": scales}, {"m.weight"})
    check(stored, np.array([[e4m3(code) for code in row] for row in codes.tolist()]) * scales.astype(np.float64))


def test_nvfp4(tmp_path: Path) -> None:
    nibbles = RANDOM.integers(0, 16, (OUT, IN))
    scales = RANDOM.integers(0x20, 0x7F, (OUT, IN // GROUP)).astype(np.uint8)
    tensors: Tensors = {
        "m.weight_packed": (nibbles[:, 0::2] | nibbles[:, 1::2] << 4).astype(np.uint8),
        "m.weight_scale": scales,
        "m.weight_global_scale": np.array([640.0], dtype=np.float32),
    }
    stated = config_group("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=GROUP)
    stored = opened_fp8(tmp_path, stated, tensors, {"m.weight_scale"})
    steps = np.array([[e4m3(code) / 640 for code in row] for row in scales.tolist()])
    check(stored, np.array([[fp4(one) for one in row] for row in nibbles.tolist()]) * steps.repeat(GROUP, 1))


def test_mxfp4_and_an_exponent_that_is_no_number(tmp_path: Path) -> None:
    nibbles = RANDOM.integers(0, 16, (OUT, IN))
    exponents = RANDOM.integers(118, 128, (OUT, 1)).astype(np.uint8)
    packed = (nibbles[:, 0::2] | nibbles[:, 1::2] << 4).astype(np.uint8)
    stated = config_group("mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=IN)
    stored = opened(tmp_path / "good", open_compressed_tensors, stated, {"m.weight_packed": packed, "m.weight_scale": exponents})
    check(stored, np.array([[fp4(one) for one in row] for row in nibbles.tolist()]) * 2.0 ** (exponents.astype(float) - 127))

    exponents[3] = 255
    broken = opened(tmp_path / "broken", open_compressed_tensors, stated, {"m.weight_packed": packed, "m.weight_scale": exponents})
    assert np.isnan(broken.modules["m"].levels().scales["m.weight_scale"]).sum() == 1


@pytest.mark.parametrize(("layout", "offset"), [("gptq", 1), ("gptq_v2", 0)])
def test_gptq(tmp_path: Path, layout: str, offset: int) -> None:
    levels = RANDOM.integers(0, 16, (OUT, IN))
    zero_points = RANDOM.integers(1, 16, (IN // GROUP, OUT))
    scales = RANDOM.uniform(0.01, 1, (IN // GROUP, OUT)).astype(np.float16)
    group_of_input = RANDOM.permutation(np.arange(IN) // GROUP).astype(np.int32)
    tensors: Tensors = {
        "m.qweight": np.ascontiguousarray(np.array([stream(row, 4, IN // 8) for row in levels.tolist()], dtype=np.int32).T),
        "m.qzeros": np.array([stream(row, 4, 1) for row in (zero_points - offset).tolist()], dtype=np.int32),
        "m.scales": scales,
        "m.g_idx": group_of_input,
    }
    stated = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": False, "checkpoint_format": layout}
    stored = opened(tmp_path, open_gptq, stated, tensors)
    expected = (levels - zero_points.T[:, group_of_input]) * scales.astype(np.float64).T[:, group_of_input]
    check(stored, expected)


def nf4_state(**more: Any) -> NDArray[np.uint8]:
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [OUT, IN], **more}
    return np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)


def test_nf4_with_and_without_double_quantization(tmp_path: Path) -> None:
    codes = RANDOM.integers(0, 16, OUT * IN)
    packed = (codes[0::2] << 4 | codes[1::2]).astype(np.uint8)[:, None]
    num_blocks = OUT * IN // 64
    scales = RANDOM.uniform(0.1, 1, num_blocks).astype(np.float32)
    stated = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False}
    tensors: Tensors = {"m.weight": packed, "m.weight.absmax": scales, "m.weight.quant_map": NF4}
    plain = opened(tmp_path / "plain", open_bitsandbytes, stated, tensors | {"m.weight.quant_state.bitsandbytes__nf4": nf4_state()})
    numbers = np.array([float(NF4[code]) for code in codes.tolist()])
    check(plain, (numbers * scales.astype(np.float64).repeat(64)).reshape(OUT, IN))

    nested_map = np.linspace(-1, 1, 256).astype(np.float32)
    nested = RANDOM.integers(0, 256, num_blocks).astype(np.uint8)
    tensors |= {
        "m.weight.absmax": nested,
        "m.weight.nested_absmax": np.array([0.3], dtype=np.float32),
        "m.weight.nested_quant_map": nested_map,
        "m.weight.quant_state.bitsandbytes__nf4": nf4_state(nested_blocksize=256, nested_offset=0.5),
    }
    double = opened(tmp_path / "double", open_bitsandbytes, stated | {"bnb_4bit_use_double_quant": True}, tensors)
    restored = nested_map.astype(np.float64)[nested] * 0.3 + 0.5
    check(double, (numbers * restored.repeat(64)).reshape(OUT, IN), rel=1e-5)


def test_int8_of_bitsandbytes(tmp_path: Path) -> None:
    values = RANDOM.integers(-127, 128, (OUT, IN)).astype(np.int8)
    largest = RANDOM.uniform(0.1, 1, OUT).astype(np.float32)
    stated = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    tensors: Tensors = {"m.weight": values, "m.SCB": largest, "m.weight_format": np.array(0, dtype=np.uint8)}
    stored = opened(tmp_path, open_bitsandbytes, stated, tensors)
    check(stored, values * largest.astype(np.float64)[:, None] / 127)
    assert stored.modules["m"].levels().problems == []


def test_eetq_is_known_by_its_headers_and_its_weights_are_not_guessed(tmp_path: Path) -> None:
    tensors: Tensors = {"m.weight": np.zeros((IN, OUT), np.int8), "m.weight_scales": np.full(OUT, 0.5, np.float16)}
    stored = opened(tmp_path, open_eetq, {"quant_method": "eetq", "weights": "int8"}, tensors)
    assert part_problems(stored.modules["m"], stored.info) == []
    with pytest.raises(SourceRefused, match="only its own kernels read them"):
        weights_of(stored.modules["m"])


def test_a_group_that_names_a_module_goes_before_one_that_names_its_class(tmp_path: Path) -> None:
    stated = config_group("pack-quantized", num_bits=4, strategy="group", group_size=GROUP)
    named = {"targets": ["re:m$"], "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}}
    stated["config_groups"]["group_1"] = named | {"format": "int-quantized"}
    stored = opened(tmp_path, open_compressed_tensors, stated, {"m.weight": np.zeros((OUT, IN), np.int8)})
    assert stored.modules["m"].stated.bits == 8
    assert part_problems(stored.modules["m"], stored.info) == ["tensor m.weight_scale is missing"]


def test_an_ignored_module_is_none(tmp_path: Path) -> None:
    stated = config_group("pack-quantized", num_bits=4, strategy="group", group_size=GROUP) | {"ignore": ["m"]}
    assert opened(tmp_path, open_compressed_tensors, stated, {"m.weight": np.zeros((OUT, IN), np.float16)}).modules == {}


@pytest.mark.parametrize(
    ("opener", "stated", "words"),
    [
        (open_compressed_tensors, {"quant_method": "awq"}, "quant_method awq"),
        (open_compressed_tensors, {"quant_method": "compressed-tensors"}, "no config_groups"),
        (open_compressed_tensors, config_group("marlin-24", num_bits=4, strategy="channel"), "format marlin-24 is not known"),
        (open_compressed_tensors, config_group("pack-quantized", num_bits=4, strategy="block"), "strategy block"),
        (open_compressed_tensors, config_group("pack-quantized", num_bits=4, strategy="group"), "group_size of group_0 is None"),
        (open_gptq, {"quant_method": "gptq", "bits": 5, "group_size": 32}, "bits 5"),
        (open_bitsandbytes, {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, "fp4 is not nf4"),
        (open_eetq, {"quant_method": "gptq"}, "quant_method eetq"),
    ],
)
def test_what_is_not_known_is_refused_in_words(tmp_path: Path, opener: Opener, stated: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        opened(tmp_path, opener, stated, {"m.weight": np.zeros((OUT, IN), np.float16)})
