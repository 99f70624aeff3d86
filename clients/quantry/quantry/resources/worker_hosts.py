# Made from quantry/aio/resources/worker_hosts.py by make_sync.py: change that file, and run this again.
"""Worker hosts: machines with a worker's key of their own. For admins of the platform project."""

from __future__ import annotations

from collections.abc import Generator

from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.worker_hosts import DEFAULT_ENROLMENT_S, Enrolment, EnrolmentRequest, NewEnrolment, WorkerHost

_PATH = "/api/v1/worker-hosts"
_ENROLMENTS = "/api/v1/worker-enrolments"


class WorkerHosts:
    """``client.worker_hosts``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[WorkerHost]:
        """Returns one page of hosts, revoked ones included, newest first."""
        return self._transport.get(Page[WorkerHost], _PATH, {"after": after, "limit": limit})

    def iterate(self, *, max_items: int | None = None) -> Generator[WorkerHost, None, None]:
        """Yields every host, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit), max_items)

    def invite(self, name: str, *, lifetime_s: int = DEFAULT_ENROLMENT_S) -> NewEnrolment:
        """Makes a one-time token for a host, which is never shown again; ``python -m quantry_worker.enrol`` exchanges it there."""
        return self._transport.post(NewEnrolment, _ENROLMENTS, EnrolmentRequest(name=name, lifetime_s=lifetime_s))

    def invitations(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Enrolment]:
        """Returns one page of one-time tokens, used and expired ones included, newest first."""
        return self._transport.get(Page[Enrolment], _ENROLMENTS, {"after": after, "limit": limit})

    def iterate_invitations(self, *, max_items: int | None = None) -> Generator[Enrolment, None, None]:
        """Yields every one-time token, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.invitations(after=after, limit=limit), max_items)

    def withdraw(self, enrolment_id: str) -> None:
        """Makes a one-time token worthless that no host has used."""
        self._transport.delete(f"{_ENROLMENTS}/{path_part(enrolment_id)}")

    def revoke(self, host_id: str) -> None:
        """Makes a host's key worthless at once; what it runs goes to other workers."""
        self._transport.delete(f"{_PATH}/{path_part(host_id)}")
