"""What the page of deployments says."""

from __future__ import annotations

from datetime import UTC, datetime

from quantry_core.captures import CaptureSettings
from quantry_core.jobs import EngineConfig, Scaling
from quantry_core.rollouts import AttachedAdapter, Deployment, Release, Replica, ReplicaState, Rollout, RolloutState
from quantry_dashboard.deployments import (
    ADAPTER_HEADINGS,
    REPLICA_HEADINGS,
    adapter_texts,
    deployment_facts,
    replica_texts,
    rollout_address,
    state_text,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
RELEASE = Release(
    id="rel_1",
    deployment_id="dep_1",
    number=3,
    version_id="ver_1",
    version_ref="bard@2",
    num_replicas=2,
    engine=EngineConfig(max_adapters=4, kv_cache_bytes=256_000_000),
    created_at=NOW,
)
ADAPTER = AttachedAdapter(
    id="ada_1", project_id="prj_1", deployment_id="dep_1", name="pirate", version_id="ver_2", version_ref="bard-sea@1", created_at=NOW
)
DEPLOYMENT = Deployment(
    id="dep_1",
    project_id="prj_1",
    name="chat",
    current_release=RELEASE,
    active_rollout=None,
    replicas=[
        Replica(id="rep_1", release_id="rel_1", ordinal=0, state=ReplicaState.READY, adapter_ids=["ada_1"], updated_at=NOW),
        Replica(id="rep_2", release_id="rel_2", ordinal=0, state=ReplicaState.STARTING, num_restarts=1, message="slow", updated_at=NOW),
        Replica(id="rep_3", release_id="rel_0", ordinal=0, state=ReplicaState.STOPPING, updated_at=NOW),
    ],
    adapters=[ADAPTER],
    is_stopped=False,
    created_at=NOW,
)
ROLLOUT = Rollout(
    id="rol_1",
    deployment_id="dep_1",
    from_release_id="rel_1",
    to_release_id="rel_2",
    job_id="job_1",
    state=RolloutState.PROGRESSING,
    ready_deadline_at=NOW,
    created_at=NOW,
)


def test_a_deployment_that_serves() -> None:
    said = {fact.name: fact.text for fact in deployment_facts(DEPLOYMENT)}
    assert said["release"] == "3, since 2026-11-22 12:00:00 UTC"
    assert said["version"] == "bard@2"
    assert said["replicas"] == "1 ready of 2"
    assert said["engine"] == "vllm, 16 sequences at once, 256.0 MB of KV cache"
    assert said["adapters"] == "1 of 4, of rank 16 at most"
    assert "capture" not in said
    assert state_text(DEPLOYMENT) == "serves"


def test_a_rollout_has_an_address_and_names_whose_replicas_are_whose() -> None:
    rolling = DEPLOYMENT.model_copy(update={"active_rollout": ROLLOUT})
    assert rollout_address("chat", ROLLOUT) == "/deployments/chat/rollouts/rol_1"
    rows = [dict(zip(REPLICA_HEADINGS, replica_texts(rolling, one), strict=True)) for one in rolling.replicas]
    assert [row["Release"] for row in rows] == ["current", "next", "former"]
    assert [row["Adapters"] for row in rows] == ["pirate", "–", "–"]
    assert (rows[1]["State"], rows[1]["Restarts"], rows[1]["Message"]) == ("starting", "1", "slow")


def test_scaling_and_capture_are_said() -> None:
    scaled = RELEASE.model_copy(update={"scaling": Scaling(min_replicas=0, max_replicas=4)})
    changes = {"current_release": scaled, "num_wanted": 3, "capture": CaptureSettings(percent=2.5, retention_days=7)}
    said = {fact.name: fact.text for fact in deployment_facts(DEPLOYMENT.model_copy(update=changes))}
    assert said["replicas"] == "1 ready of 3, scaled between 0 and 4"
    assert said["capture"] == "2.5% of prompts are kept, for 7 days"


def test_an_adapter_that_cannot_be_loaded_says_why() -> None:
    refused = ADAPTER.model_copy(update={"message": "its rank is too high"})
    row = dict(zip(ADAPTER_HEADINGS, adapter_texts(DEPLOYMENT, refused), strict=True))
    assert row == {
        "Adapter": "pirate",
        "Version": "bard-sea@1",
        "Loaded": "1 of 3",
        "Since": "2026-11-22 12:00:00 UTC",
        "Message": "its rank is too high",
    }


def test_what_does_not_serve_says_so() -> None:
    assert state_text(DEPLOYMENT.model_copy(update={"is_stopped": True})) == "stopped"
    assert state_text(DEPLOYMENT.model_copy(update={"replicas": []})) == "nothing is ready"
    empty = DEPLOYMENT.model_copy(update={"current_release": None, "replicas": [], "adapters": []})
    assert state_text(empty) == "serves nothing yet"
    assert [fact.name for fact in deployment_facts(empty)] == ["created"]
    bare = RELEASE.model_copy(update={"engine": EngineConfig(max_model_len_tokens=512)})
    said = {fact.name: fact.text for fact in deployment_facts(DEPLOYMENT.model_copy(update={"current_release": bare}))}
    assert said["adapters"] == "started without room for adapters"
    assert said["engine"].endswith(", 512 tokens")
