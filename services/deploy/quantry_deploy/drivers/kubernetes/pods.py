"""What a pod's status says of the engine in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from lightkube.models.core_v1 import ContainerStatus
from lightkube.resources.core_v1 import Pod

from quantry_deploy.drivers.kubernetes.names import ENGINE_CONTAINER, VERIFY_CONTAINER

LOOPING = "CrashLoopBackOff"


@dataclass(frozen=True)
class PodLook:
    """One look at a pod."""

    uid: str
    num_restarts: int
    """Of the engine's container, in place."""
    ends_by: datetime | None = None
    """When what is left of it is killed, where it was asked to end."""
    ending: str = ""
    """How the engine, or the check of its files, ended last, for people; empty where neither did."""
    has_failed_check: bool = False
    """Its files were not what their digests say."""
    waits_for: str = ""
    """What keeps it from starting: no node, no image."""
    last_words: str = ""
    """The last lines of what ended."""


def look_at(pod: Pod) -> PodLook:
    """Returns what a pod's status says."""
    metadata, status = pod.metadata, pod.status
    engine = _container((status.containerStatuses if status else None) or [], ENGINE_CONTAINER)
    check = _container((status.initContainerStatuses if status else None) or [], VERIFY_CONTAINER)
    failed_check = check is not None and _exit_status(check) not in {None, 0}
    ended = check if failed_check else engine
    words = ("the check of its files " if failed_check else "") + _ending(ended) if ended is not None and _ending(ended) else ""
    return PodLook(
        uid=(metadata.uid if metadata else None) or "",
        num_restarts=engine.restartCount if engine is not None else 0,
        ends_by=metadata.deletionTimestamp if metadata else None,
        ending=words,
        has_failed_check=failed_check,
        waits_for=_waits_for(pod, [one for one in (check, engine) if one is not None]),
        last_words=_last_words(ended) if ended is not None else "",
    )


def _container(statuses: Iterable[ContainerStatus], name: str) -> ContainerStatus | None:
    return next((status for status in statuses if status.name == name), None)


def _terminations(status: ContainerStatus) -> list[object]:
    states = [state for state in (status.state, status.lastState) if state is not None]
    return [state.terminated for state in states if state.terminated is not None]


def _exit_status(status: ContainerStatus) -> int | None:
    terminated = _terminations(status)
    return getattr(terminated[0], "exitCode", None) if terminated else None


def _ending(status: ContainerStatus) -> str:
    terminated = _terminations(status)
    if not terminated:
        return ""
    if getattr(terminated[0], "reason", None) == "OOMKilled":
        return "was ended by the kernel: it took more memory than it may"
    return f"ended with exit status {getattr(terminated[0], 'exitCode', '?')}"


def _last_words(status: ContainerStatus) -> str:
    return next((message for one in _terminations(status) if (message := getattr(one, "message", None))), "")


def _waits_for(pod: Pod, containers: Iterable[ContainerStatus]) -> str:
    for condition in (pod.status.conditions if pod.status else None) or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"no node takes its pod: {condition.message or condition.reason or 'nothing is said of why'}"
    for container in containers:
        waiting = container.state.waiting if container.state else None
        if waiting is not None and waiting.reason not in {None, "PodInitializing", "ContainerCreating", LOOPING}:
            return f"its container {container.name} waits: {waiting.reason}{f': {waiting.message}' if waiting.message else ''}"
    return ""
