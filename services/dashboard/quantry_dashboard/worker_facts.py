"""What the page of workers says: who works, with which devices, and what waits where. Pure functions from what the API tells to texts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from quantry_core.queue_loads import QueueLoad
from quantry_core.worker_hosts import Enrolment, WorkerHost
from quantry_core.workers import Device, Worker
from quantry_dashboard import words
from quantry_dashboard.administration import State, ahead_text

PATH = "/workers"
KEY_FILE = "/etc/quantry/worker-key"
"""Where the command that is shown puts a host's key."""


class DeviceLine(NamedTuple):
    """A GPU as it is drawn. ``memory_share`` and ``busy_share`` are 0 to 1, None where the worker cannot tell."""

    name: str
    details: str
    memory_share: float | None
    busy_share: float | None


def worker_state(worker: Worker) -> State:
    """Returns whether a worker is there, and whether it works for this project."""
    if not worker.is_alive:
        return State("silent", "status failed")
    return State("works", "status running") if worker.job_ids else State("ready", "status succeeded")


def device_line(device: Device) -> DeviceLine:
    """Returns how a GPU is, as far as its worker can tell."""
    used, whole = device.memory_used_bytes, device.memory_bytes
    memory = words.bytes_text(whole) if whole is not None else ""
    if used is not None and whole:
        memory = f"{words.bytes_text(used)} of {words.bytes_text(whole)}"
    details = [
        memory,
        "" if device.utilization is None else f"{device.utilization:.0%} busy",
        "" if device.temperature_c is None else f"{device.temperature_c:.0f} °C",
        "" if device.power_w is None else f"{device.power_w:.0f} W",
        "" if not device.num_ecc_errors else f"{device.num_ecc_errors:,} memory errors",
    ]
    return DeviceLine(
        f"{device.id} {device.name}".strip(),
        " · ".join(part for part in details if part),
        None if used is None or not whole else min(1.0, used / whole),
        device.utilization,
    )


def memory_text(worker: Worker) -> str:
    """Returns the memory that one slot's child may use."""
    return "no bound" if worker.memory_bytes is None else f"{words.bytes_text(worker.memory_bytes)} a slot"


def environments_text(worker: Worker) -> str:
    """Returns where a worker's children can start."""
    return ", ".join(sorted(worker.environments)) or "none"


def by_presence(workers: Sequence[Worker]) -> list[Worker]:
    """Returns workers with those that answer first, then by host."""
    return sorted(workers, key=lambda worker: (not worker.is_alive, worker.host, worker.id))


def queue_size_text(queue: QueueLoad) -> str:
    """Returns what one slot of a queue has."""
    memory = "no bound" if queue.max_memory_bytes is None else words.bytes_text(queue.max_memory_bytes)
    if queue.name.partition("-")[0] == "cpu":
        return memory
    return f"{queue.num_gpus} GPU{'s' if queue.num_gpus > 1 else ''}, {memory}" + (" each" if queue.num_gpus > 1 else "")


def oldest_text(queue: QueueLoad) -> str:
    """Returns for how long the oldest job of a queue could be taken."""
    return "–" if queue.oldest_queued_s is None else words.duration_text(queue.oldest_queued_s)


def is_stuck(queue: QueueLoad) -> bool:
    """Tells whether jobs wait in a queue that nobody works off."""
    return queue.num_queued > 0 and queue.num_slots == 0


def host_state(host: WorkerHost) -> State:
    """Returns whether a host's key works, and whether anything runs with it."""
    if host.revoked_at is not None:
        return State("revoked", "status failed")
    return State("at work", "status succeeded") if host.num_workers_alive else State("no worker runs", "status waiting")


def invitation_state(invitation: Enrolment, now: datetime) -> State:
    """Returns what became of a one-time token."""
    if invitation.used_at is not None:
        return State("used", "status succeeded")
    if invitation.revoked_at is not None:
        return State("withdrawn", "status")
    if invitation.expires_at <= now:
        return State("expired", "status")
    return State(f"expires {ahead_text(invitation.expires_at, now)}", "status waiting")


def is_open(invitation: Enrolment, now: datetime) -> bool:
    """Tells whether a host may still use a one-time token."""
    return invitation.used_at is None and invitation.revoked_at is None and invitation.expires_at > now


def enrol_command(url: str) -> str:
    """Returns what is pasted on a new host. The token is no part of it: it is asked for, and stays out of the shell's history."""
    return f"python -m quantry_worker.enrol --url {shlex.quote(url)} --key-file {KEY_FILE}"
