"""Which release gave which answer, for as long as feedback on it may come."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from quantry_gateway.outcomes import Outcome, OutcomeKind
from quantry_gateway.tallies import Tallies


class AnswerUnknown(Exception):
    """The project got no answer of that id from this gateway, or too many since."""


class FeedbackSettled(Exception):
    """Feedback of the other kind was counted already."""


@dataclass(slots=True, eq=False)
class _Answered:
    release_id: str
    approves: bool | None = None
    is_counted: bool = False


class Answers:
    """Remembers the last answers, up to ``max_answers``, by their own id and by their request's; and the last word on each.

    A word is counted once, ``settle_s`` after the first one came. Until then it may be taken back: what has been told
    to an analysis cannot be.
    """

    def __init__(self, tallies: Tallies, *, max_answers: int, settle_s: float, clock_s: Callable[[], float]) -> None:
        self._tallies = tallies
        self._max_ids = 2 * max_answers
        self._settle_s = settle_s
        self._clock_s = clock_s
        self._by_id: OrderedDict[tuple[str, str], _Answered] = OrderedDict()
        self._settling: deque[tuple[float, _Answered]] = deque()

    def tell(self, outcome: Outcome) -> None:
        """Remembers an answer. One that the client gave up counts: it may have read enough to have an opinion."""
        if outcome.kind not in {OutcomeKind.ANSWERED, OutcomeKind.GIVEN_UP}:
            return
        answered = _Answered(outcome.release_id)
        self._by_id[outcome.project_id, outcome.request_id] = answered
        if outcome.answer_id is not None:
            self._by_id[outcome.project_id, outcome.answer_id] = answered
        while len(self._by_id) > self._max_ids:
            self._by_id.popitem(last=False)

    def judge(self, project_id: str, answer_id: str, *, approves: bool) -> None:
        """Takes a word on an answer; the last one counts. Raises AnswerUnknown or FeedbackSettled."""
        answered = self._by_id.get((project_id, answer_id))
        if answered is None:
            raise AnswerUnknown
        if answered.is_counted and answered.approves is not approves:
            raise FeedbackSettled
        if answered.approves is None:
            self._settling.append((self._clock_s() + self._settle_s, answered))
        answered.approves = approves

    def settle(self, *, all_of_them: bool = False) -> None:
        """Counts the words that have stood long enough; at the end of the gateway, all of them."""
        now_s = self._clock_s()
        while self._settling and (all_of_them or self._settling[0][0] <= now_s):
            _, answered = self._settling.popleft()
            answered.is_counted = True
            self._tallies.judge(answered.release_id, approves=answered.approves is True)
