"""What a job's page says in its panels, and which buttons make sense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from factories.job_api import a_job
from quantry_core.jobs import (
    DeploySpec,
    Estimate,
    EstimateFigures,
    InputRole,
    JobInput,
    JobLimits,
    JobReason,
    JobResult,
    JobStatus,
)
from quantry_core.keys import Identity, Role
from quantry_core.strategies import CanaryStep, CanaryStrategy
from quantry_dashboard import facts
from quantry_dashboard.facts import Comparison, Fact

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ESTIMATE = Estimate(
    key="quantize/gptq/cpu",
    uncorrected=EstimateFigures(),
    minutes=5,
    peak_ram_bytes=4_000_000_000,
    result_bytes=1_000_000,
    num_earlier_jobs=12,
    notes=["VRAM cannot be told."],
)


def named(some: list[Fact]) -> dict[str, Fact]:
    return {fact.name: fact for fact in some}


def test_links_lead_to_what_a_job_belongs_to() -> None:
    job = a_job(needs=["job_1", "job_2"], retry_of="job_3", pipeline_id="pip_1", schedule_id="sch_1", step="quantize")
    shown = facts.circumstances(job, NOW)
    assert [fact.href for fact in shown if fact.name == "needs"] == ["/jobs/job_1", "/jobs/job_2"]
    by_name = named(shown)
    assert by_name["repeats"].href == "/jobs/job_3"
    assert by_name["pipeline"].href == "/pipelines/pip_1"
    assert by_name["schedule"].href == "/schedules/sch_1"


def test_attempts_retries_limits_and_labels_are_told() -> None:
    job = a_job(
        attempt=4,
        num_lost_attempts=2,
        retries={JobReason.WORKER_LOST: 2, JobReason.OUT_OF_MEMORY: 1},
        limits=JobLimits(time_s=3600, memory_bytes=16_000_000_000),
        labels={"team": "search", "nightly": ""},
    )
    by_name = named(facts.circumstances(job, NOW))
    assert by_name["attempt"].text == "4 (2 lost)"
    assert by_name["tried again"].text == "worker lost ×2, out of memory ×1"
    assert by_name["limits"].text == "1 h, 16.0 GB"
    assert by_name["labels"].text == "nightly team=search"


def test_nothing_is_said_of_what_is_not() -> None:
    names = set(named(facts.circumstances(a_job(JobStatus.QUEUED), NOW)))
    assert names == {"created", "queue", "priority"}
    assert facts.result_facts(a_job(), []) == []
    assert facts.comparisons(a_job()) == []
    assert facts.input_facts(a_job(), {}) == []


def test_a_worker_is_named_while_it_runs_the_job() -> None:
    assert named(facts.circumstances(a_job(worker_id="wrk_1"), NOW))["worker"].text == "wrk_1"
    assert "worker" not in named(facts.circumstances(a_job(JobStatus.SUCCEEDED, worker_id="wrk_1"), NOW))


def test_the_spec_is_shown_by_dotted_names_without_its_type() -> None:
    by_name = named(facts.spec_facts(a_job(metadata={"ticket": "A-1"})))
    assert by_name["calibration.num_samples"].text == "64"
    assert by_name["ignore"].text == "lm_head"
    assert by_name["metadata"].text == '{"ticket": "A-1"}'
    assert not {"type", "group_size"} & by_name.keys()


def test_inputs_show_what_they_became() -> None:
    inputs = [
        JobInput(role=InputRole.BASE, ref="output:job_1", job_id="job_1"),
        JobInput(role=InputRole.CALIBRATION, ref="kjv", dataset_id="dat_1"),
    ]
    assert facts.input_facts(a_job(inputs=inputs), {}) == [
        Fact("base", "output:job_1 → not made yet", "/jobs/job_1"),
        Fact("calibration", "kjv → dat_1", "/datasets/dat_1"),
    ]


def test_a_version_that_is_given_by_its_id_is_named() -> None:
    inputs = [JobInput(role=InputRole.BASE, ref=ref, version_id="ver_1") for ref in ("ver_1", "bard@production", "bard@3")]
    names = dict.fromkeys(("ver_1", "bard@production", "bard@3"), "bard@3")
    assert [fact.text for fact in facts.input_facts(a_job(inputs=inputs), names)] == [
        "ver_1 (bard@3)",
        "bard@production → ver_1 (bard@3)",
        "bard@3 → ver_1",
    ]


def test_the_estimate_stands_beside_what_happened() -> None:
    result = JobResult(
        seconds=360, peak_memory_bytes=3_000_000_000, estimate_errors={"minutes": 1.2, "peak_ram_bytes": 0.75, "result_bytes": 2.0}
    )
    assert facts.comparisons(a_job(JobStatus.SUCCEEDED, estimate=ESTIMATE, result=result)) == [
        Comparison("wall clock", "5 min", "6 min", "1.20×"),
        Comparison("peak memory", "4.0 GB", "3.0 GB", "0.75×"),
        Comparison("size of the result", "1.0 MB", "2.0 MB", "2.00×"),
    ]
    assert facts.comparisons(a_job(estimate=ESTIMATE))[0] == Comparison("wall clock", "5 min", "–", "–")
    assert facts.estimate_notes(ESTIMATE) == "Corrected by 12 earlier jobs (quantize/gptq/cpu). VRAM cannot be told."
    assert facts.estimate_notes(None) == ""


def test_what_was_not_run_is_not_compared() -> None:
    reused = a_job(JobStatus.SUCCEEDED, estimate=ESTIMATE, result=JobResult(version_id="ver_1", reused=True, seconds=1))
    assert {row.happened for row in facts.comparisons(reused)} == {"–"}
    assert named(facts.result_facts(reused, []))["reused"].text.startswith("made by an earlier")


def test_metrics_are_flattened() -> None:
    result = JobResult(version_id="ver_1", metrics={"perplexity": {"kjv": 12.3456789}, "passed": True, "windows": 123456})
    by_name = named(facts.result_facts(a_job(JobStatus.SUCCEEDED, result=result), []))
    assert {name: fact.text for name, fact in by_name.items()} == {
        "version": "ver_1",
        "perplexity.kjv": "12.35",
        "passed": "yes",
        "windows": "123456",
    }


def test_lists_of_a_spec_are_told_item_by_item() -> None:
    strategy = CanaryStrategy(steps=[CanaryStep(percent=10, wait_s=60), CanaryStep(percent=100, analysis=False)])
    spec = DeploySpec(deployment="chat", version="bard@2", strategy=strategy, servers=["http://a:1", "http://b:2"])
    by_name = named(facts.spec_facts(a_job(spec=spec)))
    assert (by_name["strategy.steps.1.percent"].text, by_name["strategy.steps.2.analysis"].text) == ("10", "no")
    assert by_name["strategy.analysis.rules.2.rule"].text == "latency_compared"
    assert by_name["servers"].text == "http://a:1, http://b:2"
    assert by_name["deployment"] == Fact("deployment", "chat", "/deployments/chat")


@pytest.mark.parametrize("status", list(JobStatus))
def test_buttons_are_there_when_they_make_sense(status: JobStatus) -> None:
    job = a_job(status)
    assert facts.may_cancel(job) is (status in {JobStatus.WAITING, JobStatus.QUEUED, JobStatus.RUNNING})
    assert facts.may_retry(job) is (status in {JobStatus.FAILED, JobStatus.CANCELLED})
    assert not facts.may_cancel(job.model_copy(update={"cancel_requested": True}))


def test_only_a_viewer_is_hindered() -> None:
    hindrances = {
        role: facts.hindrance(Identity(key_id="k", project_id="p", role=role)) for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
    }
    assert hindrances[Role.OPERATOR] is None
    assert hindrances[Role.ADMIN] is None
    assert "viewer" in (hindrances[Role.VIEWER] or "")


def test_a_start_in_the_future_is_shown_while_it_is_waited_for() -> None:
    later = NOW + timedelta(hours=1)
    assert named(facts.circumstances(a_job(JobStatus.WAITING, not_before=later), NOW))["not before"].text == "2026-11-22 13:00:00 UTC"
    assert "not before" not in named(facts.circumstances(a_job(JobStatus.SUCCEEDED, not_before=later), NOW))
