"""Servers of somebody else: which may be named, what is looked at, and that they are left alone."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest

from factories.client import version
from factories.rollout_records import release, replica
from quantry_core.errors import NotServable, Unavailable
from quantry_core.jobs import EngineConfig, EngineKind, JobReason
from quantry_core.methods import Format
from quantry_core.rollouts import Release, ReplicaState
from quantry_core.versions import VersionDetail, VersionKind, VersionState
from quantry_deploy.drivers.probes import EngineProbe
from quantry_deploy.drivers.protocol import StartOrder
from quantry_deploy.drivers.static import AllowedHosts, StaticDriver
from quantry_deploy.observations import PullState

SERVER = "http://10.1.2.3:8000"
MASTER = version({"config.json": b"{}"}).model_copy(
    update={"kind": VersionKind.MASTER, "format": Format.SAFETENSORS, "state": VersionState.READY}
)


def served(*servers: str, **engine: Any) -> Release:
    changes = {"servers": list(servers), "num_replicas": len(servers), "engine": EngineConfig.model_validate(engine)}
    return release().model_copy(update=changes)


def driver(answer: httpx.MockTransport | None = None, hosts: str = "10.1.2.*") -> StaticDriver:
    transport = answer or httpx.MockTransport(lambda _request: httpx.Response(503))
    return StaticDriver(EngineProbe(transport), AllowedHosts(hosts))


def vllm(request: httpx.Request) -> httpx.Response:
    assert str(request.url).startswith(SERVER)
    bodies = {"/v1/models": {"data": [{"id": "chat"}]}, "/v1/completions": {"choices": [{"text": ""}]}}
    return httpx.Response(200, json=bodies.get(request.url.path, {}))


@pytest.mark.parametrize(
    ("patterns", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("localhost", "http://LOCALHOST:8000"),
        ("[::1]", "http://[::1]:8000"),
        ("gpu-*.lab.example", "https://gpu-7.lab.example"),
        ("gpu-7:8000", "http://gpu-7:8000"),
        ("other, gpu-7:443", "https://gpu-7"),
    ],
)
def test_hosts_that_are_allowed(patterns: str, url: str) -> None:
    AllowedHosts(patterns).check(url)


@pytest.mark.parametrize(
    ("patterns", "url"),
    [
        ("127.0.0.1", "http://169.254.169.254"),
        ("127.0.0.1", "http://127.0.0.1.evil.example:80"),
        ("gpu-7:8000", "http://gpu-7:8001"),
        ("", "http://127.0.0.1:8000"),
        ("gpu-*", "http://gpu-7@10.0.0.1:80"),
        ("gpu-*", "http://gpu-7/v1"),
        ("gpu-*", "ftp://gpu-7:80"),
        ("gpu-*", "http://gpu-7:99999"),
        ("*", "http://"),
    ],
)
def test_other_hosts_and_what_is_no_address_are_refused(patterns: str, url: str) -> None:
    with pytest.raises(NotServable, match=r"QUANTRY_STATIC_HOSTS|no address of a server"):
        AllowedHosts(patterns).check(url)


async def test_a_host_that_is_not_allowed_is_refused_before_it_is_asked() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200)

    pool = driver(httpx.MockTransport(answer), hosts="127.0.0.1")
    refused = pool.pull_status(MASTER, served(SERVER))
    assert (refused.state, refused.reason) == (PullState.REFUSED, JobReason.INVALID_INPUT)
    assert "QUANTRY_STATIC_HOSTS" in refused.message
    with pytest.raises(Unavailable, match="QUANTRY_STATIC_HOSTS"):
        await pool.start(StartOrder(replica(ReplicaState.PULLING), served(SERVER), "chat", MASTER))
    assert asked == []
    await pool.close()


@pytest.mark.parametrize(
    ("asked", "subject", "words"),
    [
        (served(SERVER, max_adapters=1), MASTER, "adapters are loaded only into engines that the platform starts"),
        (served(SERVER, engine=EngineKind.LLAMA_CPP), MASTER, "llama.cpp .* cannot load"),
        (served(SERVER), MASTER.model_copy(update={"state": VersionState.QUARANTINED}), "only a ready version is served"),
    ],
)
def test_what_the_servers_could_not_serve_is_refused(asked: Release, subject: VersionDetail, words: str) -> None:
    refused = driver().pull_status(subject, asked)
    assert refused.state is PullState.REFUSED
    assert re.search(words, refused.message)


async def test_the_server_at_its_ordinal_is_a_replica_until_it_is_ended() -> None:
    pool = driver(httpx.MockTransport(vllm))
    asked = served("http://10.1.2.9:1", SERVER)
    pool.know([asked])
    assert pool.pull_status(MASTER, asked).state is PullState.DONE
    placed = replica(ReplicaState.PULLING, ordinal=1)
    assert not (await pool.probe(placed, "chat")).is_running
    started = await pool.start(StartOrder(placed, asked, "chat", MASTER))
    assert (started.url, started.pid, started.log_path) == (SERVER, None, None)
    running = placed.model_copy(update={"url": started.url, "state": ReplicaState.STARTING})
    assert (await pool.probe(running, "chat")).is_running
    for _ in range(5):
        await asyncio.sleep(0)
    seen = await pool.probe(running, "chat")
    assert (seen.answers, seen.is_proven) == (True, True)
    await pool.terminate(running)
    assert not (await pool.probe(running, "chat")).is_running
    await pool.close()


async def test_a_server_of_another_model_is_doubted_and_one_that_is_silent_counts_as_running() -> None:
    def other(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": [{"id": "somebody-else"}]})

    pool = driver(httpx.MockTransport(other))
    running = replica(ReplicaState.STARTING, url=SERVER)
    await pool.probe(running, "chat")
    for _ in range(5):
        await asyncio.sleep(0)
    seen = await pool.probe(running, "chat")
    assert (seen.is_proven, seen.doubt) == (False, "it serves somebody-else, not chat")
    await pool.close()
    silent = driver()
    seen = await silent.probe(running, "chat")
    assert (seen.is_running, seen.answers) == (True, False)
    await silent.close()


async def test_more_replicas_than_servers_wait_with_the_reason() -> None:
    with pytest.raises(Unavailable, match="names 1 servers, none for replica 1"):
        await driver().start(StartOrder(replica(ReplicaState.PULLING, ordinal=1), served(SERVER), "chat", MASTER))
