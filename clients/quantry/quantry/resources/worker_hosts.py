"""Worker hosts: machines with a worker's key of their own. For admins of the platform project."""

from __future__ import annotations

from quantry.transport import Transport, path_part
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.worker_hosts import DEFAULT_ENROLMENT_S, Enrolment, EnrolmentRequest, NewEnrolment, WorkerHost

_PATH = "/api/v1/worker-hosts"


class WorkerHosts:
    """``client.worker_hosts``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[WorkerHost]:
        """Returns one page of hosts, revoked ones included, newest first."""
        return self._transport.get(Page[WorkerHost], _PATH, {"after": after, "limit": limit})

    def invite(self, name: str, *, lifetime_s: int = DEFAULT_ENROLMENT_S) -> NewEnrolment:
        """Makes a one-time token for a host, which is never shown again; ``python -m quantry_worker.enrol`` exchanges it there."""
        return self._transport.post(NewEnrolment, f"{_PATH}/enrolments", EnrolmentRequest(name=name, lifetime_s=lifetime_s))

    def invitations(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Enrolment]:
        """Returns one page of one-time tokens, used and expired ones included, newest first."""
        return self._transport.get(Page[Enrolment], f"{_PATH}/enrolments", {"after": after, "limit": limit})

    def withdraw(self, enrolment_id: str) -> None:
        """Makes a one-time token worthless that no host has used."""
        self._transport.delete(f"{_PATH}/enrolments/{path_part(enrolment_id)}")

    def revoke(self, host_id: str) -> None:
        """Makes a host's key worthless at once; what it runs goes to other workers."""
        self._transport.delete(f"{_PATH}/{path_part(host_id)}")
