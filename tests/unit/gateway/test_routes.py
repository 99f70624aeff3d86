"""Compiled routes and the ones kept on disk."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from factories.gateway import KEY, OTHER_KEY, route, snapshot
from quantry_core.keys import hash_key
from quantry_gateway.kept_routes import KeptRoutes
from quantry_gateway.table import compile_routes


def test_a_key_is_found_by_its_secret_alone() -> None:
    routes = compile_routes(snapshot())
    found = routes.identify(KEY)
    assert found is not None
    assert found.project_id == "prj_1"
    assert routes.identify(hash_key(KEY)) is None
    assert routes.identify("") is None


def test_projects_do_not_see_each_other() -> None:
    routes = compile_routes(snapshot(route("same", "http://1", project_id="prj_1"), route("same", "http://2", project_id="prj_2")))
    assert routes.of_project("prj_1")["same"].replicas[0].url == "http://1"
    assert routes.of_project("prj_2")["same"].replicas[0].url == "http://2"
    assert routes.of_project("prj_3") == {}
    assert routes.replica_ids() == {"rep_same_0"}


def test_routes_are_kept_privately_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "gateway"
    kept = KeptRoutes(folder)
    assert kept.load() is None
    first = snapshot(route("a", "http://1"), revision=1)
    second = snapshot(route("b", "http://2"), revision=2)
    kept.save(first)
    assert kept.load() == first
    kept.save(second)
    assert KeptRoutes(folder).load() == second
    [file] = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    text = file.read_text()
    assert KEY not in text
    assert OTHER_KEY not in text


OLDER = {
    "object": "routes",
    "revision": 7,
    "routes": [{"deployment": "bard", "project_id": "prj_1", "created_at": "2026-11-22T12:00:00Z", "replicas": []}],
    "keys": [],
}
"""As gateways kept them before routes had variants."""


@pytest.mark.parametrize("content", [b"", b"{", b'{"object":"routes"}', b"\xff", json.dumps(OLDER).encode()])
def test_a_damaged_file_is_no_routes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "routes.json").write_bytes(content)
    assert KeptRoutes(tmp_path).load() is None


def test_what_a_killed_gateway_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "routes.json.part").write_bytes(b"half a snap")
    kept = KeptRoutes(tmp_path)
    kept.save(snapshot(revision=2))
    assert kept.load() == snapshot(revision=2)
    assert len(list(tmp_path.iterdir())) == 1
