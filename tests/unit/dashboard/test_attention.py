"""What needs a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from factories.serving import a_release, a_rollout
from quantry_core.rollouts import Deployment, Replica, ReplicaState, RolloutState
from quantry_core.schedules import MissedPolicy, OverlapPolicy, Schedule
from quantry_core.workers import Device, Worker
from quantry_dashboard.attention import Matter, capacity_texts, matters

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def a_deployment(**changes: Any) -> Deployment:
    replica = Replica(id="rep_1", release_id="rel_1", ordinal=0, state=ReplicaState.READY, updated_at=NOW)
    fields: dict[str, Any] = {"current_release": a_release(), "active_rollout": None, "replicas": [replica], "is_stopped": False} | changes
    return Deployment(id="dep_1", project_id="prj_1", name="chat", created_at=NOW, **fields)


def a_schedule(due: datetime | None) -> Schedule:
    return Schedule(
        id="sch_1",
        project_id="prj_1",
        name="nightly",
        cron="0 3 * * *",
        time_zone="UTC",
        template={},
        overlap=OverlapPolicy.SKIP,
        missed=MissedPolicy.SKIP,
        is_paused=due is None,
        next_run_at=due,
        created_at=NOW,
    )


def a_worker(host: str, **changes: Any) -> Worker:
    fields: dict[str, Any] = {"is_alive": True, "last_seen_at": NOW, "job_ids": [], "devices": []} | changes
    return Worker(id=f"wrk_{host}", host=host, pid=1, version="1", queues=["gpu"], num_slots=2, environments={}, started_at=NOW, **fields)


def test_a_paused_rollout_waits_for_somebody_and_says_why() -> None:
    paused = a_rollout(RolloutState.PAUSED, message="no verdict in time")
    [matter] = matters([a_deployment(active_rollout=paused)], [], [], [], NOW)
    assert matter == Matter("paused rollout", "chat", f"/deployments/chat/rollouts/{paused.id}", "no verdict in time")
    going_on = a_rollout(RolloutState.PROGRESSING)
    assert matters([a_deployment(active_rollout=going_on)], [], [], [], NOW) == []


def test_a_deployment_without_a_ready_replica_needs_somebody_unless_it_is_meant() -> None:
    assert [matter.kind for matter in matters([a_deployment(replicas=[])], [], [], [], NOW)] == ["nothing ready"]
    meant = [
        a_deployment(replicas=[], is_stopped=True),
        a_deployment(replicas=[], num_wanted=0),
        a_deployment(replicas=[], current_release=None),
        a_deployment(),
    ]
    assert matters(meant, [], [], [], NOW) == []


def test_a_schedule_is_overdue_after_a_while() -> None:
    late, soon, just_due = NOW - timedelta(minutes=30), NOW + timedelta(hours=1), NOW - timedelta(seconds=30)
    assert [matter.sentence for matter in matters([], [], [a_schedule(late)], [], NOW)] == ["It was due 30 min ago and has not run."]
    assert matters([], [], [a_schedule(soon), a_schedule(just_due), a_schedule(None)], [], NOW) == []


def test_a_worker_that_is_not_heard_of_is_named() -> None:
    silent = a_worker("gpu-2", is_alive=False, last_seen_at=NOW - timedelta(minutes=9))
    [matter] = matters([], [], [], [a_worker("gpu-1"), silent], NOW)
    assert (matter.name, matter.sentence) == ("gpu-2", "It was last heard of 9 min ago.")


def test_what_works_is_counted_of_those_that_answer() -> None:
    gpu = Device(id="0", name="H200")
    workers = [
        a_worker("a", devices=[gpu, gpu], job_ids=["job_1"]),
        a_worker("b", devices=[Device(id="1", name="L4")]),
        a_worker("c", is_alive=False, devices=[gpu]),
    ]
    assert capacity_texts(workers) == ("2 of 3 answer", "1 of 4 run jobs of this project", "2 × H200, 1 × L4")
    assert capacity_texts([]) == ("0", "0 of 0 run jobs of this project", "none")
