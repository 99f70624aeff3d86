"""The other processes of a training: that one of them is gone is told, also where the first waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from quantry_core.errors import InvalidInput
from quantry_core.jobs import FinetuneSpec
from quantry_worker.child.training import peers
from quantry_worker.child.training.peers import Peers
from quantry_worker.protocol import ChildTask

SAYS_WHY = """
import pathlib, sys
said = '{"event": "failure", "reason": "invalid_input", "message": "the rows are wrong"}'
pathlib.Path(sys.argv[4]).write_text(said)
sys.exit(1)
"""
SAYS_NOTHING = "raise SystemExit(3)"
IS_DONE = ""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Peers]:
    """Returns what starts a peer that runs a script of its own."""
    spec = FinetuneSpec.model_validate({"model": "bard", "training_file": "rows", "distributed": {}})
    folders = {name: tmp_path / name for name in ("output_dir", "artifacts_dir", "checkpoints_dir")}
    task = ChildTask(job_id="job_1", attempt=1, spec=spec, inputs=[], import_roots=[], num_threads=1, **folders)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(peers, "PEER", "one_peer")

    def started(script: str) -> Peers:
        (tmp_path / "one_peer.py").write_text(script)
        found = Peers(tmp_path)
        found.start(task, 2, port=1)
        return found

    return started


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (SAYS_WHY, InvalidInput, "the rows are wrong"),
        (SAYS_NOTHING, RuntimeError, "process 1 has gone without a word"),
        (IS_DONE, RuntimeError, "process 1 has ended before the training has"),
    ],
)
def test_a_first_process_that_waits_hears_why_another_is_gone(
    start: Callable[[str], Peers], script: str, kind: type[Exception], words: str
) -> None:
    found = start(script)
    heard: list[Exception] = []
    is_heard = threading.Event()

    def on_lost(error: Exception) -> None:
        heard.append(error)
        is_heard.set()

    with found.watched(on_lost, poll_s=0.02, notice_s=0.02):
        assert is_heard.wait(30)
    assert [(type(error), str(error)) for error in heard] == [(kind, words)]


@pytest.mark.parametrize("script", [IS_DONE, SAYS_NOTHING])
def test_a_peer_that_ends_with_the_block_or_is_noticed_in_time_is_not_told_of(start: Callable[[str], Peers], script: str) -> None:
    found = start(script)
    heard: list[Exception] = []
    with found.watched(heard.append, poll_s=0.02, notice_s=60.0):
        found.wait()
        threading.Event().wait(0.1)
    assert heard == []
