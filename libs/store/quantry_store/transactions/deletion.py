"""A version is deleted so that it can be restored, and removed for good only after a while."""

from __future__ import annotations

from quantry_core.errors import Conflict
from quantry_core.keys import Identity
from quantry_core.versions import Version
from quantry_store.unit_of_work import UnitOfWork


async def delete_version(uow: UnitOfWork, version_id: str, *, who: Identity) -> Version:
    """Returns the version, deleted: found by its id alone until it is restored or removed. Again changes nothing.

    Raises UnknownVersion, or VersionProtected if living versions were made from it, a release serves it, an alias points at
    it, or an unfinished job uses it.
    """
    version = await uow.deletions.hold(who.project_id, version_id)
    if version.deleted_at is not None:
        return version
    await uow.deletions.check_unused(version)
    await uow.deletions.mark_deleted(version.id)
    await uow.audit.record(who, "version.delete", "version", version.id, _named(version))
    return await uow.versions.get(who.project_id, version.id)


async def restore_version(uow: UnitOfWork, version_id: str, *, who: Identity) -> Version:
    """Returns the version, living again. Its bytes must have been looked for.

    Raises UnknownVersion, Conflict if it is not deleted, VersionProtected if what it was made from is.
    """
    version = await uow.deletions.hold_with_parents(who.project_id, version_id)
    if version.deleted_at is None:
        raise Conflict(f"version {version.ref} is not deleted")
    await uow.deletions.mark_restored(version.id)
    await uow.audit.record(who, "version.restore", "version", version.id, _named(version))
    return await uow.versions.get(who.project_id, version.id)


async def remove_version(uow: UnitOfWork, version: Version, retention_s: float) -> bool:
    """Removes a version that was deleted ``retention_s`` seconds ago; returns False if it was restored or is needed meanwhile."""
    await uow.deletions.hold(version.project_id, version.id)
    if not await uow.deletions.is_expired(version.id, retention_s):
        return False
    await uow.deletions.remove(version.id)
    await uow.audit.record(None, "version.remove", "version", version.id, _named(version), project_id=version.project_id)
    return True


def _named(version: Version) -> dict[str, str]:
    return {"ref": version.ref, "digest": version.manifest_digest}
