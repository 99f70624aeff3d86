"""Worker hosts and the one-time tokens by which they are enrolled. A host's key is a key of the platform project."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, Select, and_, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import Conflict, NotFound, Unauthorized
from quantry_core.ids import IdPrefix, new_id
from quantry_core.keys import Identity, Role, hash_key
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.worker_hosts import HOST_KEY_OVERLAP_S, Enrolment, EnrolmentExchange, EnrolmentRequest, WorkerHost, new_enrolment_token
from quantry_core.workers import WORKER_ALIVE_S
from quantry_store.repositories.audit import AuditRepository
from quantry_store.repositories.keys import KeyRepository
from quantry_store.repositories.paging import load_page
from quantry_store.tables import EnrolmentRow, KeyRow, WorkerHostRow, WorkerRow


class WorkerHostRepository:
    def __init__(self, session: AsyncSession, *, keys: KeyRepository, audit: AuditRepository) -> None:
        self._session = session
        self._keys = keys
        self._audit = audit

    async def invite(self, request: EnrolmentRequest, *, who: Identity) -> tuple[Enrolment, str]:
        """Returns a one-time token for a host and what is kept of it: everything but the token."""
        token = new_enrolment_token()
        row = EnrolmentRow(
            id=new_id(IdPrefix.ENROLMENT),
            project_id=who.project_id,
            name=request.name,
            token_hash=hash_key(token),
            created_by_key_id=who.key_id,
            expires_at=func.now() + timedelta(seconds=request.lifetime_s),
        )
        self._session.add(row)
        await self._session.flush()
        await self._session.refresh(row)
        await self._audit.record(who, "enrolment.create", "enrolment", row.id, request.model_dump(mode="json"))
        return _enrolment(row), token

    async def invitations(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Enrolment]:
        """Returns a page of one-time tokens, newest first, those used, expired and revoked included."""
        return await load_page(
            self._session, select(EnrolmentRow), EnrolmentRow.id, lambda row: _enrolment(row[0]), after=after, limit=limit
        )

    async def withdraw(self, enrolment_id: str, *, who: Identity) -> None:
        """Makes a token worthless; raises NotFound, Conflict where a host has used it."""
        row = await self._session.get(EnrolmentRow, enrolment_id, with_for_update=True)
        if row is None:
            raise NotFound(f"there is no enrolment {enrolment_id!r}")
        if row.used_at is not None:
            raise Conflict(f"enrolment {enrolment_id} was used by host {row.host_id}: revoke that host")
        if row.revoked_at is None:
            row.revoked_at = (await self._session.scalars(select(func.now()))).one()
            await self._session.flush()
            await self._audit.record(who, "enrolment.revoke", "enrolment", row.id, {"name": row.name})

    async def enrol(self, exchange: EnrolmentExchange) -> tuple[WorkerHost, str]:
        """Returns a new host and the secret of its key, for a one-time token, which is worthless from then on.

        Raises Unauthorized for a token that is unknown, used, expired or revoked: which of these is not told.
        """
        usable = (
            EnrolmentRow.token_hash == hash_key(exchange.token),
            EnrolmentRow.used_at.is_(None),
            EnrolmentRow.revoked_at.is_(None),
            EnrolmentRow.expires_at > func.now(),
        )
        host_id = new_id(IdPrefix.WORKER_HOST)
        # One statement takes the token: of two hosts that send it at once, the second finds it used.
        taken = await self._session.scalars(
            update(EnrolmentRow).where(*usable).values(used_at=func.now(), host_id=host_id).returning(EnrolmentRow),
            execution_options={"populate_existing": True, "synchronize_session": False},
        )
        enrolment = taken.one_or_none()
        if enrolment is None:
            raise Unauthorized("this one-time token is unknown, was used, or is not good any more: ask for another")
        project_id = enrolment.project_id
        key, secret = await self._keys.create(project_id, f"host-{enrolment.name}"[:64].rstrip("-."), Role.WORKER)
        self._session.add(WorkerHostRow(id=host_id, project_id=project_id, name=enrolment.name, hostname=exchange.hostname, key_id=key.id))
        await self._session.flush()
        facts = {"name": enrolment.name, "hostname": exchange.hostname, "enrolment_id": enrolment.id, "key_id": key.id}
        host_identity = Identity(key_id=key.id, project_id=project_id, role=Role.WORKER)
        await self._audit.record(host_identity, "host.enrol", "worker_host", host_id, facts)
        return await self.get(host_id), secret

    async def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[WorkerHost]:
        """Returns a page of hosts, newest first, revoked ones included."""
        return await load_page(self._session, _hosts(), WorkerHostRow.id, lambda row: _host(*row), after=after, limit=limit)

    async def get(self, host_id: str) -> WorkerHost:
        """Returns a host; raises NotFound."""
        row = (await self._session.execute(_hosts().where(WorkerHostRow.id == host_id))).one_or_none()
        if row is None:
            raise NotFound(f"there is no worker host {host_id!r}")
        return _host(*row)

    async def rotate(self, who: Identity) -> tuple[WorkerHost, str]:
        """Returns the host whose key asks, with a new secret for it; the old one works for HOST_KEY_OVERLAP_S seconds more.

        Raises Conflict for a worker's key that belongs to no host: more than one machine may have that.
        """
        host_id = (await self._session.scalars(select(WorkerHostRow.id).where(WorkerHostRow.key_id == who.key_id))).one_or_none()
        if host_id is None:
            raise Conflict("this worker's key was not given to a host by enrolment: whoever made it rotates it")
        _, secret = await self._keys.rotate(who.project_id, who.key_id, overlap_s=HOST_KEY_OVERLAP_S, who=who)
        return await self.get(host_id), secret

    async def revoke(self, host_id: str, *, who: Identity) -> WorkerHost:
        """Returns the host, its key revoked: what it runs is lost to it and goes to other workers. Raises NotFound."""
        host = await self.get(host_id)
        if host.revoked_at is None:
            await self._keys.revoke(who.project_id, host.key_id, who=who)
            await self._audit.record(who, "host.revoke", "worker_host", host.id, {"name": host.name})
        self._session.expire_all()
        return await self.get(host_id)


def _hosts() -> Select[WorkerHostRow, KeyRow, int]:
    is_alive: ColumnElement[bool] = WorkerRow.last_seen_at > func.now() - timedelta(seconds=WORKER_ALIVE_S)
    num_alive = select(func.count()).where(and_(WorkerRow.key_id == WorkerHostRow.key_id, is_alive)).scalar_subquery()
    return select(WorkerHostRow, KeyRow, num_alive).join(KeyRow, KeyRow.id == WorkerHostRow.key_id)


def _host(row: WorkerHostRow, key: KeyRow, num_alive: int) -> WorkerHost:
    return WorkerHost(
        id=row.id,
        name=row.name,
        hostname=row.hostname,
        key_id=row.key_id,
        key_prefix=key.prefix,
        enrolled_at=row.enrolled_at,
        rotated_at=key.rotated_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
        num_workers_alive=num_alive,
    )


def _enrolment(row: EnrolmentRow) -> Enrolment:
    return Enrolment(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        host_id=row.host_id,
        revoked_at=row.revoked_at,
    )
