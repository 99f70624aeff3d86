"""Keys as they live and end, and what one of another project sees. Every route with every role is in tests/integration/access."""

from __future__ import annotations

import pytest

from quantry_core.keys import Role

from .conftest import Api, client_of, slug


async def test_a_key_lives_from_its_making_to_its_revocation(api: Api) -> None:
    made = await api[Role.ADMIN].post("/api/v1/keys", json={"name": "ci", "role": "viewer"})
    assert made.status_code == 201
    key, secret = made.json()["key"], made.json()["secret"]
    assert key["prefix"] == secret[:8]
    async with client_of(api.app, secret) as client:
        whoami = await client.get("/api/v1/whoami")
        assert whoami.json() == {"key_id": key["id"], "project_id": api.project_id, "role": "viewer", "is_platform": True}
        assert (await api[Role.ADMIN].delete(f"/api/v1/keys/{key['id']}")).status_code == 204
        after = await client.get("/api/v1/whoami")
        assert (after.status_code, slug(after)) == (401, "unauthorized")
    listed = (await api[Role.ADMIN].get("/api/v1/keys")).json()["data"]
    assert next(item for item in listed if item["id"] == key["id"])["revoked_at"] is not None
    assert secret not in str(listed)
    actions = [entry["action"] for entry in (await api[Role.ADMIN].get("/api/v1/audit")).json()["data"]]
    assert actions[:2] == ["key.revoke", "key.create"]


async def test_revoking_what_is_not_there_is_404(api: Api) -> None:
    for key_id in ("key_" + "0" * 32, "nonsense", "nul%00"):
        response = await api[Role.ADMIN].delete(f"/api/v1/keys/{key_id}")
        assert (response.status_code, slug(response)) == (404, "not-found")


async def test_a_key_of_another_project_sees_nothing_of_this_one(api: Api) -> None:
    job = await api.submit_import()
    async with api.database.begin() as uow:
        other = await uow.projects.get_or_create("other")
        _, secret = await uow.keys.create(other, "stranger", Role.ADMIN)
    async with client_of(api.app, secret) as client:
        assert (await client.get("/api/v1/jobs")).json()["data"] == []
        for action in ("", "/events", "/log"):
            response = await client.get(f"/api/v1/jobs/{job['id']}{action}")
            assert (response.status_code, slug(response)) == (404, "unknown-job")
        assert (await client.post(f"/api/v1/jobs/{job['id']}/cancel")).status_code == 404


@pytest.mark.parametrize("role", [Role.GATEWAY, Role.WORKER])
async def test_no_admin_makes_a_key_of_the_platform(api: Api, role: Role) -> None:
    """A gateway's key sees the routes of every project, a worker's key the jobs."""
    refused = await api[Role.ADMIN].post("/api/v1/keys", json={"name": "mine", "role": role})
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:quantry:problem:invalid-input"
    listed = (await api[Role.ADMIN].get("/api/v1/keys")).json()["data"]
    assert "mine" not in {key["name"] for key in listed}
