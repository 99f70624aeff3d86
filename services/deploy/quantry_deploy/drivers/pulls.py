"""Pulls that go on in the background, one for each version and engine configuration, shared by everyone who asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from quantry_core.errors import InvalidInput, NotServable, QuantryError, Unavailable
from quantry_core.jobs import EngineConfig, JobReason
from quantry_core.methods import DeviceKind
from quantry_core.versions import VersionDetail, VersionKind
from quantry_deploy.artifacts import ArtifactCache, read_config
from quantry_deploy.observations import ABSENT, PullState, PullStatus
from quantry_deploy.servability import check_adapter, check_config, check_version

RETRY_S = {PullState.WAITING: 5.0, PullState.REFUSED: 15.0}
"""Seconds a failure is remembered. A refusal ends a rollout long before; outside one, or in the next one, the cause may be gone."""

_log = structlog.get_logger(__name__)


@dataclass
class _Pull:
    """One pull: what is known of it, and until when a failure is left alone."""

    status: PullStatus
    manifest_digest: str
    task: asyncio.Task[None] | None = None
    retry_at_s: float = 0.0


class Pulls:
    """Fetches versions without holding anybody up. Lives in one event loop."""

    def __init__(self, cache: ArtifactCache, *, device: DeviceKind | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``device`` is where the engines run that will load what is fetched; None: not known."""
        self._cache = cache
        self._device = device
        self._clock = clock
        self._pulls: dict[tuple[str, str], _Pull] = {}

    def begin(self, version: VersionDetail, engine: EngineConfig) -> None:
        """Begins a pull, unless it is done or going on."""
        if self.status(version, engine).state is not PullState.ABSENT:
            return
        pull = _Pull(PullStatus(PullState.RUNNING), version.manifest_digest)
        pull.task = asyncio.create_task(self._run(pull, version, engine))
        self._pulls[_key(version, engine)] = pull

    def status(self, version: VersionDetail, engine: EngineConfig) -> PullStatus:
        """Returns how far it is; absent again once a failure may be tried anew."""
        pull = self._pulls.get(_key(version, engine))
        if pull is None or (pull.status.state in RETRY_S and self._clock() >= pull.retry_at_s):
            return ABSENT
        return pull.status

    def forget(self, version: VersionDetail) -> None:
        """Says that a version's files are not here any more."""
        for key in [key for key in self._pulls if key[0] == version.id]:
            del self._pulls[key]

    def keep_only(self, manifest_digests: Collection[str]) -> None:
        """Forgets every pull of another version that has ended."""
        self._pulls = {
            key: pull
            for key, pull in self._pulls.items()
            if pull.manifest_digest in manifest_digests or pull.status.state is PullState.RUNNING
        }

    def manifest_digests(self) -> set[str]:
        """Returns the versions it knows of."""
        return {pull.manifest_digest for pull in self._pulls.values()}

    async def close(self) -> None:
        """Cancels what goes on. A file that a thread is fetching is finished and then thrown away."""
        tasks = [pull.task for pull in self._pulls.values() if pull.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, pull: _Pull, version: VersionDetail, engine: EngineConfig) -> None:
        def report(fraction: float) -> None:
            pull.status = PullStatus(PullState.RUNNING, fraction=fraction)

        try:
            if version.kind is VersionKind.ADAPTER:
                folder = await asyncio.to_thread(self._cache.pull, version, report)
                await asyncio.to_thread(check_adapter, version, folder, engine)
            else:
                check_version(version, self._device)
                folder = await asyncio.to_thread(self._cache.pull, version, report)
                check_config(version, await asyncio.to_thread(read_config, folder), engine)
            pull.status = PullStatus(PullState.DONE, fraction=1.0)
        except Exception as error:  # whatever went wrong, its words belong to the rollout, not to this task
            _log.warning("pull failed", version=version.ref, error=repr(error))
            pull.status = failed_pull(error)
            pull.retry_at_s = self._clock() + RETRY_S[pull.status.state]


def failed_pull(error: Exception) -> PullStatus:
    """Returns what an error means for the pull: tried again where the vault was away, refused for good otherwise."""
    match error:
        case NotServable() | InvalidInput():
            return PullStatus(PullState.REFUSED, reason=JobReason.INVALID_INPUT, message=error.detail)
        case Unavailable():
            return PullStatus(PullState.WAITING, message=error.detail)
        case QuantryError():
            return PullStatus(PullState.REFUSED, message=error.detail)
        case OSError():
            return PullStatus(PullState.REFUSED, message=f"its files cannot be kept on this host: {error.strerror or error}")
        case _:
            return PullStatus(PullState.REFUSED, message=f"{type(error).__name__}: {error}")


def _key(version: VersionDetail, engine: EngineConfig) -> tuple[str, str]:
    return version.id, engine.model_dump_json()
