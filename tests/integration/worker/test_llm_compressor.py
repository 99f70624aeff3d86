"""The llm-compressor backend for real: every scheme it writes is read by transformers, and the numbers are the library's own."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from factories.backends import estimated_bytes
from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo, inspect_checkpoint
from quantry_core.linears import linear_modules
from quantry_worker.child.numerics.tensors import TensorReader

ROOT = Path(__file__).resolve().parents[3]
MASTER = ROOT / "examples" / "bard-6m"
CORPORA = ROOT / "examples" / "corpora"
ML_PYTHON = ROOT / ".venvs" / "ml" / "bin" / "python"
HERE = Path(__file__).parent
LENGTH_TOKENS = 256
TOKENIZE = """
import sys
from pathlib import Path
import numpy as np
from tokenizers import Tokenizer
tokenizer, output, length, num, *texts = sys.argv[1:]
length, num = int(length), int(num)
ids = [Tokenizer.from_file(tokenizer).encode(Path(text).read_text()[:40 * length * num], add_special_tokens=False).ids for text in texts]
windows = [one[start:start + length] for one in ids for start in range(0, length * num // len(ids) - length + 1, length)]
np.save(output, np.array(windows, dtype=np.int64))
"""

FITTED: dict[str, dict[str, Any]] = {
    "gptq": {"method": "gptq"},
    "gptq-channel-asymmetric": {"method": "gptq", "group_size": "channel", "options": {"symmetric": False, "activation_order": "none"}},
    "gptq-w3-g64": {"method": "gptq", "scheme": "W3A16", "group_size": 64},
    "gptq-w2-g32-asymmetric": {"method": "gptq", "scheme": "W2A16", "group_size": 32, "options": {"symmetric": False}},
    "gptq-w8-channel": {"method": "gptq", "scheme": "W8A16", "group_size": "channel"},
    "gptq-w4a8": {"method": "gptq", "scheme": "W4A8"},
    "smoothquant": {"method": "smoothquant"},
    "smoothquant-kv": {"method": "smoothquant", "kv_cache": "fp8"},
    "fp8-static": {"method": "fp8", "scheme": "FP8"},
    "fp8-dynamic-kv": {"method": "fp8", "kv_cache": "fp8"},
    "nvfp4": {"method": "nvfp4", "scheme": "NVFP4"},
    "kv-cache": {"method": "kv-cache"},
    "awq-w3": {"method": "awq", "scheme": "W3A16", "group_size": 64, "options": {"num_grid": 4, "symmetric": False}},
    "mixed": {
        "method": "gptq",
        "overrides": [
            {"modules": ["*.down_proj"], "scheme": "W8A16", "group_size": "channel"},
            {"modules": ["*.layers.0.self_attn.[qkv]_proj"], "group_size": 32},
        ],
        "keep_16bit": ["*.layers.5.self_attn.o_proj"],
    },
}
DATA_FREE: dict[str, dict[str, Any]] = {
    "rtn": {"method": "rtn"},
    "rtn-w4-g32-asymmetric": {"method": "rtn", "group_size": 32, "options": {"symmetric": False}},
    "rtn-w3": {"method": "rtn", "scheme": "W3A16", "group_size": 64},
    "rtn-w2": {"method": "rtn", "scheme": "W2A16", "group_size": 32},
    "rtn-w8-channel": {"method": "rtn", "scheme": "W8A16", "group_size": "channel"},
    "fp8-dynamic": {"method": "fp8"},
    "nvfp4a16": {"method": "nvfp4"},
    "mxfp4a16": {"method": "mxfp4"},
    "mxfp4": {"method": "mxfp4", "scheme": "MXFP4"},
    "rtn-mixed": {"method": "rtn", "overrides": [{"modules": ["*.down_proj"], "scheme": "W3A16", "group_size": "channel"}]},
}
ALL = FITTED | DATA_FREE
MOST_LOST_NATS = {
    "gptq-w3-g64": 0.12,
    "gptq-w2-g32-asymmetric": 0.6,
    "rtn-w3": 0.25,
    "rtn-w2": 1.2,
    "rtn-mixed": 0.12,
    "awq-w3": 0.12,
    "mxfp4": 0.1,
}
"""What a scheme may add to the master's loss; 0.06 where nothing is said. Zeros in place of weights add more than 5."""
QUICK = ("gptq", "mixed", "fp8-dynamic-kv", "rtn", "rtn-mixed", "nvfp4a16")
"""Those that stand for the rest in make test."""


@dataclass(frozen=True)
class Quantized:
    """A version the backend wrote, and what it said."""

    directory: Path
    spec: dict[str, Any]
    told: dict[str, Any]

    @property
    def info(self) -> CheckpointInfo:
        return inspect_checkpoint(DirectoryCheckpoint(self.directory))

    @property
    def stated(self) -> dict[str, Any]:
        stated: dict[str, Any] = json.loads((self.directory / "config.json").read_text())["quantization_config"]
        return stated

    @property
    def reader(self) -> TensorReader:
        return TensorReader(DirectoryCheckpoint(self.directory), self.info)

    def numbers(self, suffix: str) -> dict[str, float]:
        """Returns the tensors of a single element whose names end so."""
        return {name: float(self.reader.floats(name).reshape(())) for name in self.info.tensors if name.endswith(suffix)}


def run_script(*arguments: object) -> list[dict[str, Any]]:
    """Runs a script in the ml environment; returns the JSON lines it printed."""
    environment = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"}
    finished = subprocess.run([ML_PYTHON, *map(str, arguments)], check=False, capture_output=True, text=True, env=environment, timeout=600)
    assert finished.returncode == 0, finished.stderr[-4000:]
    return [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("{")]


def windows_of(path: Path, kind: str, num: int) -> Path:
    texts = [CORPORA / f"{name}.{kind}.txt" for name in ("kjv", "shakespeare", "speeches")]
    run_script("-c", TOKENIZE, MASTER / "tokenizer.json", path, LENGTH_TOKENS, num, *texts)
    return path


def quantize_all(folder: Path, specs: dict[str, dict[str, Any]], windows: Path, master: Path = MASTER) -> dict[str, Quantized]:
    """Runs the specs in one process; those of methods that are fitted to text get the windows."""
    orders: list[dict[str, Any]] = []
    for name, spec in specs.items():
        fitted = {"calibration": {"datasets": ["given"]}} if name not in DATA_FREE else {}
        given = str(windows) if fitted else None
        whole = {"base": "bard"} | spec | fitted
        orders.append({"master": str(master), "output": str(folder / name), "spec": whole, "windows": given})
    path = folder / "orders.json"
    path.write_text(json.dumps(orders))
    told = run_script(HERE / "quantize_by_backend.py", path)
    return {name: Quantized(folder / name, order["spec"], one) for name, order, one in zip(specs, orders, told, strict=True)}


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shape [6, 256]."""
    return windows_of(tmp_path_factory.mktemp("windows") / "calibration.npy", "calibration", 6)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shape [12, 256]."""
    return windows_of(tmp_path_factory.mktemp("windows") / "test.npy", "test", 12)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, calibration: Path) -> dict[str, Quantized]:
    return quantize_all(tmp_path_factory.mktemp("quick"), {name: ALL[name] for name in QUICK}, calibration)


def check_readable(made: dict[str, Quantized], scored: Path) -> None:
    told = run_script(HERE / "reload_with_transformers.py", scored, MASTER, *(one.directory for one in made.values()))
    master = told[0]["loss_nats"]
    assert 20 < math.exp(master) < 40
    for name, one in zip(made, told[1:], strict=True):
        assert (one["missing"], one["unexpected"]) == ([], []), name
        assert -0.01 < one["loss_nats"] - master < MOST_LOST_NATS.get(name, 0.06), name
        assert one["distance"] > 0, name


@pytest.mark.long
def test_transformers_reads_the_result_and_little_is_lost(quick: dict[str, Quantized], scored: Path) -> None:
    check_readable(quick, scored)


@pytest.mark.long
def test_transformers_reads_every_scheme_of_every_method(tmp_path: Path, calibration: Path, scored: Path) -> None:
    made = quantize_all(tmp_path, ALL, calibration)
    check_readable(made, scored)
    check_sizes(made)


def check_sizes(made: dict[str, Quantized]) -> None:
    """Fails unless the estimate, which sees the master's headers alone, tells every size to the byte."""
    told = {name: estimated_bytes(MASTER, one.spec) for name, one in made.items()}
    assert told == {name: one.info.weights_bytes for name, one in made.items()}


def test_every_result_is_as_large_as_was_told(quick: dict[str, Quantized]) -> None:
    check_sizes(quick)


def test_every_result_is_small_tied_and_counts_its_layers(quick: dict[str, Quantized]) -> None:
    config = json.loads((MASTER / "config.json").read_text())
    for name, one in quick.items():
        info = one.info
        assert info.weights_bytes < 0.65 * (MASTER / "model.safetensors").stat().st_size, name
        assert "lm_head.weight" not in info.tensors
        assert list((info.config | {"quantization_config": None}).items()) == [*config.items(), ("quantization_config", None)], name
        assert one.told["layers"][-1] == [6, 6]
        assert one.told["layers"] == sorted(one.told["layers"])
        assert {path.name for path in one.directory.iterdir()} <= {"config.json", "model.safetensors", "generation_config.json"}


def test_what_is_not_quantized_is_bit_for_bit_the_masters(quick: dict[str, Quantized]) -> None:
    master = inspect_checkpoint(DirectoryCheckpoint(MASTER))
    theirs = TensorReader(DirectoryCheckpoint(MASTER), master)
    for name, one in quick.items():
        ours = one.reader
        plain = [tensor for tensor, header in one.info.tensors.items() if tensor in master.tensors and header.dtype == "F16"]
        # The embedding, two norms in each of six layers, the last norm; and the module that "mixed" keeps.
        assert len(plain) == (15 if name == "mixed" else 14), name
        assert [tensor for tensor in plain if not ours.is_same_as(tensor, theirs)] == []


def test_a_copy_of_an_output_layer_that_its_family_ties_is_not_written(tmp_path: Path) -> None:
    """Some families tie it where config.json says nothing of it, and old checkpoints store it nevertheless."""
    master = tmp_path / "master"
    shutil.copytree(MASTER, master)
    config = json.loads((MASTER / "config.json").read_text()) | {"model_type": "cohere"}
    del config["tie_word_embeddings"]
    (master / "config.json").write_text(json.dumps(config))
    tensors = load_file(MASTER / "model.safetensors")
    copied = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].copy()}
    save_file(copied, master / "model.safetensors", metadata={"format": "pt"})
    made = quantize_all(tmp_path, {"rtn": ALL["rtn"]}, tmp_path, master)["rtn"]
    assert "lm_head.weight" not in made.info.tensors
    assert made.stated["ignore"] == ["lm_head"]


