"""What the pages of workers, schedules and webhooks say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from factories.job_api import a_job
from quantry_core.queue_loads import QueueLoad
from quantry_core.schedules import JobTemplate, OverlapPolicy, Schedule, ScheduleRun
from quantry_core.webhooks import DeliveryState, Webhook, WebhookDelivery
from quantry_core.worker_hosts import Enrolment
from quantry_core.workers import Device
from quantry_dashboard.asking import NotDone
from quantry_dashboard.schedule_facts import (
    EXAMPLE,
    TEMPLATE_EXAMPLE,
    read_submission,
    read_template,
    run_address,
    template_of_job,
    what_text,
)
from quantry_dashboard.webhook_facts import outcome_text, subject_address, webhook_state
from quantry_dashboard.worker_facts import device_line, enrol_command, invitation_state, is_open, is_stuck, oldest_text, queue_size_text

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def a_queue(name: str = "gpu", **changes: Any) -> QueueLoad:
    return QueueLoad.model_validate({"name": name, "num_waiting": 0, "num_queued": 0, "num_running": 0, "num_slots": 1, **changes})


def test_queues_in_words() -> None:
    assert queue_size_text(a_queue("cpu", max_memory_bytes=16_000_000_000)) == "16.0 GB"
    assert queue_size_text(a_queue("gpu-quad", num_gpus=4, max_memory_bytes=80_000_000_000)) == "4 GPUs, 80.0 GB each"
    assert queue_size_text(a_queue()) == "1 GPU, no bound"
    assert oldest_text(a_queue()) == "–"
    assert oldest_text(a_queue(oldest_queued_s=200.0)) == "3 min 20 s"
    assert is_stuck(a_queue(num_queued=1, num_slots=0))
    assert not is_stuck(a_queue(num_queued=1)) and not is_stuck(a_queue(num_slots=0))


def test_a_gpu_tells_what_its_worker_knows() -> None:
    bare = device_line(Device(id="0"))
    assert (bare.name, bare.details, bare.memory_share, bare.busy_share) == ("0", "", None, None)
    full = device_line(Device(id="1", name="H200", memory_bytes=100, memory_used_bytes=150, utilization=0.5, num_ecc_errors=3))
    assert (full.memory_share, full.busy_share) == (1.0, 0.5)
    assert full.details == "150 B of 100 B · 50% busy · 3 memory errors"


def test_one_time_tokens_in_words() -> None:
    token = Enrolment(id="enr_1", name="rack-7", created_at=NOW, expires_at=NOW + timedelta(hours=1))
    assert (invitation_state(token, NOW).text, is_open(token, NOW)) == ("expires in 1 h", True)
    for changes, text in (({"used_at": NOW}, "used"), ({"revoked_at": NOW}, "withdrawn"), ({"expires_at": NOW}, "expired")):
        changed = token.model_copy(update=changes)
        assert (invitation_state(changed, NOW).text, is_open(changed, NOW)) == (text, False)


def test_the_command_of_an_enrolment_is_one_word_for_each_argument() -> None:
    assert "'https://x.example/$(reboot)'" in enrol_command("https://x.example/$(reboot)")


def test_the_examples_are_schedules() -> None:
    assert read_submission(EXAMPLE).name == "nightly"
    assert isinstance(read_template(TEMPLATE_EXAMPLE), JobTemplate)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name: x\ncron: [", "line 2: this is no YAML"),
        ("", "the file is empty"),
        ("just text", "line 1"),
        ("name: a\nname: b\n", "line 2, name: stands here for the second time"),
        (EXAMPLE + "every: day\n", "every: there is no such field"),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"{n}: &{n} [{', '.join(['*' + p] * 10)}]\n" for p, n in ("ab", "bc", "cd", "de", "ef")),
            "more than",
        ),
    ],
)
def test_a_text_that_is_no_schedule_is_told_why_by_its_lines(text: str, why: str) -> None:
    with pytest.raises(NotDone, match=why):
        read_submission(text)


def test_a_job_becomes_a_template_that_submits_the_same() -> None:
    job = a_job(labels={"team": "search"}, queue="gpu-80g")
    template = read_template(template_of_job(job))
    assert isinstance(template, JobTemplate)
    assert template.submission.spec == job.spec
    assert (template.submission.labels, template.submission.resource, template.submission.queue) == ({"team": "search"}, "gpu", None)


def test_schedules_and_their_runs_in_words() -> None:
    schedule = Schedule(
        id="sch_1", project_id="prj_1", name="n", cron="0 0 * * *", time_zone="UTC", overlap=OverlapPolicy.SKIP, missed="skip",
        template={"kind": "pipeline", "submission": {"steps": {"a": {}}}}, is_paused=False, next_run_at=None, created_at=NOW,
    )  # fmt: skip
    assert what_text(schedule) == "pipeline of 1 step"
    run = ScheduleRun(id="run_1", schedule_id="sch_1", due_at=NOW, fired_at=NOW, outcome="fired")
    assert run_address(run) is None
    assert run_address(run.model_copy(update={"job_id": "job_1"})) == "/jobs/job_1"
    assert run_address(run.model_copy(update={"pipeline_id": "pip_1"})) == "/pipelines/pip_1"


def test_webhooks_and_messages_in_words() -> None:
    hook = Webhook(
        id="whk_1", project_id="prj_1", name="n", url="https://x", events=["job.failed"], format="json", is_active=True, created_at=NOW
    )
    states: list[dict[str, Any]] = [
        {},
        {"failing_since": NOW},
        {"is_active": False},
        {"is_active": False, "disabled_reason": "it never answered"},
    ]
    assert [webhook_state(hook.model_copy(update=one)).text for one in states] == ["active", "failing", "paused", "disabled"]
    sent = WebhookDelivery(
        id="dlv_1", webhook_id="whk_1",
        event="job.failed", subject_id="job_1", state=DeliveryState.PENDING, num_attempts=1, last_status=500,
        last_error="answered 500", next_attempt_at=NOW + timedelta(seconds=60), created_at=NOW,
    )  # fmt: skip
    assert subject_address(sent) == "/jobs/job_1"
    assert subject_address(sent.model_copy(update={"event": "rollout.verdict", "subject_id": "rol_1"})) == "/rollouts/rol_1"
    assert subject_address(sent.model_copy(update={"event": "ping"})) is None
    assert outcome_text(sent, NOW) == "answered 500; tried again in 1 min"
