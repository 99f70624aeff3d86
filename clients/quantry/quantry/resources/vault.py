# Made from quantry/aio/resources/vault.py by make_sync.py: change that file, and run this again.
"""The vault: verification and garbage collection, for administrators."""

from __future__ import annotations

from collections.abc import Generator

from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.vault import CollectRequest, VaultRun, VaultStore, VerifyRequest

_PATH = "/api/v1/vault"


class Vault:
    """``client.vault``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def verify(self, version: str | None = None, *, older_than_s: float | None = None) -> VaultRun:
        """Returns the run that hashes everything again: or one version, or what was not looked at for ``older_than_s`` seconds."""
        return self._transport.post(VaultRun, f"{_PATH}/verify", VerifyRequest(version=version, older_than_s=older_than_s))

    def collect(self, *, dry_run: bool = True, age_s: float | None = None) -> VaultRun:
        """Returns the run that removes what nothing refers to, or only counts it."""
        return self._transport.post(VaultRun, f"{_PATH}/collect", CollectRequest(dry_run=dry_run, age_s=age_s))

    def store(self) -> VaultStore:
        """Returns whether the vault's bucket keeps versions and locks objects."""
        return self._transport.get(VaultStore, f"{_PATH}/store")

    def run(self, run_id: str) -> VaultRun:
        """Returns a run: how far it is, or what it found."""
        return self._transport.get(VaultRun, f"{_PATH}/runs/{path_part(run_id)}")

    def runs(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[VaultRun]:
        """Returns one page of runs, newest first."""
        return self._transport.get(Page[VaultRun], f"{_PATH}/runs", {"after": after, "limit": limit})

    def iterate_runs(self, *, max_items: int | None = None) -> Generator[VaultRun, None, None]:
        """Yields every run, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.runs(after=after, limit=limit), max_items)

    def wait(self, run_id: str, *, poll_s: float = 1.0) -> VaultRun:
        """Returns a run once it has ended: hours, for a vault of terabytes."""
        while (run := self.run(run_id)).finished_at is None:
            self._transport.sleep(poll_s)
        return run
