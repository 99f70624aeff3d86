"""The views that are timed: their address, what is painted last of their first view, and what they ask the API for before that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.dashboard.history import NUM_VERSIONS
from bench.embedded import MODEL
from quantry import Client
from quantry_core.jobs import JobStatus

Question = Callable[[Client], object]


class View(NamedTuple):
    """One page."""

    name: str
    address: str
    painted: str
    """A selector: the first view is there once it finds something that can be seen."""

    questions: Sequence[Question]


NEWEST = f"{MODEL}@{NUM_VERSIONS}"
STATIC = View("a static page", "/static/dashboard.css", "body", ())
SHELL = View("the framework's page alone", "/sign-in", "button[type=submit]", ())
VIEWS = (
    View(
        "overview",
        "/",
        "section[aria-label='Failed lately'] .entry-row",
        (
            lambda client: client.jobs.list(status=JobStatus.RUNNING, limit=8),
            lambda client: client.jobs.list(status=JobStatus.FAILED, limit=8),
            lambda client: client.deployments.list(limit=8),
        ),
    ),
    View("jobs", "/jobs", "table[aria-label=Jobs] tbody tr", (lambda client: client.jobs.list(limit=25),)),
    View("models", "/models", "table tbody tr", (lambda client: client.models.list(limit=25),)),
    View(
        f"a model of {NUM_VERSIONS + 1} versions",
        f"/models/{MODEL}",
        "table[aria-label=Versions] tbody tr",
        (lambda client: client.models.aliases(MODEL), lambda client: client.versions.list(model=MODEL, limit=25)),
    ),
    View(
        "the scatter of that model",
        f"/models/{MODEL}",
        ".scatter-chart svg path, .scatter-chart canvas",
        (lambda client: client.models.figures(MODEL),),
    ),
    View(
        "version",
        f"/versions/{NEWEST}",
        "section[aria-label=Evidence] table tbody tr",
        (lambda client: client.versions.get(NEWEST),),
    ),
    View(
        "lineage of that version's master",
        f"/versions/{MODEL}@1",
        ".lineage-box",
        (lambda client: client.versions.get(f"{MODEL}@1"), lambda client: client.versions.lineage(f"{MODEL}@1")),
    ),
    View("deployments", "/deployments", ".deployments .share-bar .part", (lambda client: client.deployments.list(),)),
)
