"""/api/v1/keys and /api/v1/whoami"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from quantry_core.errors import Conflict, InvalidInput, NotFound
from quantry_core.ids import IdPrefix, is_id
from quantry_core.keys import ApiKey, Identity, KeyRequest, KeyRotation, NewKey, Role
from quantry_core.pages import Page
from quantry_http.auth import Caller, Db
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses

PLATFORM_ROLES = {Role.GATEWAY: "the routes", Role.WORKER: "the jobs"}
"""Roles that belong to no project, and what of every project a key of theirs sees."""

router = APIRouter(prefix="/api/v1", tags=["keys"])


async def key_id_in_path(key_id: str) -> str:
    """Returns the id in the address; raises NotFound if it has not even the form of one."""
    if not is_id(key_id, IdPrefix.KEY):
        raise NotFound(f"there is no key {key_id!r}")
    return key_id


KeyId = Annotated[str, Depends(key_id_in_path)]


@router.get("/whoami")
async def whoami(caller: Caller) -> Identity:
    """Shows whose key this is. Any role, machines included."""
    return caller


@router.get("/keys")
async def list_keys(caller: Caller, db: Db, page: PageParams) -> Page[ApiKey]:
    """Lists keys, newest first, revoked ones included. Secrets are not stored, so they are not shown."""
    async with db.begin() as uow:
        return await uow.keys.list(caller.project_id, after=page.after, limit=page.limit)


@router.post("/keys", status_code=201)
async def create_key(request: KeyRequest, caller: Caller, db: Db) -> NewKey:
    """Makes a key and shows its secret this once."""
    if request.role in PLATFORM_ROLES:
        # Gateways and workers serve every project: their keys are made by whoever runs the installation, with quantry_api.bootstrap,
        # and by the enrolment of hosts.
        raise InvalidInput(f"a {request.role}'s key cannot be made here: it would see {PLATFORM_ROLES[request.role]} of every project")
    async with db.begin() as uow:
        key, secret = await uow.keys.create(
            caller.project_id, request.name, request.role, limits=request.limits, expires_at=request.expires_at, who=caller
        )
    return NewKey(key=key, secret=secret)


@router.get("/keys/{key_id}", responses=problem_responses(404))
async def show_key(key_id: KeyId, caller: Caller, db: Db) -> ApiKey:
    """Shows one key: when it was made and used, and until when it holds."""
    async with db.begin() as uow:
        return await uow.keys.get(caller.project_id, key_id)


@router.post("/keys/{key_id}/rotate", responses=problem_responses(404, 409))
async def rotate_key(key_id: KeyId, caller: Caller, db: Db, rotation: KeyRotation | None = None) -> NewKey:
    """Gives a key a new secret and shows it this once. The old one works as long as ``overlap_s`` says, by default not at all."""
    chosen = rotation or KeyRotation()
    async with db.begin() as uow:
        role = (await uow.keys.get(caller.project_id, key_id)).role
        if role in PLATFORM_ROLES:
            raise Conflict(f"a {role}'s key gets no new secret here: it would show {PLATFORM_ROLES[role]} of every project")
        key, secret = await uow.keys.rotate(caller.project_id, key_id, overlap_s=chosen.overlap_s, expires_at=chosen.expires_at, who=caller)
    return NewKey(key=key, secret=secret)


@router.delete("/keys/{key_id}", status_code=204, responses=problem_responses(404, 409))
async def revoke_key(key_id: KeyId, caller: Caller, db: Db) -> None:
    """Revokes a key: the control plane refuses it from now on, gateways once they have the next routes, within a second.

    The last admin's key of a project is not revoked: nobody could make another.
    """
    async with db.begin() as uow:
        await uow.keys.keep_an_admin(caller.project_id, key_id)
        await uow.keys.revoke(caller.project_id, key_id, who=caller)
