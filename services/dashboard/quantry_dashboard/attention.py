"""What needs a person: a pure function from what the API tells to sentences with links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from quantry_core.rollouts import Deployment, RolloutState
from quantry_core.schedules import Schedule
from quantry_core.versions import Version
from quantry_core.workers import Worker
from quantry_dashboard import words
from quantry_dashboard.deployments import deployment_address, rollout_address

OVERDUE = timedelta(minutes=2)
"""A due time that nobody has fired for so long: the scheduler does not get to it."""


class Matter(NamedTuple):
    """Something that goes on only when a person has looked at it."""

    kind: str
    """In a word or two."""
    name: str
    href: str
    sentence: str


def matters(
    deployments: Iterable[Deployment],
    quarantined: Sequence[Version],
    schedules: Iterable[Schedule],
    workers: Iterable[Worker],
    now: datetime,
) -> list[Matter]:
    """Returns what needs a person, what holds up traffic first."""
    found: list[Matter] = []
    for deployment in deployments:
        found += _of_deployment(deployment)
    for version in quarantined:
        sentence = "It did not pass its gate. It is kept with what was measured, and cannot be deployed."
        found.append(Matter("quarantined", version.ref, f"/versions/{version.id}", sentence))
    for schedule in schedules:
        if schedule.next_run_at is not None and now - schedule.next_run_at > OVERDUE:
            sentence = f"It was due {words.ago_text(schedule.next_run_at, now)} and has not run."
            found.append(Matter("overdue", schedule.name, f"/schedules/{schedule.id}", sentence))
    for worker in workers:
        if not worker.is_alive:
            sentence = f"It was last heard of {words.ago_text(worker.last_seen_at, now)}."
            found.append(Matter("silent worker", worker.host, "/workers", sentence))
    return found


def _of_deployment(deployment: Deployment) -> list[Matter]:
    rollout = deployment.active_rollout
    if rollout is not None and rollout.state is RolloutState.PAUSED:
        why = rollout.message or "It waits for somebody to resume, promote or abort it."
        return [Matter("paused rollout", deployment.name, rollout_address(deployment.name, rollout), why)]
    if rollout is None and not deployment.is_stopped and deployment.current_release is not None and not deployment.num_ready:
        scaled_to_zero = deployment.num_wanted == 0
        if not scaled_to_zero:
            return [Matter("nothing ready", deployment.name, deployment_address(deployment.name), "None of its replicas answers.")]
    return []


def capacity_texts(workers: Sequence[Worker]) -> tuple[str, str, str]:
    """Returns what works, in three texts: workers, slots, devices."""
    alive = [worker for worker in workers if worker.is_alive]
    num_slots = sum(worker.num_slots for worker in alive)
    num_busy = sum(len(worker.job_ids) for worker in alive)
    devices = [device for worker in alive for device in worker.devices]
    kinds = {device.name: sum(other.name == device.name for other in devices) for device in devices}
    return (
        f"{len(alive)} of {len(workers)} answer" if len(alive) < len(workers) else str(len(alive)),
        f"{num_busy} of {num_slots} run jobs of this project",
        ", ".join(f"{count} × {name or 'GPU'}" for name, count in kinds.items()) or "none",
    )
