"""Prompts are captured where somebody asked for it and there is a key to encrypt them, and are read by nobody here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from quantry_api.settings import ApiSettings
from quantry_core.keys import Role
from quantry_store.capture_cipher import CaptureCipher
from quantry_store.transactions import begin_rollout, promote_rollout

from .conftest import SWEEPS_BY_HAND_S, Api, slug

PATH = "/api/v1/deployments/bard/capture"
KEY = Fernet.generate_key().decode()
SETTINGS = {"percent": 5, "max_prompts": 10, "retention_days": 7}


@pytest.fixture(params=[None, KEY], ids=["without-key", "with-key"])
def capture_keys(request: pytest.FixtureRequest) -> SecretStr | None:
    return None if request.param is None else SecretStr(request.param)


@pytest.fixture
def api_settings(redis_url: str, tmp_path: Path, capture_keys: SecretStr | None) -> ApiSettings:
    roots = tmp_path / "roots"
    roots.mkdir()
    return ApiSettings(broker_url=SecretStr(redis_url), import_roots=[roots], sweep_interval_s=SWEEPS_BY_HAND_S, capture_keys=capture_keys)


async def serving(api: Api) -> dict[str, Any]:
    """Returns a deployment that serves."""
    await api.make_master()
    await api.submit(type="deploy", deployment="bard", version="bard")
    deployment: dict[str, Any] = (await api[Role.VIEWER].get("/api/v1/deployments/bard")).json()
    async with api.database.begin() as uow:
        await begin_rollout(uow, deployment["active_rollout"]["id"])
    async with api.database.begin() as uow:
        await promote_rollout(uow, deployment["active_rollout"]["id"])
    return deployment


def report(deployment: dict[str, Any], *bodies: str) -> dict[str, Any]:
    common = {
        "deployment_id": deployment["id"],
        "release_id": deployment["active_rollout"]["to_release_id"],
        "captured_at": "2026-11-23T12:00:00Z",
        "path": "/v1/completions",
    }
    return {"prompts": [{**common, "id": f"cap_{number}", "body": body} for number, body in enumerate(bodies)]}


@pytest.mark.parametrize("capture_keys", [None], indirect=True, ids=["without"])
async def test_without_a_key_nothing_is_captured(api: Api) -> None:
    deployment = await serving(api)
    refused = await api[Role.OPERATOR].put(PATH, json=SETTINGS)
    assert (refused.status_code, slug(refused)) == (409, "conflict")
    assert "QUANTRY_CAPTURE_KEYS" in refused.json()["detail"]
    assert (await api[Role.GATEWAY].post("/internal/v1/captures", json=report(deployment, '"hello"'))).status_code == 204
    assert (await api[Role.VIEWER].get(PATH)).json()["num_prompts"] == 0
    unknown = await api[Role.OPERATOR].put(PATH.replace("bard", "nothing"), json=SETTINGS)
    assert (unknown.status_code, slug(unknown)) == (404, "unknown-deployment")


@pytest.mark.parametrize("capture_keys", [KEY], indirect=True, ids=["with"])
async def test_prompts_are_kept_as_ciphertext_alone(api: Api) -> None:
    deployment = await serving(api)
    told = report(deployment, '"my secret question"', '"\N{GRINNING FACE}"')
    assert (await api[Role.GATEWAY].post("/internal/v1/captures", json=told)).status_code == 204
    assert (await api[Role.VIEWER].get(PATH)).json()["num_prompts"] == 0, "nobody asked for it"
    started = await api[Role.OPERATOR].put(PATH, json=SETTINGS)
    assert (started.status_code, started.json()["settings"]) == (200, SETTINGS)
    for _ in range(2):
        assert (await api[Role.GATEWAY].post("/internal/v1/captures", json=told)).status_code == 204
    status = (await api[Role.VIEWER].get(PATH)).json()
    assert (status["num_prompts"], status["oldest_at"]) == (2, "2026-11-23T12:00:00Z")
    async with api.database.begin() as uow:
        kept = await uow.captures.list(await uow.deployments.get(api.project_id, "bard"), "/v1/completions", limit=10)
    assert not any(b"secret" in prompt.ciphertext for prompt in kept)
    cipher = CaptureCipher.of(SecretStr(KEY))
    assert sorted(cipher.decrypt(prompt.ciphertext) or "" for prompt in kept) == sorted(['"my secret question"', '"\N{GRINNING FACE}"'])
    routes = (await api[Role.GATEWAY].get("/internal/v1/routes")).json()["routes"]
    assert routes[0]["capture"] == SETTINGS
    for _ in range(2):
        assert (await api[Role.OPERATOR].delete(PATH)).status_code == 204
    assert (await api[Role.VIEWER].get(PATH)).json() == {
        "object": "deployment.capture",
        "settings": None,
        "num_prompts": 0,
        "oldest_at": None,
        "newest_at": None,
    }
    actions = [entry["action"] for entry in (await api[Role.ADMIN].get("/api/v1/audit")).json()["data"]]
    assert actions[:2] == ["capture.end", "capture.set"]


@pytest.mark.parametrize("capture_keys", [KEY], indirect=True, ids=["with"])
async def test_bad_settings_are_refused(api: Api) -> None:
    await serving(api)
    for bad in ({"percent": 0}, {"percent": 101}, {"percent": 5, "retention_days": 0}, {"percent": 5, "max_prompts": 0}, {"all": True}):
        answer = await api[Role.OPERATOR].put(PATH, json=bad)
        assert (bad, answer.status_code, slug(answer)) == (bad, 422, "invalid-input")
