"""API keys. Only their hashes are stored; a secret is returned once, when its key is made."""

from __future__ import annotations

import builtins
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import Conflict, FieldProblem, InvalidInput, NotFound
from quantry_core.ids import IdPrefix, new_id
from quantry_core.keys import LAST_USED_COARSENESS_S, ApiKey, Identity, KeyLimits, KnownKey, Role, hash_key, new_key_secret
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.routes import RoutedKey
from quantry_store.repositories.audit import AuditRepository
from quantry_store.repositories.paging import load_page
from quantry_store.repositories.revision import RouteRevision
from quantry_store.tables import KeyRow, ProjectRow

NUM_PREFIX_CHARS = 8
NO_LIMITS = KeyLimits()


class KeyRepository:
    def __init__(self, session: AsyncSession, *, audit: AuditRepository, revision: RouteRevision) -> None:
        self._session = session
        self._audit = audit
        self._revision = revision

    async def identify(self, key_hash: str) -> KnownKey | None:
        """Returns what a secret with this hash stands for; None if there is none, or it was revoked or rotated away.

        One that has expired is returned as that: its holder is told so.
        """
        is_expired = func.coalesce(KeyRow.expires_at <= func.now(), False)
        noted_after = func.now() - timedelta(seconds=LAST_USED_COARSENESS_S)
        statement = (
            select(
                KeyRow.id,
                KeyRow.project_id,
                KeyRow.role,
                ProjectRow.is_platform,
                is_expired.label("is_expired"),
                func.coalesce(KeyRow.last_used_at > noted_after, False).label("is_use_noted"),
            )
            .join(ProjectRow, ProjectRow.id == KeyRow.project_id)
            .where(
                or_(KeyRow.key_hash == key_hash, and_(KeyRow.old_key_hash == key_hash, KeyRow.old_secret_until > func.now())),
                KeyRow.revoked_at.is_(None),
            )
        )
        row = (await self._session.execute(statement)).one_or_none()
        if row is None:
            return None
        identity = Identity(key_id=row.id, project_id=row.project_id, role=row.role, is_platform=row.is_platform)
        return KnownKey(identity=identity, is_expired=row.is_expired, is_use_noted=row.is_use_noted)

    async def note_use(self, key_ids: Collection[str]) -> None:
        """Notes that keys were used just now, of those whose last noted use is older than LAST_USED_COARSENESS_S seconds."""
        stale = or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at <= func.now() - timedelta(seconds=LAST_USED_COARSENESS_S))
        # Skips what another request notes at this moment, or somebody rotates: nobody waits for a convenience.
        chosen = select(KeyRow.id).where(KeyRow.id.in_(sorted(key_ids)), stale).with_for_update(skip_locked=True, key_share=True)
        await self._session.execute(
            update(KeyRow).where(KeyRow.id.in_(chosen)).values(last_used_at=func.now()).execution_options(synchronize_session=False)
        )

    async def create(
        self,
        project_id: str,
        name: str,
        role: Role,
        *,
        limits: KeyLimits = NO_LIMITS,
        expires_at: datetime | None = None,
        who: Identity | None = None,
    ) -> tuple[ApiKey, str]:
        """Returns a new key and its secret, which cannot be had again. ``who`` is None only when the platform sets itself up.

        Raises InvalidInput for an expiry that does not lie ahead.
        """
        await self._check_ahead(expires_at)
        secret = new_key_secret()
        row = KeyRow(
            id=new_id(IdPrefix.KEY),
            project_id=project_id,
            name=name,
            role=role,
            prefix=secret[:NUM_PREFIX_CHARS],
            key_hash=hash_key(secret),
            limits=limits.model_dump(mode="json", exclude_none=True),
            expires_at=expires_at,
        )
        self._session.add(row)
        await self._session.flush()
        facts = {"name": name, "role": role, **row.limits, **_expiry(expires_at)}
        await self._audit.record(who, "key.create", "key", row.id, facts, project_id=project_id)
        self._revision.bump()
        return _api_key(row), secret

    async def get(self, project_id: str, key_id: str) -> ApiKey:
        """Returns a key; raises NotFound."""
        return _api_key(await self._row(project_id, key_id))

    async def rotate(
        self, project_id: str, key_id: str, *, overlap_s: int, expires_at: datetime | None = None, who: Identity | None
    ) -> tuple[ApiKey, str]:
        """Returns the key with a new secret, which cannot be had again. The old one works for ``overlap_s`` seconds more, or not at all.

        An older secret that still worked works no longer. ``expires_at`` takes the place of the key's expiry where it is given.
        Raises NotFound, Conflict for a key that was revoked or has expired, InvalidInput for an expiry that does not lie ahead.
        """
        await self._check_ahead(expires_at)
        row = await self._row(project_id, key_id, lock=True)
        now = (await self._session.scalars(select(func.now()))).one()
        if row.revoked_at is not None:
            raise Conflict(f"key {key_id} was revoked: a revoked key gets no new secret; make another key")
        if row.expires_at is not None and row.expires_at <= now and expires_at is None:
            raise Conflict(f"key {key_id} has expired: give it a new expires_at, or make another key")
        secret = new_key_secret()
        row.old_key_hash = row.key_hash if overlap_s else None
        row.old_secret_until = now + timedelta(seconds=overlap_s) if overlap_s else None
        row.key_hash, row.prefix, row.rotated_at = hash_key(secret), secret[:NUM_PREFIX_CHARS], now
        row.expires_at = expires_at or row.expires_at
        await self._session.flush()
        facts = {"name": row.name, "overlap_s": overlap_s, **_expiry(expires_at)}
        await self._audit.record(who, "key.rotate", "key", row.id, facts, project_id=project_id)
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
        return await self.get(project_id, key_id)

    async def keep_an_admin(self, project_id: str, key_id: str) -> None:
        """Raises Conflict where a key is the only one of an admin that its project has left: without it nobody could make another."""
        holds = or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > func.now())
        admins = select(KeyRow.id).where(KeyRow.project_id == project_id, KeyRow.role == Role.ADMIN, KeyRow.revoked_at.is_(None), holds)
        # Locked: of two admins who revoke each other's keys at once the second is refused.
        left = await self._session.scalars(admins.order_by(KeyRow.id).with_for_update(key_share=True))
        if list(left) == [key_id]:
            raise Conflict(f"key {key_id} is the last admin's key of its project: make another first, or give this one a new secret")

    async def snapshot(self) -> builtins.list[RoutedKey]:
        """Returns every secret of every project that works now or did until it expired, as gateways need them: they refuse what has
        expired by their own clocks. A key that was rotated with an overlap has two."""
        rows = await self._session.scalars(select(KeyRow).where(KeyRow.revoked_at.is_(None)).order_by(KeyRow.id))
        routed = []
        for row in rows:
            routed.append(_routed(row, row.key_hash, row.expires_at))
            if row.old_key_hash is not None and row.old_secret_until is not None:
                ends = [moment for moment in (row.expires_at, row.old_secret_until) if moment is not None]
                routed.append(_routed(row, row.old_key_hash, min(ends)))
        return routed

    async def _row(self, project_id: str, key_id: str, *, lock: bool = False) -> KeyRow:
        statement = select(KeyRow).where(KeyRow.id == key_id, KeyRow.project_id == project_id)
        if lock:
            statement = statement.with_for_update(key_share=True)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise NotFound(f"there is no key {key_id!r}")
        return row

    async def _check_ahead(self, expires_at: datetime | None) -> None:
        if expires_at is None:
            return
        now = (await self._session.scalars(select(func.now()))).one()
        if expires_at <= now:
            sentence = f"{expires_at.isoformat()} does not lie ahead: a key that has expired is of no use"
            raise InvalidInput(sentence, errors=[FieldProblem(field="expires_at", message=sentence)])


def _routed(row: KeyRow, key_hash: str, expires_at: datetime | None) -> RoutedKey:
    return RoutedKey(
        key_id=row.id,
        key_hash=key_hash,
        project_id=row.project_id,
        role=row.role,
        limits=KeyLimits.model_validate(row.limits),
        expires_at=expires_at,
    )


def _expiry(expires_at: datetime | None) -> dict[str, Any]:
    return {} if expires_at is None else {"expires_at": expires_at.isoformat()}


def _api_key(row: KeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        role=row.role,
        prefix=row.prefix,
        limits=KeyLimits.model_validate(row.limits),
        created_at=row.created_at,
        expires_at=row.expires_at,
        rotated_at=row.rotated_at,
        old_secret_until=row.old_secret_until,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
