"""Which jobs the list shows: read from the page's address and written back to it, so that every view has a link."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from quantry import Client
from quantry_core.jobs import QUEUE_PATTERN, Job, JobStatus, JobType
from quantry_core.pages import MAX_LIMIT, Page

PATH = "/jobs"
ROWS = 25
_NAMES = ("status", "type", "labels", "queue", "pipeline_id", "schedule_id", "after")


@dataclass(frozen=True)
class JobFilters:
    """One view of the list. What is None is not asked about."""

    status: JobStatus | None = None
    type: JobType | None = None
    labels: str | None = None
    queue: str | None = None
    pipeline_id: str | None = None
    schedule_id: str | None = None
    after: str | None = None
    limit: int = ROWS

    @property
    def is_narrowed(self) -> bool:
        """Whether anything but the page is asked about."""
        return any((self.status, self.type, self.labels, self.queue, self.pipeline_id, self.schedule_id))

    def ask(self, client: Client) -> Page[Job]:
        """Returns the page of jobs."""
        return client.jobs.list(
            after=self.after,
            limit=self.limit,
            status=self.status,
            type=self.type,
            labels=self.labels,
            queue=self.queue,
            pipeline_id=self.pipeline_id,
            schedule_id=self.schedule_id,
        )

    def url(self, **changed: str | None) -> str:
        """Returns the address of this view, with only what differs from the whole list.

        ``changed``: filters with another value; the view then begins with its first page. A value that cannot be is
        written all the same: whoever reads the address says so.
        """
        values = {name: getattr(self, name) for name in _NAMES}
        if changed:
            values |= {"after": None, **{name: (value or "").strip() for name, value in changed.items()}}
        if self.limit != ROWS:
            values["limit"] = self.limit
        query = urlencode({name: value for name, value in values.items() if value})
        return f"{PATH}?{query}" if query else PATH


def parse(query: Mapping[str, str]) -> tuple[JobFilters, list[str]]:
    """Returns the view an address asks for, and a sentence for each part that cannot be; those are left out."""
    given = {name: value.strip() for name, value in query.items() if value.strip()}
    problems: list[str] = []

    status = given.get("status")
    if status is not None and status not in list(JobStatus):
        problems.append(f"There is no status {status!r}; a job is {_listed(JobStatus)}.")
        status = None
    kind = given.get("type")
    if kind is not None and kind not in list(JobType):
        problems.append(f"There is no job type {kind!r}; there are {_listed(JobType)}.")
        kind = None
    queue = given.get("queue")
    if queue is not None and re.fullmatch(QUEUE_PATTERN, queue) is None:
        problems.append(f"{queue!r} is no queue: cpu, gpu, or one of them with a class, such as gpu-80g.")
        queue = None
    limit = given.get("limit", str(ROWS))
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= MAX_LIMIT):
        problems.append(f"A page has 1 to {MAX_LIMIT} jobs, not {limit!r}.")
        limit = str(ROWS)
    filters = JobFilters(
        status=JobStatus(status) if status else None,
        type=JobType(kind) if kind else None,
        labels=given.get("labels"),
        queue=queue,
        pipeline_id=given.get("pipeline_id"),
        schedule_id=given.get("schedule_id"),
        after=given.get("after"),
        limit=int(limit),
    )
    return filters, problems


def _listed(names: type[JobStatus] | type[JobType]) -> str:
    *first, last = [name.value for name in names]
    return f"{', '.join(first)} or {last}"
