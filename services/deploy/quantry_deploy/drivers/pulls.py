"""Pulls that go on in the background, one for each version and way of serving it, shared by everyone who asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from quantry_core.errors import InvalidInput, NotServable, QuantryError, Unavailable
from quantry_core.jobs import JobReason
from quantry_core.rollouts import Release
from quantry_core.versions import VersionDetail, VersionKind
from quantry_deploy.artifacts import ArtifactCache, Report, read_config
from quantry_deploy.observations import ABSENT, PullState, PullStatus
from quantry_deploy.servability import check_adapter

NUM_AT_ONCE = 4
"""Versions that are fetched or hashed side by side, on threads of their own: whoever looks at engines must never wait for one."""

RETRY_S = {PullState.WAITING: 5.0, PullState.REFUSED: 15.0}
"""Seconds a failure is remembered. A refusal ends a rollout long before; outside one, or in the next one, the cause may be gone."""

Check = Callable[[VersionDetail, Release], None]
"""Raises NotServable where a release's engines could never serve the version. Called before a byte is fetched."""

CheckConfig = Callable[[VersionDetail, Release, dict[str, Any]], None]
"""The same, with the version's config.json. Called once its files are here."""

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

    def __init__(
        self, cache: ArtifactCache, check: Check, check_config: CheckConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cache = cache
        self._check = check
        self._check_config = check_config
        self._clock = clock
        self._pulls: dict[tuple[str, str], _Pull] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        """One for each manifest digest: who comes second finds the files there."""
        self._threads = ThreadPoolExecutor(NUM_AT_ONCE, thread_name_prefix="pull")

    def begin(self, version: VersionDetail, release: Release) -> None:
        """Begins a pull, unless it is done or going on."""
        if self.status(version, release).state is not PullState.ABSENT:
            return
        pull = _Pull(PullStatus(PullState.RUNNING), version.manifest_digest)
        pull.task = asyncio.create_task(self._run(pull, version, release))
        self._pulls[_key(version, release)] = pull

    def status(self, version: VersionDetail, release: Release) -> PullStatus:
        """Returns how far it is; absent again once a failure may be tried anew."""
        pull = self._pulls.get(_key(version, release))
        if pull is None or (pull.status.state in RETRY_S and self._clock() >= pull.retry_at_s):
            return ABSENT
        return pull.status

    def forget(self, version: VersionDetail) -> None:
        """Says that a version's files are not here any more. What is bringing them goes on."""
        self._pulls = {key: pull for key, pull in self._pulls.items() if key[0] != version.id or pull.status.state is PullState.RUNNING}

    def keep_only(self, manifest_digests: Collection[str]) -> None:
        """Forgets every pull of another version that has ended."""
        self._pulls = {
            key: pull
            for key, pull in self._pulls.items()
            if pull.manifest_digest in manifest_digests or pull.status.state is PullState.RUNNING
        }
        known = self.manifest_digests()
        self._turns = {digest: turn for digest, turn in self._turns.items() if digest in known}

    def manifest_digests(self) -> set[str]:
        """Returns the versions it knows of."""
        return {pull.manifest_digest for pull in self._pulls.values()}

    async def close(self) -> None:
        """Cancels what goes on. A file that a thread is fetching is finished and then thrown away."""
        tasks = [pull.task for pull in self._pulls.values() if pull.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, pull: _Pull, version: VersionDetail, release: Release) -> None:
        def report(fraction: float) -> None:
            pull.status = PullStatus(PullState.RUNNING, fraction=fraction)

        try:
            if version.kind is VersionKind.ADAPTER:
                folder = await self._fetch(version, report)
                await asyncio.to_thread(check_adapter, version, folder, release.engine)
            else:
                self._check(version, release)
                folder = await self._fetch(version, report)
                self._check_config(version, release, await asyncio.to_thread(read_config, folder))
            pull.status = PullStatus(PullState.DONE, fraction=1.0)
        except Exception as error:  # whatever went wrong, its words belong to the rollout, not to this task
            _log.warning("pull failed", version=version.ref, error=repr(error))
            pull.status = failed_pull(error)
            pull.retry_at_s = self._clock() + RETRY_S[pull.status.state]

    async def _fetch(self, version: VersionDetail, report: Report) -> Path:
        async with self._turns.setdefault(version.manifest_digest, asyncio.Lock()):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._cache.pull, version, report)


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


def _key(version: VersionDetail, release: Release) -> tuple[str, str]:
    return version.id, release.engine.model_dump_json()
