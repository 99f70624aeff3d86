"""``python -m bench.verdicts``: prints the tables and writes bench/results/verdicts.json and .md. Takes some three minutes of one core."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.report import RESULTS, Row, middle, percentile, publish, row, versions
from bench.verdicts.naive import alarms
from bench.verdicts.runs import NOW, Nature, Run, run
from quantry_core.rules import AnalysisSpec, ErrorRateCompared, FeedbackCompared, LatencyCompared
from quantry_core.verdicts import Verdict
from quantry_deploy.analysis.judge import judge

SEED = 20261123
NUM_EQUAL_RUNS, NUM_BOUND_RUNS, NUM_POWER_RUNS = 2000, 400, 80
NUM_LOOKS, NUM_EACH = 100, 10
LEVEL = 0.05
SHARES = (0.1, 0.5)
COMPARED = AnalysisSpec(rules=[ErrorRateCompared(), LatencyCompared(), FeedbackCompared()], error_probability=LEVEL)
"""What equal releases are held against: every rule that compares."""
EQUAL = Nature()
ERRORS_ALONE = AnalysisSpec(rules=[ErrorRateCompared()], error_probability=LEVEL)
MORE_ERRORS = Nature(error_rate=0.01 + 0.05)
AT_THE_BOUND = Nature(error_rate=0.01 + 0.05, slowness=1.5, approval=0.85 - 0.1)
PLANTED = {
    "none": EQUAL,
    "no error at all, on both sides": Nature(error_rate=0.0),
    "errors +1 point": Nature(error_rate=0.02),
    "errors +2 points": Nature(error_rate=0.03),
    "errors +5 points": Nature(error_rate=0.06),
    "errors +10 points": Nature(error_rate=0.11),
    "errors +20 points": Nature(error_rate=0.21),
    "nothing but errors": Nature(error_rate=1.0),
    "latency x1.2": Nature(slowness=1.2),
    "latency x1.5": Nature(slowness=1.5),
    "latency x2": Nature(slowness=2.0),
    "latency x3": Nature(slowness=3.0),
}
GROWING = np.unique(np.round(np.geomspace(2, 2000, 90)).astype(np.int64))
"""Looks of the runs that end with their verdict: numbers of the candidate's requests."""


