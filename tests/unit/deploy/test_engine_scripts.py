"""The launch script of llama.cpp and the script that checks files in a pod. They are no package."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from factories.gguf_files import gguf_bytes

ENGINE = Path(__file__).parents[3] / "services" / "engine"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ENGINE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def serve() -> ModuleType:
    return loaded("serve_llama_cpp")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model-Q8_0.gguf").write_bytes(gguf_bytes())
    return tmp_path


def words(model: Path, *more: str) -> list[str]:
    return ["--model", str(model), "--served-model-name", "chat", "--mark", "rep_1", "--port", "8001", *more]


def params() -> SimpleNamespace:
    return SimpleNamespace(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())


def test_each_sequence_has_its_own_part_of_the_cache_and_nothing_is_opened(serve: ModuleType, model: Path) -> None:
    arguments = serve.parse_arguments(words(model, "--slots", "3", "--context-tokens", "512", "--threads", "2"))
    made = serve.server_params(params(), arguments)
    assert made.model.path == str(model / "model-Q8_0.gguf")
    assert (made.model_alias, made.model_tags, made.hostnames, made.port) == ({"chat"}, {"rep_1"}, ["127.0.0.1"], 8001)
    assert (made.n_parallel, made.n_ctx, made.kv_unified, made.fit_params) == (3, 1536, False, False)
    assert (made.cpuparams.n_threads, made.cpuparams_batch.n_threads, made.cache_ram_mib) == (2, 2, 0)
    assert (made.endpoint_metrics, made.endpoint_slots, made.ui, made.offline) == (True, False, False, True)
    assert made.cors_origins != "*"


def test_a_folder_is_searched_for_its_one_file_or_the_first_of_its_parts(serve: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        serve.parse_arguments(words(tmp_path))
    for part in ("model-00002-of-00002.gguf", "model-00001-of-00002.gguf"):
        (tmp_path / part).write_bytes(b"")
    assert serve.parse_arguments(words(tmp_path)).model.name == "model-00001-of-00002.gguf"
    (tmp_path / "another.gguf").write_bytes(b"")
    with pytest.raises(SystemExit):
        serve.parse_arguments(words(tmp_path))
    assert serve.parse_arguments(words(tmp_path / "another.gguf")).model.name == "another.gguf"


@pytest.mark.parametrize("more", [["--slots", "0"], ["--context-tokens", "0"], ["--threads", "-1"], ["--trust-remote-code"]])
def test_other_arguments_are_refused(serve: ModuleType, model: Path, more: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        serve.parse_arguments(words(model, *more))
    assert refused.value.code == 2


def test_the_process_ends_once_nothing_has_run_for_a_moment(serve: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([True, False, True, *[False] * serve.QUIET_LOOKS])
    monkeypatch.setattr(serve, "is_busy", lambda _url: next(busy))
    monkeypatch.setattr(serve, "POLL_S", 0.0)
    serve.drain("http://127.0.0.1:9", 60.0)
    assert next(busy, None) is None


def test_the_process_ends_after_its_time_whatever_runs(serve: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "is_busy", lambda _url: True)
    serve.drain("http://127.0.0.1:9", 0.0)


def test_without_llama_cpp_the_script_says_which_python_to_use(serve: ModuleType) -> None:
    with pytest.raises(SystemExit, match="environment engine-llama-cpp"):
        serve.engine_facts()


def verify(tmp_path: Path, files: list[dict[str, object]]) -> subprocess.CompletedProcess[str]:
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
    command = [sys.executable, "-S", str(ENGINE / "verify_files.py"), str(tmp_path / "manifest.json"), str(tmp_path / "files")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_files_are_checked_byte_by_byte_before_an_engine_starts_on_them(tmp_path: Path) -> None:
    (tmp_path / "files" / "sub").mkdir(parents=True)
    contents = {"config.json": b"{}", "sub/model.gguf": b"weights"}
    for path, content in contents.items():
        (tmp_path / "files" / path).write_bytes(content)
    files: list[dict[str, object]] = [
        {"path": path, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for path, content in contents.items()
    ]
    assert verify(tmp_path, files).stdout == "verify_files.py: 2 files are what their digests say\n"
    (tmp_path / "files" / ".quantry-complete.json").write_text("{}")
    assert verify(tmp_path, files).returncode == 0
    (tmp_path / "files" / "sub" / "more.gguf").write_bytes(b"weights")
    assert verify(tmp_path, files).stderr == "verify_files.py: sub/more.gguf is no file of this version\n"
    (tmp_path / "files" / "sub" / "more.gguf").unlink()
    (tmp_path / "files" / "sub" / "model.gguf").write_bytes(b"Weights")
    damaged = verify(tmp_path, files)
    assert (damaged.returncode, damaged.stderr) == (1, "verify_files.py: the bytes of sub/model.gguf are not what its digest says\n")
    (tmp_path / "files" / "sub" / "model.gguf").write_bytes(b"weight")
    assert "has 6 bytes, not 7" in verify(tmp_path, files).stderr
    (tmp_path / "files" / "config.json").unlink()
    assert "config.json cannot be read: No such file or directory" in verify(tmp_path, files).stderr
    outside: list[dict[str, object]] = [{"path": "../manifest.json", "size_bytes": 1, "sha256": "0"}]
    assert "leads out of the folder" in verify(tmp_path, outside).stderr
