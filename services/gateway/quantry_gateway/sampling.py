"""Which outcomes are looked at more closely: a dictionary look-up for those of deployments that neither capture nor mirror."""

from __future__ import annotations

from dataclasses import dataclass

from quantry_core.captures import CaptureSettings
from quantry_core.routes import Mirror, Route
from quantry_gateway.table import CompiledRoutes, RouteTable


@dataclass(frozen=True, slots=True)
class _Watched:
    routes: CompiledRoutes | None
    captures: dict[str, CaptureSettings]
    mirrors: dict[str, Mirror]


class WatchedDeployments:
    """What the current routes say of capture and mirror, by deployment."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._watched = _Watched(None, {}, {})

    def capture_of(self, deployment_id: str) -> CaptureSettings | None:
        """Returns what is captured of a deployment's requests; None where nothing is."""
        return self._current().captures.get(deployment_id)

    def mirror_of(self, deployment_id: str) -> Mirror | None:
        """Returns what is mirrored of a deployment's requests; None where nothing is."""
        return self._current().mirrors.get(deployment_id)

    def mirrored_route(self, project_id: str, name: str) -> Route | None:
        """Returns the route that a name has now, if its requests are mirrored now."""
        routes = self._table.current
        route = routes.of_project(project_id).get(name) if routes is not None else None
        return route if route is not None and route.mirror is not None else None

    def _current(self) -> _Watched:
        routes = self._table.current
        if routes is not self._watched.routes and routes is not None:
            every = [route for of_project in routes.by_project.values() for route in of_project.values()]
            self._watched = _Watched(
                routes=routes,
                captures={route.deployment_id: route.capture for route in every if route.capture is not None},
                mirrors={route.deployment_id: route.mirror for route in every if route.mirror is not None},
            )
        return self._watched
