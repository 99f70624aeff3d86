"""The verdict on a shadow's pairs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories.traffic import pair_tally, release_traffic
from quantry_core.strategies import ShadowStrategy
from quantry_core.traffic import MAX_DIVERGENCE, PairTally, ReleaseTraffic, Tally
from quantry_core.verdicts import Finding, Verdict
from quantry_deploy.analysis.means import Sums, mean_interval
from quantry_deploy.analysis.pairs import judge_pairs

STRATEGY = ShadowStrategy()


def shadowed(num: int, disagreement: float, divergence: float, *, failed: int = 0, seed: int = 0) -> ReleaseTraffic:
    """Windows of two pairs each, and one of failed ones."""
    draw = random.Random(seed)
    windows = []
    for _ in range(num // 2):
        shares = [draw.betavariate(disagreement, 1 - disagreement) for _ in range(2)]
        windows.append(Tally(pairs=pair_tally(shares, [min(MAX_DIVERGENCE, draw.expovariate(1 / divergence)) for _ in range(2)])))
    return release_traffic(*windows, *([Tally(pairs=pair_tally([], [], failed=failed))] if failed else []))


def verdict(traffic: ReleaseTraffic) -> Finding:
    return judge_pairs(STRATEGY, traffic, 0.05)


def test_a_good_candidate_passes_after_some_hundred_pairs() -> None:
    found = verdict(shadowed(150, 0.03, 0.03))
    assert found.verdict is Verdict.PASS
    assert found.num_candidate == 150 and found.bound == 0.15
    assert found.message.startswith("over 150 pairs of answers: the share of tokens that differ is ")
    assert "within the 15% allowed, and the logprobs of shared tokens are apart by" in found.message
    assert verdict(shadowed(20, 0.03, 0.03)).verdict is Verdict.INCONCLUSIVE


def test_both_means_share_the_error_probability() -> None:
    shares = [0.0, 0.25, 0.125, 1.0]
    found = judge_pairs(STRATEGY, release_traffic(Tally(pairs=pair_tally(shares, [0.0] * 4))), 0.05)
    assert (found.low, found.high) == mean_interval(Sums(4, sum(shares), sum(share**2 for share in shares)), 0.025)


def test_a_corrupted_candidate_fails_after_few() -> None:
    assert verdict(shadowed(8, 0.95, 3.0)).verdict is Verdict.FAIL


def test_it_depends_on_what_was_compared_and_not_on_how_it_was_cut() -> None:
    cut = shadowed(60, 0.1, 0.2, failed=2)
    assert verdict(release_traffic(cut.total())) == verdict(cut)


def test_logprobs_alone_fail_a_candidate() -> None:
    found = verdict(shadowed(100, 0.02, 2.0))
    assert found.verdict is Verdict.FAIL
    assert found.bound == 0.3 and found.low is not None and found.low > 0.3
    assert found.candidate is not None and 1 < found.candidate < 3
    assert "apart by" in found.message and "nats, beyond the 0.3 nats allowed" in found.message


def test_failed_pairs_count_as_all_that_can_differ() -> None:
    found = verdict(release_traffic(Tally(pairs=pair_tally([], [], failed=6))))
    assert found.verdict is Verdict.FAIL and found.candidate == 1
    assert found.message.startswith("over 6 pairs of answers, 6 of which the candidate failed: the share of tokens that differ is 100%")
    assert verdict(shadowed(150, 0.03, 0.03, failed=150)).verdict is Verdict.FAIL


def test_no_pair_is_no_verdict() -> None:
    assert verdict(ReleaseTraffic(release_id="rel_1")).verdict is Verdict.INCONCLUSIVE
    assert verdict(release_traffic(Tally(num_answered=500))).message == "no pair of answers has been compared yet"


@pytest.mark.parametrize(
    "impossible",
    [
        PairTally(num_pairs=3, disagreement_sum=9.0, disagreement_square_sum=27.0),
        PairTally(num_pairs=3, divergence_sum=float("inf")),
        PairTally(num_pairs=100, divergence_sum=40.0 * MAX_DIVERGENCE, divergence_square_sum=1.0),
        PairTally(num_pairs=1, num_failed=5),
        PairTally(num_pairs=0, num_failed=5),
    ],
)
def test_sums_that_cannot_be_are_no_verdict(impossible: PairTally) -> None:
    found = verdict(release_traffic(Tally(pairs=impossible)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "cannot be" in found.message or "no pair" in found.message


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, MAX_DIVERGENCE), st.integers(0, 4)), max_size=30))
def test_whatever_was_compared_has_a_finding(pairs: list[tuple[float, float, int]]) -> None:
    found = verdict(release_traffic(*(Tally(pairs=pair_tally([share], [apart], failed=failed)) for share, apart, failed in pairs)))
    assert found.message
    if found.low is not None and found.high is not None and found.candidate is not None:
        assert found.low - 1e-9 <= found.candidate <= found.high + 1e-9
    if found.verdict is Verdict.PASS:
        assert found.num_candidate >= 20
