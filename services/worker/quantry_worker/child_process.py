"""One child process from start to end: reads what it says, measures it, and ends it when the attempt must end."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import structlog

from quantry_worker.family import Family
from quantry_worker.guard import POLL_S, StopReason
from quantry_worker.lines import MAX_LINE_BYTES, LineBuffer, log_text
from quantry_worker.memory import SAMPLE_INTERVAL_S, FamilyMemory, num_oom_kills
from quantry_worker.protocol import (
    EVENTS_FD_VARIABLE,
    MAX_EVENT_BYTES,
    ChildCheckpoint,
    ChildFailure,
    ChildMetrics,
    ChildNote,
    ChildProgress,
    ChildResult,
    parse_event,
)

log = structlog.get_logger(__name__)

READ_BYTES = 65536
TAIL_LINES = 20
LAST_WORDS_S = 2.0
"""How long the pipes are read on after the child has ended."""

REDACTED = b"[redacted]"

LISTEN_S = min(POLL_S, SAMPLE_INTERVAL_S)

StopQuestion = Callable[[int], StopReason | None]
"""Asked more than five times a second, with the bytes that the child and all it started hold: why must they end? None while they
may go on."""


class Listener(Protocol):
    """Hears what a child says while it runs."""

    def log(self, text: str) -> None:
        """One line of its standard output or standard error."""
        ...

    def note(self, text: str) -> None: ...

    def progress(self, progress: ChildProgress) -> None: ...

    def metrics(self, metrics: ChildMetrics) -> None: ...

    def checkpoint(self, checkpoint: ChildCheckpoint) -> None: ...


@dataclass(frozen=True)
class ChildCommand:
    """What to start: the whole environment, nothing is inherited. ``secrets`` are blotted out of all that it says."""

    arguments: list[str]
    environment: dict[str, str]
    directory: Path
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChildExit:
    """How a child ended.

    ``return_code`` is negative for a signal, as in subprocess. ``tail`` holds its last log lines. ``num_oom_kills`` counts
    processes of this control group that the kernel killed for memory meanwhile. ``broken_protocol`` says what was wrong
    with an event, if something was.
    """

    return_code: int
    result: ChildResult | None = None
    failure: ChildFailure | None = None
    broken_protocol: str | None = None
    tail: tuple[str, ...] = ()
    peak_memory_bytes: int = 0
    num_oom_kills: int = 0


@dataclass
class _Heard:
    """What the child has said so far."""

    result: ChildResult | None = None
    failure: ChildFailure | None = None
    broken_protocol: str | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


def run_child(
    command: ChildCommand,
    listener: Listener,
    stop_reason: StopQuestion,
    *,
    grace_s: Mapping[StopReason, float],
    on_start: Callable[[int], None] | None = None,
) -> ChildExit:
    """Runs a child to its end and returns how it ended; raises OSError if it cannot be started. ``on_start`` is told its pid.

    When ``stop_reason`` gives a reason, the child and all it started get SIGTERM, and SIGKILL after that reason's seconds in
    ``grace_s`` (at once where it has none). Whatever the child left behind is killed too.
    """
    oom_kills_before = num_oom_kills()
    with _Child(command, listener) as child:
        if on_start is not None:
            on_start(child.pid)
        _watch(child, stop_reason, grace_s)
        return_code = child.end()
    oom_kills_after = num_oom_kills()
    has_counts = oom_kills_before is not None and oom_kills_after is not None
    return ChildExit(
        return_code=return_code,
        result=child.heard.result,
        failure=child.heard.failure,
        broken_protocol=child.heard.broken_protocol,
        tail=tuple(child.heard.tail),
        peak_memory_bytes=child.memory.peak_bytes,
        num_oom_kills=(oom_kills_after or 0) - (oom_kills_before or 0) if has_counts else 0,
    )


def _watch(child: _Child, stop_reason: StopQuestion, grace_s: Mapping[StopReason, float]) -> None:
    """Listens until the child has ended, by itself or because it was told to."""
    stopping: StopReason | None = None
    kill_at = float("inf")
    while not child.has_ended():
        child.memory.sample()
        reason = stop_reason(child.memory.now_bytes)
        if reason is not None and reason is not stopping:
            log.info("stopping the child", pid=child.pid, reason=reason)
            stopping = reason
            child.family.signal(signal.SIGTERM)
            kill_at = min(kill_at, time.monotonic() + grace_s.get(reason, 0.0))
        if time.monotonic() >= kill_at or child.heard.broken_protocol is not None:
            child.family.signal(signal.SIGKILL)
        child.listen(LISTEN_S)


class _Child:
    """A started process, all that it starts, and the two pipes it speaks through."""

    def __init__(self, command: ChildCommand, listener: Listener) -> None:
        self.heard = _Heard()
        self._listener = listener
        self._secrets = [secret.encode() for secret in command.secrets if secret]
        self._log_lines = LineBuffer(MAX_LINE_BYTES)
        self._event_lines = LineBuffer(MAX_EVENT_BYTES)
        with ExitStack() as opened:
            self._selector = opened.enter_context(selectors.DefaultSelector())
            with ExitStack() as childs_ends:
                log_reader, log_writer = _pipe(opened, childs_ends)
                events_reader, events_writer = _pipe(opened, childs_ends)
                # start_new_session: a session and process group of its own, so that what the child starts can be ended with it.
                self._process = subprocess.Popen(
                    command.arguments,
                    env={**command.environment, EVENTS_FD_VARIABLE: str(events_writer)},
                    cwd=command.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log_writer,
                    stderr=log_writer,
                    pass_fds=(events_writer,),
                    start_new_session=True,
                )
                self.pid = self._process.pid
                self.family = Family(self.pid)
                opened.callback(self._make_sure_it_is_dead)
            self.memory = FamilyMemory(self.family)
            # At once: a child may end before it is looked at next.
            self.memory.sample()
            # Becomes readable when the child ends: that is noticed at once, whatever else holds the pipes open.
            self._end = os.pidfd_open(self.pid)
            opened.callback(os.close, self._end)
            self._selector.register(self._end, selectors.EVENT_READ)
            self._selector.register(log_reader, selectors.EVENT_READ, self._on_log)
            self._selector.register(events_reader, selectors.EVENT_READ, self._on_events)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Whatever happened: nothing of the family lives on, no descriptor stays open."""
        self._opened.close()

    def _make_sure_it_is_dead(self) -> None:
        if self._process.returncode is None:
            self.family.kill()
            self._process.wait()

    def has_ended(self) -> bool:
        """Tells whether the child is dead, without reaping it: until then its pid, and so its session's id, is not given again."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def listen(self, timeout_s: float) -> None:
        """Reads what is there, waiting at most ``timeout_s`` for it."""
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._end:
                continue
            data = os.read(key.fd, READ_BYTES)
            if data:
                key.data(data)
            else:
                self._selector.unregister(key.fd)

    def end(self) -> int:
        """Kills what the child left behind, reads its last words, reaps it and returns its return code."""
        self.family.kill()
        self._selector.unregister(self._end)
        give_up_at = time.monotonic() + LAST_WORDS_S
        while self._selector.get_map() and time.monotonic() < give_up_at:
            self.listen(POLL_S)
        for line in self._log_lines.close():
            self._hear_log(line)
        for line in self._event_lines.close():
            self._hear_event(line)
        return self._process.wait()

    def _on_log(self, data: bytes) -> None:
        for line in self._log_lines.feed(data):
            self._hear_log(line)

    def _on_events(self, data: bytes) -> None:
        for line in self._event_lines.feed(data):
            self._hear_event(line)

    def _without_secrets(self, line: bytes) -> bytes:
        for secret in self._secrets:
            line = line.replace(secret, REDACTED)
        return line

    def _hear_log(self, line: bytes) -> None:
        text = log_text(self._without_secrets(line))
        if text.strip():
            self.heard.tail.append(text)
            self._listener.log(text)

    def _hear_event(self, line: bytes) -> None:
        line = self._without_secrets(line)
        try:
            event = parse_event(line)
        except ValueError as error:
            self.heard.broken_protocol = f"{line[:200]!r} is not an event: {error}"
            return
        match event:
            case ChildProgress():
                self._listener.progress(event)
            case ChildNote():
                self._listener.note(event.text)
            case ChildMetrics():
                self._listener.metrics(event)
            case ChildCheckpoint():
                self._listener.checkpoint(event)
            case ChildResult():
                self.heard.result = event
            case ChildFailure():
                self.heard.failure = event


def _pipe(our_end: ExitStack, childs_end: ExitStack) -> tuple[int, int]:
    """Returns the two ends of a new pipe, each closed with its stack."""
    reader, writer = os.pipe()
    our_end.callback(os.close, reader)
    childs_end.callback(os.close, writer)
    return reader, writer
