"""GGUF files, read by another library than wrote them and run by llama.cpp."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from factories.backends import MASTER, BackendRun, run_backend, run_python, shortened_master
from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.gguf import read_gguf

READ_GGUF = Path(__file__).with_name("read_gguf_by_library.py")
GENERATE = Path(__file__).with_name("generate_with_llama_cpp.py")
PROMPT = "And the LORD said unto Moses,"


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shortened_master(tmp_path_factory.mktemp("short") / "master", 2)


@pytest.fixture(scope="module")
def q8_0(tmp_path_factory: pytest.TempPathFactory, master: Path) -> BackendRun:
    return run_backend(tmp_path_factory.mktemp("q8_0") / "run", {"method": "gguf", "scheme": "Q8_0"}, master=master)


def read_both_ways(ran: BackendRun, name: str) -> dict[str, Any]:
    """Returns tensors as the gguf library sees them, once ours are found to be the same."""
    info = read_gguf(DirectoryCheckpoint(ran.output_dir), name)
    by_library: dict[str, Any] = run_python(READ_GGUF, ran.output_dir / name)
    ours = {one: [tensor.type_name, list(tensor.shape), tensor.begin, tensor.end] for one, tensor in info.tensors.items()}
    assert ours == by_library
    return by_library


def test_a_version_is_one_gguf_file_and_the_masters_config(q8_0: BackendRun, master: Path) -> None:
    assert sorted(path.name for path in q8_0.output_dir.iterdir()) == ["config.json", "model-Q8_0.gguf"]
    assert q8_0.config == json.loads((master / "config.json").read_text())
    assert stat.S_IMODE((q8_0.output_dir / "model-Q8_0.gguf").stat().st_mode) == 0o644
    assert q8_0.progress[-1][:2] == [0.95, "checking"]
    assert [told[2] for told in q8_0.progress if len(told) > 2][-1] == [2, 2, "layers"]


def test_every_matrix_of_q8_0_is_q8_0(q8_0: BackendRun) -> None:
    tensors = read_both_ways(q8_0, "model-Q8_0.gguf")
    assert len(tensors) == 20
    assert {kind for kind, shape, *_ in tensors.values() if len(shape) > 1} == {"Q8_0"}
    assert tensors["blk.0.ffn_down.weight"][:2] == ["Q8_0", [256, 768]]
    # 34 bytes for 32 weights.
    assert tensors["token_embd.weight"][3] - tensors["token_embd.weight"][2] == 4096 * 256 // 32 * 34
    assert "output.weight" not in tensors
    assert q8_0.weights_bytes == pytest.approx(q8_0.estimated_bytes, rel=0.03)


@pytest.mark.long
def test_llama_cpp_goes_on_as_the_master_does(q8_0: BackendRun, master: Path) -> None:
    said = run_python(GENERATE, q8_0.output_dir / "model-Q8_0.gguf", master, PROMPT)
    assert said["num_prompt_tokens"] == said["num_prompt_tokens_expected"]
    assert said["llama_cpp"] == said["transformers"]


@pytest.mark.parametrize(("scheme", "mostly"), [("Q4_K_M", "Q4_K"), ("Q5_K_M", "Q5_K")])
@pytest.mark.long
def test_k_quants_hold_what_they_say_and_generate(tmp_path: Path, scheme: str, mostly: str) -> None:
    ran = run_backend(tmp_path / "run", {"method": "gguf", "scheme": scheme})
    tensors = read_both_ways(ran, f"model-{scheme}.gguf")
    types = [kind for kind, shape, *_ in tensors.values() if len(shape) > 1]
    assert set(types) == {mostly, "Q6_K"} and types.count(mostly) > types.count("Q6_K") > 0
    assert tensors["token_embd.weight"][0] == "Q6_K"
    assert ran.weights_bytes == pytest.approx(ran.estimated_bytes, rel=0.01)
    said = run_python(GENERATE, ran.output_dir / f"model-{scheme}.gguf", MASTER, PROMPT)
    assert said["num_prompt_tokens"] == said["num_prompt_tokens_expected"]
    # Other roundings may part from the master's words where two are as likely; wrong weights choose what it finds unlikely.
    assert said["mean_gap_nats"] < 0.25
