"""Deployments of quick engines in the stack under chaos: what is imported, deployed, looked at and told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from chaos.platform import Chaos, wait_until
from factories.checkpoints import CONFIG, master_contents, write_checkpoint
from quantry_core.jobs import DeploySpec, ImportSpec, JobStatus
from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, Deployment, Replica, ReplicaState, Rollout
from quantry_core.routes import Route

IMPORT_TIMEOUT_S = 60.0
DEPLOY_TIMEOUT_S = 120.0


def version_of(chaos: Chaos, name: str, **behaviour: Any) -> str:
    """Imports a master whose engine behaves so, and is called by its name; returns its reference."""
    config = CONFIG | {"fake": {"name": name, **behaviour}}
    source = write_checkpoint(chaos.scratch / name, master_contents(config__json=json.dumps(config).encode()))
    job_id = chaos.client.jobs.submit(ImportSpec(model=name, source=str(source))).id
    if not chaos.wait_until_ended([job_id], IMPORT_TIMEOUT_S) or chaos.statuses([job_id])[job_id] is not JobStatus.SUCCEEDED:
        raise RuntimeError(f"the version of {name} was not imported: {chaos.client.jobs.get(job_id).message}")
    return f"{name}@1"


def deploy(chaos: Chaos, deployment: str, version: str, **options: Any) -> Rollout:
    """Begins to serve a version, and returns the rollout."""
    spec = DeploySpec.model_validate({"deployment": deployment, "version": version, **options})
    begun = chaos.client.rollouts.create(spec)
    if not isinstance(begun, Rollout):
        raise RuntimeError(f"the deploy of {version} has to wait: job {begun.id} is {begun.status}")
    return begun


def deployed(chaos: Chaos, deployment: str, version: str, **options: Any) -> Deployment:
    """Serves a version and returns the deployment once it is promoted and the gateway answers for it."""
    rollout = deploy(chaos, deployment, version, watch_s=0, **options)
    if not wait_until(lambda: chaos.client.rollouts.get(rollout.id).state not in ACTIVE_ROLLOUT_STATES, DEPLOY_TIMEOUT_S):
        raise TimeoutError(f"{version} is not served after {DEPLOY_TIMEOUT_S:.0f} s")
    ended = chaos.client.rollouts.get(rollout.id)
    if ended.state != "promoted":
        raise RuntimeError(f"{version} was not promoted but {ended.state}: {ended.message}")
    if not wait_until(lambda: answers(chaos, deployment), DEPLOY_TIMEOUT_S):
        raise TimeoutError(f"the gateway does not answer for {deployment}")
    return chaos.client.deployments.get(deployment)


def stop(chaos: Chaos, deployment: str) -> None:
    """Stops a deployment and waits until its engines are gone."""
    chaos.client.deployments.stop(deployment)
    wait_until(lambda: not any(one.pid for one in chaos.client.deployments.get(deployment).replicas), DEPLOY_TIMEOUT_S)


def answers(chaos: Chaos, model: str) -> bool:
    """Tells whether the gateway gets an answer from a model."""
    return answered_by(chaos, model) is not None


def answered_by(chaos: Chaos, model: str) -> str | None:
    """Returns the name of the engine that the gateway gets an answer from, or None where it gets none."""
    with chaos.http() as http:
        try:
            answer = http.post("/v1/completions", json={"model": model, "prompt": "Speak", "max_tokens": 1})
        except httpx.TransportError:
            return None
    return str(answer.json().get("system_fingerprint")) if answer.is_success else None


def ready(chaos: Chaos, deployment: str) -> list[Replica]:
    """Returns the replicas of a deployment that are ready."""
    return [one for one in chaos.client.deployments.get(deployment).replicas if one.state is ReplicaState.READY]


def wait_for_rollout(chaos: Chaos, rollout: Rollout, is_so: Callable[[Rollout], bool], what: str, timeout_s: float) -> Rollout:
    """Returns a rollout once it is so; raises TimeoutError that says ``what``."""
    if not wait_until(lambda: is_so(chaos.client.rollouts.get(rollout.id)), timeout_s):
        now = chaos.client.rollouts.get(rollout.id)
        raise TimeoutError(f"{what}: after {timeout_s:.0f} s it is {now.state} at {now.percent} percent, {now.reason}: {now.message}")
    return chaos.client.rollouts.get(rollout.id)


def route(chaos: Chaos, deployment: str) -> Route | None:
    """Returns a deployment's route as gateways are told of it now; None where there is none."""
    token = chaos.launch_file("gateway").environment["QUANTRY_GATEWAY_TOKEN"]
    with chaos.http(part="api", key=token) as http:
        told = http.get("/internal/v1/routes").raise_for_status().json()
    found: Sequence[Route] = [Route.model_validate(one) for one in told["routes"] if one["deployment"] == deployment]
    return found[0] if found else None


def num_asked(replica: Replica) -> int:
    """Returns how many requests a replica's engine was asked, whatever became of them."""
    answer = httpx.get(f"{replica.url}/fake/seen", timeout=5, trust_env=False).raise_for_status()
    return int(answer.json()["seen"])


def behave(replica: Replica, **changes: Any) -> None:
    """Changes what a replica's engine does from now on."""
    httpx.post(f"{replica.url}/fake/behaviour", json=changes, timeout=5, trust_env=False).raise_for_status()
