"""What is said and drawn of a rollout: pure functions from what the API tells to texts, places of pictures and a chart's options."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, Release, Rollout, RolloutCause, RolloutState, ServingPeriod
from quantry_core.rules import LatencyMetric
from quantry_core.strategies import AbStrategy, BlueGreenStrategy, CanaryStrategy, ShadowStrategy, StickyBy
from quantry_core.traffic import RolloutTraffic, Tally
from quantry_core.verdicts import Finding, Verdict
from quantry_dashboard import words
from quantry_dashboard.chart_parts import AMBER, DIM, GREY, TEXT_STYLE, axis, milliseconds
from quantry_dashboard.facts import Fact
from quantry_dashboard.serving import reason_text, release_name

STATE_CLASSES = {
    RolloutState.PENDING: "queued",
    RolloutState.PROGRESSING: "running",
    RolloutState.PAUSED: "waiting",
    RolloutState.PROMOTED: "succeeded",
    RolloutState.ROLLED_BACK: "failed",
    RolloutState.ABORTED: "failed",
}
VERDICT_CLASSES = {Verdict.PASS: "succeeded", Verdict.FAIL: "failed", Verdict.INCONCLUSIVE: "waiting"}
TRAFFIC_HEADINGS = ("", "Answered", "Failed", "Refused", "First token p50", "First token p95", "Answer p50", "Answer p95")
_CAUSES = {
    RolloutCause.DEPLOY: "a deploy job",
    RolloutCause.ROLLBACK: "a rollback",
    RolloutCause.WATCH: "what was seen after the promotion",
}
_LEAST_END = timedelta(seconds=5)
_MARGIN = 0.12
"""Of the range that an interval and its bound take up, on each side."""


def state_text(rollout: Rollout) -> str:
    """Returns a rollout's state in words."""
    return rollout.state.replace("_", " ")


def strategy_text(rollout: Rollout) -> str:
    """Returns a strategy in a few words."""
    match rollout.strategy:
        case CanaryStrategy(steps=steps):
            return f"canary: {', '.join(f'{step.percent}%' for step in steps)}"
        case AbStrategy(percent=percent, sticky_by=by, header=header):
            return f"A/B: {percent}% by {f'the header {header}' if by is StickyBy.HEADER else by}"
        case ShadowStrategy(percent=percent):
            return f"shadow: {percent}% compared"
        case BlueGreenStrategy():
            return "blue-green"
        case _:
            return "immediate"


def stage_text(rollout: Rollout) -> str:
    """Returns where a rollout is in its strategy: ``step 2 of 3: 50% of requests``."""
    share = f"{rollout.percent}% of requests"
    if rollout.mirror_percent:
        share = f"{rollout.mirror_percent}% of requests compared"
    if isinstance(rollout.strategy, CanaryStrategy) and rollout.exposed_at is not None:
        num_steps = len(rollout.strategy.steps)
        return f"step {min(rollout.stage + 1, num_steps)} of {num_steps}: {share}"
    if rollout.state in ACTIVE_ROLLOUT_STATES and rollout.exposed_at is None:
        return "its replicas become ready"
    return share


def rollout_facts(rollout: Rollout, releases: Mapping[str, Release]) -> list[Fact]:
    """Returns what a rollout moves from where to where, how, and by whom."""
    facts = [
        Fact("stable", release_name(rollout.from_release_id, releases)),
        Fact("candidate", release_name(rollout.to_release_id, releases)),
        Fact("strategy", strategy_text(rollout)),
        Fact("stage", stage_text(rollout)),
        Fact("why", reason_text(rollout)),
        Fact("asked for", "to be promoted once its replicas are ready" if _is_promised(rollout) else ""),
        Fact("note", rollout.note or ""),
        Fact("begun by", _CAUSES[rollout.cause], None if rollout.job_id is None else f"/jobs/{rollout.job_id}"),
        Fact("created", words.moment_text(rollout.created_at)),
        Fact("finished", "" if rollout.finished_at is None else words.moment_text(rollout.finished_at)),
        Fact("watched until", "" if rollout.watch_until is None else words.moment_text(rollout.watch_until)),
    ]
    return [fact for fact in facts if fact.text]


class Place(NamedTuple):
    """Where a finding's interval and its bound are drawn, in percent of the width from the left."""

    left: float
    width: float
    bound: float


def interval_place(finding: Finding) -> Place | None:
    """Returns where an interval is drawn beside its bound; None where a finding has none. An end that is not known reaches the edge."""
    if finding.bound is None or (finding.low is None and finding.high is None):
        return None
    known = [value for value in (finding.low, finding.high, finding.bound) if value is not None and math.isfinite(value)]
    if not known or not math.isfinite(finding.bound):
        return None
    low, high = min(known), max(known)
    span = (high - low) or abs(high) or 1.0
    begin, width = low - _MARGIN * span, (1 + 2 * _MARGIN) * span
    left = 0.0 if finding.low is None or not math.isfinite(finding.low) else 100 * (finding.low - begin) / width
    right = 100.0 if finding.high is None or not math.isfinite(finding.high) else 100 * (finding.high - begin) / width
    return Place(left, max(right - left, 0.8), 100 * (finding.bound - begin) / width)


