"""An engine that is started, measured and stopped: a stand-in whose times are known."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from factories.child_runs import ENGINE_SCRIPT
from factories.fake_vllm import write_fake_vllm
from quantry_core.errors import InvalidInput
from quantry_core.jobs import SpeedSpec
from quantry_core.methods import DeviceKind
from quantry_worker.child.engine import HOST, MEMORY_INTERVAL_S, EngineFacts, engine_facts, running_engine
from quantry_worker.child.evaluation.speed import EngineFailed, Server, measure

TTFT_MS, TPOT_MS, TOKENS = 50, 20, 5


@pytest.fixture
def engine(tmp_path: Path) -> EngineFacts:
    return engine_facts(write_fake_vllm(tmp_path), ENGINE_SCRIPT)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """All that the engine's script asks of a checkpoint."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path / "model"


def alive(model: Path) -> list[int]:
    """Returns which of the engine's processes still run."""
    return [pid for pid in map(int, (model / "pids").read_text().split()) if is_running(pid)]


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_times_come_out_as_the_server_takes_them_and_the_engine_is_gone(engine: EngineFacts, model: Path) -> None:
    assert (engine.version, engine.device) == ("9.9.9", DeviceKind.CPU)
    spec = SpeedSpec(concurrency=[1, 4], prompt_tokens=8, output_tokens=TOKENS, num_requests=8)
    heard: list[int] = []
    with running_engine(engine, model, max_num_seqs=4, max_model_len=16, kv_cache_bytes=1, num_threads=1) as running:
        assert len(alive(model)) == 2
        measured = measure(Server(HOST, running.port, running.served_name, 7), spec, seed=0, on_level=heard.append)
        assert running.memory.peak_bytes > 1_000_000
    assert alive(model) == []
    assert heard == [0, 1]
    assert len(measured.requests) == 16
    alone, together = measured.levels
    for level in measured.levels:
        # A sleep takes at least its time, and on a busy machine more.
        assert level["ttft_ms_p50"] >= TTFT_MS
        assert level["tpot_ms_p50"] >= TPOT_MS * 0.9
        assert level["latency_ms_p50"] >= TTFT_MS + (TOKENS - 1) * TPOT_MS
        assert level["output_tokens_per_s"] == pytest.approx(8 * TOKENS / level["wall_s"])
    # Eight after one another take 8 x 130 ms; four at once less.
    assert alone["wall_s"] >= 8 * 0.13
    assert together["wall_s"] < alone["wall_s"]


def test_an_engine_that_answers_too_little_is_found_out(engine: EngineFacts, model: Path) -> None:
    spec = SpeedSpec(concurrency=[1], prompt_tokens=1, output_tokens=TOKENS, num_requests=200)
    with (
        pytest.raises(EngineFailed, match="made 4 tokens, asked for were 5"),
        running_engine(engine, model, max_num_seqs=1, max_model_len=16, kv_cache_bytes=1, num_threads=1) as running,
    ):
        # Prompts that begin with token 7 get one token less.
        measure(Server(HOST, running.port, running.served_name, 8), spec, seed=1, on_level=lambda _: None)
    assert alive(model) == []


def test_what_an_engine_cannot_load_is_said_in_its_own_words(engine: EngineFacts, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    with (
        pytest.raises(InvalidInput, match=r"vLLM 9\.9\.9 cannot serve this version: ValueError: no kernel for these weights"),
        running_engine(engine, tmp_path / "broken", max_num_seqs=1, max_model_len=16, kv_cache_bytes=1, num_threads=1),
    ):
        pytest.fail("it did not start")


class Stranger(BaseHTTPRequestHandler):
    """Another job's engine: healthy, and it serves another checkpoint."""

    def do_GET(self) -> None:
        content = b'{"data": [{"id": "subject"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_another_server_on_the_port_is_not_taken_for_the_engine(engine: EngineFacts, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer((HOST, 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()

        @contextmanager
        def taken_port() -> Iterator[int]:
            yield stranger.server_address[1]

        monkeypatch.setattr("quantry_worker.child.engine._reserved_port", taken_port)
        with (
            pytest.raises(InvalidInput, match=r"cannot serve this version: OSError: .*[Aa]ddress already in use"),
            running_engine(engine, model, max_num_seqs=1, max_model_len=16, kv_cache_bytes=1, num_threads=1),
        ):
            pytest.fail("it took the stranger's answers for the engine's")
        stranger.shutdown()
    assert alive(model) == []


def test_two_engines_at_once_answer_to_names_of_their_own(engine: EngineFacts, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    with (
        running_engine(engine, tmp_path / "one", max_num_seqs=1, max_model_len=16, kv_cache_bytes=1, num_threads=1) as one,
        running_engine(engine, tmp_path / "two", max_num_seqs=1, max_model_len=16, kv_cache_bytes=1, num_threads=1) as two,
    ):
        assert one.port != two.port
        assert one.served_name != two.served_name


def test_what_a_killed_engine_leaves_behind_ends_too(engine: EngineFacts, model: Path) -> None:
    with running_engine(engine, model, max_num_seqs=1, max_model_len=16, kv_cache_bytes=1, num_threads=1) as running:
        # Seen at least once while its parent lives.
        time.sleep(2 * MEMORY_INTERVAL_S)
        os.kill(running.process.pid, signal.SIGKILL)
        while not running.has_ended():
            time.sleep(0.01)
        assert len(alive(model)) == 1
    assert alive(model) == []


def test_a_process_that_came_loose_holds_up_nobody(engine: EngineFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantry_worker.child.engine.LAST_WORDS_S", 0.1)
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "config.json").write_text("{}")
    with running_engine(engine, loose, max_num_seqs=1, max_model_len=16, kv_cache_bytes=1, num_threads=1):
        pass
    pid = int((loose / "loose-pid").read_text())
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)


def test_an_environment_without_vllm_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(InvalidInput, match="has no vLLM"):
        engine_facts(python, ENGINE_SCRIPT)
