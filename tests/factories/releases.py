"""Waiting jobs let go as the api's sweep does it, and pipelines submitted without an estimate."""

from __future__ import annotations

from typing import Any

from factories.store import TOOLCHAIN, WORKER_ID, Platform, import_spec, quantize_spec
from quantry_core.jobs import Job, JobSpec, JobSubmission
from quantry_core.methods import Environment
from quantry_core.pipelines import PipelineDetail, PipelineStep, PipelineSubmission
from quantry_core.workers import WorkerHello
from quantry_store.transactions import releasable_jobs, release_job, retry_job, save_worker, submit_job, submit_pipeline


async def submit(platform: Platform, spec: JobSpec, **options: Any) -> Job:
    """Returns a job submitted with these options."""
    async with platform.database.begin() as uow:
        return await submit_job(uow, platform.admin, JobSubmission.model_validate({"spec": spec, **options}))


async def release(platform: Platform) -> list[Job]:
    """Returns the jobs that moved, in that order, once no waiting job can move any more."""
    moved: list[Job] = []
    while True:
        async with platform.database.begin() as uow:
            job_ids = await releasable_jobs(uow)
        if not job_ids:
            return moved
        for job_id in job_ids:
            async with platform.database.begin() as uow:
                job = await release_job(uow, job_id)
            if job is not None:
                moved.append(job)


async def retry(platform: Platform, job: Job) -> Job:
    """Returns the new job that repeats one."""
    async with platform.database.begin() as uow:
        return await retry_job(uow, platform.admin, job.id)


async def say_hello(platform: Platform, toolchain: str = TOOLCHAIN, worker_id: str = WORKER_ID) -> None:
    """Registers a worker of the queue cpu with that toolchain."""
    hello = WorkerHello(host="host", pid=1, version="1", queues=["cpu"], num_slots=1, environments={Environment.ML: toolchain})
    async with platform.database.begin() as uow:
        await save_worker(uow, worker_id, hello, project_id=platform.project_id)


async def bound_queue(platform: Platform, max_queued: int | None) -> None:
    """Lets so many jobs of a project be queued at once."""
    await platform.sql("update projects set max_queued = %s where id = %s", max_queued, platform.project_id)


def step(spec: JobSpec, *needs: str, **options: Any) -> PipelineStep:
    return PipelineStep.model_validate({"spec": spec, "needs": list(needs), **options})


def bard_pipeline(**changes: Any) -> PipelineSubmission:
    """Returns import -> quantize; the dataset ``tales`` must be there."""
    steps = {"fetch": step(import_spec()), "shrink": step(quantize_spec("output:fetch", "tales"))}
    return PipelineSubmission.model_validate({"name": "nightly", "steps": steps, **changes})


async def submit_steps(platform: Platform, submission: PipelineSubmission) -> PipelineDetail:
    """Returns a pipeline submitted with the default placement of each step."""
    async with platform.database.begin() as uow:
        return await submit_pipeline(uow, platform.admin, submission, {})


async def pipeline_of(platform: Platform, pipeline_id: str) -> PipelineDetail:
    async with platform.database.begin() as uow:
        return await uow.pipelines.get(platform.project_id, pipeline_id)
