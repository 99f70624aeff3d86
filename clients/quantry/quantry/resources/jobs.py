# Made from quantry/aio/resources/jobs.py by make_sync.py: change that file, and run this again.
"""Jobs: submit, estimate, look at, follow, cancel, retry, and what they leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any, Unpack

import httpx
from pydantic import ValidationError

from quantry.download import fetch_file
from quantry.errors import ApiError, ServerUnreachable, UnexpectedAnswer, WaitTimedOut
from quantry.filters import JobFilter
from quantry.messages import Document, Progress, path_part
from quantry.paging import every
from quantry.sse import EventReader
from quantry.submissions import JobKeywords, job_submission
from quantry.transport import Transport
from quantry_core.evidence_tables import EvidenceTable
from quantry_core.job_evidence import job_tables, measured_version_id
from quantry_core.jobs import (
    FINAL_STATUSES,
    Estimate,
    EventKind,
    Job,
    JobCheckpoint,
    JobCurve,
    JobEvent,
    JobSpec,
    JobStatus,
    JobType,
)
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.versions import ManifestFile, VersionDetail

_PATH = "/api/v1/jobs"
_IDLE_S = 45.0
"""The server sends a comment every 15 s; after three missed ones the stream is taken for dead."""
_MAX_BREAKS = 10
_LONGEST_PAUSE_S = 5.0


class Jobs:
    """``client.jobs``."""

    def __init__(self, transport: Transport, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._clock_s = clock_s

    def submit(self, spec: JobSpec, *, idempotency_key: str | None = None, **keywords: Unpack[JobKeywords]) -> Job:
        """Returns the new job; its keywords are JobKeywords.

        Sent under ``idempotency_key``, or one made for this call, so that it is made once even where an answer is lost and
        the request is sent again. The same key with the same job returns the same job; with another one it is refused (422).
        """
        return self._transport.post_once(Job, _PATH, job_submission(spec, **keywords), idempotency_key=idempotency_key)

    def estimate(self, spec: JobSpec, **keywords: Unpack[JobKeywords]) -> Estimate:
        """Returns what a job would take, and the queue it would go to; nothing is submitted."""
        return self._transport.post_again(Estimate, f"{_PATH}/estimate", job_submission(spec, **keywords))

    def submit_document(self, submission: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Returns the new job of a submission as the API's schema has it (JobSubmission), which the server alone checks.

        The key works as for ``submit``.
        """
        return self._transport.post_once(Job, _PATH, Document(dict(submission)), idempotency_key=idempotency_key)

    def estimate_document(self, submission: Mapping[str, Any]) -> Estimate:
        """Returns what a job would take, of a submission as ``submit_document`` takes it."""
        return self._transport.post_again(Estimate, f"{_PATH}/estimate", Document(dict(submission)))

    def get(self, job_id: str) -> Job:
        """Returns a job as it is now."""
        return self._transport.get(Job, f"{_PATH}/{path_part(job_id)}")

    def list(
        self,
        *,
        after: str | None = None,
        limit: int = DEFAULT_LIMIT,
        status: JobStatus | None = None,
        type: JobType | None = None,
        labels: str | None = None,
        queue: str | None = None,
        pipeline_id: str | None = None,
        schedule_id: str | None = None,
        uses: str | None = None,
    ) -> Page[Job]:
        """Returns one page of jobs, newest first. ``labels`` is a selector such as ``team=search,stage!=test,nightly``.

        ``uses``: the id of a version or dataset that is among their inputs.
        """
        wanted = {"status": status, "type": type, "labels": labels, "queue": queue, "pipeline_id": pipeline_id, "schedule_id": schedule_id}
        return self._transport.get(Page[Job], _PATH, {"after": after, "limit": limit, **wanted, "uses": uses})

    def iterate(self, *, max_items: int | None = None, **wanted: Unpack[JobFilter]) -> Generator[Job, None, None]:
        """Yields every job that fits, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit, **wanted), max_items)

    def cancel(self, job_id: str) -> Job:
        """Asks for a job to be cancelled and returns it; a running one ends a little later, a finished one stays as it is."""
        return self._transport.post_again(Job, f"{_PATH}/{path_part(job_id)}/cancel")

    def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Returns a new job that repeats one which failed or was cancelled; its ``retry_of`` names that one."""
        return self._transport.post_once(Job, f"{_PATH}/{path_part(job_id)}/retry", idempotency_key=idempotency_key)

    def log(self, job_id: str, attempt: int | None = None, *, tail: int | None = None) -> str:
        """Returns what the job's attempts wrote, or one of them; of it the last ``tail`` lines where that is given."""
        params = {"attempt": attempt, "tail": tail}
        return self._transport.send("GET", f"{_PATH}/{path_part(job_id)}/log", params=params).text

    def artifacts(self, job_id: str) -> Sequence[ManifestFile]:
        """Returns the files that a job left beside its version, such as the raw results of an evaluation; none while it runs."""
        return self._transport.get(Page[ManifestFile], f"{_PATH}/{path_part(job_id)}/artifacts").data

    def download_artifact(self, job_id: str, file: ManifestFile, target: Path, *, progress: Progress = lambda _num_bytes: None) -> Path:
        """Writes one of a job's artifacts to ``target`` and returns it, its bytes checked against the digest.

        Raises ExportRefused if other bytes are there already, DownloadDamaged if what arrived is wrong.
        """
        return fetch_file(self._transport, f"{_PATH}/{path_part(job_id)}/artifacts/{file.path}", file, target, progress)

    def curve(self, job_id: str, *, max_points: int = 1000) -> JobCurve:
        """Returns what a training job measured by step, thinned to at most ``max_points``; no points for other jobs."""
        return self._transport.get(JobCurve, f"{_PATH}/{path_part(job_id)}/curve", {"max_points": max_points})

    def measured(self, job: Job) -> Sequence[EvidenceTable]:
        """Returns as tables what a training or a merge measured, as its version's card has them; none where that was deleted."""
        version_id = measured_version_id(job)
        if version_id is None:
            return []
        try:
            return job_tables(job, self._transport.get(VersionDetail, f"/api/v1/versions/{path_part(version_id)}"))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return []
            raise

    def checkpoints(self, job_id: str) -> Sequence[JobCheckpoint]:
        """Returns where a training job got to, newest first."""
        return self._transport.get(Page[JobCheckpoint], f"{_PATH}/{path_part(job_id)}/checkpoints").data

    def checkpoint_files(self, job_id: str, step: int) -> Sequence[ManifestFile]:
        """Returns the files of a checkpoint; raises NotFound where they are not kept any more."""
        return self._transport.get(Page[ManifestFile], f"{_PATH}/{path_part(job_id)}/checkpoints/{step}/files").data

    def download_checkpoint_file(
        self, job_id: str, step: int, file: ManifestFile, target: Path, *, progress: Progress = lambda _num_bytes: None
    ) -> Path:
        """Writes a file of a checkpoint to ``target`` and returns it, as ``download_artifact``."""
        return fetch_file(self._transport, f"{_PATH}/{path_part(job_id)}/checkpoints/{step}/files/{file.path}", file, target, progress)

    def events(self, job_id: str, after: int = 0, *, kinds: Sequence[EventKind] = ()) -> Generator[JobEvent, None, None]:
        """Yields the job's events with ``seq`` above ``after``, then new ones as they happen, until the job has ended.

        ``kinds``: only these; all where empty. A broken connection is taken up again where it broke, for about a minute;
        raises ServerUnreachable if the server stays away for longer, and at once if it was not there to begin with.
        """
        num_breaks = 0
        was_there = was_over = False
        while True:
            try:
                with closing(self._connected(job_id, after, kinds)) as events:
                    for event in events:
                        num_breaks, was_there = 0, True
                        after = event.seq
                        yield event
                        if _is_final(event):
                            return
                if was_over:
                    return
                was_there = True
                # A stream may end early. Only one that was opened after the job's end has surely given everything.
                was_over = self.get(job_id).status in FINAL_STATUSES
                if was_over:
                    continue
                reason = "the event stream keeps ending"
            except httpx.TransportError as error:
                # It broke while it was read.
                was_there = True
                reason = str(error) or type(error).__name__
            except ServerUnreachable as error:
                if not was_there:
                    raise
                reason = error.reason
            except ApiError as error:
                if error.status != 503:
                    raise
                reason = error.detail
            num_breaks += 1
            if num_breaks > _MAX_BREAKS:
                raise ServerUnreachable(self._transport.url, reason)
            self._transport.sleep(min(0.25 * 2.0**num_breaks, _LONGEST_PAUSE_S))

    def wait(self, job_id: str, timeout_s: float | None = None, *, poll_s: float = 1.0) -> Job:
        """Returns the job once it has ended, however it did; raises WaitTimedOut after ``timeout_s`` (None: never)."""
        deadline_s = None if timeout_s is None else self._clock_s() + timeout_s
        while True:
            job = self.get(job_id)
            if job.status in FINAL_STATUSES:
                return job
            left_s = poll_s if deadline_s is None else deadline_s - self._clock_s()
            if timeout_s is not None and left_s <= 0:
                raise WaitTimedOut(job, timeout_s)
            self._transport.sleep(min(poll_s, left_s))

    def _connected(self, job_id: str, after: int, kinds: Sequence[EventKind]) -> Generator[JobEvent, None, None]:
        reader = EventReader()
        path = f"{_PATH}/{path_part(job_id)}/events"
        headers = {"accept": "text/event-stream", "last-event-id": str(after)}
        params = {"after": after, "kind": kinds or None}
        with self._transport.stream(path, params=params, headers=headers, idle_s=_IDLE_S) as response:
            for chunk in response.iter_raw():
                for event in reader.feed(chunk):
                    yield _job_event(event.data)


def _job_event(data: str) -> JobEvent:
    try:
        return JobEvent.model_validate_json(data)
    except ValidationError as error:
        raise UnexpectedAnswer(f"an event is not what this version of the SDK expects: {error}") from error


def _is_final(event: JobEvent) -> bool:
    return event.kind is EventKind.STATE and event.data.get("status") in FINAL_STATUSES
