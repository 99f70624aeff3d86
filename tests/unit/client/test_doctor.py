"""``quantry doctor``: every line of it, well and unwell, without a machine or a server of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from factories.client import NOW, FakeServer, answer, failing, problem
from factories.command import run
from factories.serving import a_rollout
from quantry.checkup.findings import Check, Finding, Level, Teller, report_of
from quantry.checkup.machine import look_at_disk, look_at_gpus, look_at_memory, look_at_processor, look_at_python
from quantry.cli import plugins
from quantry.health import health_of
from quantry_core.keys import Identity, Role
from quantry_core.platform_state import PlatformState
from quantry_core.queue_loads import QueueLoad
from quantry_core.rollouts import Deployment, RolloutState
from quantry_core.vault import VaultStore
from quantry_core.webhooks import Webhook, WebhookEvent, WebhookFormat
from quantry_core.workers import Worker

EMPTY = answer({"data": []})


def levels(findings: Sequence[Finding]) -> list[Level]:
    return [finding.level for finding in findings]


@pytest.mark.parametrize(("version", "level"), [((3, 11, 7), Level.OK), ((3, 14, 0), Level.OK), ((3, 10, 14), Level.FAIL)])
def test_python(version: tuple[int, int, int], level: Level) -> None:
    assert levels(look_at_python(version)) == [level]


@pytest.mark.parametrize(
    ("flags", "level", "word"),
    [("fpu avx2 avx512f amx_tile", Level.OK, "AMX, AVX-512, AVX2"), ("fpu sse4_2", Level.WARN, "neither"), (None, Level.OK, "cores")],
)
def test_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, level: Level, word: str) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1, 2})
    path = tmp_path / "cpuinfo"
    path.write_text("model name\t: a CPU\n" + ("" if flags is None else f"flags\t\t: {flags}\n"))
    (found,) = look_at_processor(path)
    assert (found.level, word in found.message) == (level, True)
    assert "3 cores" in found.message


@pytest.mark.parametrize(("total", "free", "level"), [(32, 16, Level.OK), (4, 3, Level.WARN), (32, 1, Level.WARN)])
def test_memory(tmp_path: Path, total: int, free: int, level: Level) -> None:
    path = tmp_path / "meminfo"
    path.write_text(f"MemTotal:       {total * 1024**2} kB\nMemAvailable:   {free * 1024**2} kB\n")
    (found,) = look_at_memory(path)
    assert found.level is level
    assert (found.action is None) is (level is Level.OK)


@pytest.mark.parametrize(("free_gib", "level"), [(100, Level.OK), (10, Level.WARN), (1, Level.FAIL)])
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gib: int, level: Level) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _place: SimpleNamespace(free=free_gib * 1024**3))
    (found,) = look_at_disk(tmp_path / "not" / "there" / "yet")
    assert found.level is level
    assert str(tmp_path) in found.message


class Nvml:
    """A driver with these GPUs, each with the share of its memory that is free; None: it does not start."""

    class NVMLError(Exception):
        pass

    def __init__(self, free_shares: Sequence[float] | None) -> None:
        self._free = free_shares
        self.is_shut_down = False

    def nvmlInit(self) -> None:
        if self._free is None:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:
        self.is_shut_down = True

    def nvmlDeviceGetCount(self) -> int:
        return len(self._free or [])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return f"GPU {handle}".encode()

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(free=(self._free or [])[handle] * 80e9, total=80e9)


def test_gpus() -> None:
    nvml = Nvml([0.9, 0.01])
    found = look_at_gpus(nvml)
    assert levels(found) == [Level.OK, Level.WARN]
    assert "GPU 0, 72.0 GB of 80.0 GB free" in found[0].message
    assert nvml.is_shut_down
    assert levels(look_at_gpus(Nvml([]))) == [Level.OK]


@pytest.mark.parametrize(("has_device", "level"), [(False, Level.OK), (True, Level.FAIL)])
def test_a_driver_that_does_not_answer_is_a_fault_only_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, has_device: bool, level: Level
) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: has_device and str(path) == "/dev/nvidia0")
    assert levels(look_at_gpus(Nvml(None))) == [level]


def test_a_look_that_breaks_is_a_line_and_the_others_go_on() -> None:
    def broken() -> list[Finding]:
        raise ZeroDivisionError("oh")

    report = report_of([Check("machine", "one", broken), Check("machine", "two", lambda: [Teller("machine", "two").ok("fine")])])
    assert [(one.name, one.level) for one in report.checks] == [("one", Level.WARN), ("two", Level.OK)]
    assert "oh" in report.checks[0].message
    assert (report.level, report_of([]).level) == (Level.WARN, Level.OK)


@pytest.mark.parametrize(("server_s", "ahead_s"), [(0, 0.0), (-1, 0.0), (-10, 8.7), (10, -9.5)])
def test_how_far_the_clocks_are_apart_is_told_no_finer_than_it_is_known(server_s: int, ahead_s: float) -> None:
    began_at = datetime(2026, 11, 23, 12, 0, 0, 0, tzinfo=UTC) + timedelta(milliseconds=-300 if ahead_s > 0 else 0)
    date = f"Mon, 23 Nov 2026 {'12:00' if server_s >= 0 else '11:59'}:{server_s % 60:02} GMT"
    health = health_of(date, began_at, began_at + timedelta(milliseconds=500))
    assert health.round_trip_s == 0.5
    assert health.clock_ahead_s == pytest.approx(ahead_s)
    assert health_of("yesterday", began_at, began_at).clock_ahead_s is None
    assert health_of(None, began_at, began_at).clock_ahead_s is None


def a_state(**changes: Any) -> PlatformState:
    values: dict[str, Any] = {
        "time": NOW,
        "database_time": NOW,
        "version": "0.1.0",
        "database_revision": "0009",
        "wanted_revision": "0009",
        "key_expires_at": None,
        "verified_at": NOW - timedelta(days=1),
        "num_damaged": 0,
        "has_webhooks": True,
        "has_captures": True,
    }
    return PlatformState.model_validate(values | changes)


def a_worker(host: str, *, is_alive: bool = True) -> Worker:
    fields = {"host": host, "pid": 7, "version": "0.1.0", "queues": ["cpu"], "num_slots": 1, "environments": {}}
    return Worker.model_validate(fields | {"id": "wrk_" + "0" * 32, "is_alive": is_alive, "started_at": NOW, "last_seen_at": NOW})


def a_queue(**changes: Any) -> QueueLoad:
    values: dict[str, Any] = {"name": "cpu", "num_waiting": 0, "num_queued": 0, "num_running": 0, "num_slots": 1}
    return QueueLoad.model_validate(values | changes)


def a_webhook(**changes: Any) -> Webhook:
    values: dict[str, Any] = {
        "id": "whk_1",
        "project_id": "prj_1",
        "name": "chat",
        "url": "https://example.com",
        "events": [WebhookEvent.JOB_FAILED],
        "format": WebhookFormat.JSON,
        "is_active": True,
        "created_at": NOW,
    }
    return Webhook.model_validate(values | changes)


def a_deployment(**changes: Any) -> Deployment:
    values: dict[str, Any] = {
        "id": "dep_1",
        "project_id": "prj_1",
        "name": "bard",
        "current_release": None,
        "active_rollout": None,
        "replicas": [],
        "is_stopped": False,
        "created_at": NOW,
    }
    return Deployment.model_validate(values | changes)


def a_schedule(next_run_at: datetime | None) -> dict[str, Any]:
    return {
        **{"id": "sch_1", "project_id": "prj_1", "name": "nightly", "cron": "0 3 * * *", "time_zone": "UTC", "template": {}},
        **{"overlap": "skip", "missed": "skip", "is_paused": next_run_at is None, "created_at": NOW.isoformat()},
        "next_run_at": None if next_run_at is None else next_run_at.isoformat(),
    }


@pytest.fixture
def well(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """A server at which nothing is wrong, and a machine that is not looked at."""
    monkeypatch.setattr("quantry.cli.doctor.machine_checks", lambda _folder: [])
    server.on("GET", "/healthz", answer({"status": "ok"}))
    server.on("GET", "/api/v1/whoami", answer(Identity(key_id="key_1", project_id="prj_1", role=Role.VIEWER)))
    server.on("GET", "/api/v1/platform", answer(a_state()))
    server.on("GET", "/api/v1/models", EMPTY)
    server.on("GET", "/api/v1/vault/store", answer(VaultStore(keeps_versions=True, locks_objects=False)))
    server.on("GET", "/api/v1/workers", answer({"data": [a_worker("a").model_dump(mode="json")]}))
    server.on("GET", "/api/v1/queues", answer({"data": [a_queue().model_dump(mode="json")]}))
    for path in ("deployments", "schedules", "webhooks"):
        server.on("GET", f"/api/v1/{path}", EMPTY)
    return server


def examined(capsys: pytest.CaptureFixture[str], code: int) -> dict[str, tuple[str, str]]:
    """Returns what the doctor says, by name, and checks its exit code."""
    assert run("doctor", "--json") == code
    report = json.loads(capsys.readouterr().out)
    assert all((one["action"] is None) is (one["level"] == "ok") for one in report["checks"])
    return {one["name"]: (one["level"], one["message"]) for one in report["checks"]}


def test_nothing_is_wrong(well: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    found = examined(capsys, 0)
    assert {level for level, _ in found.values()} == {"ok"}
    assert {"gateway", "api", "key", "database", "registry", "object store", "vault", "workers", "queue cpu", "deployments"} <= set(found)
    assert run("doctor") == 0
    assert "Nothing is wrong." in capsys.readouterr().out


def listed(document: Any) -> Callable[[httpx.Request], httpx.Response]:
    return answer({"data": [document if isinstance(document, dict) else document.model_dump(mode="json")]})


PENDING = a_rollout(state=RolloutState.PENDING).model_copy(update={"created_at": NOW - timedelta(minutes=30)})


@pytest.mark.parametrize(
    ("path", "reply", "expected"),
    [
        ("/healthz", problem(503, "unavailable", "no routes yet"), ("gateway", "fail", "no routes yet")),
        ("/api/v1/whoami", problem(503, "unavailable", "database away"), ("api", "fail", "database away")),
        ("/api/v1/whoami", problem(401, "unauthorized", "this key has expired"), ("key", "fail", "this key has expired")),
        ("/api/v1/platform", problem(403, "forbidden", "a viewer's"), ("key", "warn", "viewer")),
        ("/api/v1/platform", answer(a_state(key_expires_at=NOW + timedelta(days=2))), ("key", "warn", "expires in 2 d")),
        ("/api/v1/platform", answer(a_state(key_expires_at=NOW + timedelta(days=20))), ("key", "ok", "expires in 20 days")),
        ("/api/v1/platform", answer(a_state(database_revision=None)), ("database", "fail", "never migrated")),
        ("/api/v1/platform", answer(a_state(database_revision="0007")), ("database", "fail", "0007, the api was written for 0009")),
        ("/api/v1/platform", answer(a_state(time=NOW + timedelta(seconds=20))), ("database clock", "warn", "20 s ahead of")),
        ("/api/v1/platform", answer(a_state(time=NOW - timedelta(minutes=20))), ("database clock", "fail", "behind")),
        ("/api/v1/platform", answer(a_state(verified_at=None)), ("vault", "warn", "never verified")),
        ("/api/v1/platform", answer(a_state(verified_at=NOW - timedelta(days=90))), ("vault", "warn", "90 d")),
        ("/api/v1/platform", answer(a_state(num_damaged=3)), ("vault", "fail", "3 damaged")),
        ("/api/v1/models", problem(503, "unavailable", "registry away"), ("registry", "fail", "registry away")),
        ("/api/v1/vault/store", problem(503, "unavailable", "no bucket"), ("object store", "fail", "no bucket")),
        ("/api/v1/workers", EMPTY, ("workers", "fail", "no worker is alive")),
        ("/api/v1/queues", listed(a_queue(num_slots=0)), ("queue cpu", "warn", "no worker serves it")),
        ("/api/v1/queues", listed(a_queue(num_slots=0, num_queued=2)), ("queue cpu", "fail", "2 queued, and no worker")),
        ("/api/v1/queues", listed(a_queue(num_queued=2, oldest_queued_s=7200.0)), ("queue cpu", "warn", "one for 2 h")),
        ("/api/v1/deployments", listed(a_deployment(active_rollout=PENDING)), ("deployments", "fail", "pending for 30 min")),
        ("/api/v1/deployments", listed(a_deployment(is_stopped=True)), ("deployments", "ok", "all as asked")),
        ("/api/v1/schedules", listed(a_schedule(NOW - timedelta(hours=1))), ("schedules", "fail", "overdue: nightly")),
        ("/api/v1/schedules", listed(a_schedule(NOW + timedelta(hours=1))), ("schedules", "ok", "0 of them paused")),
        ("/api/v1/webhooks", listed(a_webhook(is_active=False, disabled_reason="gone for days")), ("webhooks", "fail", "gone for days")),
        ("/api/v1/webhooks", listed(a_webhook(failing_since=NOW)), ("webhooks", "warn", "chat fails since")),
    ],
)
def test_what_can_be_wrong(
    well: FakeServer,
    capsys: pytest.CaptureFixture[str],
    path: str,
    reply: Callable[[httpx.Request], httpx.Response],
    expected: tuple[str, str, str],
) -> None:
    name, level, words = expected
    well.on("GET", path, reply)
    found = examined(capsys, 1 if level == "fail" else 0)
    assert found[name][0] == level, found
    assert words in found[name][1]


def test_a_server_that_is_away_is_told_once_and_asked_once(well: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    well.on("GET", "/healthz", failing(httpx.ConnectError))
    assert set(examined(capsys, 1)) == {"gateway"}
    assert len(well.requests) == 1


def test_some_workers_that_are_gone(well: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    workers = [a_worker("a"), a_worker("b", is_alive=False), a_worker("a", is_alive=False)]
    well.on("GET", "/api/v1/workers", answer({"data": [worker.model_dump(mode="json") for worker in workers]}))
    assert examined(capsys, 0)["workers"] == ("warn", "1 alive; not heard of any more: b")


def test_the_clock_of_the_server(well: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    well.on("GET", "/healthz", lambda _request: httpx.Response(200, json={}, headers={"date": "Thu, 01 Jan 2026 00:00:00 GMT"}))
    assert examined(capsys, 1)["clock"][0] == "fail"


def test_for_people_what_to_do_stands_below(well: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    well.on("GET", "/api/v1/workers", EMPTY)
    assert run("doctor", "--problems") == 1
    out = capsys.readouterr().out
    assert "-> start one: jobs stay queued until then" in out
    assert "gateway" not in out
    assert "1 failed, 0 to look at" in out
    assert run("doctor", "--problems", "--json") == 1
    assert [one["level"] for one in json.loads(capsys.readouterr().out)["checks"]] == ["fail"]


def test_without_a_server_the_machine_is_looked_at_all_the_same(
    well: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUANTRY_API_KEY")
    assert set(examined(capsys, 1)) == {"settings"}
    assert run("doctor", "--machine", "--json") == 0
    assert well.requests == []


def test_plugins_look_too_and_one_that_breaks_is_a_line(
    well: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def checks() -> list[Check]:
        return [Check("stack", "ports", lambda: [Teller("stack", "ports").warn("taken", "another")])]

    def load(name: str) -> Any:
        if name == "good":
            return SimpleNamespace(checks=checks)
        raise ImportError("gone")

    monkeypatch.setattr(plugins, "plugins", lambda: [SimpleNamespace(name=name, module=name) for name in ("good", "broken")])
    monkeypatch.setattr("importlib.import_module", load)
    found = {check.name: check.look()[0].level for check in plugins.plugin_checks()}
    assert found == {"ports": Level.WARN, "broken": Level.WARN}
