"""API keys. Only their hashes are stored; a secret is returned once, when its key is made."""

from __future__ import annotations

import builtins

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import NotFound
from quantry_core.ids import IdPrefix, new_id
from quantry_core.keys import ApiKey, Identity, KeyLimits, Role, hash_key, new_key_secret
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.routes import RoutedKey
from quantry_store.repositories.audit import AuditRepository
from quantry_store.repositories.paging import load_page
from quantry_store.repositories.revision import RouteRevision
from quantry_store.tables import KeyRow

NUM_PREFIX_CHARS = 8
NO_LIMITS = KeyLimits()


class KeyRepository:
    def __init__(self, session: AsyncSession, *, audit: AuditRepository, revision: RouteRevision) -> None:
        self._session = session
        self._audit = audit
        self._revision = revision

    async def identify(self, key_hash: str) -> Identity | None:
        """Returns who a key with this hash stands for; None if there is none or it was revoked."""
        statement = select(KeyRow.id, KeyRow.project_id, KeyRow.role).where(KeyRow.key_hash == key_hash, KeyRow.revoked_at.is_(None))
        row = (await self._session.execute(statement)).one_or_none()
        return None if row is None else Identity(key_id=row.id, project_id=row.project_id, role=row.role)

    async def create(
        self, project_id: str, name: str, role: Role, *, limits: KeyLimits = NO_LIMITS, who: Identity | None = None
    ) -> tuple[ApiKey, str]:
        """Returns a new key and its secret, which cannot be had again. ``who`` is None only when the platform sets itself up."""
        secret = new_key_secret()
        row = KeyRow(
            id=new_id(IdPrefix.KEY),
            project_id=project_id,
            name=name,
            role=role,
            prefix=secret[:NUM_PREFIX_CHARS],
            key_hash=hash_key(secret),
            limits=limits.model_dump(mode="json", exclude_none=True),
        )
        self._session.add(row)
        await self._session.flush()
        facts = {"name": name, "role": role, **row.limits}
        await self._audit.record(who, "key.create", "key", row.id, facts, project_id=project_id)
        self._revision.bump()
        return _api_key(row), secret

    async def list(self, project_id: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[ApiKey]:
        """Returns a page of a project's keys, newest first, revoked ones included."""
        statement = select(KeyRow).where(KeyRow.project_id == project_id)
        return await load_page(self._session, statement, KeyRow.id, lambda row: _api_key(row[0]), after=after, limit=limit)

    async def revoke(self, project_id: str, key_id: str, *, who: Identity | None) -> ApiKey:
        """Returns the key, revoked from now on; one that was revoked before is returned as it is. Raises NotFound.

        ``who`` is None when the platform itself exchanges a key of its own.
        """
        mine = (KeyRow.id == key_id, KeyRow.project_id == project_id)
        revoked = await self._session.scalars(
            update(KeyRow).where(*mine, KeyRow.revoked_at.is_(None)).values(revoked_at=func.now()).returning(KeyRow),
            execution_options={"populate_existing": True, "synchronize_session": False},
        )
        row = revoked.one_or_none()
        if row is not None:
            await self._audit.record(who, "key.revoke", "key", row.id, {"name": row.name}, project_id=project_id)
            self._revision.bump()
            return _api_key(row)
        row = (await self._session.scalars(select(KeyRow).where(*mine))).one_or_none()
        if row is None:
            raise NotFound(f"there is no key {key_id!r}")
        return _api_key(row)

    async def snapshot(self) -> builtins.list[RoutedKey]:
        """Returns every key of every project that is not revoked, as gateways need them."""
        rows = await self._session.scalars(select(KeyRow).where(KeyRow.revoked_at.is_(None)).order_by(KeyRow.id))
        return [
            RoutedKey(
                key_id=row.id,
                key_hash=row.key_hash,
                project_id=row.project_id,
                role=row.role,
                limits=KeyLimits.model_validate(row.limits),
            )
            for row in rows
        ]


def _api_key(row: KeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        role=row.role,
        prefix=row.prefix,
        limits=KeyLimits.model_validate(row.limits),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
