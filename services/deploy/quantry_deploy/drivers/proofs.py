"""Proofs that go on in the background: each started engine is asked for one token, and nobody waits long for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

import structlog

from quantry_deploy.drivers.probes import Target

_log = structlog.get_logger(__name__)


class Doubter(Protocol):
    """Who asks the engine: ``quantry_deploy.drivers.probes.EngineProbe``."""

    async def doubt(self, target: Target) -> str:
        """Returns why this is not the engine that was started, or does not complete; an empty string if all is well."""
        ...


@dataclass
class _Proof:
    """What is known of one process. ``doubt`` is that of the last answer, while the next one is awaited."""

    is_proven: bool = False
    doubt: str = ""
    task: asyncio.Task[None] | None = None


class Proofs:
    """Knows which engines have served a real completion since they were started. Lives in one event loop.

    ``run`` tells one start of a replica from the next: a process id, or what else a driver has for it.
    """

    def __init__(self, probe: Doubter) -> None:
        self._probe = probe
        self._proofs: dict[tuple[str, Hashable], _Proof] = {}

    def ask(self, replica_id: str, run: Hashable, target: Target) -> None:
        """Asks an engine in the background, unless it is proven or being asked."""
        proof = self._proofs.setdefault((replica_id, run), _Proof())
        if not proof.is_proven and (proof.task is None or proof.task.done()):
            proof.task = asyncio.create_task(self._run(proof, target, replica_id))

    async def settle(self, replica_id: str, run: Hashable, *, within_s: float) -> None:
        """Returns once the answer that is awaited is here, or ``within_s`` seconds have passed; the proof goes on."""
        proof = self._proofs.get((replica_id, run))
        if proof is not None and proof.task is not None and not proof.task.done():
            await asyncio.wait([proof.task], timeout=within_s)

    def is_proven(self, replica_id: str, run: Hashable) -> bool:
        """Tells whether this process has convinced once."""
        proof = self._proofs.get((replica_id, run))
        return proof is not None and proof.is_proven

    def doubt(self, replica_id: str, run: Hashable) -> str:
        """Returns why this process did not convince when it last answered; an empty string if it did or has yet to."""
        proof = self._proofs.get((replica_id, run))
        return "" if proof is None else proof.doubt

    def forget(self, replica_id: str) -> None:
        """Says that a replica's processes are gone."""
        for key in [key for key in self._proofs if key[0] == replica_id]:
            task = self._proofs.pop(key).task
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """Gives up what goes on."""
        tasks = [proof.task for proof in self._proofs.values() if proof.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, proof: _Proof, target: Target, replica_id: str) -> None:
        try:
            proof.doubt = await self._probe.doubt(target)
        except Exception as error:  # a proof that went wrong is a doubt like any other
            _log.exception("proof failed", replica=replica_id)
            proof.doubt = f"a completion of one token failed: {error!r}"
        else:
            proof.is_proven = not proof.doubt
