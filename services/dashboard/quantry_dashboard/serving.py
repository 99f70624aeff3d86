"""What serves under a deployment's name now, and what did: shares, releases, periods. Pure functions from what the API tells to texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from quantry_core.rollouts import Deployment, Release, Rollout, RolloutReason, RolloutState, ServingPeriod
from quantry_dashboard import words
from quantry_dashboard.chart_parts import DIM, RELEASE_COLOURS, TEXT_STYLE, axis, milliseconds

HISTORY_HEADINGS = ("Since", "Serves", "Cause", "By", "Why")
RELEASE_HEADINGS = ("Release", "Version", "Engine", "Replicas", "Created", "")

REASON_WORDS = {
    RolloutReason.COMPLETED: "completed",
    RolloutReason.REQUESTED: "asked for",
    RolloutReason.VERDICT_FAILED: "the candidate failed its rules",
    RolloutReason.INCONCLUSIVE: "no verdict in time",
    RolloutReason.CRASH_LOOP: "its replicas keep ending",
    RolloutReason.NOT_READY: "it was not ready in time",
    RolloutReason.NOT_SERVABLE: "it cannot be served",
    RolloutReason.CANCELLED: "its job was cancelled",
    RolloutReason.STOPPED: "the deployment was stopped",
    RolloutReason.STEP: "its step says so",
}


class Part(NamedTuple):
    """A release's part of the traffic, as it is drawn."""

    role: str
    """stable or candidate."""
    percent: int
    label: str


def parts_of(deployment: Deployment, releases: Mapping[str, Release]) -> list[Part]:
    """Returns what serves, stable first; empty where nothing does. ``releases``: those that are known, by id."""
    current, rollout = deployment.current_release, deployment.active_rollout
    if deployment.is_stopped:
        return []
    has_share = rollout is not None and rollout.state in {RolloutState.PROGRESSING, RolloutState.PAUSED} and rollout.percent > 0
    percent = rollout.percent if rollout is not None and has_share else 0
    parts = []
    if current is not None and percent < 100:
        parts.append(Part("stable", 100 - percent, release_text(current)))
    if rollout is not None and percent:
        parts.append(Part("candidate", percent, release_name(rollout.to_release_id, releases)))
    return parts


def parts_text(parts: Sequence[Part]) -> str:
    """Returns the shares in words, for those who do not see the bar."""
    return ", ".join(f"{part.percent}% {part.label}" for part in parts) or "nothing is served"


def release_text(release: Release) -> str:
    """Returns a release's number and version."""
    return f"release {release.number} · {release.version_ref}"


def release_name(release_id: str | None, releases: Mapping[str, Release]) -> str:
    """Returns what a release is called; its id where it is not known."""
    if release_id is None:
        return "nothing"
    release = releases.get(release_id)
    return words.short_id(release_id) if release is None else release_text(release)


def reason_text(rollout: Rollout) -> str:
    """Returns why a rollout ended or is paused; empty while there is nothing to say."""
    reason = "" if rollout.reason is None else REASON_WORDS[rollout.reason]
    return ": ".join(part for part in (reason, rollout.message or "") if part)


def period_texts(period: ServingPeriod) -> tuple[str, ...]:
    """Returns the cells of a period's row, under HISTORY_HEADINGS."""
    served = ", ".join(f"{share.percent}% {share.version_ref} (release {share.release_number})" for share in period.shares)
    reason = "" if period.reason is None else REASON_WORDS[period.reason]
    why = "; ".join(part for part in (period.note or "", period.message or reason) if part)
    return (
        words.moment_text(period.began_at),
        served or "nothing",
        period.cause.replace("_", " "),
        "the platform" if period.key_id is None else words.short_id(period.key_id),
        why,
    )


def release_texts(release: Release) -> tuple[str, ...]:
    """Returns the cells of a release's row, under RELEASE_HEADINGS but for the last one, which is for a button."""
    return (
        str(release.number),
        release.version_ref,
        release.engine.engine,
        str(len(release.servers) or release.num_replicas),
        words.moment_text(release.created_at),
    )


def history_options(periods: Sequence[ServingPeriod], now: datetime) -> dict[str, Any]:
    """Returns the options of an ECharts chart: the shares of every release over time, stacked. ``periods`` newest first."""
    oldest_first = list(reversed(periods))
    numbers = sorted({share.release_number for period in periods for share in period.shares})
    names = {share.release_number: f"release {share.release_number} · {share.version_ref}" for period in periods for share in period.shares}
    ends = [milliseconds(period.began_at) for period in oldest_first] + [milliseconds(now)]
    series = []
    for place, number in enumerate(numbers):
        percents = [
            next((share.percent for share in period.shares if share.release_number == number), 0) for period in [*oldest_first, periods[0]]
        ]
        colour = RELEASE_COLOURS[place % len(RELEASE_COLOURS)]
        series.append(
            {
                "name": names[number],
                "type": "line",
                "step": "end",
                "stack": "shares",
                "symbol": "none",
                "color": colour,
                "lineStyle": {"width": 1},
                "areaStyle": {"opacity": 0.45},
                "data": [[at, percent] for at, percent in zip(ends, percents, strict=True)],
            }
        )
    return {
        "animation": False,
        "useUTC": True,
        "grid": {"left": 46, "right": 16, "top": 34, "bottom": 28},
        "legend": {"top": 0, "type": "scroll", "textStyle": TEXT_STYLE},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "xAxis": {"type": "time", "splitNumber": 6, **axis(drawn=False)},
        "yAxis": {"type": "value", "min": 0, "max": 100, "axisLabel": {"color": DIM, "formatter": "{value}%"}, **axis(labels=False)},
        "series": series,
    }
