"""The table of permissions: who is let through by each need, and what no row may be."""

from __future__ import annotations

import pytest

from quantry_core.keys import Identity, Role
from quantry_core.permissions import PERMISSIONS, READS_BY_POST, SIGNS_OF_LIFE, Access, Need, allows, refusal

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}


def who(role: Role, *, is_platform: bool = False) -> Identity:
    return Identity(key_id="key_1", project_id="prj_1", role=role, is_platform=is_platform)


@pytest.mark.parametrize(
    ("need", "roles"),
    [
        (Role.VIEWER, {Role.VIEWER, Role.OPERATOR, Role.ADMIN}),
        (Role.OPERATOR, {Role.OPERATOR, Role.ADMIN}),
        (Role.ADMIN, {Role.ADMIN}),
        (Role.WORKER, {Role.WORKER}),
        (Role.GATEWAY, {Role.GATEWAY}),
        (Access.ANY_KEY, set(Role)),
        (Access.PLATFORM_ADMIN, set()),
    ],
)
def test_each_need_lets_its_roles_through(need: Need, roles: set[Role]) -> None:
    assert {role for role in Role if allows(need, who(role))} == roles


def test_only_admins_of_the_platform_project_look_after_the_platform() -> None:
    assert {role for role in Role if allows(Access.PLATFORM_ADMIN, who(role, is_platform=True))} == {Role.ADMIN}
    assert "platform project" in refusal(Access.PLATFORM_ADMIN, who(Role.ADMIN))
    assert refusal(Role.ADMIN, who(Role.VIEWER)) == "this needs a key of role admin; this one is a viewer key"


def test_no_viewer_changes_anything() -> None:
    # Who comes with a token of the provider gets a key of their own, and gives it back.
    open_doors = {("POST", "/api/v1/enrol"), ("POST", "/api/v1/sessions"), ("DELETE", "/api/v1/sessions/current")}
    wrong = [
        (door, need)
        for door, need in PERMISSIONS.items()
        if door[0] in CHANGING and need in {Role.VIEWER, Access.ANY_KEY, Access.ANYONE} and door not in READS_BY_POST | open_doors
    ]
    assert wrong == []


def test_what_is_open_shows_nothing_of_any_project() -> None:
    opened = {door for door, need in PERMISSIONS.items() if need is Access.ANYONE and door[0] == "GET"}
    assert {path for _, path in opened if not path.startswith("/internal/")} == {
        "/healthz",
        "/livez",
        "/metrics",
        "/api/v1/openapi.json",
        "/api/v1/registry/openapi.json",
    }


def test_machines_alone_give_signs_of_life() -> None:
    assert {PERMISSIONS[door] for door in SIGNS_OF_LIFE} == {Role.WORKER, Role.GATEWAY}
    assert set(PERMISSIONS) >= READS_BY_POST
