"""Two services over one database, three projects, and a key of every kind: what tests of access ask with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from factories.store import Platform
from quantry_core.ids import IdPrefix, is_id
from quantry_core.keys import Identity, Role, new_key_secret
from quantry_core.permissions import PERMISSIONS, READS_BY_POST
from quantry_registry.parts import Parts
from quantry_store.database import Database

MARK = "zebra"
"""Part of every name in the project that strangers must learn nothing of."""
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass
class World:
    """Projects: the platform's own, ``owner`` with things in it, ``stranger`` with nothing."""

    api: FastAPI
    registry: FastAPI
    database: Database
    parts: Parts
    owner: Platform
    stranger: Platform
    platform_id: str
    root: Path
    """Where imports may read."""
    secrets: dict[str, str | None] = field(default_factory=dict)
    """By identity: none, garbage, revoked, expired, stranger, platform, and the roles in the owner's project."""

    def client(self, identity: str, path: str) -> httpx.AsyncClient:
        """Returns a client of the service that answers ``path``, with that identity's key."""
        secret = self.secrets[identity]
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        app = self.registry if is_registrys(self, path) else self.api
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=headers)

    async def ask(self, identity: str, method: str, template: str, ids: Mapping[str, str], **request: Any) -> httpx.Response:
        """Returns the answer to one request, its address made of a template."""
        async with self.client(identity, template) as client:
            return await client.request(method, template.format(**ids), **request)

    async def acts(self) -> int:
        """Returns how many entries all audit logs have together."""
        ((num_acts,),) = await self.owner.sql("select coalesce(sum(seq), 0)::bigint from audit_chains")
        return int(num_acts)


def is_registrys(world: World, template: str) -> bool:
    """Tells whether the registry has an address."""
    # By its routes: the document has one path where two templates differ by the names of their parameters alone.
    return template in {route.path_format for route in iter_route_contexts(world.registry.routes)}


def changing_routes() -> set[tuple[str, str]]:
    """Returns the routes that change something."""
    return {door for door in PERMISSIONS if door[0] in CHANGING} - READS_BY_POST


async def make_keys(world: World) -> None:
    """Makes a key of every kind."""
    owner, stranger, platform_id = world.owner.project_id, world.stranger.project_id, world.platform_id
    async with world.database.begin() as uow:
        for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN):
            _, world.secrets[role] = await uow.keys.create(owner, f"{MARK}-{role}", role)
        for role in (Role.WORKER, Role.GATEWAY):
            _, world.secrets[role] = await uow.keys.create(platform_id, f"machine-{role}", role)
        _, world.secrets["platform"] = await uow.keys.create(platform_id, "platform", Role.ADMIN)
        _, world.secrets["stranger"] = await uow.keys.create(stranger, "stranger", Role.ADMIN)
        revoked, world.secrets["revoked"] = await uow.keys.create(owner, f"{MARK}-revoked", Role.ADMIN)
        await uow.keys.revoke(owner, revoked.id, who=None)
        expired, world.secrets["expired"] = await uow.keys.create(owner, f"{MARK}-expired", Role.ADMIN)
    await world.owner.sql("update api_keys set expires_at = now() - interval '1 second' where id = %s", expired.id)
    world.secrets |= {"none": None, "garbage": new_key_secret()}


def identity_of(world: World, identity: str) -> Identity | None:
    """Returns who an identity is for the table of permissions; None for those that are nobody."""
    if identity in {"none", "garbage", "revoked", "expired"}:
        return None
    if identity == "stranger":
        return world.stranger.admin
    if identity == "platform":
        return Identity(key_id="key", project_id=world.platform_id, role=Role.ADMIN, is_platform=True)
    role = Role(identity)
    is_machine = role in {Role.WORKER, Role.GATEWAY}
    return Identity(key_id="key", project_id=world.platform_id if is_machine else world.owner.project_id, role=role, is_platform=is_machine)


def ids_in(document: object) -> set[str]:
    """Returns everything in a JSON document that has the form of an id."""
    if isinstance(document, dict):
        return set().union(*(ids_in(value) for value in document.values()))
    if isinstance(document, list):
        return set().union(*(ids_in(value) for value in document))
    return {document} if isinstance(document, str) and any(is_id(document, prefix) for prefix in IdPrefix) else set()
