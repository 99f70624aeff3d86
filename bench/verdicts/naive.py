"""The peer: tests that are right when they are made once, after a number of requests fixed before. Here they are made at each look.

A z-test of the difference of error rates and a t-test of the difference of mean log-latencies, one-sided, each at half of the level;
where errors alone are judged the z-test, at all of it.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from bench.verdicts.runs import Run


def alarms(run: Run, *, level: float, max_increase: float, max_ratio: float | None) -> np.ndarray:
    """Returns by look whether one of the tests finds the candidate worse than the stable release by more than what is allowed.

    ``max_ratio`` None: latencies are not tested.
    """
    critical = NormalDist().inv_cdf(1 - (level if max_ratio is None else level / 2))
    mine, theirs = run.candidate.sums, run.stable.sums
    with np.errstate(divide="ignore", invalid="ignore"):
        p, r = mine.num_failed / mine.num, theirs.num_failed / theirs.num
        errors = (p - r - max_increase) / np.sqrt(p * (1 - p) / mine.num + r * (1 - r) / theirs.num)
        if max_ratio is None:
            return np.asarray(errors > critical)
        means = [one.log_sum / one.num_timed for one in (mine, theirs)]
        spreads = [(one.log_square_sum / one.num_timed - mean**2) / one.num_timed for one, mean in zip((mine, theirs), means, strict=True)]
        latencies = (means[0] - means[1] - math.log(max_ratio)) / np.sqrt(spreads[0] + spreads[1])
    return np.asarray((errors > critical) | (latencies > critical))
