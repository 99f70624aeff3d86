"""What the rollout controller tells Prometheus: its loop, what it decided, and what it last saw of deployments.

Deployments are named by their ids, never by the names their projects gave them.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator, Sequence

import psutil
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from quantry_core.rollouts import ReplicaState, RolloutReason, RolloutState
from quantry_core.verdicts import Judgement
from quantry_deploy.actions import EndRollout, PromoteRollout, RolloutMove, UndoPromotion
from quantry_store.transactions.rollouts import DeploymentRecord
from quantry_telemetry.gpu_metrics import GpuCollector, Owner
from quantry_telemetry.gpus import Gpus
from quantry_telemetry.loops import LoopMetrics
from quantry_telemetry.registry import service_registry

MAX_DEPLOYMENTS = 200
"""Beyond it deployments are counted together, as OTHER."""
OTHER = "other"

REPLICA = "replica"
UNDONE = "undone"
"""State of a rollout that was promoted and taken back in its watch."""


class DeployMetrics:
    """The metrics of one controller, in a registry of their own."""

    def __init__(self, gpus: Gpus | None = None) -> None:
        self.registry = service_registry("deploy")
        self.loops = LoopMetrics(self.registry)
        self._moves = Counter("quantry_rollout_moves", "Moves of rollouts that the controller made.", ["move"], registry=self.registry)
        self._ended = Counter(
            "quantry_rollouts_ended", "Rollouts that the controller ended, or took back.", ["state", "reason"], registry=self.registry
        )
        # From zero on, or the first rollout that ends so would be no increase to an alert.
        self._ended.labels(RolloutState.PROMOTED, "")
        for state in (RolloutState.ROLLED_BACK, RolloutState.ABORTED, UNDONE):
            for reason in RolloutReason:
                self._ended.labels(state, reason)
        self._judgements = Counter(
            "quantry_rollout_judgements", "Judgements that were written down, by their verdict.", ["verdict"], registry=self.registry
        )
        self._state = DeploymentState()
        self.registry.register(self._state)
        GpuCollector(Gpus() if gpus is None else gpus, self._state.owner_of).register(self.registry)

    def saw(self, records: Sequence[DeploymentRecord]) -> None:
        """Takes what a look found."""
        self._state.records = records

    def moved(self, move: RolloutMove) -> None:
        """Counts a move that was written."""
        self._moves.labels(type(move).__name__).inc()
        match move:
            case PromoteRollout():
                self._ended.labels(RolloutState.PROMOTED, "").inc()
            case EndRollout():
                self._ended.labels(move.state, move.reason).inc()
            case UndoPromotion():
                self._ended.labels(UNDONE, move.reason).inc()
            case _:
                return

    def judged(self, judgement: Judgement) -> None:
        """Counts a judgement that was written."""
        self._judgements.labels(judgement.verdict).inc()


class DeploymentState:
    """What the last look found. Called from wherever metrics are served: it only reads."""

    def __init__(self) -> None:
        self.records: Sequence[DeploymentRecord] = ()

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        deployments = [record.deployment for record in self.records]
        yield GaugeMetricFamily(
            "quantry_deployments", "Deployments there are, stopped ones left out.", value=sum(not one.is_stopped for one in deployments)
        )
        rollouts = [one.active_rollout for one in deployments if one.active_rollout is not None]
        active = GaugeMetricFamily("quantry_rollouts_active", "Rollouts that have not ended.", labels=["state", "strategy"])
        for labels, number in Counts((str(one.state), str(one.strategy.name)) for one in rollouts).items():
            active.add_metric(labels, number)
        yield active
        judged = GaugeMetricFamily("quantry_rollouts_judged", "Rollouts that have not ended, by their last verdict.", labels=["verdict"])
        for verdict, number in Counts(str(one.judgement.verdict) for one in rollouts if one.judgement is not None).items():
            judged.add_metric([verdict], number)
        yield judged
        yield from self._replicas()

    def owner_of(self, pid: int) -> Owner | None:
        """Returns the replica that a process of this host belongs to; None where it is no replica's."""
        known = {replica.pid: replica.id for record in self.records for replica in record.deployment.replicas if replica.pid is not None}
        try:
            process = psutil.Process(pid)
            line = [process.pid, *(parent.pid for parent in process.parents())]
        except psutil.Error:
            return None
        return next((Owner(REPLICA, known[one]) for one in line if one in known), None)

    def _replicas(self) -> Iterator[Metric]:
        states: Counts[tuple[str, ReplicaState]] = Counts()
        restarts: Counts[str] = Counts()
        wanted: Counts[str] = Counts()
        by_age = sorted((record.deployment for record in self.records), key=lambda one: (one.created_at, one.id))
        for position, one in enumerate(by_age):
            name = one.id if position < MAX_DEPLOYMENTS else OTHER
            # Every state that a replica can wait in, so that an alert on none that is ready has a number to look at.
            states.update({(name, ReplicaState.READY): 0})
            states.update((name, replica.state) for replica in one.replicas)
            restarts[name] += sum(replica.num_restarts for replica in one.replicas)
            if one.current_release is not None and not one.is_stopped:
                wanted[name] += one.current_release.num_replicas if one.num_wanted is None else one.num_wanted
        replicas = GaugeMetricFamily("quantry_deployment_replicas", "Replicas of a deployment, by state.", labels=["deployment", "state"])
        for (name, state), number in states.items():
            replicas.add_metric([name, state], number)
        yield replicas
        for family_name, words, numbers in (
            ("quantry_deployment_replicas_wanted", "Replicas that the current release of a deployment is to have.", wanted),
            ("quantry_deployment_replica_restarts", "How often the replicas there are had to be started again.", restarts),
        ):
            family = GaugeMetricFamily(family_name, words, labels=["deployment"])
            for name, number in numbers.items():
                family.add_metric([name], number)
            yield family
