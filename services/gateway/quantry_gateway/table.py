"""The compiled routes: what one request needs to know, at one revision, in dictionaries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from quantry_core.keys import hash_key
from quantry_core.routes import Route, RoutedKey, RouteSnapshot


@dataclass(frozen=True, slots=True)
class CompiledRoutes:
    """One immutable snapshot, indexed. A new one replaces it whole."""

    revision: int
    keys: Mapping[str, RoutedKey]
    by_project: Mapping[str, Mapping[str, Route]]

    def identify(self, secret: str) -> RoutedKey | None:
        """Returns the key with this secret, or None; whether it has expired meanwhile is looked at with each request."""
        return self.keys.get(hash_key(secret))

    def of_project(self, project_id: str) -> Mapping[str, Route]:
        """Returns a project's routes by deployment name."""
        return self.by_project.get(project_id, {})

    def replica_ids(self) -> frozenset[str]:
        """Returns the ids of every replica there is."""
        return frozenset(replica.id for routes in self.by_project.values() for route in routes.values() for replica in route.replicas)


def compile_routes(snapshot: RouteSnapshot) -> CompiledRoutes:
    """Returns the snapshot, indexed."""
    by_project: dict[str, dict[str, Route]] = {}
    for route in snapshot.routes:
        by_project.setdefault(route.project_id, {})[route.deployment] = route
    return CompiledRoutes(revision=snapshot.revision, keys={key.key_hash: key for key in snapshot.keys}, by_project=by_project)


class RouteTable:
    """Holds the current snapshot: one reference, swapped whole. None until the first one is loaded."""

    def __init__(self) -> None:
        self._current: CompiledRoutes | None = None
        self._swapped = asyncio.Event()

    @property
    def current(self) -> CompiledRoutes | None:
        """The newest snapshot."""
        return self._current

    def find(self, project_id: str, name: str) -> Route | None:
        """Returns a project's route of a name, or None."""
        return self._current.of_project(project_id).get(name) if self._current is not None else None

    def swap(self, routes: CompiledRoutes) -> None:
        """Makes a snapshot the current one and wakes whoever waits for it."""
        self._current = routes
        swapped, self._swapped = self._swapped, asyncio.Event()
        swapped.set()

    async def next_swap(self) -> None:
        """Waits for the next snapshot."""
        await self._swapped.wait()
