"""The first keys in a cluster's Secret. The API server is a transport that answers from memory, the database a fake: no socket is used."""

from __future__ import annotations

import base64
import json
from typing import Any, cast

import httpx2
import pytest
from lightkube import Client, KubeConfig
from lightkube.config.models import Cluster, User

from quantry_api import bootstrap_secret
from quantry_api.bootstrap import FIRST_KEYS
from quantry_api.bootstrap_secret import GIVEN, KeySecret, fill
from quantry_core.errors import Unavailable
from quantry_store.database import Database

ALL = ["admin_key", "gateway_token", "worker_token"]


class ApiServer:
    """Keeps one Secret; refuses writes while it is ``broken``."""

    def __init__(self) -> None:
        self.secret: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "ai"}}
        self.is_broken = False

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/api/v1/namespaces/ai/secrets/keys"
        if request.method == "PATCH":
            if self.is_broken:
                return httpx2.Response(403, json={"kind": "Status", "code": 403, "message": "no write for you"})
            assert request.headers["content-type"] == "application/merge-patch+json"
            patch = json.loads(request.content)
            data = self.secret.setdefault("data", {})
            data |= {name: base64.b64encode(value.encode()).decode() for name, value in patch["stringData"].items()}
            self.secret["metadata"].setdefault("annotations", {}).update(patch.get("metadata", {}).get("annotations", {}))
        return httpx2.Response(200, json=self.secret)

    def held(self) -> dict[str, str]:
        return {name: base64.b64decode(value).decode() for name, value in self.secret.get("data", {}).items()}


class FakeBootstrap:
    """As quantry_api.bootstrap, with a database of three names."""

    def __init__(self) -> None:
        self.valid: dict[str, str] = {}
        self.num_made = 0

    async def __call__(self, _database: object, rotate: frozenset[str] = frozenset()) -> dict[str, str]:
        made = {"project_id": "prj_1"}
        for first in FIRST_KEYS:
            if first.name not in self.valid or first.name in rotate:
                self.num_made += 1
                self.valid[first.name] = made[first.printed_as] = f"{first.name}-{self.num_made}"
        return made


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> FakeBootstrap:
    keys = FakeBootstrap()
    monkeypatch.setattr(bootstrap_secret, "bootstrap", keys)
    return keys


async def fill_of(server: ApiServer) -> list[str]:
    config = KubeConfig.from_one(cluster=Cluster(server="http://cluster.test"), user=User(token="token")).get()
    with Client(config=config, transport=httpx2.MockTransport(server.answer), trust_env=False) as client:
        return await fill(cast(Database, None), KeySecret(client, "keys", "ai"))


async def test_the_secret_gets_each_key_once(server: ApiServer, keys: FakeBootstrap) -> None:
    assert await fill_of(server) == ALL
    first = server.held()
    assert first == {"admin_key": keys.valid["admin"], "worker_token": keys.valid["worker"], "gateway_token": keys.valid["gateway"]}
    assert await fill_of(server) == []
    assert server.held() == first


async def test_keys_that_never_reached_the_secret_are_made_anew(server: ApiServer, keys: FakeBootstrap) -> None:
    server.is_broken = True
    with pytest.raises(Unavailable, match="refused Secret ai/keys: no write for you"):
        await fill_of(server)
    lost = dict(keys.valid)
    server.is_broken = False
    assert await fill_of(server) == ALL
    assert server.held()["admin_key"] == keys.valid["admin"] != lost["admin"]


async def test_an_admin_key_that_was_taken_out_stays_valid(server: ApiServer, keys: FakeBootstrap) -> None:
    await fill_of(server)
    theirs = keys.valid["admin"]
    del server.secret["data"]["admin_key"]
    assert server.secret["metadata"]["annotations"] == {GIVEN: "true"}
    assert await fill_of(server) == []
    assert keys.valid["admin"] == theirs


async def test_a_token_that_was_taken_out_is_made_anew(server: ApiServer, keys: FakeBootstrap) -> None:
    await fill_of(server)
    before = keys.valid["worker"]
    del server.secret["data"]["worker_token"]
    assert await fill_of(server) == ["worker_token"]
    assert server.held()["worker_token"] == keys.valid["worker"] != before


async def test_a_cluster_that_is_away_is_said_so(keys: FakeBootstrap) -> None:
    class Away(ApiServer):
        def answer(self, request: httpx2.Request) -> httpx2.Response:
            raise httpx2.ConnectError("refused")

    with pytest.raises(Unavailable, match="API server did not answer"):
        await fill_of(Away())
    assert keys.valid == {}
