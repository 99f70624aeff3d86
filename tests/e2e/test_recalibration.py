"""A schedule re-calibrates on text of a new domain: the candidate is better there and no worse elsewhere."""

from __future__ import annotations

import time

import pytest

from e2e.conftest import EXAMPLES, JOB_TIMEOUT_S, Platform
from quantry_core.datasets import DatasetRecipe, Parent
from quantry_core.jobs import CalibrationSpec, JobStatus, JobSubmission, QualitySpec, QuantizeSpec, RecalibrateSpec
from quantry_core.recalibration import COMPARISON_PREFIX
from quantry_core.schedules import JobTemplate, ScheduleSubmission
from quantry_core.versions import Verdict, VersionDetail

MARGIN_NATS = 0.02
CORPORA = ("jargon.test", "kjv.test", "speeches.test", "shakespeare.test")
ENDS = ("_low", "", "_high")
SCHEDULE_START_S = 30.0


def first_job(platform: Platform, schedule_id: str) -> str:
    """Returns the job of a schedule's first run, once it was due."""
    deadline = time.monotonic() + SCHEDULE_START_S
    while time.monotonic() < deadline:
        jobs = [run.job_id for run in platform.client.schedules.runs(schedule_id).data if run.job_id is not None]
        if jobs:
            return jobs[-1]
        time.sleep(0.3)
    raise AssertionError("the schedule started nothing")


@pytest.mark.long
def test_a_schedule_recalibrates_on_a_new_domain(platform: Platform, master: VersionDetail) -> None:
    client = platform.client
    texts = EXAMPLES / "corpora"
    # What serves was fitted to one kind of text; then traffic brings another.
    client.datasets.upload("traffic", texts / "kjv.calibration.txt")
    client.datasets.upload("jargon.calibration", texts / "jargon.calibration.txt")
    recipe = QuantizeSpec(
        base=master.id,
        method="gptq",
        scheme="W3A16",
        group_size="channel",
        calibration=CalibrationSpec(datasets=["traffic"], num_samples=120, length_tokens=256),
        quality=QualitySpec(thresholds={"perplexity_ratio": 1.25}),
    )
    serving = platform.version_of(platform.succeed(recipe))
    client.models.move_alias(serving.model_name, "production", serving.id)
    # The newest version of the dataset has both: what was asked before is asked still.
    client.datasets.derive("traffic", DatasetRecipe(parents=[Parent(ref="traffic@1"), Parent(ref="jargon.calibration")]))
    again = RecalibrateSpec(
        serving=f"{serving.model_name}@production",
        datasets=["traffic"],
        corpora=list(CORPORA),
        margin_nats=MARGIN_NATS,
    )
    template = JobTemplate(submission=JobSubmission(spec=again))
    schedule = client.schedules.create(ScheduleSubmission(name="recalibrate", cron="*/5 * * * * *", template=template))
    job_id = first_job(platform, schedule.id)
    client.schedules.pause(schedule.id)
    job = client.jobs.wait(job_id, JOB_TIMEOUT_S, poll_s=0.5)
    assert job.status is JobStatus.SUCCEEDED, f"{job.reason}: {job.message}\n{client.jobs.log(job.id)[-3000:]}"
    candidate = platform.version_of(job)
    comparisons = [one for one in candidate.evidence if one.name.startswith(COMPARISON_PREFIX)]
    compared = {one.name.removeprefix(COMPARISON_PREFIX).partition("@")[0]: one for one in comparisons}
    assert set(compared) == set(CORPORA)
    for name, one in compared.items():
        told = {key: round(one.metrics[key], 4) for key in ("reference_kl_from_master_nats", *(f"kl_increase{end}_nats" for end in ENDS))}
        print(name, one.verdict, told)
    assert compared["jargon.test"].metrics["kl_increase_high_nats"] < 0, "better on the new domain, interval and all"
    for corpus in CORPORA[1:]:
        assert compared[corpus].verdict is Verdict.PASS, compared[corpus].metrics
        assert compared[corpus].metrics["kl_increase_high_nats"] <= MARGIN_NATS
    assert job.result is not None
    assert job.result.metrics["is_no_worse"] is True
    assert client.models.alias(serving.model_name, "candidate").version_id == candidate.id
    assert client.models.alias(serving.model_name, "production").version_id == serving.id
