"""The launch script of the engine. It is no package: it runs under an environment that has none of ours."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

import pytest

from factories.fake_vllm import write_fake_vllm

SCRIPT = Path(__file__).parents[3] / "services" / "engine" / "serve.py"


@pytest.fixture(scope="module")
def serve() -> ModuleType:
    spec = importlib.util.spec_from_file_location("engine_serve", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def words(model: Path, *more: str) -> list[str]:
    return ["--model", str(model), "--served-model-name", "chat", "rep_1", "--port", "8001", *more]


def test_the_engine_stays_offline_and_caches_its_bytecode(serve: ModuleType) -> None:
    inherited = {"PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "0"}
    environment = serve.server_environment("cpu", 3, inherited)
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    expected = {"PATH": "/bin", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    cpu = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_INT4_W4A8": "0", "OMP_NUM_THREADS": "3", "SPT_NOENV": "1"}
    assert environment.items() >= {**expected, **cpu}.items()
    on_cuda = serve.server_environment("cuda", 3, inherited)
    assert on_cuda.items() >= expected.items()
    assert "OMP_NUM_THREADS" not in on_cuda
    assert on_cuda["SPT_NOENV"] == "1"


def test_the_command_line_on_cpu(serve: ModuleType, model: Path) -> None:
    arguments = serve.parse_arguments(words(model, "--max-model-len", "512", "--kv-cache-bytes", "1024"))
    command = serve.server_command(arguments, "cpu")
    assert command[0] == sys.executable
    line = " ".join(command)
    assert "--served-model-name chat rep_1 --host 127.0.0.1 --port 8001 --max-num-seqs 16 --max-model-len 512" in line
    assert "--enforce-eager" in command
    assert "--kv-cache-memory-bytes 1024" in line
    assert "--trust-remote-code" not in command


def test_on_cuda_the_engine_chooses_how_it_runs(serve: ModuleType, model: Path) -> None:
    command = serve.server_command(serve.parse_arguments(words(model)), "cuda")
    assert not {"--enforce-eager", "--max-model-len", "--distributed-executor-backend"} & set(command)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_two_releases_fit_beside_each_other(serve: ModuleType, model: Path, device: str) -> None:
    arguments = serve.parse_arguments(words(model, "--kv-cache-bytes", "1024"))
    # vLLM asks for that share of the memory to be free at the start, whatever the KV size.
    assert "--kv-cache-memory-bytes 1024 --gpu-memory-utilization 0.1" in " ".join(serve.server_command(arguments, device))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_running_requests_are_finished_after_sigterm(serve: ModuleType, model: Path, device: str) -> None:
    assert "--shutdown-timeout 120" in " ".join(serve.server_command(serve.parse_arguments(words(model)), device))
    arguments = serve.parse_arguments(words(model, "--shutdown-timeout", "7"))
    assert "--shutdown-timeout 7" in " ".join(serve.server_command(arguments, device))


def test_adapters_can_be_loaded_only_where_there_is_room_for_them(serve: ModuleType, model: Path) -> None:
    without = serve.parse_arguments(words(model))
    assert "--enable-lora" not in serve.server_command(without, "cpu")
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in serve.adapter_environment(without, "cpu")
    arguments = serve.parse_arguments(words(model, "--max-adapters", "3", "--max-adapter-rank", "32"))
    for device in ("cpu", "cuda"):
        assert "--enable-lora --max-loras 3 --max-cpu-loras 3 --max-lora-rank 32" in " ".join(serve.server_command(arguments, device))
        assert serve.adapter_environment(arguments, device)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    # The CPU build answers for the base with an adapter's tokens in mixed batches; what corrects that is on its path.
    on_cpu = serve.adapter_environment(arguments, "cpu")
    (fixes,) = distributions(path=[on_cpu["PYTHONPATH"]])
    (plugin,) = fixes.entry_points.select(group="vllm.general_plugins")
    assert (plugin.name, plugin.value) == (on_cpu["VLLM_PLUGINS"], "quantry_vllm_fixes:apply")
    assert "PYTHONPATH" not in serve.adapter_environment(arguments, "cuda")


@pytest.mark.parametrize(
    "more", [["--trust-remote-code"], ["--threads", "0"], ["--served", "x"], ["--max-adapters", "-1"], ["--max-adapter-rank", "9"]]
)
def test_other_arguments_are_refused(serve: ModuleType, model: Path, more: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        serve.parse_arguments(words(model, *more))
    assert refused.value.code == 2


def test_a_directory_without_a_model_is_refused(serve: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve.parse_arguments(words(tmp_path))
    assert "it has no config.json" in capsys.readouterr().err


def test_it_says_which_vllm_it_would_start(tmp_path: Path) -> None:
    asked = subprocess.run([write_fake_vllm(tmp_path), "-P", SCRIPT, "--about"], capture_output=True, check=True)
    assert json.loads(asked.stdout) == {"version": "9.9.9", "device": "cpu"}


def test_without_vllm_the_script_says_which_python_to_use(serve: ModuleType) -> None:
    with pytest.raises(SystemExit, match="engine environment's Python"):
        serve.engine_facts()
