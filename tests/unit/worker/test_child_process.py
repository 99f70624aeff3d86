"""Real processes: small scripts that speak the protocol."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from factories.child_python import write_script
from quantry_core.jobs import JobReason
from quantry_worker.child_process import TAIL_LINES, ChildCommand, ChildExit, run_child
from quantry_worker.family import Family
from quantry_worker.guard import StopReason
from quantry_worker.protocol import ChildCheckpoint, ChildMetrics, ChildProgress


class Ears:
    def __init__(self) -> None:
        self.logs: list[str] = []
        self.notes: list[str] = []
        self.fractions: list[float] = []
        self.points: list[ChildMetrics] = []
        self.checkpoints: list[ChildCheckpoint] = []

    def log(self, text: str) -> None:
        self.logs.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, progress: ChildProgress) -> None:
        self.fractions.append(progress.fraction)

    def metrics(self, metrics: ChildMetrics) -> None:
        self.points.append(metrics)

    def checkpoint(self, checkpoint: ChildCheckpoint) -> None:
        self.checkpoints.append(checkpoint)


def num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def run(directory: Path, body: str, ears: Ears | None = None) -> ChildExit:
    command = ChildCommand([sys.executable, str(write_script(directory, body))], {"PATH": os.defpath}, directory)
    return run_child(command, ears or Ears(), lambda _: None, grace_s={})


def run_until(directory: Path, body: str, reason: StopReason, *, grace_s: float) -> tuple[ChildExit, Ears, float]:
    """Runs a script that says progress(1) when it may be stopped; returns how it ended, and how long that took."""
    ears = Ears()
    asked_at: list[float] = []

    def stop_reason(_resident_bytes: int) -> StopReason | None:
        if not ears.fractions:
            return None
        asked_at.append(time.monotonic())
        return reason

    command = ChildCommand([sys.executable, str(write_script(directory, body))], {"PATH": os.defpath}, directory)
    child = run_child(command, ears, stop_reason, grace_s={reason: grace_s} if grace_s else {})
    return child, ears, time.monotonic() - asked_at[0]


def test_a_child_that_works(tmp_path: Path) -> None:
    ears = Ears()
    body = """
print("out"); print("err", file=sys.stderr)
progress(0.25); say(event="note", text="well"); progress(0.5)
sys.stdout.write("no newline at the end")
say(event="result", metrics={"n": 1})
"""
    child = run(tmp_path, body, ears)
    assert child.return_code == 0
    assert child.result is not None
    assert child.result.metrics == {"n": 1}
    assert sorted(ears.logs) == ["err", "no newline at the end", "out"]
    assert (ears.notes, ears.fractions) == (["well"], [0.25, 0.5])


def test_secrets_are_blotted_out_of_all_that_a_child_says(tmp_path: Path) -> None:
    body = """
print("with hf_secret"); print("hf_secret", file=sys.stderr)
say(event="note", text="hf_secret"); progress(0.5, detail="hf_secret")
say(event="failure", reason="invalid_input", message="the hub refused hf_secret")
"""
    ears = Ears()
    arguments = [sys.executable, str(write_script(tmp_path, body))]
    command = ChildCommand(arguments, {"PATH": os.defpath}, tmp_path, secrets=("hf_secret",))
    child = run_child(command, ears, lambda _bytes: None, grace_s={})
    assert sorted(ears.logs) == ["[redacted]", "with [redacted]"]
    assert ears.notes == ["[redacted]"]
    assert child.failure is not None
    assert child.failure.message == "the hub refused [redacted]"
    assert "hf_secret" not in repr(child)


def test_a_child_that_reports_a_failure(tmp_path: Path) -> None:
    child = run(tmp_path, 'say(event="failure", reason="diverged", message="inf"); sys.exit(3)')
    assert child.return_code == 3
    assert child.failure is not None
    assert child.failure.reason is JobReason.DIVERGED


def test_the_last_lines_of_a_crash_are_kept(tmp_path: Path) -> None:
    child = run(tmp_path, "for i in range(100): print(i)\nsys.stdout.flush()\nraise KeyError('layer')")
    assert child.return_code == 1
    assert len(child.tail) == TAIL_LINES
    assert child.tail[-1] == "KeyError: 'layer'"


def test_a_flood_of_output_does_not_stall_the_child(tmp_path: Path) -> None:
    ears = Ears()
    child = run(tmp_path, 'for i in range(20000): print("x" * 100)\nsay(event="result")', ears)
    assert child.result is not None
    assert len(ears.logs) == 20000


def test_a_child_killed_from_outside(tmp_path: Path) -> None:
    child = run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert child.return_code == -signal.SIGKILL


def test_a_child_that_breaks_the_protocol_is_ended(tmp_path: Path) -> None:
    child = run(tmp_path, '_events.write("hello\\n"); _events.flush(); time.sleep(60)')
    assert child.broken_protocol is not None
    assert "hello" in child.broken_protocol


def test_peak_memory_is_that_of_the_whole_family(tmp_path: Path) -> None:
    body = """
