"""Which prompts are held, and what of a request is one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from pydantic import BaseModel

from factories.outcomes import outcome, table_of, watched_route
from quantry_core.captures import CaptureReport, CaptureSettings
from quantry_gateway import captures as captures_module
from quantry_gateway.captures import MAX_PROMPT_CHARS, MAX_REPORT_PROMPTS, Captures, CaptureTeller
from quantry_gateway.outcomes import OutcomeKind
from quantry_gateway.sampling import WatchedDeployments
from quantry_gateway.telling import ApiAway, Teller


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def captures(*, percent: float = 100, chance: float = 0.0, max_bytes: int = 10_000_000, clock: Clock | None = None) -> Captures:
    watched = WatchedDeployments(table_of(watched_route(capture=CaptureSettings(percent=percent))))
    return Captures(watched, max_bytes=max_bytes, hold_s=60.0, clock_s=clock or Clock(), chance=lambda: chance)


def test_only_the_messages_of_a_chat_are_kept() -> None:
    held = captures()
    held.tell(outcome(release_id="rel_2"))
    [prompt] = held.take()
    assert json.loads(prompt.body) == [{"role": "user", "content": "To be"}]
    assert (prompt.deployment_id, prompt.release_id, prompt.path) == ("dep_1", "rel_2", "/v1/chat/completions")
    assert held.take() == []


@pytest.mark.parametrize("asked", ["To be, or not — “ö”", ["one", "two"], [1, 2, 3]])
def test_only_the_prompt_of_a_completion_is_kept(asked: object) -> None:
    held = captures()
    held.tell(outcome(path="/v1/completions", body=json.dumps({"model": "bard", "prompt": asked, "user": "will"}).encode()))
    [prompt] = held.take()
    assert json.loads(prompt.body) == asked
    assert "will" not in prompt.body


def test_ids_are_made_here_and_never_twice() -> None:
    held = captures()
    for _ in range(50):
        held.tell(outcome())
    assert len({prompt.id for prompt in held.take()}) == 50


def test_a_share_is_kept_and_only_of_answers() -> None:
    for percent, chance, num_held in ((10, 0.0999, 1), (10, 0.1, 0), (100, 0.9999, 1)):
        held = captures(percent=percent, chance=chance)
        held.tell(outcome())
        assert len(held) == num_held
    held = captures()
    for kind in OutcomeKind:
        held.tell(outcome(kind))
    held.tell(outcome(path="/v1/embeddings"))
    held.tell(outcome(deployment_id="dep_2"))
    assert len(held) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"messages":null}', b'{"messages":[]}', b'{"prompt":"x"}', b'{"messages":["\\ud800"]}'],
)
def test_what_holds_no_prompt_is_dropped(body: bytes) -> None:
    held = captures()
    held.tell(outcome(body=body))
    assert held.take() == []
    assert held.num_dropped == 1


def test_a_prompt_that_is_too_long_is_dropped_whole() -> None:
    held = captures()
    for num_chars in (MAX_PROMPT_CHARS - 2, MAX_PROMPT_CHARS - 1):
        held.tell(outcome(path="/v1/completions", body=json.dumps({"prompt": "x" * num_chars}).encode()))
    [prompt] = held.take()
    assert len(prompt.body) == MAX_PROMPT_CHARS
    assert held.num_dropped == 1


def test_memory_is_bounded_and_freed() -> None:
    body = outcome().body
    held = captures(max_bytes=3 * len(body))
    for _ in range(5):
        held.tell(outcome())
    assert (len(held), held.num_dropped) == (3, 2)
    assert len(held.take()) == 3
    held.tell(outcome())
    assert (len(held), held.num_dropped) == (1, 2)


def test_what_was_held_too_long_is_dropped() -> None:
    clock = Clock()
    held = captures(clock=clock)
    held.tell(outcome())
    clock.now_s += 50
    held.tell(outcome())
    clock.now_s += 20
    held.expire()
    assert (len(held), held.num_dropped) == (1, 1)
    clock.now_s += 50
    assert held.take() == []
    assert held.num_dropped == 2


def test_a_report_holds_what_the_api_takes() -> None:
    held = captures(max_bytes=100_000_000)
    long = outcome(path="/v1/completions", body=json.dumps({"prompt": "x" * 200_000}).encode())
    for _ in range(MAX_REPORT_PROMPTS + 5):
        held.tell(outcome())
    for _ in range(7):
        held.tell(long)
    sizes = []
    while prompts := held.take():
        report = CaptureReport(prompts=prompts)
        sizes.append(len(prompts))
        assert len(report.model_dump_json()) < 2 * 1024**2
    assert sizes == [MAX_REPORT_PROMPTS, 8, 3, 1]


class Away:
    """A teller whose api is away."""

    async def post(self, _path: str, _document: BaseModel, *, timeout_s: float) -> None:
        raise ApiAway(f"nothing within {timeout_s:g} seconds")


async def test_waiting_in_a_report_counts_as_held(monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    times = [at]
    monkeypatch.setattr(captures_module, "now", lambda: times[-1])
    held = captures()
    teller = CaptureTeller(cast("Teller", Away()), held, interval_s=1.0)
    held.tell(outcome())
    times.append(at + timedelta(seconds=30))
    held.tell(outcome())
    # Taken into a report when the first of them is nearly too old already.
    times.append(at + timedelta(seconds=59))
    with pytest.raises(ApiAway):
        await teller._tell_next(timeout_s=1.0)
    teller.expire()
    assert held.num_dropped == 0
    for seconds, num_dropped in ((61, 1), (91, 2)):
        times.append(at + timedelta(seconds=seconds))
        teller.expire()
        assert held.num_dropped == num_dropped
    assert not await teller._tell_next(timeout_s=1.0)
