"""A version is put aside, so that nothing new is made from it or served by its name, and taken back."""

from __future__ import annotations

from quantry_core.errors import Conflict, VersionProtected
from quantry_core.keys import Identity
from quantry_core.versions import Version, VersionKind, VersionState
from quantry_store.unit_of_work import UnitOfWork


async def archive_version(uow: UnitOfWork, version_id: str, *, who: Identity) -> Version:
    """Returns the version, archived: its files, lineage and evidence stay. Again changes nothing.

    Raises UnknownVersion; Conflict where it is deleted or quarantined; VersionProtected for a master, and where an alias points
    at it, a deployment serves it, or an unfinished job uses it.
    """
    version = await _living(uow, version_id, who)
    if version.state is VersionState.ARCHIVED:
        return version
    if version.kind is VersionKind.MASTER:
        raise VersionProtected(f"{version.ref} is a master, from which everything is made: masters are not archived")
    if version.state is not VersionState.READY:
        raise Conflict(f"version {version.ref} is {version.state}; only a ready version is archived")
    await uow.deletions.check_unused(version)
    await uow.deletions.check_unserved(version)
    return await _move(uow, version, VersionState.ARCHIVED, "version.archive", who)


async def unarchive_version(uow: UnitOfWork, version_id: str, *, who: Identity) -> Version:
    """Returns the version, ready again, as it was before it was archived. Raises UnknownVersion, or Conflict where it is not archived."""
    version = await _living(uow, version_id, who)
    if version.state is not VersionState.ARCHIVED:
        raise Conflict(f"version {version.ref} is {version.state}, not archived")
    return await _move(uow, version, VersionState.READY, "version.unarchive", who)


async def _living(uow: UnitOfWork, version_id: str, who: Identity) -> Version:
    version = await uow.deletions.hold(who.project_id, version_id)
    if version.deleted_at is not None:
        raise Conflict(f"version {version.ref} is deleted; restore it first")
    return version


async def _move(uow: UnitOfWork, version: Version, state: VersionState, action: str, who: Identity) -> Version:
    await uow.deletions.mark_state(version.id, state)
    await uow.audit.record(who, action, "version", version.id, {"ref": version.ref, "digest": version.manifest_digest})
    return await uow.versions.get(who.project_id, version.id)
