"""The one auth dependency: who is calling, and may they, by the table of permissions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from typing_extensions import override

from quantry_core.errors import Forbidden, KeyExpired, Unauthorized, Unavailable
from quantry_core.keys import KEY_PREFIX, Identity, KnownKey, hash_key
from quantry_core.permissions import ANYONE, PERMISSIONS, Need, allows, refusal
from quantry_http.limits import Limits, RequestLimits, address_of
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


async def identify(database: Db, credentials: Credentials) -> KnownKey:
    """Returns what the request's key was found to be; raises Unauthorized if there is none, or it is unknown or revoked, KeyExpired.

    The database is asked every time, so a revoked key stops working at once.
    """
    if credentials is None:
        raise Unauthorized("this needs an API key: send it as 'Authorization: Bearer qtr_...'")
    async with database.glance() as uow:
        known = await uow.keys.identify(hash_key(credentials.credentials))
    if known is None:
        raise Unauthorized("this API key is unknown or was revoked")
    if known.is_expired:
        raise KeyExpired("this API key has expired: ask an admin of the project to rotate it, or for another")
    return known


async def authorize(request: Request, database: Db, limits: Limits, credentials: Credentials) -> Identity | None:
    """Returns who calls, None at a door that needs no key; raises Unauthorized or Forbidden where the table of permissions says so,
    TooManyRequests.

    Every route of a service depends on it, whether its endpoint asks for the caller or not.
    """
    app: GuardedApp = request.app
    need = app.need_of(request.method, request.scope["endpoint"])
    if need is ANYONE:
        return None
    known = await _identify_within(limits, address_of(request), database, credentials)
    identity = known.identity
    structlog.contextvars.bind_contextvars(key_id=identity.key_id, project_id=identity.project_id)
    if not allows(need, identity):
        raise Forbidden(refusal(need, identity))
    if not known.is_use_noted:
        # A database that is away is said by what the endpoint asks of it.
        with suppress(Unavailable):
            async with database.begin() as uow:
                await uow.keys.note_use([identity.key_id])
    return identity


async def _identify_within(limits: RequestLimits, address: str, database: Database, credentials: Credentials) -> KnownKey:
    key_hash = "" if credentials is None else hash_key(credentials.credentials)
    if credentials is not None:
        limits.admit_address(address, key_hash)
    try:
        known = await identify(database, credentials)
    except Unauthorized:
        if credentials is not None:
            limits.note_wrong(address, key_hash)
        raise
    limits.admit_key(known.identity, key_hash)
    return known


async def caller_of(identity: Annotated[Identity | None, Depends(authorize)]) -> Identity:
    """Returns who calls; for endpoints behind a door that needs a key."""
    if identity is None:
        raise RuntimeError("an endpoint that anyone may call cannot ask who calls")
    return identity


Caller = Annotated[Identity, Depends(caller_of)]
"""Whose key the request carries. What it may do was decided before, by the table of permissions."""


class UnlistedRoute(RuntimeError):
    """A route that the table of permissions does not have: the service must not start."""


class GuardedApp(FastAPI):
    """An app that lets nobody through but as its table of permissions says."""

    def __init__(self, *, permissions: Mapping[tuple[str, str], Need] = PERMISSIONS, **settings: Any) -> None:
        self.permissions = permissions
        """What each route needs."""
        self._needs: dict[tuple[str, Callable[..., Any]], Need] = {}
        super().__init__(dependencies=[Depends(authorize)], **settings)

    @override
    def include_router(self, router: APIRouter, *args: Any, **settings: Any) -> None:
        """Adds a router's endpoints; raises UnlistedRoute for one that the table does not have."""
        super().include_router(router, *args, **settings)
        self.read_needs()

    def read_needs(self) -> None:
        """Looks every route up in the table; raises UnlistedRoute for one that is not there."""
        for route in iter_route_contexts(self.routes):
            path, endpoint = route.path_format, route.endpoint
            if path is None or endpoint is None:
                raise UnlistedRoute(f"{route.route!r} is no plain address, and the table of permissions has nothing else")
            for method in route.methods or ():
                need = self.permissions.get((method, path))
                is_guarded = isinstance(route.original_route, APIRoute)
                if need is None and method == "HEAD" and not is_guarded:
                    continue  # the framework adds it to a GET of its own
                if need is None:
                    raise UnlistedRoute(f"{method} {path} is not in the table of permissions (quantry_core/permissions.py)")
                if not is_guarded and need is not ANYONE:
                    raise UnlistedRoute(f"{method} {path} needs {need}, and no dependency would ask for it: it is no endpoint of FastAPI's")
                if self._needs.setdefault((method, endpoint), need) is not need:
                    raise UnlistedRoute(f"{method} {path} and another address of the same endpoint need different things")

    def need_of(self, method: str, endpoint: Callable[..., Any]) -> Need:
        """Returns what a route needs; raises UnlistedRoute."""
        need = self._needs.get((method, endpoint))
        if need is None:
            self.read_needs()
            need = self._needs[method, endpoint]
        return need


async def recheck_key(
    database: Db, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Callable[[], Awaitable[object]]:
    """Returns a call that raises Unauthorized once the request's key was revoked: for answers that last."""

    async def check() -> KnownKey:
        return await identify(database, credentials)

    return check


RecheckKey = Annotated[Callable[[], Awaitable[object]], Depends(recheck_key)]
"""Asks again whether the caller's key is still valid; a stream that outlives a request calls it now and then."""
