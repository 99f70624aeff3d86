"""What is noted of a request while it is at a release, and told once it is over."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from quantry_core.routes import RoutedKey
from quantry_gateway.answers import Said, holds_error, said_by
from quantry_gateway.hooks import KeyLimiter
from quantry_gateway.outcomes import Outcome, OutcomeKind, OutcomeSink

_LAST_CHUNKS = 4
"""Enough to hold the event with the finish reason, the one with the usage and the end mark."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Record:
    """One request at one release. ``kind`` is set when it is over; where it never is, its client went first."""

    deployment_id: str
    release_id: str
    began_s: float
    num_tries: int = 0
    first_byte_s: float | None = None
    num_events: int = 0
    head: bytes = b""
    last: deque[bytes] = field(default_factory=lambda: deque(maxlen=_LAST_CHUNKS))
    kind: OutcomeKind = OutcomeKind.GIVEN_UP
    has_error: bool = False
    """The engine said in the middle of a stream that it failed."""

    def whole(self, status: int, body: bytes) -> None:
        """Notes an answer that was read whole."""
        self.kind = kind_of(status)
        self.head = body
        self.last.append(body)

    def began_stream(self, events: bytes) -> None:
        """Notes the first events of a streamed answer, just before they are passed on."""
        self.first_byte_s = time.monotonic()
        self.head = events

    def passed(self, events: bytes) -> None:
        """Notes events that are passed on."""
        self.num_events += events.count(b"\n\n") or events.count(b"\r\n\r\n")
        self.last.append(events)
        if holds_error(events):
            self.has_error = True

    def ended_stream(self) -> None:
        """Notes that a stream has come to its end; the end mark is no event of it."""
        self.kind = OutcomeKind.FAILED if self.has_error else OutcomeKind.ANSWERED
        self.num_events -= 1

    def said(self) -> Said:
        """Returns what the answer says of itself."""
        return said_by(self.head, b"".join(self.last))


def kind_of(status: int) -> OutcomeKind:
    """Returns what a whole answer with this status is."""
    if status == 429:
        return OutcomeKind.REFUSED
    if status < 400:
        return OutcomeKind.ANSWERED
    return OutcomeKind.REJECTED if status < 500 else OutcomeKind.FAILED


@dataclass(frozen=True, slots=True)
class Asked:
    """Of whom, of what and where a request is: the same for every release it reaches."""

    request_id: str
    key: RoutedKey
    path: str
    body: bytes


class Announcer:
    """Tells records to the sinks, and answers' tokens to the limiter. A sink that fails is logged; the request does not notice."""

    def __init__(self, sinks: Sequence[OutcomeSink], limits: KeyLimiter | None) -> None:
        self._sinks = sinks
        self._limits = limits

    def tell(self, record: Record, asked: Asked) -> None:
        """Tells how a request ended at a release."""
        said = record.said()
        if self._limits is not None and (num_tokens := _num_tokens(record, said)):
            self._limits.spend(asked.key, num_tokens)
        outcome = _outcome(record, said, asked)
        for sink in self._sinks:
            try:
                sink(outcome)
            except Exception:
                _log.exception("outcome.not_told", request_id=asked.request_id)


def _num_tokens(record: Record, said: Said) -> int:
    """Returns the tokens of an answer; of a stream that does not tell them, its events: engines send one for each token or few."""
    if said.prompt_tokens is None and said.completion_tokens is None:
        return record.num_events
    return (said.prompt_tokens or 0) + (said.completion_tokens or 0)


def _outcome(record: Record, said: Said, asked: Asked) -> Outcome:
    return Outcome(
        kind=record.kind,
        request_id=asked.request_id,
        key_id=asked.key.key_id,
        project_id=asked.key.project_id,
        deployment_id=record.deployment_id,
        release_id=record.release_id,
        path=asked.path,
        body=asked.body,
        began_s=record.began_s,
        ended_s=time.monotonic(),
        first_byte_s=record.first_byte_s,
        num_events=record.num_events,
        prompt_tokens=said.prompt_tokens,
        completion_tokens=said.completion_tokens,
        is_filtered=said.is_filtered,
        num_retried=max(0, record.num_tries - 1),
        answer_id=said.answer_id,
    )
