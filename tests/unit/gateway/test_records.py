"""What is told of a request once it is over."""

from __future__ import annotations

import time

import pytest

from quantry_core.keys import Role
from quantry_core.routes import RoutedKey
from quantry_gateway.headers import RawHeaders
from quantry_gateway.outcomes import Outcome, OutcomeKind
from quantry_gateway.records import Announcer, Asked, Record, kind_of

KEY = RoutedKey(key_id="key_1", key_hash="0" * 64, project_id="prj_1", role=Role.VIEWER)
ASKED = Asked(request_id="r-1", key=KEY, path="/v1/completions", body=b"{}")
EVENT = b'data: {"id":"c1","choices":[{"text":"a"}]}\n\n'
USAGE = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


class Spent:
    """A limiter that remembers what was spent."""

    def __init__(self) -> None:
        self.tokens: list[tuple[str, int]] = []

    def admit(self, key: RoutedKey) -> float | None:
        return None

    def fields(self, key: RoutedKey) -> RawHeaders:
        return []

    def spend(self, key: RoutedKey, num_tokens: int) -> None:
        self.tokens.append((key.key_id, num_tokens))


def record() -> Record:
    return Record("dep_1", "rel_1", began_s=time.monotonic())


def told(of: Record, limits: Spent | None = None) -> Outcome:
    outcomes: list[Outcome] = []
    Announcer([outcomes.append], limits).tell(of, ASKED)
    [outcome] = outcomes
    return outcome


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, OutcomeKind.ANSWERED),
        (307, OutcomeKind.ANSWERED),
        (400, OutcomeKind.REJECTED),
        (404, OutcomeKind.REJECTED),
        (429, OutcomeKind.REFUSED),
        (500, OutcomeKind.FAILED),
        (503, OutcomeKind.FAILED),
    ],
)
def test_a_whole_answer_is_what_its_status_says(status: int, kind: OutcomeKind) -> None:
    assert kind_of(status) is kind


def test_a_whole_answer() -> None:
    whole = record()
    whole.num_tries = 3
    whole.whole(200, b'{"id":"c7","usage":{"prompt_tokens":5,"completion_tokens":2}}')
    limits = Spent()
    outcome = told(whole, limits)
    assert (outcome.kind, outcome.release_id, outcome.deployment_id, outcome.key_id) == (OutcomeKind.ANSWERED, "rel_1", "dep_1", "key_1")
    assert (outcome.answer_id, outcome.prompt_tokens, outcome.completion_tokens, outcome.num_retried) == ("c7", 5, 2, 2)
    assert outcome.first_byte_s is None
    assert outcome.began_s <= outcome.ended_s
    assert limits.tokens == [("key_1", 7)]


def test_a_stream() -> None:
    stream = record()
    stream.began_stream(EVENT)
    for chunk in (EVENT, EVENT + EVENT, USAGE, DONE):
        stream.passed(chunk)
    stream.ended_stream()
    limits = Spent()
    outcome = told(stream, limits)
    assert (outcome.kind, outcome.num_events, outcome.answer_id) == (OutcomeKind.ANSWERED, 4, "c1")
    assert outcome.first_byte_s is not None
    assert outcome.began_s <= outcome.first_byte_s <= outcome.ended_s
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (5, 2)
    assert limits.tokens == [("key_1", 7)]


def test_a_stream_that_does_not_tell_its_tokens_is_counted_by_its_events() -> None:
    stream = record()
    stream.began_stream(EVENT)
    for chunk in (EVENT, EVENT, DONE):
        stream.passed(chunk.replace(b"\n", b"\r\n"))
    stream.ended_stream()
    limits = Spent()
    assert told(stream, limits).completion_tokens is None
    assert limits.tokens == [("key_1", 2)]


def test_a_stream_in_which_the_engine_gave_up_has_failed_though_it_has_its_end_mark() -> None:
    stream = record()
    stream.began_stream(EVENT)
    for chunk in (EVENT, b'data: {"error":{"message":"the engine died"}}\n\n', DONE):
        stream.passed(chunk)
    stream.ended_stream()
    assert told(stream).kind is OutcomeKind.FAILED


def test_what_never_ended_was_given_up() -> None:
    limits = Spent()
    assert told(record(), limits).kind is OutcomeKind.GIVEN_UP
    assert limits.tokens == []


def test_a_sink_that_fails_does_not_keep_the_others_from_hearing() -> None:
    outcomes: list[Outcome] = []

    def fail(_outcome: Outcome) -> None:
        raise KeyError("a defect")

    Announcer([fail, outcomes.append], None).tell(record(), ASKED)
    assert len(outcomes) == 1
