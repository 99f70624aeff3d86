"""The views that are pictured: a name for the file, the address, and how it is looked at."""

from __future__ import annotations

from typing import NamedTuple


class View(NamedTuple):
    """``address``: braces hold names of history.Places. ``shows``: text that is there once the view is whole."""

    name: str
    address: str
    shows: str
    is_dark: bool = False
    """Whether it is pictured in dark, too."""


VIEWS = (
    View("overview", "/", "replicas ready", is_dark=True),
    View("jobs", "/jobs", "gate failed", is_dark=True),
    View("new-job", "/jobs/new?type=quantize&base=bard-6m@1&calibration.datasets=kjv.calibration", "peak memory"),
    View("new-canary", "/jobs/new?type=deploy&deployment=bard&version=bard-6m@production&strategy=canary", "Percent"),
    View("job", "/jobs/{quantize}", "ver_", is_dark=True),
    View("job-training", "/jobs/{finetune}", "step 80"),
    View("job-running", "/jobs/{running}", "running"),
    View("job-failed", "/jobs/{failed}", "failed"),
    View("pipelines", "/pipelines", "smaller-groups"),
    View("pipeline", "/pipelines/{pipeline}", "evaluate-speeches"),
    View("models", "/models", "bard-6m"),
    View("model", "/models/bard-6m", "Pareto front", is_dark=True),
    View("version", "/versions/bard-6m@production", "Jobs that were given it", is_dark=True),
    View("version-held-back", "/versions/{held_back}", "Quarantined"),
    View("compare", "/compare?a=bard-6m@1&b=bard-6m@production", "Toolchain"),
    View("datasets", "/datasets", "kjv.calibration"),
    View("dataset", "/datasets/answers", "My fellow citizens"),
    View("deployments", "/deployments", "latency compared"),
    View("deployment", "/deployments/bard", "Serve again"),
    View("rollout", "/deployments/bard/rollouts/{rollout}", "What it changed", is_dark=True),
    View("rollout-promoted", "/deployments/bard/rollouts/{promoted}", "What it changed"),
    View("rollout-rolled-back", "/deployments/bard/rollouts/{rolled_back}", "What it changed"),
    View("schedules", "/schedules", "nightly-evaluation"),
    View("schedule", "/schedules/{schedule}", "nightly-evaluation"),
    View("workers", "/workers", "cpu"),
    View("keys", "/admin/keys", "grafana"),
    View("projects", "/admin/projects", "research"),
    View("audit", "/admin/audit", "key"),
    View("webhooks", "/admin/webhooks", "on-call"),
    View("webhook", "/admin/webhooks/{webhook}", "on-call"),
)
