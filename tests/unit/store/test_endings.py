"""How an attempt's report ends its job: pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from factories.store import GATE_PASSED, import_spec, master_draft, merge_spec, merged_draft, quantize_spec, quantized_draft
from quantry_core.errors import InvalidInput
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.gate import GateCheck
from quantry_core.jobs import EvaluateSpec, InputRole, Job, JobInput, JobReason, JobSpec, JobStatus
from quantry_core.methods import Format
from quantry_core.versions import EdgeRole, EvidenceDraft, EvidenceKind, LineageEdge, Verdict, VersionState
from quantry_store.transactions.endings import Ending, check_report, decide_ending
from quantry_store.transactions.made_versions import lineage_of

GATE = GATE_PASSED[0]
FAILED_GATE = GATE.model_copy(update={"verdict": Verdict.FAIL})
UNCLEAR_GATE = GATE.model_copy(update={"verdict": Verdict.INCONCLUSIVE})
UNASKED_ENGINE = UNCLEAR_GATE.model_copy(update={"name": GateCheck.ENGINE})
WITHOUT_RECONSTRUCTION = [
    one.model_copy(update={"verdict": Verdict.INCONCLUSIVE}) if one.name == GateCheck.RECONSTRUCTION else one for one in GATE_PASSED
]
RESULT = EvidenceDraft(kind=EvidenceKind.EVALUATION, name="tales", verdict=Verdict.INCONCLUSIVE)
EVALUATE = EvaluateSpec(version="bard", corpora=["tales"])


def job_of(spec: JobSpec, **changes: Any) -> Job:
    values = {
        "id": "job_1",
        "project_id": "prj_1",
        "type": spec.type,
        "status": JobStatus.RUNNING,
        "spec": spec,
        "priority": 5,
        "attempt": 1,
        "num_lost_attempts": 0,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Job.model_validate({**values, **changes})


def report(outcome: Outcome, reason: JobReason, **changes: Any) -> FinishRequest:
    return FinishRequest.model_validate({"attempt": 1, "outcome": outcome, "reason": reason, **changes})


OK = (Outcome.SUCCEEDED, JobReason.COMPLETED)
QUANTIZE = quantize_spec("bard", "tales")
QUARANTINED = quantized_draft(state=VersionState.QUARANTINED)
GATE_FAILED = (Outcome.FAILED, JobReason.GATE_FAILED)


@pytest.mark.parametrize(
    ("spec", "finish"),
    [
        (import_spec(), report(*OK, version=master_draft())),
        (import_spec(), report(*OK, version=master_draft(), evidence=[GATE])),
        (QUANTIZE, report(*OK, version=quantized_draft(), evidence=[*GATE_PASSED, RESULT])),
        (QUANTIZE, report(*OK, version=quantized_draft(), evidence=[*GATE_PASSED, UNASKED_ENGINE])),
        (QUANTIZE, report(*OK, version=quantized_draft(format=Format.EETQ), evidence=WITHOUT_RECONSTRUCTION)),
        (QUANTIZE, report(*GATE_FAILED, version=QUARANTINED, evidence=[GATE, FAILED_GATE])),
        (QUANTIZE, report(*GATE_FAILED, version=QUARANTINED, evidence=[UNCLEAR_GATE])),
        (QUANTIZE, report(*GATE_FAILED)),
        (QUANTIZE, report(Outcome.FAILED, JobReason.OUT_OF_MEMORY)),
        (EVALUATE, report(*OK, evidence=[RESULT])),
        (EVALUATE, report(Outcome.FAILED, JobReason.DIVERGED, evidence=[RESULT])),
        (EVALUATE, report(Outcome.RELEASED, JobReason.INTERNAL)),
    ],
)
def test_reports_that_fit(spec: JobSpec, finish: FinishRequest) -> None:
    check_report(job_of(spec), finish)


@pytest.mark.parametrize(
    ("spec", "finish", "words"),
    [
        (import_spec(), report(*OK), "has made a version"),
        (import_spec(), report(Outcome.SUCCEEDED, JobReason.INTERNAL, version=master_draft()), "not internal"),
        (import_spec(), report(*OK, version=master_draft(state=VersionState.QUARANTINED)), "did not succeed"),
        (import_spec(), report(Outcome.FAILED, JobReason.COMPLETED), "cannot have the reason completed"),
        (import_spec(), report(Outcome.FAILED, JobReason.CANCELLED), "cannot have the reason cancelled"),
        (import_spec(), report(*GATE_FAILED, version=master_draft()), "only as quarantined"),
        (import_spec(), report(Outcome.FAILED, JobReason.INTERNAL, version=master_draft(state=VersionState.QUARANTINED)), "gate_failed"),
        (import_spec(), report(Outcome.FAILED, JobReason.GATE_FAILED, evidence=[GATE]), "no version that it is about"),
        (import_spec(), report(Outcome.CANCELLED, JobReason.CANCELLED), "nobody asked"),
        (import_spec(), report(Outcome.RELEASED, JobReason.INTERNAL, version=master_draft()), "neither version nor evidence"),
        (EVALUATE, report(Outcome.RELEASED, JobReason.INTERNAL, evidence=[RESULT]), "neither version nor evidence"),
        (EVALUATE, report(*OK, evidence=[RESULT], version=quantized_draft()), "makes no version"),
        (EVALUATE, report(*OK), "without results"),
        (EVALUATE, report(*OK, evidence=[GATE]), "without results"),
        (QUANTIZE, report(*OK, version=quantized_draft()), "no evidence of files, fused-groups"),
        (QUANTIZE, report(*OK, version=quantized_draft(), evidence=[RESULT]), "no evidence of files, fused-groups"),
        (QUANTIZE, report(*OK, version=quantized_draft(), evidence=GATE_PASSED[1:]), "no evidence of files$"),
        (QUANTIZE, report(*OK, version=quantized_draft(), evidence=[GATE, FAILED_GATE]), "did not pass its gate"),
        (QUANTIZE, report(*OK, version=quantized_draft(), evidence=[UNCLEAR_GATE]), "did not pass its gate"),
        (QUANTIZE, report(*OK, version=quantized_draft(), evidence=WITHOUT_RECONSTRUCTION), "did not pass its gate"),
        (QUANTIZE, report(*OK, version=quantized_draft(format=Format.EETQ), evidence=GATE_PASSED[1:]), "no evidence of files$"),
        (QUANTIZE, report(*GATE_FAILED, version=QUARANTINED, evidence=[*GATE_PASSED, UNASKED_ENGINE]), "a check that did not pass"),
        (import_spec(), report(*OK, version=master_draft(), evidence=[FAILED_GATE]), "did not pass its gate"),
        (QUANTIZE, report(*GATE_FAILED, version=QUARANTINED), "a check that did not pass"),
        (QUANTIZE, report(*GATE_FAILED, version=QUARANTINED, evidence=[GATE, RESULT]), "a check that did not pass"),
    ],
)
def test_reports_that_do_not_fit(spec: JobSpec, finish: FinishRequest, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_report(job_of(spec), finish)


@pytest.mark.parametrize(
    ("cancel_requested", "finish", "ending"),
    [
        (False, report(*OK), Ending(JobStatus.SUCCEEDED, JobReason.COMPLETED, None)),
        (True, report(*OK), Ending(JobStatus.SUCCEEDED, JobReason.COMPLETED, None)),
        (False, report(Outcome.FAILED, JobReason.TIMED_OUT, message="m"), Ending(JobStatus.FAILED, JobReason.TIMED_OUT, "m")),
        (True, report(Outcome.FAILED, JobReason.TIMED_OUT, message="m"), Ending(JobStatus.CANCELLED, JobReason.CANCELLED, "m")),
        (True, report(Outcome.CANCELLED, JobReason.CANCELLED), Ending(JobStatus.CANCELLED, JobReason.CANCELLED, None)),
        (True, report(*GATE_FAILED, message="m"), Ending(JobStatus.CANCELLED, JobReason.CANCELLED, "m")),
        (True, report(*GATE_FAILED, version=QUARANTINED), Ending(JobStatus.FAILED, JobReason.GATE_FAILED, None)),
        (False, report(Outcome.RELEASED, JobReason.INTERNAL), Ending(JobStatus.QUEUED, None, "the worker handed it back")),
        (True, report(Outcome.RELEASED, JobReason.INTERNAL), Ending(JobStatus.CANCELLED, JobReason.CANCELLED, None)),
    ],
)
def test_endings(cancel_requested: bool, finish: FinishRequest, ending: Ending) -> None:
    assert decide_ending(job_of(import_spec(), cancel_requested=cancel_requested), finish, 0.5) == ending


@pytest.mark.parametrize(
    ("retries", "reason", "ending"),
    [
        ({}, JobReason.OUT_OF_MEMORY, Ending(JobStatus.WAITING, JobReason.OUT_OF_MEMORY, "m", 1.5)),
        ({JobReason.OUT_OF_MEMORY: 1}, JobReason.OUT_OF_MEMORY, Ending(JobStatus.WAITING, JobReason.OUT_OF_MEMORY, "m", 6.0)),
        ({JobReason.OUT_OF_MEMORY: 2}, JobReason.OUT_OF_MEMORY, Ending(JobStatus.FAILED, JobReason.OUT_OF_MEMORY, "m")),
        ({JobReason.OUT_OF_MEMORY: 2}, JobReason.INTERNAL, Ending(JobStatus.WAITING, JobReason.INTERNAL, "m", 3.0)),
        ({JobReason.INTERNAL: 1}, JobReason.INTERNAL, Ending(JobStatus.FAILED, JobReason.INTERNAL, "m")),
        ({}, JobReason.GATE_FAILED, Ending(JobStatus.FAILED, JobReason.GATE_FAILED, "m")),
    ],
)
def test_failures_that_are_tried_again(retries: dict[JobReason, int], reason: JobReason, ending: Ending) -> None:
    # Half of the backoff is fixed, and of the random half the draw takes half: 3/4 of 2, 8 and 4 seconds.
    finish = report(Outcome.FAILED, reason, message="m")
    assert decide_ending(job_of(import_spec(), retries=retries), finish, 0.5) == ending
    assert decide_ending(job_of(import_spec(), retries=retries, cancel_requested=True), finish, 0.5).status is JobStatus.CANCELLED


def test_lineage_has_each_input_once_and_only_what_went_into_it() -> None:
    inputs = [
        JobInput(role=InputRole.BASE, ref="bard", version_id="ver_1"),
        JobInput(role=InputRole.CALIBRATION, ref="tales", dataset_id="dat_1"),
        JobInput(role=InputRole.CALIBRATION, ref="tales@1", dataset_id="dat_1"),
        JobInput(role=InputRole.CORPUS, ref="plays", dataset_id="dat_2"),
    ]
    assert lineage_of(job_of(quantize_spec("bard", "tales"), inputs=inputs), quantized_draft()) == [
        LineageEdge(role=EdgeRole.BASE, parent_version_id="ver_1"),
        LineageEdge(role=EdgeRole.CALIBRATION, parent_dataset_id="dat_1"),
    ]


def merge(**changes: Any) -> Job:
    """Returns a merge of one adapter that was trained on a quantized version."""
    inputs = [
        JobInput(role=InputRole.ADAPTER, ref="bard@3", version_id="ver_3"),
        JobInput(role=InputRole.ADAPTER_BASE, ref="bard@2", version_id="ver_2"),
        JobInput(role=InputRole.BASE, ref="bard@1", version_id="ver_1"),
        JobInput(role=InputRole.VALIDATION, ref="exam", dataset_id="dat_1"),
    ]
    return job_of(merge_spec("bard@3", **changes), inputs=inputs)


@pytest.mark.parametrize(("target", "base_id"), [("master", "ver_1"), ("dequantized-base", "ver_2")])
def test_the_base_of_merged_weights_is_what_was_merged_into(target: str, base_id: str) -> None:
    edges = lineage_of(merge(), merged_draft(recipe={"merged_into": target}))
    assert set(edges) == {
        LineageEdge(role=EdgeRole.ADAPTER, parent_version_id="ver_3"),
        LineageEdge(role=EdgeRole.BASE, parent_version_id=base_id),
    }


def test_only_a_measured_merge_may_succeed_without_a_version() -> None:
    measured = merge(measure=True, validation_file="exam")
    check_report(measured, report(*OK, evidence=[RESULT]))
    with pytest.raises(InvalidInput, match="has made a version"):
        check_report(merge(), report(*OK))
    with pytest.raises(InvalidInput, match="no version that it is about"):
        check_report(merge(), report(Outcome.FAILED, JobReason.DIVERGED, evidence=[RESULT]))
    check_report(measured, report(*OK, version=merged_draft(), evidence=[RESULT]))
