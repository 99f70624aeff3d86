"""What clients may ask in a minute, by a clock that the test moves."""

from __future__ import annotations

import pytest

from quantry_core.errors import TooManyRequests
from quantry_core.keys import Identity, Role
from quantry_http.limits import MAX_GOOD_KEYS, MAX_WINDOWS, RequestLimits, Windows
from quantry_http.settings import HttpSettings


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> RequestLimits:
    return RequestLimits(HttpSettings(requests_per_minute=3, failed_keys_per_minute=2, enrolments_per_minute=1), clock_s=clock)


def who(role: Role = Role.VIEWER, key_id: str = "key_1") -> Identity:
    return Identity(key_id=key_id, project_id="prj_1", role=role)


def test_a_key_has_so_many_requests_a_minute(limits: RequestLimits, clock: Clock) -> None:
    for _ in range(3):
        limits.admit_key(who(), "good")
    clock.now_s += 10.5
    with pytest.raises(TooManyRequests) as refused:
        limits.admit_key(who(), "good")
    assert refused.value.retry_after_s == 50
    limits.admit_key(who(key_id="key_2"), "other")
    clock.now_s += 50
    limits.admit_key(who(), "good")


@pytest.mark.parametrize("role", [Role.WORKER, Role.GATEWAY])
def test_machines_are_not_counted(limits: RequestLimits, role: Role) -> None:
    for _ in range(10):
        limits.admit_key(who(role), "machine")


def test_an_address_with_wrong_keys_is_refused_all_but_known_ones(limits: RequestLimits, clock: Clock) -> None:
    limits.admit_key(who(), "good")
    for _ in range(2):
        limits.admit_address("10.0.0.1", "wrong")
        limits.note_wrong("10.0.0.1", "wrong")
    with pytest.raises(TooManyRequests, match=r"10\.0\.0\.1"):
        limits.admit_address("10.0.0.1", "wrong")
    limits.admit_address("10.0.0.1", "good")
    limits.admit_address("10.0.0.2", "wrong")
    limits.note_wrong("10.0.0.1", "good")
    with pytest.raises(TooManyRequests):
        limits.admit_address("10.0.0.1", "good")
    clock.now_s += 60
    limits.admit_address("10.0.0.1", "wrong")


def test_one_time_tokens_are_counted_by_address(limits: RequestLimits) -> None:
    limits.admit_enrolment("10.0.0.1")
    limits.admit_enrolment("10.0.0.2")
    with pytest.raises(TooManyRequests, match="one-time tokens"):
        limits.admit_enrolment("10.0.0.1")


def test_what_is_remembered_is_bounded(clock: Clock) -> None:
    windows = Windows(clock_s=clock)
    for number in range(MAX_WINDOWS + 10):
        windows.incr(f"address-{number}", 60)
    assert windows.get("address-0") == 0
    assert windows.get(f"address-{MAX_WINDOWS}") == 1
    assert windows.reset() == MAX_WINDOWS
    limits = RequestLimits(HttpSettings(failed_keys_per_minute=1), clock_s=clock)
    for number in range(MAX_GOOD_KEYS + 1):
        limits.admit_key(who(Role.WORKER), f"key-{number}")
    limits.note_wrong("10.0.0.1", "wrong")
    limits.admit_address("10.0.0.1", "key-1")
    with pytest.raises(TooManyRequests):
        limits.admit_address("10.0.0.1", "key-0")
