"""/api/v1/keys and /api/v1/whoami"""

from __future__ import annotations

from fastapi import APIRouter

from quantry_core.errors import InvalidInput, NotFound
from quantry_core.ids import IdPrefix, is_id
from quantry_core.keys import ApiKey, Identity, KeyRequest, NewKey, Role
from quantry_core.pages import Page
from quantry_http.auth import Admin, AnyCaller, Db
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses

PLATFORM_ROLES = {Role.GATEWAY: "the routes", Role.WORKER: "the jobs"}
"""Roles that belong to no project, and what of every project a key of theirs sees."""

router = APIRouter(prefix="/api/v1", tags=["keys"])


@router.get("/whoami")
async def whoami(caller: AnyCaller) -> Identity:
    """Shows whose key this is. Any role, machines included."""
    return caller


@router.get("/keys")
async def list_keys(caller: Admin, db: Db, page: PageParams) -> Page[ApiKey]:
    """Lists keys, newest first, revoked ones included. Secrets are not stored, so they are not shown."""
    async with db.begin() as uow:
        return await uow.keys.list(caller.project_id, after=page.after, limit=page.limit)


@router.post("/keys", status_code=201)
async def create_key(request: KeyRequest, caller: Admin, db: Db) -> NewKey:
    """Makes a key and shows its secret this once."""
    if request.role in PLATFORM_ROLES:
        # Gateways and workers serve every project: their keys are made by whoever runs the installation, with quantry_api.bootstrap.
        raise InvalidInput(f"a {request.role}'s key cannot be made here: it would see {PLATFORM_ROLES[request.role]} of every project")
    async with db.begin() as uow:
        key, secret = await uow.keys.create(caller.project_id, request.name, request.role, limits=request.limits, who=caller)
    return NewKey(key=key, secret=secret)


@router.delete("/keys/{key_id}", status_code=204, responses=problem_responses(404))
async def revoke_key(key_id: str, caller: Admin, db: Db) -> None:
    """Revokes a key: the control plane refuses it from now on, gateways once they have the next routes, within a second."""
    if not is_id(key_id, IdPrefix.KEY):
        raise NotFound(f"there is no key {key_id!r}")
    async with db.begin() as uow:
        await uow.keys.revoke(caller.project_id, key_id, who=caller)