def test_mixed_precision_states_each_group_by_its_modules_names(quick: dict[str, Quantized]) -> None:
    stated = quick["mixed"].stated
    kept = "model.layers.5.self_attn.o_proj"
    by_module = {
        module: (group["weights"]["num_bits"], group["weights"]["group_size"])
        for group in stated["config_groups"].values()
        for module in group["targets"]
    }
    linears = set(linear_modules(inspect_checkpoint(DirectoryCheckpoint(MASTER)).tensors))
    assert set(by_module) == linears - {kept}
    assert set(stated["ignore"]) == {kept, "lm_head"}
    for module, stored in by_module.items():
        if module.endswith("down_proj"):
            assert stored == (8, None)
        elif module.startswith("model.layers.0.self_attn.") and not module.endswith("o_proj"):
            assert stored == (4, 32)
        else:
            assert stored == (4, 128)
    tensors = quick["mixed"].info.tensors
    assert f"{kept}.weight" in tensors
    assert tensors["model.layers.3.mlp.down_proj.weight_scale"].shape == (256, 1)
    assert tensors["model.layers.0.self_attn.q_proj.weight_scale"].shape == (256, 256 // 32)


def test_one_group_is_for_the_class_linear(quick: dict[str, Quantized]) -> None:
    for name in ("gptq", "rtn"):
        (group,) = quick[name].stated["config_groups"].values()
        assert group["targets"] == ["Linear"]
        assert quick[name].stated["ignore"] == ["lm_head"]


def test_kv_scales_are_fitted_one_for_keys_and_one_for_values_of_each_layer(quick: dict[str, Quantized]) -> None:
    one = quick["fp8-dynamic-kv"]
    assert one.stated["kv_cache_scheme"]["num_bits"] == 8
    scales = one.numbers(".k_scale") | one.numbers(".v_scale")
    assert sorted(scales) == sorted(f"model.layers.{layer}.self_attn.{kind}_scale" for layer in range(6) for kind in "kv")
    # 448 is E4M3's largest number: keys and values of this model reach from about 1 to 100.
    assert all(1e-3 < scale < 0.5 for scale in scales.values())
    assert len(set(scales.values())) > 6


def test_joined_modules_share_the_scale_of_their_scales(quick: dict[str, Quantized]) -> None:
    scales = quick["nvfp4a16"].numbers(".weight_global_scale")
    assert len(scales) == 42
    for group in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj")):
        assert len({scales[f"model.layers.2.{module}.weight_global_scale"] for module in group}) == 1
    assert quick["nvfp4a16"].info.tensors["model.layers.2.mlp.up_proj.weight_global_scale"].dtype == "F32"


def check_like_bare(folder: Path, made: dict[str, Quantized], calibration: Path) -> None:
    run_script(HERE / "bare_llm_compressor.py", MASTER, folder, calibration, *made)
    for method, one in made.items():
        bare, ours = load_file(folder / method / "model.safetensors"), load_file(one.directory / "model.safetensors")
        assert set(bare) == set(ours)
        packed = [name for name in bare if name.endswith(".weight_packed")]
        assert len(packed) == 42
        assert [name for name in packed if bare[name].tobytes() != ours[name].tobytes()] == []
        for name in bare.keys() - set(packed):
            # Ours are stored in the master's dtype.
            assert np.array_equal(bare[name].astype(ours[name].dtype), ours[name]), name


def test_the_bare_library_gives_the_same_numbers_bit_for_bit(tmp_path: Path, quick: dict[str, Quantized], calibration: Path) -> None:
    check_like_bare(tmp_path, {method: quick[method] for method in ("gptq", "rtn")}, calibration)


@pytest.mark.long
def test_awq_by_the_bare_library_gives_the_same_numbers_bit_for_bit(tmp_path: Path, calibration: Path) -> None:
    (tmp_path / "ours").mkdir()
    check_like_bare(tmp_path, quantize_all(tmp_path / "ours", {"awq": {"method": "awq"}}, calibration), calibration)


FAMILIES = ("llama", "qwen3", "mistral", "gemma2", "gemma3", "qwen3-moe")
FAMILY_SPECS: dict[str, dict[str, Any]] = {"gptq": {"method": "gptq", "group_size": 32}, "rtn": {"method": "rtn", "group_size": 32}}
ROUTERS = "*.mlp.gate"


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    run_script(HERE / "tiny_families.py", folder, *FAMILIES, "gpt2")
    return folder


@pytest.fixture(scope="module")
def few_words(tmp_path_factory: pytest.TempPathFactory, calibration: Path) -> Path:
    """Token ids below the small vocabulary of the families, shape [6, 256]."""
    path = tmp_path_factory.mktemp("windows") / "few.npy"
    np.save(path, np.load(calibration) % 512)
    return path


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_quantized_under_its_own_names(tmp_path: Path, families: Path, few_words: Path, family: str) -> None:
    ignored = ["lm_head", ROUTERS] if family.endswith("moe") else ["lm_head"]
    specs = {name: spec | {"ignore": ignored} for name, spec in FAMILY_SPECS.items()}
    made = quantize_all(tmp_path, specs, few_words, families / family)
    told = run_script(HERE / "reload_with_transformers.py", few_words, families / family, *(one.directory for one in made.values()))
    master = inspect_checkpoint(DirectoryCheckpoint(families / family))
    linears = {name for name in linear_modules(master.tensors) if name != "lm_head" and not name.endswith(".mlp.gate")}
    for name, loaded in zip(made, told[1:], strict=True):
        assert (loaded["missing"], loaded["unexpected"]) == ([], []), name
        # Random weights at 4 bits: rounding shows, another layer's weights would give 1 and more.
        assert 0.01 < loaded["distance"] < 0.5, name
        tensors = made[name].info.tensors
        assert {tensor.removesuffix(".weight_packed") for tensor in tensors if tensor.endswith("_packed")} == linears
        theirs, ours = TensorReader(DirectoryCheckpoint(families / family), master), made[name].reader
        plain = [tensor for tensor in tensors if tensor in master.tensors]
        assert any("norm" in tensor for tensor in plain)
        assert [tensor for tensor in plain if not ours.is_same_as(tensor, theirs)] == []


@pytest.mark.long
def test_gpt2_is_refused_by_the_name_of_its_modules(tmp_path: Path, families: Path, few_words: Path) -> None:
    for name, spec in FAMILY_SPECS.items():
        folder = tmp_path / name
        folder.mkdir()
        assert "Conv1D" in quantize_all(folder, {name: spec}, few_words, families / "gpt2")[name].told["error"]


PINNING = """
from importlib import metadata
import torch
from llmcompressor.pipelines.cache import IntermediatesCache
from quantry_worker.child.backends.llm_compressor import pinning

original = IntermediatesCache.pin_memory
cache = IntermediatesCache.empty(1, torch.device("cpu"))
cache.update(0, {"hidden": torch.zeros(2)})

def is_replaced():
    with pinning.pinning_only_for_accelerators():
        return IntermediatesCache.pin_memory is not original

torch.accelerator.is_available = lambda: False
assert is_replaced()
assert IntermediatesCache.pin_memory is original
with pinning.pinning_only_for_accelerators():
    cache.pin_memory(0)
try:
    with pinning.pinning_only_for_accelerators():
        raise KeyError
except KeyError:
    pass
assert IntermediatesCache.pin_memory is original
torch.accelerator.is_available = lambda: True
assert not is_replaced()
torch.accelerator.is_available = lambda: False
pinning.version = lambda _name: "0.15.0"
assert not is_replaced()
print('{"checked": true}')
"""


@pytest.mark.long
def test_memory_is_pinned_only_where_there_is_an_accelerator(tmp_path: Path) -> None:
    assert run_script("-c", PINNING) == [{"checked": True}]


@pytest.mark.long
def test_an_override_that_needs_text_is_refused_where_none_was_read(tmp_path: Path) -> None:
    spec = {"method": "fp8", "overrides": [{"modules": ["*.down_proj"], "scheme": "FP8"}]}
    error = quantize_all(tmp_path, {"fp8-dynamic": spec}, tmp_path)["fp8-dynamic"].told["error"]
    assert "scheme FP8 is fitted to text" in error
