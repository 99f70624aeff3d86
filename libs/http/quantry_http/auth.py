"""The one auth dependency: who is calling, and may they."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from quantry_core.errors import Forbidden, Unauthorized
from quantry_core.keys import KEY_PREFIX, Identity, Role, hash_key, role_covers
from quantry_store.database import Database

_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description=f"An API key: {KEY_PREFIX}...", bearerFormat=KEY_PREFIX)


async def database_of(request: Request) -> Database:
    """Returns the database of the service that answers this request."""
    # A coroutine, as every dependency here, though nothing is waited for: FastAPI runs a plain function in a thread.
    database: Database = request.app.state.database
    return database


Db = Annotated[Database, Depends(database_of)]
"""The service's database."""


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def identify(database: Db, credentials: Credentials) -> Identity:
    """Returns whose key the request carries; raises Unauthorized if there is none, or it is unknown or revoked.

    The database is asked every time, so a revoked key stops working at once.
    """
    if credentials is None:
        raise Unauthorized("this needs an API key: send it as 'Authorization: Bearer qtr_...'")
    async with database.glance() as uow:
        identity = await uow.keys.identify(hash_key(credentials.credentials))
    if identity is None:
        raise Unauthorized("this API key is unknown or was revoked")
    structlog.contextvars.bind_contextvars(key_id=identity.key_id, project_id=identity.project_id)
    return identity


AnyCaller = Annotated[Identity, Depends(identify)]
"""Whoever holds a valid key, people and machines alike."""


def require(needed: Role) -> Callable[[Identity], Awaitable[Identity]]:
    """Returns a dependency that answers the caller's identity, or raises Forbidden if its role does not cover ``needed``."""

    async def check(identity: AnyCaller) -> Identity:
        if not role_covers(identity.role, needed):
            raise Forbidden(f"this needs a key of role {needed}; this one is a {identity.role} key")
        return identity

    return check


Viewer = Annotated[Identity, Depends(require(Role.VIEWER))]
Operator = Annotated[Identity, Depends(require(Role.OPERATOR))]
Admin = Annotated[Identity, Depends(require(Role.ADMIN))]
WorkerCaller = Annotated[Identity, Depends(require(Role.WORKER))]
GatewayCaller = Annotated[Identity, Depends(require(Role.GATEWAY))]


async def recheck_key(
    database: Db, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Callable[[], Awaitable[object]]:
    """Returns a call that raises Unauthorized once the request's key was revoked: for answers that last."""

    async def check() -> Identity:
        return await identify(database, credentials)

    return check


RecheckKey = Annotated[Callable[[], Awaitable[object]], Depends(recheck_key)]
"""Asks again whether the caller's key is still valid; a stream that outlives a request calls it now and then."""
