"""Where a rollout is, as the progress of its deploy job."""

from __future__ import annotations

from quantry_core.jobs import Progress
from quantry_core.rollouts import ReplicaState, Rollout, RolloutState
from quantry_core.strategies import ShadowStrategy, StrategyName
from quantry_core.verdicts import Judgement
from quantry_deploy.observations import Observations, PullState
from quantry_deploy.stages import Stage, rollout_stages, stage_now
from quantry_store.transactions.rollouts import DeploymentRecord

PULLED = 0.2
"""Share of the way to ready replicas that the files count for; loading the engine is the longer part."""

READY = 0.5
"""Share of the whole that ready replicas count for, where stages follow."""

MAX_DETAIL_CHARS = 200

NAMES = {StrategyName.BLUE_GREEN: "blue-green", StrategyName.AB: "A/B"}
"""Of strategies that people write otherwise than specs do."""


def rollout_progress(record: DeploymentRecord, rollout: Rollout, seen: Observations) -> Progress | None:
    """Returns the phase (pulling, starting, ready, or the strategy's name), how much of the way is done, and where it is in words.

    None before there is anything to tell.
    """
    stages = rollout_stages(rollout)
    if rollout.staged_at is not None and not stage_now(rollout).is_passage:
        judgement = seen.judgements.get(rollout.id)
        fraction = READY + (1 - READY) * min(rollout.stage, len(stages) - 1) / len(stages)
        return Progress(phase=rollout.strategy.name, fraction=round(fraction, 3), detail=_words(rollout, stage_now(rollout), judgement))
    rising = _rising(record, rollout, seen)
    if rising is None or stages[0].is_passage:
        return rising
    return rising.model_copy(update={"fraction": round(READY * rising.fraction, 3)})


def _rising(record: DeploymentRecord, rollout: Rollout, seen: Observations) -> Progress | None:
    """Returns how far its replicas are; of a pending one, its files."""
    release = record.releases[rollout.to_release_id]
    pull = seen.pull(release.id)
    if rollout.state is RolloutState.PENDING and pull.state is not PullState.RUNNING:
        return None
    replicas = [replica for replica in record.deployment.replicas if replica.release_id == release.id]
    num_ready = sum(replica.state is ReplicaState.READY for replica in replicas)
    detail = f"{num_ready} of {release.num_replicas} replicas ready"
    if num_ready >= release.num_replicas:
        return Progress(phase="ready", fraction=1.0, detail=detail)
    if any(replica.state is not ReplicaState.PULLING for replica in replicas):
        share = num_ready / release.num_replicas
        return Progress(phase="starting", fraction=round(PULLED + (1 - PULLED) * share, 3), detail=detail)
    share = 1.0 if pull.state is PullState.DONE else pull.fraction
    # Whole tenths: each change is an event, and an event for every chunk would drown the others.
    tenths = int(share * 10) / 10
    return Progress(phase="pulling", fraction=round(PULLED * tenths, 3), detail=pull.message[:200] or f"{tenths:.0%} of the files")


def _words(rollout: Rollout, stage: Stage, judgement: Judgement | None) -> str:
    """Returns such as "canary 10%, analysis inconclusive: 38 of 74 requests"."""
    name = NAMES.get(rollout.strategy.name, str(rollout.strategy.name))
    share = f"of {rollout.mirror_percent}%" if isinstance(rollout.strategy, ShadowStrategy) else f"{rollout.percent}%"
    words = f"{name} {share}"
    if rollout.state is RolloutState.PAUSED:
        words += f", paused: {rollout.message or rollout.reason or 'by request'}"
    if stage.is_exposed and judgement is not None:
        words += f", analysis {judgement.verdict}: {judgement.reason()}"
    return _shortened(words)


def _shortened(words: str) -> str:
    """Returns what fits: as many whole findings as there is room for, and whole words of the first where not even that fits."""
    if len(words) <= MAX_DETAIL_CHARS:
        return words
    room = words[: MAX_DETAIL_CHARS - 1]
    whole, end, _ = room.rpartition(";")
    return f"{whole}{end} …"[:MAX_DETAIL_CHARS] if end else f"{room.rpartition(' ')[0]} …"
