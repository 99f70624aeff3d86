"""Who may try another key, and who has to wait."""

from __future__ import annotations

from quantry_dashboard.failed_sign_ins import MAX_ADDRESSES, MAX_FAILURES, WINDOW_S, FailedSignIns


def test_who_fails_often_waits_and_nobody_else() -> None:
    now_s = [0.0]
    failures = FailedSignIns(lambda: now_s[0])
    for _ in range(MAX_FAILURES):
        assert not failures.are_too_many("192.0.2.1")
        failures.note("192.0.2.1")
    assert failures.are_too_many("192.0.2.1")
    assert not failures.are_too_many("192.0.2.2")
    now_s[0] = WINDOW_S
    assert not failures.are_too_many("192.0.2.1")
    failures.note("192.0.2.1")
    assert not failures.are_too_many("192.0.2.1")


def test_the_addresses_of_one_network_count_together() -> None:
    failures = FailedSignIns(lambda: 0.0)
    for number in range(MAX_FAILURES):
        failures.note(f"2001:db8::{number:x}")
    assert failures.are_too_many("2001:db8::ffff")
    assert not failures.are_too_many("2001:db8:0:1::1")
    assert not failures.are_too_many("nonsense")


def test_what_is_remembered_is_bounded() -> None:
    failures = FailedSignIns(lambda: 0.0)
    for _ in range(MAX_FAILURES):
        failures.note("192.0.2.1")
    for number in range(MAX_ADDRESSES):
        failures.note(f"host-{number}")
    assert not failures.are_too_many("192.0.2.1")
