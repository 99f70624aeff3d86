# Made from quantry/aio/resources/pipelines.py by make_sync.py: change that file, and run this again.
"""Pipelines: several jobs in one submission."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Unpack

from quantry.errors import WaitTimedOut
from quantry.filters import PipelineFilter
from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.jobs import FINAL_STATUSES
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.pipelines import Pipeline, PipelineDetail, PipelineSubmission

_PATH = "/api/v1/pipelines"


class Pipelines:
    """``client.pipelines``."""

    def __init__(self, transport: Transport, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._clock_s = clock_s

    def submit(self, pipeline: PipelineSubmission, *, idempotency_key: str | None = None) -> PipelineDetail:
        """Returns the new pipeline with its jobs; all of them are there, or none.

        ``quantry.read_pipeline`` makes a submission from a YAML file. The key works as for ``client.jobs.submit``.
        """
        return self._transport.post_once(PipelineDetail, _PATH, pipeline, idempotency_key=idempotency_key)

    def get(self, pipeline_id: str) -> PipelineDetail:
        """Returns a pipeline and its jobs as they are now."""
        return self._transport.get(PipelineDetail, f"{_PATH}/{path_part(pipeline_id)}")

    def list(
        self, *, after: str | None = None, limit: int = DEFAULT_LIMIT, labels: str | None = None, schedule_id: str | None = None
    ) -> Page[Pipeline]:
        """Returns one page of pipelines, newest first. ``labels`` is a selector such as ``team=search,!draft``."""
        return self._transport.get(Page[Pipeline], _PATH, {"after": after, "limit": limit, "labels": labels, "schedule_id": schedule_id})

    def iterate(self, *, max_items: int | None = None, **wanted: Unpack[PipelineFilter]) -> Generator[Pipeline, None, None]:
        """Yields every pipeline that fits, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit, **wanted), max_items)

    def cancel(self, pipeline_id: str) -> PipelineDetail:
        """Asks for every job that has not ended to be cancelled, and returns the pipeline."""
        return self._transport.post_again(PipelineDetail, f"{_PATH}/{path_part(pipeline_id)}/cancel")

    def retry(self, pipeline_id: str, *, idempotency_key: str | None = None) -> PipelineDetail:
        """Submits again what did not succeed, and returns the pipeline."""
        return self._transport.post_once(PipelineDetail, f"{_PATH}/{path_part(pipeline_id)}/retry", idempotency_key=idempotency_key)

    def watch(self, pipeline_id: str, *, poll_s: float = 1.0) -> Generator[PipelineDetail, None, None]:
        """Yields the pipeline as it is now and then every ``poll_s`` seconds, the last time when all its jobs have ended."""
        while True:
            pipeline = self.get(pipeline_id)
            yield pipeline
            if pipeline.status in FINAL_STATUSES:
                return
            self._transport.sleep(poll_s)

    def wait(self, pipeline_id: str, timeout_s: float | None = None, *, poll_s: float = 1.0) -> PipelineDetail:
        """Returns the pipeline once all its jobs have ended; raises WaitTimedOut after ``timeout_s`` (None: never)."""
        deadline_s = None if timeout_s is None else self._clock_s() + timeout_s
        while True:
            pipeline = self.get(pipeline_id)
            if pipeline.status in FINAL_STATUSES:
                return pipeline
            left_s = poll_s if deadline_s is None else deadline_s - self._clock_s()
            if timeout_s is not None and left_s <= 0:
                raise WaitTimedOut(pipeline, timeout_s)
            self._transport.sleep(min(poll_s, left_s))
