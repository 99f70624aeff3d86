"""A run that this registry holds."""

from __future__ import annotations

from typing import Any

from quantry_core.vault import VaultRun, VaultRunStatus
from quantry_store.database import Database
from quantry_store.repositories.vault_runs import VaultRunClaim


class RunLost(Exception):
    """The run is another registry's by now: this one was away for too long, and writes nothing more."""


class HeldRun:
    """A claimed run. Each note of its progress renews the claim."""

    def __init__(self, database: Database, claim: VaultRunClaim, hold_s: float) -> None:
        self._database = database
        self._claim = claim
        self._hold_s = hold_s
        self.report: dict[str, Any] = claim.run.report

    @classmethod
    async def claim(cls, database: Database, hold_s: float) -> HeldRun | None:
        """Returns the oldest run that nobody holds, or None."""
        async with database.begin() as uow:
            claim = await uow.vault_runs.claim(hold_s)
        return None if claim is None else cls(database, claim, hold_s)

    @property
    def run(self) -> VaultRun:
        """The run as it was claimed."""
        return self._claim.run

    async def note(self, report: dict[str, Any]) -> None:
        """Shows how far the run is, and holds it on; raises RunLost if it is not this one's any more."""
        async with self._database.begin() as uow:
            renewed = await uow.vault_runs.renew(self._claim, report, self._hold_s)
        if renewed is None:
            raise RunLost
        self._claim, self.report = renewed, report

    async def finish(self, status: VaultRunStatus, report: dict[str, Any], message: str | None) -> None:
        """Ends the run; raises RunLost if it is not this one's any more."""
        async with self._database.begin() as uow:
            is_mine = await uow.vault_runs.finish(self._claim, status, report, message)
        if not is_mine:
            raise RunLost
