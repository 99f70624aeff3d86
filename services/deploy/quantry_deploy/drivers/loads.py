"""Adapters that engines load and unload in the background, what each engine lists, and why one was refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from quantry_deploy.observations import LoadedAdapters

FIRST_REST_S = 5.0
LONGEST_REST_S = 60.0
"""After a refusal an engine is asked again in 5, 10, 20 ... up to so many seconds."""

_log = structlog.get_logger(__name__)


class AdapterEngine(Protocol):
    """Who asks the engine: ``quantry_deploy.drivers.probes.EngineProbe``."""

    async def adapters(self, url: str) -> dict[str, str] | None:
        """Returns the folder of each adapter that an engine lists by its name; None if it did not answer."""
        ...

    async def load_adapter(self, url: str, name: str, folder: Path) -> str:
        """Has an engine load an adapter; returns why it did not, an empty string if it did."""
        ...

    async def unload_adapter(self, url: str, name: str) -> str:
        """Has an engine forget an adapter; returns why it did not, an empty string if it did."""
        ...


@dataclass
class _Request:
    """The last request about one name to one process."""

    task: asyncio.Task[None]
    manifest_digest: str = ""
    refusal: str = ""
    num_refusals: int = 0
    rests_until_s: float = 0.0


@dataclass
class _Engine:
    """What one process was asked. It may read the files again that it was once given, for as long as it runs."""

    requests: dict[str, _Request] = field(default_factory=dict)
    given_digests: set[str] = field(default_factory=set)


class Loads:
    """Knows what engines were asked to load since they were started. Lives in one event loop."""

    def __init__(self, probe: AdapterEngine, cache: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``cache`` holds the folder of each version by its manifest digest."""
        self._probe = probe
        self._cache = cache.resolve()
        self._clock = clock
        self._engines: dict[tuple[str, int], _Engine] = {}

    async def look(self, replica_id: str, pid: int, url: str) -> LoadedAdapters | None:
        """Returns what an engine lists now, with what is known of the requests to it; None if it did not answer."""
        folders = await self._probe.adapters(url)
        if folders is None:
            return None
        engine = self._engine(replica_id, pid)
        listed = {name: self._digest(folder) for name, folder in folders.items()}
        # What was adopted from a controller before this one is in its engine's hands too.
        engine.given_digests.update(listed.values())
        now_s = self._clock()
        return LoadedAdapters(
            listed=listed,
            refusals={name: request.refusal for name, request in engine.requests.items() if request.refusal},
            resting=frozenset(
                name for name, request in engine.requests.items() if not request.task.done() or request.rests_until_s > now_s
            ),
        )

    def load(self, replica_id: str, pid: int, url: str, name: str, manifest_digest: str) -> None:
        """Begins to have an engine load an adapter from the cache, unless a request about that name goes on or was just refused."""
        engine = self._engine(replica_id, pid)
        before = engine.requests.get(name)
        if before is not None and not before.task.done():
            return
        is_same = before is not None and before.manifest_digest == manifest_digest
        if before is not None and is_same and before.rests_until_s > self._clock():
            return
        engine.given_digests.add(manifest_digest)
        num_refusals = before.num_refusals if before is not None and is_same else 0
        task = asyncio.create_task(self._load(replica_id, pid, url, name, manifest_digest))
        engine.requests[name] = _Request(task, manifest_digest, before.refusal if before and is_same else "", num_refusals)

    def unload(self, replica_id: str, pid: int, url: str, name: str) -> None:
        """Begins to have an engine forget an adapter, unless a request about that name goes on."""
        engine = self._engine(replica_id, pid)
        before = engine.requests.get(name)
        if before is None or before.task.done():
            engine.requests[name] = _Request(asyncio.create_task(self._unload(replica_id, url, name)))

    def given_digests(self) -> set[str]:
        """Returns the versions whose files an engine that still runs was given: one that reads them again and misses them ends."""
        return {digest for engine in self._engines.values() for digest in engine.given_digests}

    def forget(self, replica_id: str) -> None:
        """Says that a replica's processes are gone."""
        for key in [key for key in self._engines if key[0] == replica_id]:
            for request in self._engines.pop(key).requests.values():
                request.task.cancel()

    async def close(self) -> None:
        """Gives up what goes on."""
        tasks = [request.task for engine in self._engines.values() for request in engine.requests.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, replica_id: str, pid: int, url: str, name: str, manifest_digest: str) -> None:
        refusal = await self._probe.load_adapter(url, name, self._cache / manifest_digest)
        request = self._engine(replica_id, pid).requests[name]
        request.refusal = refusal
        if not refusal:
            request.num_refusals = 0
            return
        _log.warning("adapter not loaded", replica=replica_id, adapter=name, refusal=refusal)
        request.rests_until_s = self._clock() + min(FIRST_REST_S * 2.0 ** min(request.num_refusals, 10), LONGEST_REST_S)
        request.num_refusals += 1

    async def _unload(self, replica_id: str, url: str, name: str) -> None:
        refusal = await self._probe.unload_adapter(url, name)
        if refusal:
            _log.warning("adapter not unloaded", replica=replica_id, adapter=name, refusal=refusal)

    def _engine(self, replica_id: str, pid: int) -> _Engine:
        return self._engines.setdefault((replica_id, pid), _Engine())

    def _digest(self, folder: str) -> str:
        path = Path(folder)
        return path.name if path.parent == self._cache else folder
