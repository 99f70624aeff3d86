"""Which place of the navigation a page belongs to."""

from __future__ import annotations

import pytest

from quantry_core.keys import Role
from quantry_dashboard.frame import PLACES


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/", "Overview"),
        ("/jobs", "Jobs"),
        ("/jobs?status=failed", "Jobs"),
        ("/jobs/new?type=quantize", "Jobs"),
        ("/pipelines/pip_1", "Pipelines"),
        ("/models/bard", "Models"),
        ("/versions/bard@2", "Models"),
        ("/compare?a=1&b=2", "Models"),
        ("/deployments/chat/rollouts/rol_1", "Deployments"),
        ("/admin/audit", "Admin"),
    ],
)
def test_a_page_belongs_to_one_place(address: str, name: str) -> None:
    assert [place.name for place in PLACES if place.holds(address)] == [name]


def test_an_address_that_only_begins_alike_belongs_to_none() -> None:
    assert not [place for place in PLACES if place.holds("/jobsearch") or place.holds("/modelsx/1")]


def test_only_admins_see_what_only_admins_may_and_others_find_their_own_way_to_webhooks() -> None:
    seen = {role: {place.name for place in PLACES if place.is_for(role)} for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN)}
    assert seen[Role.VIEWER] == seen[Role.OPERATOR]
    assert seen[Role.ADMIN] - seen[Role.VIEWER] == {"Admin"}
    assert seen[Role.VIEWER] - seen[Role.ADMIN] == {"Webhooks"}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ADMIN])
def test_a_page_is_of_one_place_that_is_seen(role: Role) -> None:
    assert len([place for place in PLACES if place.is_for(role) and place.holds("/admin/webhooks/whk_1")]) == 1
