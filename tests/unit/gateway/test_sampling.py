"""What the current routes say of capture and mirror."""

from __future__ import annotations

from factories.outcomes import table_of, watched_route
from quantry_core.captures import CaptureSettings
from quantry_core.routes import Mirror, RouteSnapshot
from quantry_gateway.sampling import WatchedDeployments
from quantry_gateway.table import RouteTable, compile_routes

MIRROR = Mirror(percent=10, max_tokens=8)
CAPTURE = CaptureSettings(percent=5)


def test_without_routes_nothing_is_watched() -> None:
    watched = WatchedDeployments(RouteTable())
    assert watched.capture_of("dep_1") is None
    assert watched.mirror_of("dep_1") is None
    assert watched.mirrored_route("prj_1", "bard") is None


def test_what_is_watched_changes_with_the_routes() -> None:
    table = table_of(watched_route(mirror=MIRROR))
    watched = WatchedDeployments(table)
    assert (watched.mirror_of("dep_1"), watched.capture_of("dep_1")) == (MIRROR, None)
    assert watched.mirror_of("dep_2") is None
    table.swap(compile_routes(RouteSnapshot(revision=2, routes=[watched_route(capture=CAPTURE)], keys=[])))
    assert (watched.mirror_of("dep_1"), watched.capture_of("dep_1")) == (None, CAPTURE)


def test_a_mirrored_route_is_found_by_its_name_in_its_own_project() -> None:
    route = watched_route(mirror=MIRROR)
    watched = WatchedDeployments(table_of(route, watched_route("plain")))
    assert watched.mirrored_route("prj_1", "bard") == route
    assert watched.mirrored_route("prj_1", "plain") is None
    assert watched.mirrored_route("prj_2", "bard") is None