HOLD = "held = bytearray(b'x' * 60_000_000); import time; time.sleep(1.6)"
inner = subprocess.Popen([sys.executable, "-c", HOLD])
exec(HOLD)
say(event="result")
"""
    child = run(tmp_path, body)
    assert 120_000_000 < child.peak_memory_bytes < 400_000_000


def test_nothing_the_child_started_is_left(tmp_path: Path) -> None:
    ears = Ears()
    body = 'p = subprocess.Popen(["sleep", "60"]); print(p.pid, flush=True); say(event="result")'
    began = time.monotonic()
    child = run(tmp_path, body, ears)
    assert child.result is not None
    assert time.monotonic() - began < 10
    wait_until_dead([int(ears.logs[0])])


OF_ITS_OWN_SESSION = """
APART = subprocess.Popen(["sleep", "60"], start_new_session=True)
NEST = "import subprocess, time; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True); time.sleep(60)"
inner = subprocess.Popen([sys.executable, "-c", NEST], start_new_session=True, stdout=subprocess.PIPE, text=True)
print(APART.pid, inner.pid, int(inner.stdout.readline()), flush=True)
"""
"""Starts a child, another one and its child, each with a session of its own; their pids are its first line."""


def wait_until_dead(pids: Iterable[int]) -> None:
    give_up_at = time.monotonic() + 5
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_what_left_the_session_is_ended_with_a_child_that_is_stopped(tmp_path: Path) -> None:
    _, ears, _ = run_until(tmp_path, OF_ITS_OWN_SESSION + "progress(1)\ntime.sleep(60)", StopReason.CANCELLED, grace_s=30)
    pids = [int(pid) for pid in ears.logs[0].split()]
    assert len(pids) == 3
    wait_until_dead(pids)


def test_what_left_the_session_is_ended_with_a_child_that_has_ended(tmp_path: Path) -> None:
    ears = Ears()
    # Longer than the supervisor waits between two looks.
    child = run(tmp_path, OF_ITS_OWN_SESSION + "time.sleep(1)\nsay(event='result')", ears)
    assert child.result is not None
    wait_until_dead(int(pid) for pid in ears.logs[0].split())


def test_a_process_with_the_pid_of_a_member_that_has_ended_is_left_alone() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleeper, start_new_session=True) as leader, subprocess.Popen(sleeper) as stranger:
        family = Family(leader.pid)
        (member,) = family.members()
        # As if the pid of a member had been given to the stranger since the last look.
        family._known = frozenset({member, member._replace(pid=stranger.pid, started_ticks=member.started_ticks - 1)})
        family.kill()
        assert leader.wait(5) == -signal.SIGKILL
        assert stranger.poll() is None
        stranger.kill()


def test_a_child_that_cannot_be_watched_is_not_left_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError("too many open files")

    before = num_descriptors()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="too many open files"):
        run(tmp_path, "time.sleep(60)")
    assert num_descriptors() == before
    assert [one for one in psutil.Process().children() if str(tmp_path) in " ".join(one.cmdline())] == []


def test_a_cancel_lets_the_child_say_goodbye(tmp_path: Path) -> None:
    body = """
