"""Pipelines: the order of steps, what they need, where one is, and which jobs count."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.errors import InvalidInput
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import EvaluateSpec, ImportSpec, Job, JobStatus, QuantizeSpec, is_job_output, needed_outputs, with_outputs
from quantry_core.pipelines import PipelineSubmission, newest_jobs, pipeline_status, step_needs, step_order

FETCH = {"spec": {"type": "import", "model": "bard", "source": "/models/bard"}}
SHRINK = {"spec": {"type": "quantize", "base": "output:fetch", "calibration": {"datasets": ["tales"]}}}
MEASURE = {"spec": {"type": "evaluate", "version": "output:shrink", "against": "output:fetch", "corpora": ["tales"]}}


def submission(**steps: dict[str, Any]) -> PipelineSubmission:
    return PipelineSubmission.model_validate({"name": "nightly", "steps": steps})


def job(step: str, *needs: str, status: JobStatus = JobStatus.SUCCEEDED) -> Job:
    return Job(
        id=new_id(IdPrefix.JOB),
        project_id="prj_x",
        type="import",
        status=status,
        spec=ImportSpec(model="bard", source="/models/bard"),
        priority=5,
        needs=list(needs),
        step=step,
        attempt=0,
        num_lost_attempts=0,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_each_step_comes_after_what_it_needs_or_uses() -> None:
    for names in itertools.permutations(("measure", "shrink", "fetch")):
        every: dict[str, dict[str, Any]] = {"fetch": FETCH, "shrink": SHRINK, "measure": MEASURE}
        steps = {name: every[name] for name in names}
        assert step_order(submission(**steps)) == ["fetch", "shrink", "measure"]
    assert step_needs(submission(fetch=FETCH, shrink=SHRINK, measure={**MEASURE, "needs": ["fetch"]}).steps["measure"]) == [
        "fetch",
        "shrink",
    ]


@given(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=20))
def test_an_order_is_found_exactly_where_there_is_no_loop(edges: set[tuple[int, int]]) -> None:
    steps = {f"s{number}": {**FETCH, "needs": sorted(f"s{b}" for a, b in edges if a == number)} for number in range(7)}
    reached = set(edges)
    for middle, first, last in itertools.product(range(7), repeat=3):
        if (first, middle) in reached and (middle, last) in reached:
            reached.add((first, last))
    if any((number, number) in reached for number in range(7)):
        with pytest.raises(InvalidInput, match="in a loop"):
            step_order(submission(**steps))
        return
    order = step_order(submission(**steps))
    assert sorted(order) == sorted(steps)
    assert all(order.index(f"s{b}") < order.index(f"s{a}") for a, b in edges)


def test_a_need_that_is_no_step_is_named_with_its_step() -> None:
    with pytest.raises(InvalidInput, match="step 'shrink' needs 'fetch', which is no step of this pipeline; there are shrink") as caught:
        step_order(submission(shrink=SHRINK))
    assert [problem.field for problem in caught.value.errors] == ["steps.shrink"]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ("succeeded", "succeeded"),
        ("succeeded succeeded", "succeeded"),
        ("queued waiting", "queued"),
        ("waiting waiting", "waiting"),
        ("running waiting", "running"),
        ("succeeded waiting", "running"),
        ("failed queued", "running"),
        ("failed cancelled succeeded", "failed"),
        ("cancelled succeeded", "cancelled"),
    ],
)
def test_where_a_pipeline_is(statuses: str, expected: str) -> None:
    assert pipeline_status(JobStatus(status) for status in statuses.split()) == expected


def test_the_newest_job_of_each_step_counts_in_the_order_of_needs() -> None:
    fetch = job("fetch")
    shrink = job("shrink", fetch.id, status=JobStatus.FAILED)
    measure = job("measure", shrink.id, status=JobStatus.FAILED)
    again = job("shrink", fetch.id)
    assert newest_jobs([fetch, shrink, measure]) == [fetch, shrink, measure]
    # The evaluation still names the job that failed: its step is what counts.
    assert newest_jobs([measure, fetch, shrink, again]) == [fetch, again, measure]
    assert newest_jobs([]) == []


def test_outputs_of_steps_become_outputs_of_jobs() -> None:
    spec = submission(fetch=FETCH, shrink=SHRINK, measure=MEASURE).steps["measure"].spec
    assert isinstance(spec, EvaluateSpec)
    assert needed_outputs(spec) == ["shrink", "fetch"]
    ids = {name: new_id(IdPrefix.JOB) for name in ("fetch", "shrink")}
    changed = with_outputs(spec, ids)
    assert isinstance(changed, EvaluateSpec)
    assert (changed.version, changed.against, changed.corpora) == (f"output:{ids['shrink']}", f"output:{ids['fetch']}", ["tales"])
    assert is_job_output(changed.version)
    assert not is_job_output("output:shrink")
    assert not is_job_output(ids["shrink"])
    with pytest.raises(KeyError):
        with_outputs(spec, {})
    plain = QuantizeSpec.model_validate({"base": "bard@1", "calibration": {"datasets": ["tales"]}})
    assert (needed_outputs(plain), with_outputs(plain, {})) == ([], plain)