def interval_text(finding: Finding) -> str:
    """Returns an interval and its bound in words: ``between 0.98 and 1.61, held against 1.5``."""
    ends = [("at least", finding.low), ("at most", finding.high)]
    if finding.low is not None and finding.high is not None:
        said = f"between {words.number_text(finding.low)} and {words.number_text(finding.high)}"
    else:
        said = "".join(f"{word} {words.number_text(value)}" for word, value in ends if value is not None)
    return said + ("" if finding.bound is None else f", held against {words.number_text(finding.bound)}")


def counts_text(finding: Finding) -> str:
    """Returns what a finding stands on: ``240 of the candidate, 2160 of stable``."""
    of_stable = f", {finding.num_stable:,} of stable" if finding.num_stable else ""
    return f"{finding.num_candidate:,} of the candidate{of_stable}"


def traffic_rows(traffic: RolloutTraffic) -> list[tuple[str, ...]]:
    """Returns a row for each release, under TRAFFIC_HEADINGS."""
    sides = [] if traffic.stable is None else [("stable", traffic.stable)]
    return [_traffic_row(name, tally) for name, tally in [*sides, ("candidate", traffic.candidate)]]


def steps_options(rollout: Rollout, periods: Sequence[ServingPeriod], now: datetime) -> dict[str, Any]:
    """Returns the options of an ECharts chart: the candidate's share over time, as planned at the earliest and as it was.

    ``periods``: the deployment's, in any order; only this rollout's are drawn.
    """
    return {
        "animation": False,
        "useUTC": True,
        "grid": {"left": 46, "right": 16, "top": 34, "bottom": 28},
        "legend": {"top": 0, "textStyle": TEXT_STYLE},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "xAxis": {"type": "time", "splitNumber": 5, **axis(drawn=False)},
        "yAxis": {"type": "value", "min": 0, "max": 100, "axisLabel": {"color": DIM, "formatter": "{value}%"}, **axis(labels=False)},
        "series": [
            _line("planned, at the earliest", planned(rollout), GREY, {"type": "dashed", "width": 1.5}),
            _line("as it was", done(rollout, periods, now), AMBER, {"width": 2.5}, area=True),
        ],
    }


def planned(rollout: Rollout) -> list[list[float]]:
    """Returns the steps of a canary with their least times, and the share of an A/B test, as (milliseconds, percent); else nothing.

    The first release of a deployment has nothing beside it: it is promoted once it is ready, whatever its strategy.
    """
    if rollout.from_release_id is None:
        return []
    begin = rollout.exposed_at or rollout.created_at
    match rollout.strategy:
        case CanaryStrategy(steps=steps):
            points, at = [[milliseconds(begin), 0.0]], begin
            for step in steps:
                points.append([milliseconds(at), float(step.percent)])
                at += timedelta(seconds=step.wait_s)
            # What comes after the last step is drawn for a tenth of the time, so that it can be seen.
            return [*points, [milliseconds(at + max((at - begin) / 10, _LEAST_END)), 100.0]]
        case AbStrategy(percent=percent, deadline_s=deadline_s):
            end = begin + timedelta(seconds=deadline_s)
            return [[milliseconds(begin), float(percent)], [milliseconds(end), float(percent)]]
        case _:
            return []


def done(rollout: Rollout, periods: Sequence[ServingPeriod], now: datetime) -> list[list[float]]:
    """Returns the share that the candidate had when, as (milliseconds, percent), to its end or to now."""
    own = sorted((period for period in periods if period.rollout_id == rollout.id), key=lambda period: period.began_at)
    points = [[milliseconds(rollout.created_at), 0.0]]
    for period in own:
        percent = next((share.percent for share in period.shares if share.release_id == rollout.to_release_id), 0)
        points.append([milliseconds(period.began_at), float(percent)])
    end = milliseconds(rollout.finished_at or now)
    return [*points, [max(end, points[-1][0]), points[-1][1]]]


def _line(name: str, data: list[list[float]], colour: str, style: dict[str, Any], *, area: bool = False) -> dict[str, Any]:
    line = {"name": name, "type": "line", "step": "end", "symbol": "none", "color": colour, "lineStyle": style, "data": data}
    return line | ({"areaStyle": {"opacity": 0.18}} if area else {})


def _is_promised(rollout: Rollout) -> bool:
    return rollout.promote_requested and rollout.state in ACTIVE_ROLLOUT_STATES


def _traffic_row(name: str, tally: Tally) -> tuple[str, ...]:
    share = f" ({tally.num_failed / tally.num_judged:.1%})" if tally.num_judged else ""
    return (
        name,
        f"{tally.num_answered:,}",
        f"{tally.num_failed:,}{share}",
        f"{tally.num_refused:,}",
        *(_latency_text(tally, metric, quantile) for metric in (LatencyMetric.TTFT, LatencyMetric.E2E) for quantile in (0.5, 0.95)),
    )


def _latency_text(tally: Tally, metric: LatencyMetric, quantile: float) -> str:
    seconds = tally.latency(metric).quantile(quantile)
    return "–" if seconds is None else words.latency_text(seconds)