def goodbye(*_):
    print("goodbye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, goodbye)
progress(1)
time.sleep(60)
"""
    child, ears, seconds = run_until(tmp_path, body, StopReason.CANCELLED, grace_s=30)
    assert child.return_code == 0
    assert "goodbye" in ears.logs
    assert seconds < 10


def test_a_child_that_does_not_listen_is_killed_after_its_grace(tmp_path: Path) -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN); progress(1); time.sleep(60)"
    child, _, seconds = run_until(tmp_path, body, StopReason.CANCELLED, grace_s=0.5)
    assert child.return_code == -signal.SIGKILL
    assert 0.4 < seconds < 10


FAMILY_THAT_DOES_NOT_LISTEN = """
IGNORE = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
NEST = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {IGNORE!r}], stdout=subprocess.PIPE); p.stdout.read(2);"
NEST += "print(p.pid, flush=True);" + IGNORE
signal.signal(signal.SIGTERM, signal.SIG_IGN)
inner = subprocess.Popen([sys.executable, "-c", NEST], stdout=subprocess.PIPE, text=True)
print(os.getpid(), inner.pid, int(inner.stdout.readline()), flush=True)
inner.stdout.readline()
progress(1)
time.sleep(60)
"""
"""A child, its child and its grandchild, none of which ends for SIGTERM; their pids are its first line."""


def test_no_descendant_outlives_its_grace(tmp_path: Path) -> None:
    child, ears, _ = run_until(tmp_path, FAMILY_THAT_DOES_NOT_LISTEN, StopReason.CANCELLED, grace_s=0.3)
    assert child.return_code == -signal.SIGKILL
    pids = [int(pid) for pid in ears.logs[0].split()]
    assert len(pids) == 3
    wait_until_dead(pids)


def test_the_question_is_asked_with_what_the_family_holds(tmp_path: Path) -> None:
    seen: list[int] = []

    def stop_reason(resident_bytes: int) -> StopReason | None:
        seen.append(resident_bytes)
        return StopReason.OUT_OF_MEMORY if resident_bytes > 200_000_000 else None

    body = "held = bytearray(b'x' * 250_000_000); time.sleep(60)"
    command = ChildCommand([sys.executable, str(write_script(tmp_path, body))], {"PATH": os.defpath}, tmp_path)
    child = run_child(command, Ears(), stop_reason, grace_s={StopReason.OUT_OF_MEMORY: 5})
    assert child.return_code == -signal.SIGTERM
    assert max(seen) == child.peak_memory_bytes > 200_000_000


def test_a_lost_lease_gives_no_grace(tmp_path: Path) -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN); progress(1); time.sleep(60)"
    child, _, seconds = run_until(tmp_path, body, StopReason.LEASE_LOST, grace_s=0)
    assert child.return_code == -signal.SIGKILL
    assert seconds < 2


def test_a_stopped_child_dies_all_the_same(tmp_path: Path) -> None:
    body = "progress(1); os.kill(os.getpid(), signal.SIGSTOP)"
    child, _, _ = run_until(tmp_path, body, StopReason.CANCELLED, grace_s=0.3)
    assert child.return_code in {-signal.SIGKILL, -signal.SIGTERM}


def test_only_the_given_environment_reaches_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_WORKER_TOKEN", "a secret")
    ears = Ears()
    run(tmp_path, 'print(sorted(os.environ)); say(event="result")', ears)
    assert ears.logs[0] in {"['LC_CTYPE', 'PATH', 'QUANTRY_EVENTS_FD']", "['PATH', 'QUANTRY_EVENTS_FD']"}


def test_a_child_that_cannot_be_started_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = num_descriptors()
    with pytest.raises(FileNotFoundError):
        run_child(ChildCommand(["/nowhere/python"], {}, tmp_path), Ears(), lambda _: None, grace_s={})
    assert num_descriptors() == before


def test_a_finished_child_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = num_descriptors()
    run(tmp_path, 'say(event="result")')
    assert num_descriptors() == before


def test_launch_refuses_to_outlive_another_parent(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "quantry_worker.launch", "1", "this"]
    assert subprocess.run(launch, cwd=tmp_path, check=False).returncode == 137


def test_launch_offers_the_child_to_the_kernel_first(tmp_path: Path) -> None:
    (tmp_path / "a_child.py").write_text("print(open('/proc/self/oom_score_adj').read().strip())\n")
    launch = [sys.executable, "-m", "quantry_worker.launch", str(os.getpid()), "a_child"]
    assert subprocess.run(launch, cwd=tmp_path, check=True, capture_output=True, text=True).stdout == "1000\n"


def test_launch_runs_the_module_as_python_would(tmp_path: Path) -> None:
    (tmp_path / "a_child.py").write_text("import sys\nassert __name__ == '__main__'\nprint(sys.argv[1:])\n")
    launch = [sys.executable, "-m", "quantry_worker.launch", str(os.getpid()), "a_child", "task.json"]
    assert subprocess.run(launch, cwd=tmp_path, check=True, capture_output=True, text=True).stdout == "['task.json']\n"


def test_launch_keeps_the_orphans_of_what_the_child_starts(tmp_path: Path) -> None:
    daemon = (
        "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nwhile os.getppid() == {parent}: time.sleep(0.01)\nprint(os.getppid())"
    )
    body = f"""import os, subprocess, sys
daemon = {daemon!r}.replace('{{parent}}', 'first')
daemon = daemon.replace("import os, time", "import os, time; first = os.getpid()")
first = subprocess.run([sys.executable, "-c", daemon], stdout=subprocess.PIPE, text=True)
print(int(first.stdout) == os.getpid())
"""
    (tmp_path / "a_child.py").write_text(body)
    launch = [sys.executable, "-m", "quantry_worker.launch", str(os.getpid()), "a_child"]
    assert subprocess.run(launch, cwd=tmp_path, check=True, capture_output=True, text=True).stdout == "True\n"


def test_metrics_and_checkpoints_are_heard(tmp_path: Path) -> None:
    ears = Ears()
    child = run(
        tmp_path,
        'say(event="metrics", step=3, values={"loss": 2.5})\n'
        'say(event="checkpoint", step=3, folder="step-3", metrics={"loss": 2.5})\nsay(event="result")',
        ears,
    )
    assert child.result is not None
    assert ears.points == [ChildMetrics(step=3, values={"loss": 2.5})]
    assert ears.checkpoints == [ChildCheckpoint(step=3, folder="step-3", metrics={"loss": 2.5})]


def test_a_checkpoint_outside_its_folder_breaks_the_protocol(tmp_path: Path) -> None:
    child = run(tmp_path, 'say(event="checkpoint", step=3, folder="../inputs")')
    assert child.broken_protocol is not None
