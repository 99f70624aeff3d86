"""Seeded simulations: how often a verdict is wrong although it is looked for after every window, and how soon one comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import median

import pytest

from factories.traffic import release_traffic, tally
from quantry_core.rules import AnalysisSpec, ErrorRateCompared, LatencyCompared
from quantry_core.traffic import Tally
from quantry_core.verdicts import Verdict
from quantry_deploy.analysis.judge import judge

NOW = datetime(2026, 11, 23, tzinfo=UTC)
NUM_RUNS, NUM_LOOKS, NUM_EACH = 60, 25, 12


def drawn(draw: random.Random, num: int, error_rate: float, scale: float) -> Tally:
    failed = sum(draw.random() < error_rate for _ in range(num))
    return tally(failed=failed, e2e_s=[scale * draw.lognormvariate(0, 0.4) for _ in range(num - failed)])


def looks(draw: random.Random, *, error_rate: float = 0.02, scale: float = 1.0) -> Iterator[tuple[Tally, Tally]]:
    """Yields what was counted by each look: of the candidate, and of a stable release with as much traffic, 2% errors and a scale of 1."""
    candidate, stable = Tally(), Tally()
    for _ in range(NUM_LOOKS):
        candidate = candidate.merged(drawn(draw, NUM_EACH, error_rate, scale))
        stable = stable.merged(drawn(draw, NUM_EACH, 0.02, 1.0))
        yield candidate, stable


def first(wanted: Verdict, spec: AnalysisSpec, evidence: Iterator[tuple[Tally, Tally]]) -> int | None:
    """Returns the number of looks after which a verdict was first found; None if never."""
    for num, (candidate, stable) in enumerate(evidence, 1):
        if judge(spec, release_traffic(candidate), release_traffic(stable), {}, NOW).verdict is wanted:
            return num
    return None


@pytest.mark.parametrize(
    ("wrong", "error_rate", "scale"),
    [
        pytest.param(Verdict.FAIL, 0.02, 1.0, id="equal-releases-fail"),
        pytest.param(Verdict.FAIL, 0.07, 1.0, id="just-allowed-errors-fail"),
        pytest.param(Verdict.PASS, 0.0701, 1.0, id="just-forbidden-errors-pass"),
        pytest.param(Verdict.FAIL, 0.02, 1.5, id="just-allowed-latency-fails"),
    ],
)
def test_a_wrong_verdict_is_as_rare_as_the_spec_says(wrong: Verdict, error_rate: float, scale: float) -> None:
    draw = random.Random(6)
    spec = AnalysisSpec(rules=[ErrorRateCompared(max_increase=0.05), LatencyCompared(max_ratio=1.5)])
    num_wrong = sum(first(wrong, spec, looks(draw, error_rate=error_rate, scale=scale)) is not None for _ in range(NUM_RUNS))
    # 5% of 60 runs are 3, were the bound reached; it is not, and more than 4 would be seen once in a hundred times or less.
    assert num_wrong <= 4


@pytest.mark.parametrize(("error_rate", "scale", "num_looks"), [(0.32, 1.0, 9), (0.02, 3.0, 14), (1.0, 1.0, 1)])
def test_a_bad_candidate_fails_soon(error_rate: float, scale: float, num_looks: int) -> None:
    draw = random.Random(7)
    spent = [first(Verdict.FAIL, AnalysisSpec(), looks(draw, error_rate=error_rate, scale=scale)) for _ in range(20)]
    assert None not in spent
    assert median(num for num in spent if num is not None) <= num_looks


def test_a_good_candidate_passes_in_most_runs() -> None:
    draw = random.Random(8)
    spent = [first(Verdict.PASS, AnalysisSpec(), looks(draw, error_rate=0.0)) for _ in range(20)]
    assert sum(num is not None for num in spent) >= 18
