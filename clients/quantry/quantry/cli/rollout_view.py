"""One rollout in words and tables: where it is, what its rules found, what both releases did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantry.cli.output import Column, duration_text, table_of, time_text
from quantry_core.rollouts import Rollout, RolloutReason, RolloutState
from quantry_core.rules import LatencyMetric
from quantry_core.strategies import AbStrategy, BlueGreenStrategy, CanaryStrategy, ShadowStrategy, StickyBy
from quantry_core.traffic import RolloutTraffic, Tally
from quantry_core.verdicts import Finding, Verdict

STATE_STYLES = {
    RolloutState.PENDING: "yellow",
    RolloutState.PROGRESSING: "cyan",
    RolloutState.PAUSED: "yellow",
    RolloutState.PROMOTED: "green",
    RolloutState.ROLLED_BACK: "red",
    RolloutState.ABORTED: "magenta",
}
VERDICT_STYLES = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow"}
REASON_WORDS = {
    RolloutReason.COMPLETED: "completed",
    RolloutReason.REQUESTED: "asked for",
    RolloutReason.VERDICT_FAILED: "the candidate failed its rules",
    RolloutReason.INCONCLUSIVE: "no verdict in time",
    RolloutReason.CRASH_LOOP: "replicas keep ending",
    RolloutReason.NOT_READY: "not ready in time",
    RolloutReason.NOT_SERVABLE: "cannot be served",
    RolloutReason.CANCELLED: "its job was cancelled",
    RolloutReason.STOPPED: "the deployment was stopped",
    RolloutReason.STEP: "its step says so",
}


def state_text(rollout: Rollout) -> Text:
    """Returns a rollout's state in its colour."""
    return Text(rollout.state, style=STATE_STYLES[rollout.state])


def why_text(rollout: Rollout) -> str:
    """Returns why it ended or is paused, with what the platform said of it; empty where there is nothing to say."""
    words = "" if rollout.reason is None else REASON_WORDS[rollout.reason]
    return ": ".join(part for part in (words, rollout.message or "") if part)


def strategy_text(rollout: Rollout) -> str:
    """Returns a strategy in a few words: ``canary 10%, 50%, 100%``."""
    match rollout.strategy:
        case CanaryStrategy(steps=steps):
            return f"canary {', '.join(f'{step.percent}%' for step in steps)}"
        case AbStrategy(percent=percent, sticky_by=StickyBy.HEADER, header=header):
            return f"ab {percent}% by header {header}"
        case AbStrategy(percent=percent, sticky_by=by):
            return f"ab {percent}% by {by}"
        case ShadowStrategy(percent=percent):
            return f"shadow {percent}%"
        case BlueGreenStrategy():
            return "blue-green"
        case _:
            return "immediate"


def share_text(rollout: Rollout) -> str:
    """Returns what the candidate gets now, and where that is in its strategy: ``50% (step 2 of 3)``."""
    parts = [f"{rollout.percent}%"]
    if isinstance(rollout.strategy, CanaryStrategy) and rollout.exposed_at is not None:
        num_steps = len(rollout.strategy.steps)
        parts.append(f"(step {min(rollout.stage + 1, num_steps)} of {num_steps})")
    if rollout.mirror_percent:
        parts.append(f"and {rollout.mirror_percent}% compared")
    return " ".join(parts)


def verdict_text(rollout: Rollout) -> Text:
    """Returns the last judgement in its colour, with the sentences that decided; a dash before the first."""
    judgement = rollout.judgement
    if judgement is None:
        return Text("-")
    return Text.assemble((judgement.verdict, VERDICT_STYLES[judgement.verdict]), f" {judgement.reason()}")


def fields_of(rollout: Rollout) -> list[tuple[str, str | Text | None]]:
    """Returns what is said of one rollout, by name."""
    return [
        ("rollout", rollout.id),
        ("state", state_text(rollout)),
        ("why", why_text(rollout) or None),
        ("strategy", strategy_text(rollout)),
        ("cause", rollout.cause),
        ("candidate", share_text(rollout)),
        ("from release", rollout.from_release_id),
        ("to release", rollout.to_release_id),
        ("verdict", verdict_text(rollout)),
        ("job", rollout.job_id),
        ("note", rollout.note),
        ("by", rollout.key_id or "the platform"),
        ("created", time_text(rollout.created_at)),
        ("finished", time_text(rollout.finished_at) or None),
        ("watched until", time_text(rollout.watch_until) or None),
    ]


