"""A stack that holds the releases of these benchmarks as versions, and what is done with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.embedded import ROOT, Measured
from bench.serving.checkpoints import EXAMPLE, MODEL, SPOILT_MODEL, TEXTS, candidate_spec, spoil, spoilt_spec, stable_spec
from bench.serving.engine import engine_config
from quantry_core.jobs import DeploySpec, ImportSpec, JobSpec, JobStatus
from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, Deployment, ReplicaState, Rollout

JOB_TIMEOUT_S = 900.0
ROLLOUT_TIMEOUT_S = 1800.0
STOP_TIMEOUT_S = 180.0
POLL_S = 0.2
DEPLOYMENT = "bard"


@dataclass(frozen=True)
class Versions:
    """References of what was made."""

    stable: str
    candidate: str
    spoilt: str | None = None


def make_versions(measured: Measured, *, spread: float | None = None) -> Versions:
    """Imports the example master and quantizes it as stable and candidate; with ``spread`` a spoilt one too."""
    for name in TEXTS:
        measured.client.datasets.upload(name, ROOT / "examples" / "corpora" / f"{name}.txt")
    source = measured.scratch / MODEL
    source.mkdir()
    for file in EXAMPLE.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    succeed(measured, ImportSpec(model=MODEL, source=str(source)))
    stable = succeed(measured, stable_spec(f"{MODEL}@1"))
    candidate = succeed(measured, candidate_spec(f"{MODEL}@1"))
    if spread is None:
        return Versions(stable, candidate)
    spoilt = spoil(measured.scratch / SPOILT_MODEL, spread=spread)
    succeed(measured, ImportSpec(model=SPOILT_MODEL, source=str(spoilt)))
    return Versions(stable, candidate, succeed(measured, spoilt_spec(f"{SPOILT_MODEL}@1")))


def succeed(measured: Measured, spec: JobSpec) -> str:
    """Runs a job and returns the id of the version that it made; RuntimeError where it made none."""
    job = measured.client.jobs.wait(measured.client.jobs.submit(spec).id, JOB_TIMEOUT_S, poll_s=POLL_S)
    if job.status is not JobStatus.SUCCEEDED or job.result is None or job.result.version_id is None:
        raise RuntimeError(f"the {spec.type} job ended as {job.status}: {job.message}")
    return job.result.version_id


def deploy(measured: Measured, version: str, **options: object) -> Rollout:
    """Begins to serve a version and returns the rollout; RuntimeError where it has to wait."""
    order = {"deployment": DEPLOYMENT, "version": version, "engine": engine_config(), "watch_s": 0, **options}
    begun = measured.client.rollouts.create(DeploySpec.model_validate(order))
    if not isinstance(begun, Rollout):
        raise RuntimeError(f"the deploy of {version} did not begin: job {begun.id} is {begun.status}")
    return begun


def ended(measured: Measured, rollout: Rollout, *, timeout_s: float = ROLLOUT_TIMEOUT_S) -> Rollout:
    """Returns a rollout once it has ended."""
    return measured.client.rollouts.wait(rollout.id, timeout_s, poll_s=POLL_S)


def promoted(measured: Measured, version: str, **options: object) -> Deployment:
    """Serves a version and returns the deployment; RuntimeError where it is not promoted."""
    rollout = ended(measured, deploy(measured, version, **options))
    if rollout.state != "promoted":
        raise RuntimeError(f"{version} was not promoted but {rollout.state}: {rollout.message}")
    return measured.client.deployments.get(DEPLOYMENT)


def until(is_so: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Returns once it is so; raises TimeoutError that says ``what``."""
    give_up_at = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{what} within {timeout_s:.0f} s")
        time.sleep(POLL_S)


def stop(measured: Measured, deployment: str) -> None:
    """Stops a deployment and waits until its engines have given their memory back."""
    measured.client.deployments.stop(deployment)

    def is_over() -> bool:
        return all(one.pid is None for one in measured.client.deployments.get(deployment).replicas)

    until(is_over, "the engines did not end", STOP_TIMEOUT_S)


def only_current(measured: Measured) -> None:
    """Waits until the current release's engines are the only ones: those of a rollout that ended go on for a while."""

    def is_so() -> bool:
        deployment = measured.client.deployments.get(DEPLOYMENT)
        current = deployment.current_release.id if deployment.current_release else None
        others = [one for one in deployment.replicas if one.release_id != current and one.pid is not None]
        ready = [one for one in deployment.replicas if one.release_id == current and one.state is ReplicaState.READY]
        return not others and bool(ready) and deployment.active_rollout is None

    until(is_so, "the candidate's engines did not end", STOP_TIMEOUT_S)


def is_active(rollout: Rollout) -> bool:
    """Tells whether a rollout goes on."""
    return rollout.state in ACTIVE_ROLLOUT_STATES