def main() -> int:
    """Simulates; returns 1 if more than the level of the runs had a wrong verdict."""
    draw = np.random.default_rng(SEED)
    began_at = time.perf_counter()
    ends = NUM_EACH * np.arange(1, NUM_LOOKS + 1)
    equal = [wrong(draw, EQUAL, ends, NUM_EQUAL_RUNS // len(SHARES), share=share) for share in SHARES]
    bound = [wrong(draw, AT_THE_BOUND, ends, NUM_BOUND_RUNS // len(SHARES), share=share) for share in SHARES]
    alone = [wrong(draw, MORE_ERRORS, ends, NUM_BOUND_RUNS // len(SHARES), share=share, spec=ERRORS_ALONE) for share in SHARES]
    planted = [verdicts(draw, name, nature, share) for share in SHARES for name, nature in PLANTED.items()]
    rows = [*_rows(equal, bound, alone), *_sizes(planted)]
    details = {
        "runs": NUM_EQUAL_RUNS,
        "looks": NUM_LOOKS,
        "candidate_requests_each_look": NUM_EACH,
        "equal": equal,
        "at_the_bound": bound,
        "errors_alone_at_the_bound": alone,
        "planted": planted,
        "seed": SEED,
        "spec": COMPARED.model_dump(mode="json"),
        "took_s": time.perf_counter() - began_at,
    }
    publish("verdicts", "Verdicts that are looked for again and again", rows, libraries=versions("numpy", "pydantic"), details=details)
    table = _table(planted)
    with (RESULTS / "verdicts.md").open("a", encoding="utf-8") as file:
        file.write(table)
    print(table)
    return int(any(one["failed"] > LEVEL * one["runs"] for one in [*equal, *bound, *alone]))


def wrong(
    draw: np.random.Generator, nature: Nature, ends: np.ndarray, num_runs: int, *, share: float, spec: AnalysisSpec = COMPARED
) -> dict[str, Any]:
    """Returns in how many runs of a candidate that keeps every bound a look found it failed; each run is looked at to its end."""
    num_failed, num_alarmed, by_rule, took_s = 0, 0, Counter[str](), []
    # The peer tests what the rules judge, no more.
    is_timed = any(isinstance(rule, LatencyCompared) for rule in spec.rules)
    max_increase, max_ratio = nature.error_rate - EQUAL.error_rate, nature.slowness if is_timed else None
    for _ in range(num_runs):
        one = run(draw, nature, EQUAL, ends=ends, share=share)
        num_alarmed += bool(alarms(one, level=LEVEL, max_increase=max_increase, max_ratio=max_ratio).any())
        broken = set()
        for candidate, stable in one:
            before = time.perf_counter()
            judgement = judge(spec, candidate, stable, {}, NOW)
            took_s.append(time.perf_counter() - before)
            broken |= {str(found.rule) for found in judgement.findings if found.verdict is Verdict.FAIL}
        num_failed += bool(broken)
        by_rule.update(broken)
    return {
        "share": share,
        "runs": num_runs,
        "failed": num_failed,
        "failed_by_rule": dict(by_rule),
        "peer_alarmed": num_alarmed,
        "judge_ms_p50": 1000 * middle(took_s),
    }


def verdicts(draw: np.random.Generator, name: str, nature: Nature, share: float) -> dict[str, Any]:
    """Returns which verdicts the default rules come to, and after how many of the candidate's requests."""
    stable = Nature(error_rate=0.0) if nature.error_rate == 0.0 else EQUAL
    found: Counter[str] = Counter()
    spent: list[int] = []
    for _ in range(NUM_POWER_RUNS):
        verdict, num = first_verdict(run(draw, nature, stable, ends=GROWING, share=share))
        found[verdict] += 1
        if verdict is not Verdict.INCONCLUSIVE:
            spent.append(num)
    sizes = {"median": middle(spent), "p90": percentile(spent, 0.9)} if spent else {"median": None, "p90": None}
    return {"planted": name, "share": share, "runs": NUM_POWER_RUNS, "verdicts": dict(found), "candidate_requests": sizes}


def first_verdict(one: Run) -> tuple[Verdict, int]:
    """Returns the first verdict of a run and after how many of the candidate's requests it came."""
    for num, (candidate, stable) in zip(GROWING.tolist(), one, strict=True):
        verdict = judge(AnalysisSpec(), candidate, stable, {}, NOW).verdict
        if verdict is not Verdict.INCONCLUSIVE:
            return verdict, num
    return Verdict.INCONCLUSIVE, int(GROWING[-1])


def _rows(*simulated: Sequence[Mapping[str, Any]]) -> list[Row]:
    both, alone = "z-test and t-test", "z-test"
    rows = []
    names = {
        "equal releases": both,
        "just allowed: +5 points, x1.5, -10 points": both,
        "just allowed: +5 points, by that rule alone": alone,
    }
    for (name, tests), found in zip(names.items(), simulated, strict=True):
        peer = f"{tests} at {LEVEL:.0%}, right for one look, made at each of the same {NUM_LOOKS}"
        num = sum(one["runs"] for one in found)
        ours, theirs = (100 * sum(one[figure] for one in found) / num for figure in ("failed", "peer_alarmed"))
        title = f"wrongly failed, of {num:,} runs with {NUM_LOOKS} looks: {name}"
        rows.append(row(title, ours, theirs, "%", goal=f"at most {LEVEL:.0%} of runs", floor=peer, bound="Ville's inequality"))
    return rows


def _sizes(planted: Sequence[Mapping[str, Any]]) -> list[Row]:
    good = next(one for one in planted if one["planted"].startswith("no error") and one["share"] == SHARES[0])
    alone = np.log(LEVEL / 2) / np.log1p(-ErrorRateCompared().max_increase)
    return [
        row(
            "requests of a candidate without errors to a pass, median, 10% share",
            good["candidate_requests"]["median"],
            float(alone),
            "",
            goal="",
            floor="one look at one rule with nothing to compare with: log(0.025) / log(0.95)",
            bound="looking at any time, and a p95 that is only known so well",
        )
    ]


def _table(planted: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "",
        f"Default rules, {NUM_POWER_RUNS} runs each, beside a stable release with 1% errors; looked at until a verdict, up to "
        f"{GROWING[-1]:,} requests of the candidate. Requests are the candidate's own.",
        "",
        "| planted difference | share | pass | fail | inconclusive | requests to the verdict, median | p90 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in planted:
        counts = [f"{one['verdicts'].get(verdict, 0) / one['runs']:.0%}" for verdict in ("pass", "fail", "inconclusive")]
        sizes = [f"{value:,.0f}" if value is not None else "-" for value in one["candidate_requests"].values()]
        lines.append(f"| {' | '.join([one['planted'], format(one['share'], '.0%'), *counts, *sizes])} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