def number_text(value: float | None) -> str:
    """Returns a figure with three significant digits; a dash for one that is not known."""
    return "-" if value is None else f"{value:.3g}"


FINDING_COLUMNS: tuple[Column[Finding], ...] = (
    ("rule", lambda finding: finding.rule),
    ("verdict", lambda finding: Text(finding.verdict, style=VERDICT_STYLES[finding.verdict])),
    ("candidate", lambda finding: number_text(finding.candidate)),
    ("stable", lambda finding: number_text(finding.stable)),
    ("interval", lambda finding: "-" if finding.low is None and finding.high is None else _interval(finding)),
    ("bound", lambda finding: number_text(finding.bound)),
    ("of", lambda finding: f"{finding.num_candidate}" + (f" and {finding.num_stable}" if finding.num_stable else "")),
    ("says", lambda finding: finding.message),
)


class _Side(NamedTuple):
    """A release of a rollout with what was counted of it."""

    name: str
    tally: Tally


_SIDE_COLUMNS: tuple[Column[_Side], ...] = (
    ("release", lambda side: side.name),
    ("answered", lambda side: str(side.tally.num_answered)),
    ("failed", lambda side: f"{side.tally.num_failed} ({_share(side.tally.num_failed, side.tally.num_judged)})"),
    ("refused", lambda side: str(side.tally.num_refused)),
    ("first token p50", lambda side: _latency(side.tally, LatencyMetric.TTFT, 0.5)),
    ("p95", lambda side: _latency(side.tally, LatencyMetric.TTFT, 0.95)),
    ("answer p50", lambda side: _latency(side.tally, LatencyMetric.E2E, 0.5)),
    ("p95", lambda side: _latency(side.tally, LatencyMetric.E2E, 0.95)),
)


def traffic_table(traffic: RolloutTraffic) -> Table:
    """Returns what both releases did since the candidate first got traffic, one row each."""
    sides = [] if traffic.stable is None else [_Side("stable", traffic.stable)]
    return table_of([*sides, _Side("candidate", traffic.candidate)], _SIDE_COLUMNS)


def findings_of(rollout: Rollout) -> Sequence[Finding]:
    """Returns what each rule found when the rollout was last judged."""
    return [] if rollout.judgement is None else rollout.judgement.findings


def picture(rollout: Rollout, traffic: RolloutTraffic | None) -> RenderableType:
    """Returns a rollout as it is redrawn while one watches."""
    head = Table(box=None, pad_edge=False, show_header=False)
    head.add_column(style="bold", no_wrap=True)
    head.add_column(overflow="fold")
    shown = {"rollout", "state", "why", "strategy", "candidate", "verdict"}
    for name, value in fields_of(rollout):
        if name in shown and value is not None:
            head.add_row(name, value)
    parts: list[RenderableType] = [head]
    if traffic is not None:
        parts += ["", traffic_table(traffic)]
    if findings := findings_of(rollout):
        parts += ["", table_of(findings, FINDING_COLUMNS)]
    return Group(*parts)


def line_of(rollout: Rollout) -> str:
    """Returns where a rollout is, on one line that changes only when that does."""
    verdict = "" if rollout.judgement is None else f", verdict {rollout.judgement.verdict}"
    # A message may have the last lines of a replica's log.
    why = " ".join(why_text(rollout).split())
    return f"{rollout.state} candidate {share_text(rollout)}{verdict}{f' - {why}' if why else ''}"


def end_text(rollout: Rollout) -> str:
    """Returns how a rollout ended, and after how long."""
    took = "" if rollout.finished_at is None else f" after {duration_text((rollout.finished_at - rollout.created_at).total_seconds())}"
    why = why_text(rollout)
    return f"{rollout.id} {rollout.state}{took}{f': {why}' if why else ''}"


def _interval(finding: Finding) -> str:
    return f"{number_text(finding.low)} .. {number_text(finding.high)}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _latency(tally: Tally, metric: LatencyMetric, quantile: float) -> str:
    seconds = tally.latency(metric).quantile(quantile)
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
