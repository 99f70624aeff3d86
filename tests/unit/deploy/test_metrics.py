"""What the controller tells of what it saw and did."""

from __future__ import annotations

import os

from prometheus_client import generate_latest

from factories.rollout_records import judged, record, release, replica, rollout
from quantry_core.jobs import JobReason
from quantry_core.rollouts import ReplicaState, RolloutReason, RolloutState
from quantry_core.strategies import CanaryStrategy
from quantry_core.verdicts import Verdict
from quantry_deploy.actions import BeginRollout, EndRollout, PromoteRollout, UndoPromotion
from quantry_deploy.metrics import MAX_DEPLOYMENTS, OTHER, DeployMetrics
from quantry_store.transactions.rollouts import DeploymentRecord
from quantry_telemetry.gpu_metrics import Owner
from quantry_telemetry.gpus import Gpus

OLD, NEW = release("rel_old", num_replicas=3), release("rel_new")
SERVING = record(
    replica(ReplicaState.READY, "rel_old", num_restarts=2),
    replica(ReplicaState.FAILED, "rel_old", ordinal=1, num_restarts=1),
    current=OLD,
    target=NEW,
    active=rollout(strategy=CanaryStrategy(), judgement=judged(Verdict.INCONCLUSIVE)),
)


def metrics() -> DeployMetrics:
    return DeployMetrics(Gpus(lambda: None))


def shown(told: DeployMetrics) -> dict[str, float]:
    lines = [
        line for line in generate_latest(told.registry).decode().splitlines() if line.startswith(("quantry_deployment", "quantry_rollout"))
    ]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines) if float(value) or "replicas" in name}


def numbered(one: DeploymentRecord, number: int) -> DeploymentRecord:
    return one.model_copy(update={"deployment": one.deployment.model_copy(update={"id": f"dep_{number:04}"})})


def test_deployments_are_shown_as_they_were_seen_last() -> None:
    told = metrics()
    told.saw([SERVING])
    assert shown(told) == {
        "quantry_deployments": 1,
        'quantry_deployment_replicas{deployment="dep_1",state="ready"}': 1,
        'quantry_deployment_replicas{deployment="dep_1",state="failed"}': 1,
        'quantry_deployment_replicas_wanted{deployment="dep_1"}': 3,
        'quantry_deployment_replica_restarts{deployment="dep_1"}': 3,
        'quantry_rollouts_active{state="progressing",strategy="canary"}': 1,
        'quantry_rollouts_judged{verdict="inconclusive"}': 1,
    }
    told.saw([record(current=OLD)])
    assert shown(told) == {
        "quantry_deployments": 1,
        # Said also where there is none: an alert needs a number to look at.
        'quantry_deployment_replicas{deployment="dep_1",state="ready"}': 0,
        'quantry_deployment_replicas_wanted{deployment="dep_1"}': 3,
    }
    told.saw([])
    assert shown(told) == {}


def test_deployments_beyond_a_bound_share_one_label() -> None:
    told = metrics()
    told.saw([numbered(SERVING, number) for number in range(MAX_DEPLOYMENTS + 2)])
    wanted = {name: value for name, value in shown(told).items() if "wanted" in name}
    assert len(wanted) == MAX_DEPLOYMENTS + 1
    assert wanted[f'quantry_deployment_replicas_wanted{{deployment="{OTHER}"}}'] == 6


def test_moves_and_verdicts_are_counted() -> None:
    told, one = metrics(), rollout()
    fresh = generate_latest(told.registry).decode()
    assert 'quantry_rollouts_ended_total{reason="crash_loop",state="rolled_back"} 0.0' in fresh, "else an alert would not see the first one"
    told.moved(BeginRollout(one))
    told.moved(PromoteRollout(one))
    told.moved(EndRollout(one, RolloutState.ROLLED_BACK, RolloutReason.VERDICT_FAILED, JobReason.INTERNAL, "worse"))
    told.moved(UndoPromotion(one, RolloutReason.VERDICT_FAILED, "worse"))
    told.judged(judged(Verdict.FAIL))
    assert {name: value for name, value in shown(told).items() if "_total" in name} == {
        'quantry_rollout_moves_total{move="BeginRollout"}': 1,
        'quantry_rollout_moves_total{move="PromoteRollout"}': 1,
        'quantry_rollout_moves_total{move="EndRollout"}': 1,
        'quantry_rollout_moves_total{move="UndoPromotion"}': 1,
        'quantry_rollouts_ended_total{reason="",state="promoted"}': 1,
        'quantry_rollouts_ended_total{reason="verdict_failed",state="rolled_back"}': 1,
        'quantry_rollouts_ended_total{reason="verdict_failed",state="undone"}': 1,
        'quantry_rollout_judgements_total{verdict="fail"}': 1,
    }


def test_a_process_belongs_to_the_replica_that_began_it_or_its_parents() -> None:
    told = metrics()
    told.saw([record(replica(ReplicaState.READY, "rel_old", id="rep_1", pid=os.getppid()), current=OLD)])
    assert told._state.owner_of(os.getpid()) == Owner("replica", "rep_1")
    assert told._state.owner_of(1) is None
    assert told._state.owner_of(2**22 + 1) is None
