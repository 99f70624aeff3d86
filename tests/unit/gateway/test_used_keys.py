"""Which keys a gateway tells the api of, and how often."""

from __future__ import annotations

from quantry_core.traffic import MAX_REPORT_KEYS
from quantry_gateway.outcomes import Outcome, OutcomeKind
from quantry_gateway.used_keys import TELL_AGAIN_S, UsedKeys


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def ended(key_id: str) -> Outcome:
    return Outcome(
        kind=OutcomeKind.ANSWERED,
        request_id="r",
        key_id=key_id,
        project_id="prj_1",
        deployment_id="dep_1",
        release_id="rel_1",
        path="/v1/completions",
        body=b"",
        began_s=0.0,
        ended_s=1.0,
    )


def test_a_key_is_told_once_in_a_while() -> None:
    clock = Clock()
    used = UsedKeys(clock_s=clock)
    for key_id in ("key_1", "key_2", "key_1"):
        used.tell(ended(key_id))
    assert (used.take(), used.take()) == (["key_1", "key_2"], [])
    clock.now_s = TELL_AGAIN_S - 1
    used.tell(ended("key_1"))
    assert used.take() == []
    clock.now_s = TELL_AGAIN_S
    used.tell(ended("key_1"))
    assert used.take() == ["key_1"]


def test_a_report_has_no_more_keys_than_it_may() -> None:
    used = UsedKeys(clock_s=Clock())
    for number in range(MAX_REPORT_KEYS + 1):
        used.tell(ended(f"key_{number}"))
    assert (len(used.take()), used.take()) == (MAX_REPORT_KEYS, [f"key_{MAX_REPORT_KEYS}"])
