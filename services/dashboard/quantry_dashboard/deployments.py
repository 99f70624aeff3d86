"""What the page of deployments says of each: pure functions from a deployment to names and texts."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from quantry_core.jobs import JobType
from quantry_core.rollouts import AttachedAdapter, Deployment, Release, Replica, ReplicaState, Rollout
from quantry_dashboard import words
from quantry_dashboard.facts import Fact
from quantry_dashboard.version_filters import version_address

PATH = "/deployments"
ROLLOUTS = "/rollouts"
"""A rollout beneath it leads to its page, which is beneath its deployment's."""
REPLICA_HEADINGS = ("Replica", "State", "Release", "Adapters", "Restarts", "Message")
ADAPTER_HEADINGS = ("Adapter", "Version", "Loaded", "Since", "Message")


def state_text(deployment: Deployment) -> str:
    """Returns in a few words whether a deployment serves."""
    if deployment.is_stopped:
        return "stopped"
    if deployment.current_release is None:
        return "serves nothing yet"
    return "serves" if deployment.num_ready else "nothing is ready"


def deployment_facts(deployment: Deployment) -> list[Fact]:
    """Returns what a deployment serves by which release."""
    release = deployment.current_release
    facts = [Fact("created", words.moment_text(deployment.created_at))]
    if release is not None:
        facts += [
            Fact("release", f"{release.number}, since {words.moment_text(release.created_at)}"),
            Fact("version", release.version_ref, version_address(release.version_id)),
            Fact("replicas", _replicas_text(deployment, release)),
            Fact("engine", _engine_text(release)),
            Fact("adapters", _room_text(release, len(deployment.adapters))),
        ]
    if deployment.capture is not None:
        facts.append(Fact("capture", f"{deployment.capture.percent:g}% of prompts are kept, for {deployment.capture.retention_days} days"))
    return facts


def deployment_address(name: str) -> str:
    """Returns where a deployment's page is."""
    return f"{PATH}/{quote(name, safe='')}"


def deploy_address(name: str | None = None) -> str:
    """Returns the address of a form that deploys; ``name``: to which deployment."""
    query = {"type": JobType.DEPLOY.value, "deployment": name}
    return f"/jobs/new?{urlencode({field: value for field, value in query.items() if value})}"


def rollout_address(name: str, rollout: Rollout) -> str:
    """Returns where a rollout's page is."""
    return f"{deployment_address(name)}/rollouts/{rollout.id}"


def replica_texts(deployment: Deployment, replica: Replica) -> tuple[str, ...]:
    """Returns the cells of a replica's row, under REPLICA_HEADINGS."""
    loaded = [adapter.name for adapter in deployment.adapters if adapter.id in replica.adapter_ids]
    return (
        str(replica.ordinal),
        replica.state,
        _release_text(deployment, replica),
        ", ".join(loaded) or "–",
        str(replica.num_restarts),
        replica.message or "",
    )


def adapter_texts(deployment: Deployment, adapter: AttachedAdapter) -> tuple[str, ...]:
    """Returns the cells of an attached adapter's row, under ADAPTER_HEADINGS."""
    return (
        adapter.name,
        adapter.version_ref,
        f"{deployment.num_loaded(adapter)} of {len(deployment.replicas)}",
        words.moment_text(adapter.created_at),
        adapter.message or "",
    )


def _replicas_text(deployment: Deployment, release: Release) -> str:
    wanted = release.num_replicas if deployment.num_wanted is None else deployment.num_wanted
    scaled = "" if release.scaling is None else f", scaled between {release.scaling.min_replicas} and {release.scaling.max_replicas}"
    num_ready = sum(replica.release_id == release.id and replica.state is ReplicaState.READY for replica in deployment.replicas)
    return f"{num_ready} ready of {wanted}{scaled}"


def _engine_text(release: Release) -> str:
    engine = release.engine
    context = "" if engine.max_model_len_tokens is None else f", {engine.max_model_len_tokens} tokens"
    return f"{engine.engine}, {engine.max_num_seqs} sequences at once, {words.bytes_text(engine.kv_cache_bytes)} of KV cache{context}"


def _room_text(release: Release, num_attached: int) -> str:
    engine = release.engine
    if not engine.max_adapters:
        return "started without room for adapters"
    return f"{num_attached} of {engine.max_adapters}, of rank {engine.max_adapter_rank} at most"


def _release_text(deployment: Deployment, replica: Replica) -> str:
    """Returns of which release a replica is: the one that serves, the one that is rolled out, or one that ends."""
    if deployment.current_release is not None and replica.release_id == deployment.current_release.id:
        return "current"
    if deployment.active_rollout is not None and replica.release_id == deployment.active_rollout.to_release_id:
        return "next"
    return "former"
