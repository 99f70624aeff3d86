"""Replicas that fail are left out, and come back by a trial."""

from __future__ import annotations

from quantry_gateway.ejection import Ejection


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def ejection(clock: Clock) -> Ejection:
    return Ejection(after=3, first_s=1.0, longest_s=5.0, clock_s=clock)


def test_so_many_failures_in_a_row_eject() -> None:
    out = ejection(Clock())
    assert [out.failed("a", on_trial=False) for _ in range(2)] == [False, False]
    out.succeeded("a", on_trial=False)
    assert [out.failed("a", on_trial=False) for _ in range(3)] == [False, False, True]
    assert out.is_out("a")
    assert not out.is_out("b")


def test_one_refused_connection_ejects() -> None:
    out = ejection(Clock())
    assert out.failed("a", on_trial=False, at_once=True)
    assert out.is_out("a")


def test_each_failed_trial_doubles_the_time_up_to_the_longest() -> None:
    clock = Clock()
    out = ejection(clock)
    out.failed("a", on_trial=False, at_once=True)
    for seconds in (1.0, 2.0, 4.0, 5.0, 5.0):
        clock.now_s += seconds - 0.01
        assert out.is_out("a")
        clock.now_s += 0.02
        assert not out.is_out("a")
        assert out.begun("a")
        assert out.failed("a", on_trial=True)
        out.ended("a", on_trial=True)


def test_a_trial_is_one_request_for_a_while_and_its_success_ends_it() -> None:
    clock = Clock()
    out = ejection(clock)
    out.failed("a", on_trial=False, at_once=True)
    clock.now_s += 1.1
    assert out.begun("a")
    assert out.is_out("a")
    # It answers late: the others need not wait for that.
    clock.now_s += 1.1
    assert not out.is_out("a")
    assert out.begun("a")
    out.succeeded("a", on_trial=True)
    out.ended("a", on_trial=True)
    assert not out.is_out("a")
    assert not out.begun("a")
    out.ended("a", on_trial=True)
    # What was under way on trial is an ordinary failure by now, and the time begins anew.
    assert not out.failed("a", on_trial=False)


def test_a_trial_that_told_nothing_leaves_it_to_the_next() -> None:
    clock = Clock()
    out = ejection(clock)
    out.failed("a", on_trial=False, at_once=True)
    clock.now_s += 1.1
    out.begun("a")
    out.ended("a", on_trial=True)
    assert not out.is_out("a")
    assert out.begun("a")


def test_what_was_under_way_before_neither_brings_back_nor_prolongs() -> None:
    clock = Clock()
    out = ejection(clock)
    out.failed("a", on_trial=False, at_once=True)
    for _ in range(20):
        assert not out.failed("a", on_trial=False)
    out.succeeded("a", on_trial=False)
    out.ended("a", on_trial=False)
    assert out.is_out("a")
    clock.now_s += 1.1
    assert not out.is_out("a")


def test_replicas_that_are_gone_are_forgotten() -> None:
    out = ejection(Clock())
    out.failed("a", on_trial=False, at_once=True)
    out.failed("b", on_trial=False, at_once=True)
    out.keep_only(frozenset({"b"}))
    assert (out.is_out("a"), out.is_out("b")) == (False, True)


def test_one_that_breaks_answers_off_is_not_well_because_it_begins_others() -> None:
    out = ejection(Clock())
    for expected in (False, False, True):
        out.answering("a", on_trial=False)
        assert out.broke_off("a", on_trial=False) is expected
    assert out.is_out("a")


def test_an_answer_to_its_end_brings_back_what_broke_answers_off() -> None:
    clock = Clock()
    out = ejection(clock)
    for _ in range(3):
        out.broke_off("a", on_trial=False)
    clock.now_s += 1.1
    assert out.begun("a")
    out.answering("a", on_trial=True)
    # Its answer may break off yet: nobody else is sent there for longer than to a replica that only answers late.
    clock.now_s += 5.0
    assert out.is_out("a")
    out.succeeded("a", on_trial=True)
    out.ended("a", on_trial=True)
    assert not out.is_out("a")
    assert not out.begun("a")


def test_answers_to_the_end_in_between_are_no_row_of_failures() -> None:
    out = ejection(Clock())
    for _ in range(5):
        assert not out.broke_off("a", on_trial=False)
        out.succeeded("a", on_trial=False)
    # And what it only begins counts again as well.
    assert not out.failed("a", on_trial=False)
    assert not out.failed("a", on_trial=False)
    out.answering("a", on_trial=False)
    assert not out.failed("a", on_trial=False)
