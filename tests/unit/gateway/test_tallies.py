"""What is counted of outcomes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories.outcomes import outcome
from quantry_core.histograms import RELATIVE_ERROR
from quantry_core.traffic import Tally
from quantry_gateway.outcomes import OutcomeKind
from quantry_gateway.pairs import PairScore
from quantry_gateway.tallies import Tallies

BEGAN_AT = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = BEGAN_AT

    def __call__(self) -> datetime:
        return self.now


def only(tallies: Tallies) -> Tally:
    [window] = tallies.cut()
    return window.tally


def test_each_kind_has_its_count() -> None:
    counts = {
        OutcomeKind.ANSWERED: "num_answered",
        OutcomeKind.FAILED: "num_failed",
        OutcomeKind.REFUSED: "num_refused",
        OutcomeKind.REJECTED: "num_rejected",
        OutcomeKind.GIVEN_UP: "num_given_up",
    }
    assert set(counts) == set(OutcomeKind)
    for kind, name in counts.items():
        tallies = Tallies()
        tallies.tell(outcome(kind, num_retried=2, prompt_tokens=7, completion_tokens=5))
        tally = only(tallies)
        assert {other: getattr(tally, other) for other in counts.values()} == dict.fromkeys(counts.values(), 0) | {name: 1}
        assert (tally.num_retried, tally.prompt_tokens, tally.completion_tokens) == (2, 7, 5)


def test_an_answers_times() -> None:
    tallies = Tallies()
    tallies.tell(outcome(began_s=10.0, first_byte_s=10.2, ended_s=11.2, completion_tokens=11, num_events=13))
    tally = only(tallies)
    assert tally.ttft_s.quantile(0.5) == pytest.approx(0.2, rel=RELATIVE_ERROR)
    assert tally.tpot_s.quantile(0.5) == pytest.approx(0.1, rel=RELATIVE_ERROR)
    assert tally.e2e_s.quantile(0.5) == pytest.approx(1.2, rel=RELATIVE_ERROR)
    assert tally.given_up_s.num == 0


def test_events_stand_for_tokens_where_an_answer_does_not_say() -> None:
    tallies = Tallies()
    tallies.tell(outcome(began_s=10.0, first_byte_s=10.0, ended_s=12.0, num_events=5))
    assert only(tallies).tpot_s.quantile(0.5) == pytest.approx(0.5, rel=RELATIVE_ERROR)


def test_a_whole_answer_has_no_first_token_and_one_token_no_next_one() -> None:
    tallies = Tallies()
    tallies.tell(outcome(completion_tokens=9))
    tallies.tell(outcome(first_byte_s=100.1, completion_tokens=1, num_events=3))
    tally = only(tallies)
    assert (tally.e2e_s.num, tally.ttft_s.num, tally.tpot_s.num) == (2, 1, 0)


def test_only_answers_have_latencies() -> None:
    tallies = Tallies()
    for kind in (OutcomeKind.FAILED, OutcomeKind.REFUSED, OutcomeKind.REJECTED):
        tallies.tell(outcome(kind, first_byte_s=100.1, num_events=9))
    tally = only(tallies)
    assert (tally.e2e_s.num, tally.ttft_s.num, tally.tpot_s.num, tally.given_up_s.num) == (0, 0, 0, 0)


def test_who_gave_up_has_waited_and_seen_what_had_come() -> None:
    tallies = Tallies()
    tallies.tell(outcome(OutcomeKind.GIVEN_UP))
    tally = only(tallies)
    assert (tally.e2e_s.num, tally.ttft_s.num, tally.tpot_s.num) == (0, 0, 0)
    assert tally.given_up_s.quantile(1.0) == pytest.approx(0.5, rel=RELATIVE_ERROR)
    tallies.tell(outcome(OutcomeKind.GIVEN_UP, first_byte_s=100.1, num_events=5))
    tally = only(tallies)
    assert tally.e2e_s.num == 0
    assert tally.given_up_s.quantile(1.0) == pytest.approx(0.5, rel=RELATIVE_ERROR)
    assert tally.ttft_s.quantile(1.0) == pytest.approx(0.1, rel=RELATIVE_ERROR)
    assert tally.tpot_s.quantile(1.0) == pytest.approx(0.1, rel=RELATIVE_ERROR)


def test_filtered_answers_are_answers() -> None:
    tallies = Tallies()
    tallies.tell(outcome(is_filtered=True))
    tallies.tell(outcome())
    tally = only(tallies)
    assert (tally.num_answered, tally.num_filtered) == (2, 1)


def test_windows_follow_one_another_and_hold_what_was_told_in_them() -> None:
    clock = Clock()
    tallies = Tallies(clock=clock)
    tallies.tell(outcome())
    clock.now += timedelta(seconds=1)
    [first] = tallies.cut()
    clock.now += timedelta(seconds=1)
    assert tallies.cut() == []
    tallies.tell(outcome(OutcomeKind.FAILED))
    clock.now -= timedelta(minutes=5)
    [third] = tallies.cut()
    assert (first.began_at, first.ended_at) == (BEGAN_AT, BEGAN_AT + timedelta(seconds=1))
    assert third.began_at == third.ended_at == BEGAN_AT + timedelta(seconds=2), "the time of day was set back"
    assert (first.tally.num_answered, first.tally.num_failed) == (1, 0)
    assert (third.tally.num_answered, third.tally.num_failed) == (0, 1)


def test_feedback_and_pairs_belong_to_their_release() -> None:
    tallies = Tallies()
    tallies.judge("rel_1", approves=True)
    tallies.judge("rel_1", approves=False)
    tallies.judge("rel_1", approves=True)
    tallies.compare("rel_2", PairScore(disagreement=0.5, divergence=2.0))
    tallies.compare("rel_2", PairScore(disagreement=0.25, divergence=1.0))
    tallies.compare("rel_2", None)
    windows = {window.release_id: window.tally for window in tallies.cut()}
    assert (windows["rel_1"].num_approved, windows["rel_1"].num_disapproved) == (2, 1)
    pairs = windows["rel_2"].pairs
    assert (pairs.num_pairs, pairs.num_failed) == (3, 1)
    assert (pairs.disagreement_sum, pairs.disagreement_square_sum) == (0.75, 0.3125)
    assert (pairs.divergence_sum, pairs.divergence_square_sum) == (3.0, 5.0)


@given(st.lists(st.tuples(st.sampled_from(OutcomeKind), st.sampled_from(["rel_1", "rel_2"]), st.booleans()), max_size=60))
def test_windows_add_up_to_what_was_told(told: list[tuple[OutcomeKind, str, bool]]) -> None:
    tallies = Tallies()
    windows = []
    for kind, release_id, is_cut_after in told:
        tallies.tell(outcome(kind, release_id=release_id))
        if is_cut_after:
            windows += tallies.cut()
    windows += tallies.cut()
    whole = Tally()
    for window in windows:
        whole = whole.merged(window.tally)
    kinds = Counter(kind for kind, _, _ in told)
    assert whole.num_answered == whole.e2e_s.num == kinds[OutcomeKind.ANSWERED]
    assert whole.num_given_up == whole.given_up_s.num == kinds[OutcomeKind.GIVEN_UP]
    assert whole.num_failed + whole.num_refused + whole.num_rejected == len(told) - whole.num_answered - whole.num_given_up
