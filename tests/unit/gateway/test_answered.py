"""Which release gave which answer, and the last word on it."""

from __future__ import annotations

import pytest

from factories.outcomes import outcome
from quantry_gateway.answered import Answers, AnswerUnknown, FeedbackSettled
from quantry_gateway.outcomes import OutcomeKind
from quantry_gateway.tallies import Tallies


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Desk:
    """Answers with ten seconds to think again, and what was counted of them."""

    def __init__(self, *, max_answers: int = 100) -> None:
        self.clock = Clock()
        self.tallies = Tallies()
        self.answers = Answers(self.tallies, max_answers=max_answers, settle_s=10.0, clock_s=self.clock)

    def counted_after(self, seconds: float) -> dict[str, tuple[int, int]]:
        self.clock.now_s += seconds
        self.answers.settle()
        return {window.release_id: (window.tally.num_approved, window.tally.num_disapproved) for window in self.tallies.cut()}


def test_a_word_counts_for_the_release_that_answered() -> None:
    desk = Desk()
    desk.answers.tell(outcome(request_id="r1", answer_id="chatcmpl-1", release_id="rel_1"))
    desk.answers.tell(outcome(request_id="r2", answer_id="chatcmpl-2", release_id="rel_2"))
    desk.answers.judge("prj_1", "chatcmpl-2", approves=False)
    desk.answers.judge("prj_1", "r1", approves=True)
    assert desk.counted_after(9.9) == {}
    assert desk.counted_after(0.2) == {"rel_1": (1, 0), "rel_2": (0, 1)}


def test_the_last_word_counts_once_by_whichever_id() -> None:
    desk = Desk()
    desk.answers.tell(outcome(request_id="r1", answer_id="chatcmpl-1"))
    for answer_id, approves in (("r1", True), ("chatcmpl-1", True), ("r1", False), ("chatcmpl-1", False)):
        desk.answers.judge("prj_1", answer_id, approves=approves)
        desk.clock.now_s += 2
    assert desk.counted_after(3) == {"rel_1": (0, 1)}
    assert desk.counted_after(100) == {}


def test_a_counted_word_can_be_repeated_and_not_changed() -> None:
    desk = Desk()
    desk.answers.tell(outcome(request_id="r1"))
    desk.answers.judge("prj_1", "r1", approves=True)
    assert desk.counted_after(11) == {"rel_1": (1, 0)}
    desk.answers.judge("prj_1", "r1", approves=True)
    with pytest.raises(FeedbackSettled):
        desk.answers.judge("prj_1", "r1", approves=False)
    assert desk.counted_after(11) == {}


def test_at_the_end_every_word_counts() -> None:
    desk = Desk()
    desk.answers.tell(outcome(request_id="r1"))
    desk.answers.judge("prj_1", "r1", approves=True)
    desk.answers.settle(all_of_them=True)
    assert desk.counted_after(0) == {"rel_1": (1, 0)}


def test_answers_of_another_project_are_unknown() -> None:
    desk = Desk()
    desk.answers.tell(outcome(request_id="r1", project_id="prj_2"))
    with pytest.raises(AnswerUnknown):
        desk.answers.judge("prj_1", "r1", approves=True)
    with pytest.raises(AnswerUnknown):
        desk.answers.judge("prj_2", "r2", approves=True)


def test_only_answers_are_remembered_and_of_those_the_latest() -> None:
    desk = Desk(max_answers=2)
    for kind in (OutcomeKind.FAILED, OutcomeKind.REFUSED, OutcomeKind.REJECTED):
        desk.answers.tell(outcome(kind, request_id=kind.value))
        with pytest.raises(AnswerUnknown):
            desk.answers.judge("prj_1", kind.value, approves=True)
    for number in (1, 2, 3):
        desk.answers.tell(outcome(OutcomeKind.GIVEN_UP, request_id=f"r{number}", answer_id=f"a{number}"))
    for unknown in ("r1", "a1"):
        with pytest.raises(AnswerUnknown):
            desk.answers.judge("prj_1", unknown, approves=True)
    for known in ("r2", "a2", "r3", "a3"):
        desk.answers.judge("prj_1", known, approves=True)
    assert desk.counted_after(10) == {"rel_1": (2, 0)}
