from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from quantry_core.errors import Unavailable
from quantry_core.methods import Environment
from quantry_core.workers import Device, WorkerHello
from quantry_worker.control import HttpControl
from quantry_worker.hello import MEMORY_SHARE, Greeter, describe, memory_of_slot
from quantry_worker.memory import machine_memory_bytes
from quantry_worker.settings import WorkerSettings
from quantry_worker.toolchains import toolchain_digest

WORKER_ID = "wrk_" + "1" * 32


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    return WorkerSettings(
        control_url="http://control.test",
        worker_token=SecretStr("token"),
        broker_url=SecretStr("redis://"),
        work_dir=tmp_path,
        worker_queues=["gpu", "gpu-80g"],
        worker_gpus=["0", "1"],
        worker_slots=2,
        ml_python=Path(sys.executable),
    )


def test_a_worker_says_what_its_slots_can_do(settings: WorkerSettings) -> None:
    devices = [Device(id="0"), Device(id="1")]
    hello = describe(settings, devices)
    assert (hello.pid, hello.queues, hello.num_slots, hello.devices) == (os.getpid(), ["gpu", "gpu-80g"], 2, devices)
    assert hello.environments == {Environment.ML: toolchain_digest(Path(sys.executable))}
    assert hello.memory_bytes == int(machine_memory_bytes() * MEMORY_SHARE / 2)


def test_an_environment_that_is_not_there_is_not_offered(settings: WorkerSettings, tmp_path: Path) -> None:
    assert describe(settings.model_copy(update={"ml_python": tmp_path / "python"}), []).environments == {}


def test_the_memory_of_a_slot_is_as_set(settings: WorkerSettings) -> None:
    assert memory_of_slot(settings.model_copy(update={"worker_memory_bytes": 10**9})) == 10**9


def test_the_greeter_sends_all_of_it_and_tells_when_nobody_hears(settings: WorkerSettings) -> None:
    answers = [httpx.Response(503), httpx.Response(204)]
    heard: list[WorkerHello] = []

    def handler(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("PUT", f"/api/v1/execution/workers/{WORKER_ID}")
        heard.append(WorkerHello.model_validate_json(request.content))
        return answers.pop(0)

    hello = describe(settings, [])
    greeter = Greeter(settings, WORKER_ID, hello)
    control = HttpControl("http://control.test", "token", transport=httpx.MockTransport(handler))
    with pytest.raises(Unavailable):
        greeter.send(control)
    greeter.send(control)
    assert heard == [hello, hello]
