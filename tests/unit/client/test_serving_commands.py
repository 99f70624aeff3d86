"""Commands about deployments, methods and keys."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from factories.client import (
    NOW,
    FakeServer,
    answer,
    page,
)
from factories.command import check_both_ways, run
from quantry_core.keys import ApiKey, NewKey, Role
from quantry_core.method_views import MethodView, method_view, method_views
from quantry_core.methods import METHODS, Method
from quantry_core.pages import Page
from quantry_core.rollouts import AttachedAdapter, Deployment, Replica, ReplicaState

KEY_ROW = ApiKey(id="key_1", project_id="prj_1", name="ci", role=Role.VIEWER, prefix="qtr_abcd", created_at=NOW)

DEPLOYMENT = Deployment(
    id="dep_1", project_id="prj_1", name="chat", current_release=None, active_rollout=None, replicas=[], is_stopped=True, created_at=NOW
)

ADAPTER = AttachedAdapter(
    id="ada_1",
    project_id="prj_1",
    deployment_id="dep_2",
    name="pirate",
    version_id="ver_2",
    version_ref="bard-sea@1",
    message="no kernel",
    created_at=NOW,
)

WITH_ADAPTERS = DEPLOYMENT.model_copy(
    update={
        "id": "dep_2",
        "name": "sea",
        "adapters": [ADAPTER],
        "replicas": [
            Replica(id="rep_1", release_id="rel_1", ordinal=0, state=ReplicaState.READY, adapter_ids=["ada_1"], updated_at=NOW),
            Replica(id="rep_2", release_id="rel_1", ordinal=1, state=ReplicaState.READY, updated_at=NOW),
        ],
    }
)


def prepare(server: FakeServer) -> None:
    server.on("GET", "/api/v1/deployments", page(DEPLOYMENT))
    server.on("GET", "/api/v1/deployments/chat", answer(DEPLOYMENT))
    server.on("POST", "/api/v1/deployments/chat/stop", answer(DEPLOYMENT))
    server.on("POST", "/api/v1/deployments/chat/start", answer(DEPLOYMENT))
    server.on("GET", "/api/v1/deployments/sea", answer(WITH_ADAPTERS))
    server.on("PUT", "/api/v1/deployments/sea/adapters/pirate", answer(ADAPTER))
    server.on("GET", "/api/v1/methods", answer(Page[MethodView](data=method_views())))
    server.on("GET", "/api/v1/methods/gptq", answer(method_view(METHODS[Method.GPTQ])))
    server.on("GET", "/api/v1/methods/fp8", answer(method_view(METHODS[Method.FP8])))
    server.on("GET", "/api/v1/keys", page(KEY_ROW))
    server.on("POST", "/api/v1/keys", answer(NewKey(key=KEY_ROW, secret="qtr_abcd-once"), 201))
    server.on("DELETE", "/api/v1/keys/key_1", lambda _request: httpx.Response(204))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("deployments list", ["chat", "stopped"]),
        ("deployments show chat", ["chat", "It has no replicas."]),
        ("deployments stop chat", ["chat is being stopped"]),
        ("deployments start chat", ["chat is being started"]),
        ("deployments show sea", ["sea", "rep_2", "pirate", "1 of 2"]),
        ("deployments adapters list sea", ["pirate", "bard-sea@1", "1 of 2", "no kernel"]),
        ("deployments adapters attach sea pirate bard-sea@1", ["pirate is bard-sea@1"]),
        ("methods", ["gptq", "W4A16", "32, 64, 128*", "eetq", "cuda"]),
        ("methods show fp8", ["data-free (FP8_DYNAMIC); calibrated (FP8)", "cpu (FP8_DYNAMIC); cpu, cuda (FP8)"]),
        ("methods show gptq", ["arXiv:2210.17323", "damping", "0.01", "vllm (cpu)", "activation_order"]),
        ("keys list", ["key_1", "ci", "viewer", "qtr_abcd"]),
        ("keys create --name ci --role viewer", ["qtr_abcd-once"]),
        ("keys revoke key_1", ["key_1 is revoked"]),
    ],
)
def test_every_command_speaks_to_people_and_to_programs(
    server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, words: list[str]
) -> None:
    prepare(server)
    check_both_ways(capsys, line.format(out=tmp_path / "out"), words)


def test_an_adapter_is_detached_and_asked_for(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("DELETE", "/api/v1/deployments/sea/adapters/pirate", lambda _request: httpx.Response(204))
    assert run("deployments", "adapters", "detach", "sea", "pirate") == 0
    assert "pirate is detached" in capsys.readouterr().out
    server.on("GET", "/api/v1/deployments/sea/adapters", page(ADAPTER))
    server.on("GET", "/api/v1/deployments/sea/adapters/pirate", answer(ADAPTER))
    client = server.client()
    assert client.deployments.adapters("sea") == [ADAPTER]
    assert client.deployments.adapter("sea", "pirate") == ADAPTER
