"""What ``jobs show`` says: where a job is and why, and its estimate beside what happened."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from factories.client import (
    JOB_ID,
    MASTER_ID,
    NOW,
    OTHER_JOB_ID,
    PIPELINE_ID,
    QUANTIZED_ID,
    Answer,
    FakeServer,
    answer,
    failing,
    job,
    problem,
)
from factories.described import ADAPTER_ID, described_adapter, described_merged
from quantry.cli import main as command
from quantry.cli.estimates import EstimateRow, estimate_rows
from quantry.cli.job_view import WAITING_WORDS, about, outcome_text, place, why
from quantry_core.job_evidence import job_tables, measured_version_id
from quantry_core.jobs import (
    REASONS,
    Estimate,
    EstimateFigures,
    EvaluateSpec,
    FinetuneSpec,
    InputRole,
    Job,
    JobInput,
    JobLimits,
    JobReason,
    JobResult,
    JobStatus,
    JobType,
    MergeSpec,
    Progress,
    WaitingOn,
)

ESTIMATE = Estimate(
    key="quantize/gptq/gpu",
    result_bytes=4_000_000,
    peak_ram_bytes=720_000_000,
    minutes=2.0,
    uncorrected=EstimateFigures(minutes=2.0),
    notes=["the device's memory could not be told"],
)
RESULT = JobResult(
    version_id=MASTER_ID,
    seconds=60.0,
    peak_memory_bytes=900_000_000,
    peak_vram_bytes=5_000_000_000,
    estimate_errors={"result_bytes": 1.1, "peak_ram_bytes": 1.25, "minutes": 0.5},
)


def shown(server: FakeServer, capsys: pytest.CaptureFixture[str], shown_job: Job) -> dict[str, str]:
    """Returns the lines of ``jobs show`` by what they begin with."""
    server.on("GET", f"/api/v1/jobs/{JOB_ID}", answer(shown_job))
    assert command.main(["jobs", "show", JOB_ID]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    fields = [(line[:12].strip(), line[12:].strip()) for line in lines if line and not line.startswith(" ")]
    return dict(fields)


def test_everything_that_was_asked_for(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on(
        "GET",
        f"/api/v1/jobs/{JOB_ID}",
        answer(
            job(
                JobStatus.RUNNING,
                queue="gpu-80g",
                priority=2,
                limits=JobLimits(time_s=7200, memory_bytes=16 * 1024**3),
                needs=[OTHER_JOB_ID],
                labels={"team": "search", "nightly": ""},
                metadata={"ticket": 4711},
                pipeline_id=PIPELINE_ID,
                step="take",
                schedule_id="sch_1",
                retry_of=OTHER_JOB_ID,
                worker_id="wrk_1",
                force=True,
                cancel_requested=True,
                attempt=3,
                num_lost_attempts=1,
                retries={JobReason.WORKER_LOST: 1, JobReason.OUT_OF_MEMORY: 1},
                progress=Progress(phase="copy", fraction=0.5, done=1, total=2, unit="files"),
                not_before=NOW,
            )
        ),
    )
    server.on("GET", f"/api/v1/jobs/{OTHER_JOB_ID}", answer(job(JobStatus.SUCCEEDED, id=OTHER_JOB_ID)))
    assert command.main(["jobs", "show", JOB_ID]) == 0
    out = capsys.readouterr().out
    for words in (
        "running, asked to stop",
        "copy  50% 1/2 files",
        "3 (1 lost)",
        "worker_lost 1 of 2, out_of_memory 1 of 2",
        "gpu-80g",
        "2 h, 17.2 GB",
        f"{OTHER_JOB_ID} succeeded",
        f"take of {PIPELINE_ID}",
        "nightly=, team=search",
        '{"ticket": 4711}',
        "wrk_1",
        "sch_1",
    ):
        assert words in out


def test_each_needed_job_is_told_with_its_status(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    third = OTHER_JOB_ID[:-1] + "3"
    needed = {OTHER_JOB_ID: job(JobStatus.RUNNING, id=OTHER_JOB_ID, step="take"), third: job(JobStatus.SUCCEEDED, id=third)}
    needing = job(JobStatus.WAITING, waiting_on=WaitingOn.NEEDS, needs=list(needed))
    for one in (needing, *needed.values()):
        server.on("GET", f"/api/v1/jobs/{one.id}", answer(one))
    assert command.main(["jobs", "show", JOB_ID]) == 0
    out = capsys.readouterr().out
    assert f"{OTHER_JOB_ID} running take" in out
    assert f"{third} succeeded" in out


@pytest.mark.parametrize("waiting_on", list(WaitingOn))
def test_what_a_job_waits_for(server: FakeServer, capsys: pytest.CaptureFixture[str], waiting_on: WaitingOn) -> None:
    waiting = job(JobStatus.WAITING, waiting_on=waiting_on, attempt=0)
    assert place(waiting) == WAITING_WORDS[waiting_on]
    server.on("GET", f"/api/v1/jobs/{JOB_ID}", answer(waiting))
    assert command.main(["jobs", "show", JOB_ID]) == 0
    assert f"waiting {WAITING_WORDS[waiting_on]}" in capsys.readouterr().out


def test_a_time_that_is_waited_for_is_told() -> None:
    assert "2026-11-2" in place(job(JobStatus.WAITING, waiting_on=WaitingOn.TIME, not_before=NOW))


@pytest.mark.parametrize("reason", [reason for reason in JobReason if REASONS[reason].final_status is JobStatus.FAILED])
def test_every_reason_is_told_in_words(server: FakeServer, capsys: pytest.CaptureFixture[str], reason: JobReason) -> None:
    failed = job(JobStatus.FAILED, reason=reason)
    assert why(failed) == REASONS[reason].words
    server.on("GET", f"/api/v1/jobs/{JOB_ID}", answer(failed))
    assert command.main(["jobs", "show", JOB_ID]) == 0
    assert f"{reason}: {REASONS[reason].words}" in capsys.readouterr().out


def test_an_estimate_before_and_after() -> None:
    assert estimate_rows(ESTIMATE) == [
        EstimateRow("result", "4.0 MB", "", ""),
        EstimateRow("peak memory", "720.0 MB", "", ""),
        EstimateRow("time", "2 min", "", ""),
    ]
    assert estimate_rows(ESTIMATE, RESULT) == [
        EstimateRow("result", "4.0 MB", "4.4 MB", "1.10x"),
        EstimateRow("peak memory", "720.0 MB", "900.0 MB", "1.25x"),
        EstimateRow("peak device memory", "", "5.0 GB", ""),
        EstimateRow("time", "2 min", "1 min", "0.50x"),
    ]


def test_an_ended_job_shows_its_estimate_beside_what_happened(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    ended = job(JobStatus.SUCCEEDED, reason=JobReason.COMPLETED, estimate=ESTIMATE, result=RESULT)
    server.on("GET", f"/api/v1/jobs/{JOB_ID}", answer(ended))
    assert command.main(["jobs", "show", JOB_ID]) == 0
    out = capsys.readouterr().out
    [time_line] = [line.split() for line in out.splitlines() if line.startswith("time")]
    assert time_line == ["time", "2", "min", "1", "min", "0.50x"]
    assert "the device's memory could not be told" in out


def test_how_a_success_is_told() -> None:
    def text(result: JobResult) -> str:
        return outcome_text(job(JobStatus.SUCCEEDED, result=result))

    assert text(RESULT) == f" in 1 min: {MASTER_ID}"
    assert text(JobResult(version_id=MASTER_ID, reused=True)) == f": {MASTER_ID}, made by an identical job before"
    assert text(JobResult(deployment="chat", version_id=MASTER_ID, seconds=2)) == " in 2.0 s: chat is served"
    assert text(JobResult()) == ""
    assert outcome_text(job(JobStatus.SUCCEEDED)) == ""


def test_the_output_of_a_job_is_named_shortly() -> None:
    spec = EvaluateSpec(version=f"output:{OTHER_JOB_ID}", corpora=["plays"])
    assert about(job(type="evaluate", spec=spec)) == "output:job_..000002 on plays"
    assert about(job(type="evaluate", spec=spec.model_copy(update={"version": "bard@2"}))) == "bard@2 on plays"


def ended_with(spec: FinetuneSpec | MergeSpec, version_id: str | None, **metrics: Any) -> Job:
    adapter = JobInput(role=InputRole.ADAPTER, ref="bard@3", version_id=ADAPTER_ID)
    inputs = [adapter] if isinstance(spec, MergeSpec) else []
    result = JobResult(version_id=version_id, seconds=60.0, metrics=metrics)
    return job(JobStatus.SUCCEEDED, type=JobType(spec.type), spec=spec, inputs=inputs, result=result)


def test_a_fine_tune_shows_before_and_after_as_tables(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    spec = FinetuneSpec(model="bard@1", training_file="lessons")
    trained = ended_with(spec, QUANTIZED_ID, num_steps=100, validation={"nll_mean": 2.5}, corpora={"plays.test@1": {}})
    server.on("GET", f"/api/v1/jobs/{JOB_ID}", answer(trained))
    server.on("GET", f"/api/v1/versions/{QUANTIZED_ID}", answer(described_adapter()))
    assert command.main(["jobs", "show", JOB_ID]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert "What was held out against the master bard@1" in out
    assert ["perplexity", "12.18"] in lines
    assert ["reference_perplexity", "20.08"] in lines
    assert "Evaluation on text against the master bard@1" in out
    assert '"num_steps":100' in out
    assert '"validation":{"nll_mean"' not in out


def test_of_a_version_that_was_deleted_the_result_says_all(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    spec = FinetuneSpec(model="bard@1", training_file="lessons")
    server.on("GET", f"/api/v1/jobs/{JOB_ID}", answer(ended_with(spec, QUANTIZED_ID, validation={"nll_mean": 2.5})))
    assert command.main(["jobs", "show", JOB_ID]) == 0
    assert '"validation":{"nll_mean":2.5}' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("away", "reason"),
    [(problem(503, "unavailable", "the registry is away"), "the registry is away"), (failing(httpx.ConnectError), "cannot reach")],
)
def test_a_training_is_shown_while_the_registry_is_away(
    server: FakeServer, capsys: pytest.CaptureFixture[str], away: Answer, reason: str
) -> None:
    spec = FinetuneSpec(model="bard@1", training_file="lessons")
    server.on("GET", f"/api/v1/jobs/{JOB_ID}", answer(ended_with(spec, QUANTIZED_ID, validation={"nll_mean": 2.5})))
    server.on("GET", f"/api/v1/versions/{QUANTIZED_ID}", away)
    assert command.main(["jobs", "show", JOB_ID]) == 0
    out = capsys.readouterr().out
    assert '"validation":{"nll_mean":2.5}' in out
    [trouble] = [line for line in out.splitlines() if line.startswith("what it measured could not be read: ")]
    assert reason in trouble


@pytest.mark.parametrize(("version_id", "lies_with"), [(QUANTIZED_ID, QUANTIZED_ID), (None, ADAPTER_ID)])
def test_a_measured_merge_shows_its_ways(
    server: FakeServer, capsys: pytest.CaptureFixture[str], version_id: str | None, lies_with: str
) -> None:
    spec = MergeSpec.model_validate({"adapters": [{"adapter": "bard@3"}]})
    server.on("GET", f"/api/v1/jobs/{JOB_ID}", answer(ended_with(spec, version_id, ways={"master": {}}, choice="master")))
    server.on("GET", f"/api/v1/versions/{lies_with}", answer(described_merged()))
    assert command.main(["jobs", "show", JOB_ID]) == 0
    out = capsys.readouterr().out
    table = out[out.index("Ways to merge") :]
    assert all(way in table for way in ("way-master", "way-unmerged", "choice"))
    assert '"ways"' not in out


def test_evidence_of_other_jobs_is_left_to_the_version() -> None:
    other = [one.model_copy(update={"job_id": OTHER_JOB_ID}) for one in described_adapter().evidence]
    trained = ended_with(FinetuneSpec(model="bard@1", training_file="lessons"), QUANTIZED_ID)
    made = described_adapter(job_id=OTHER_JOB_ID, evidence=other)
    assert job_tables(trained, made) == []


def test_only_what_trains_or_merges_has_tables() -> None:
    assert measured_version_id(job(JobStatus.SUCCEEDED, result=RESULT)) is None
    assert measured_version_id(job(JobStatus.RUNNING, type=JobType.FINETUNE, spec=FinetuneSpec(model="bard@1", training_file="x"))) is None
