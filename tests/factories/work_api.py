"""What an API in memory takes and says of submissions, pipelines, workers and schedules: by the real schemas and their real refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError

from quantry_core.errors import Forbidden, InvalidInput, UnknownPipeline
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import Estimate, EstimateFigures, Job, JobStatus, JobSubmission
from quantry_core.keys import Role
from quantry_core.method_views import MethodView, method_views
from quantry_core.pages import Page
from quantry_core.pipelines import Pipeline, PipelineDetail, newest_jobs, pipeline_status
from quantry_core.projects import Project, ProjectLimits
from quantry_core.schedules import Schedule
from quantry_core.workers import Worker
from quantry_http.validation import explain_validation

_SCHEMAS = "#/components/schemas/{model}"
PROJECT = "prj_0197f0a0000070008000000000000001"


def openapi() -> dict[str, Any]:
    """Returns a document with the schemas of submissions, where the real one has them."""
    schema = JobSubmission.model_json_schema(ref_template=_SCHEMAS)
    schemas = {**schema.pop("$defs"), "JobSubmission": schema}
    body = {"content": {"application/json": {"schema": {"$ref": _SCHEMAS.format(model="JobSubmission")}}}}
    return {"openapi": "3.1.0", "paths": {"/api/v1/jobs": {"post": {"requestBody": body}}}, "components": {"schemas": schemas}}


class WorkApi:
    """Tests set what it holds. It is asked under the lock of whoever holds it, and keeps jobs by ``add_job``."""

    def __init__(self, jobs: Mapping[str, Job], add_job: Callable[[Job], Job]) -> None:
        self._jobs = jobs
        self._add_job = add_job
        self.pipelines: dict[str, Pipeline] = {}
        self.workers: list[Worker] = []
        self.schedules: list[Schedule] = []
        self.submitted: list[dict[str, Any]] = []
        """What was submitted, in its order; a submission under a key that was used before is not."""
        self.estimated: list[dict[str, Any]] = []
        self._by_key: dict[str, str] = {}

    def forget(self) -> None:
        """Begins anew, for the next test."""
        for kept in (self.pipelines, self.workers, self.schedules, self.submitted, self.estimated, self._by_key):
            kept.clear()

    def add_pipeline(self, name: str, jobs: Mapping[str, Job], *, schedule_id: str | None = None) -> Pipeline:
        """Keeps jobs as the steps of a new pipeline, and returns it."""
        pipeline_id = new_id(IdPrefix.PIPELINE)
        for step, job in jobs.items():
            self._add_job(job.model_copy(update={"pipeline_id": pipeline_id, "step": step}))
        self.pipelines[pipeline_id] = Pipeline(
            id=pipeline_id,
            project_id=PROJECT,
            name=name,
            status=JobStatus.QUEUED,
            num_jobs={},
            schedule_id=schedule_id,
            created_at=datetime.now(UTC) - timedelta(minutes=1),
        )
        return self.pipelines[pipeline_id]

    def answer(self, method: str, path: str, role: Role, body: bytes, idempotency_key: str) -> BaseModel | None:
        """Returns what a path below /api/v1 says, None where it is not of these; raises QuantryError."""
        if method == "POST" and role is Role.VIEWER and path != "/jobs/estimate":
            raise Forbidden("this needs the role operator")
        said: BaseModel | None = None
        match method, path.split("/")[1:]:
            case "GET", ["openapi.json"]:
                said = RootModel[dict[str, Any]](openapi())
            case "POST", ["jobs"]:
                said = self._submit(body, idempotency_key)
            case "POST", ["jobs", "estimate"]:
                said = self._estimate(body)
            case "GET", ["pipelines"]:
                said = Page[Pipeline](data=[self._pipeline(known) for known in reversed(self.pipelines)])
            case _, ["pipelines", pipeline_id, *_action]:
                said = self._pipeline(pipeline_id)
            case "GET", ["methods"]:
                said = Page[MethodView](data=method_views())
            case "GET", ["workers"]:
                said = Page[Worker](data=self.workers)
            case "GET", ["schedules"]:
                said = Page[Schedule](data=self.schedules)
            case "GET", ["project"]:
                said = self._project()
        return said

    def _submit(self, body: bytes, idempotency_key: str) -> Job:
        submission = _checked(body)
        if idempotency_key in self._by_key:
            return self._jobs[self._by_key[idempotency_key]]
        self.submitted.append(json.loads(body))
        job = self._add_job(_job_of(submission))
        self._by_key[idempotency_key] = job.id
        return job

    def _estimate(self, body: bytes) -> Estimate:
        submission = _checked(body)
        self.estimated.append(json.loads(body))
        figures: dict[str, Any] = {"minutes": 3.0, "peak_ram_bytes": 2_000_000_000, "result_bytes": 11_500_000}
        return Estimate(
            key=f"{submission.spec.type}/cpu", queue=submission.queue or "cpu", uncorrected=EstimateFigures(**figures), **figures
        )

    def _pipeline(self, pipeline_id: str) -> PipelineDetail:
        if pipeline_id not in self.pipelines:
            raise UnknownPipeline(f"there is no pipeline {pipeline_id!r}")
        jobs = newest_jobs(job for job in self._jobs.values() if job.pipeline_id == pipeline_id)
        statuses = [job.status for job in jobs]
        held = {"status": pipeline_status(statuses), "num_jobs": {status: statuses.count(status) for status in set(statuses)}}
        return PipelineDetail.model_validate({**self.pipelines[pipeline_id].model_dump(), **held, "jobs": jobs})

    def _project(self) -> Project:
        num = {status: sum(job.status is status for job in self._jobs.values()) for status in JobStatus}
        return Project(
            id=PROJECT,
            name="default",
            limits=ProjectLimits(),
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            num_waiting=num[JobStatus.WAITING],
            num_queued=num[JobStatus.QUEUED],
            num_running=num[JobStatus.RUNNING],
        )


def _checked(body: bytes) -> JobSubmission:
    document = json.loads(body)
    try:
        return JobSubmission.model_validate(document)
    except ValidationError as error:
        # As FastAPI has it: the path begins with where the value came from.
        errors = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        refusal: InvalidInput = explain_validation(errors, document)
        raise refusal from error


def _job_of(submission: JobSubmission) -> Job:
    return Job(
        id=new_id(IdPrefix.JOB),
        project_id=PROJECT,
        type=submission.spec.type,
        status=JobStatus.QUEUED,
        spec=submission.spec,
        queue=submission.queue or "cpu",
        priority=submission.priority,
        labels=submission.labels,
        needs=submission.needs,
        attempt=0,
        num_lost_attempts=0,
        created_at=datetime.now(UTC),
    )
