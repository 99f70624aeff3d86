"""The api, the registry, the gateway and a worker as they are run: one job is one trace in all of them, its log lines can be found by its
ids, and no secret is in anything that leaves them."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from cryptography.fernet import Fernet

from factories.checkpoints import master_contents, write_checkpoint
from factories.collector import Collector, Span, collecting
from factories.directories import short_directory
from factories.servers import free_port
from quantry_api.bootstrap import bootstrap
from quantry_local.postgres import Postgres
from quantry_local.redis import Redis
from quantry_local.s3 import S3
from quantry_store.database import Database

READY_S = 60.0
DONE_S = 60.0
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
REQUEST_ID = "the-request-of-this-test"
SERVICES = ("registry", "api", "gateway", "worker")
PLANTED = 20


def fresh(prefix: str = "planted") -> str:
    return f"{prefix}-{secrets.token_hex(12)}"


@dataclass
class Platform:
    """The running services, and what they were given."""

    directory: Path
    collector: Collector
    keys: Mapping[str, str]
    planted: dict[str, str] = field(default_factory=dict)
    """Secrets by where each was put."""
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    """Bodies of answers, and what /metrics said."""

    def plant(self, where: str, value: str | None = None) -> str:
        """Returns a secret and remembers it."""
        self.planted[where] = fresh() if value is None else value
        return self.planted[where]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}"

    def start(self, name: str, **variables: str) -> None:
        with (self.directory / f"{name}.log").open("wb") as log:
            environment = {"PATH": os.defpath, **{f"QUANTRY_{key}": value for key, value in variables.items()}}
            self.processes[name] = subprocess.Popen([sys.executable, "-m", f"quantry_{name}"], env=environment, stdout=log, stderr=log)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log(name).splitlines()]

    def wait_until_well(self) -> None:
        deadline = time.monotonic() + READY_S
        for name in ("registry", "api", "gateway"):
            while not answers_well(self.ports[name]):
                assert self.processes[name].poll() is None and time.monotonic() < deadline, self.log(name)
                time.sleep(0.1)

    def kill(self) -> None:
        """Ends what is still there, whatever happened."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def stop(self) -> None:
        """Ends them as a supervisor does: the worker first, the others together."""
        for names in (["worker"], ["gateway", "api", "registry"]):
            for name in names:
                self.processes[name].send_signal(signal.SIGTERM)
            for name in names:
                self.processes[name].wait(30)


def answers_well(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def start_services(platform: Platform, database_url: str, redis: Redis, s3: S3) -> None:
    """Starts all of them with the secrets they need, and with some that they only hold."""
    directory, plant = platform.directory, platform.plant
    everyone = {
        "TRACES_ENDPOINT": platform.collector.url,
        "METRICS_TOKEN": plant("the metrics token"),
        "HF_TOKEN": plant("the hub's token"),
        "IMPORT_S3_SECRET_KEY": plant("the key of another store"),
    }
    blobs = {
        "S3_ENDPOINT": s3.endpoint,
        "S3_ACCESS_KEY": plant("the store's access key", s3.access_key),
        "S3_SECRET_KEY": plant("the store's secret key", s3.secret_key),
        "VAULT_BUCKET": f"trace-{os.getpid()}-vault",
        "STAGING_BUCKET": f"trace-{os.getpid()}-staging",
    }
    captures = plant("the key of captures", Fernet.generate_key().decode())
    platform.ports |= {name: free_port() for name in ("registry", "api", "gateway", "gateway metrics", "worker metrics")}
    port = {name: str(number) for name, number in platform.ports.items()}
    data = {**everyone, **blobs, "DATABASE_URL": database_url, "CAPTURE_KEYS": captures}
    broker = redis.url
    plant("the broker's password", redis.password)
    platform.start("registry", **data, REGISTRY_PORT=port["registry"])
    platform.start("api", **data, API_PORT=port["api"], BROKER_URL=broker, IMPORT_ROOTS=str(directory))
    platform.start(
        "gateway",
        **everyone,
        GATEWAY_PORT=port["gateway"],
        API_URL=f"http://127.0.0.1:{port['api']}",
        REGISTRY_URL=f"http://127.0.0.1:{port['registry']}",
        GATEWAY_TOKEN=plant("the gateway's key", platform.keys["gateway_token"]),
        GATEWAY_STATE_DIR=str(directory / "gateway"),
        METRICS_PORT=port["gateway metrics"],
    )
    # It waits for the others by itself.
    platform.start(
        "worker",
        **everyone,
        **blobs,
        CONTROL_URL=platform.url,
        WORKER_TOKEN=plant("the worker's key", platform.keys["worker_token"]),
        BROKER_URL=broker,
        WORK_DIR=str(directory / "work"),
        ML_PYTHON=sys.executable,
        IMPORT_ROOTS=str(directory),
        METRICS_PORT=port["worker metrics"],
    )
    platform.wait_until_well()


def do_the_job(platform: Platform) -> dict[str, Any]:
    """Returns an import that a client submitted in a trace of its own, once it has succeeded."""
    source = write_checkpoint(platform.directory / "source", master_contents())
    headers = {"Authorization": f"Bearer {platform.plant('an admin key', platform.keys['admin_key'])}"}
    with httpx.Client(base_url=platform.url, headers=headers, timeout=30, trust_env=False) as client:
        spec = {"type": "import", "model": "bard", "source": str(source)}
        submitted = client.post("/api/v1/jobs", json={"spec": spec}, headers={"traceparent": PARENT, "X-Request-Id": REQUEST_ID})
        assert submitted.status_code == 201, submitted.text
        path, deadline = f"/api/v1/jobs/{submitted.json()['id']}", time.monotonic() + DONE_S
        while (job := client.get(path).json())["status"] not in {"succeeded", "failed"}:
            assert time.monotonic() < deadline, platform.log("worker")
            time.sleep(0.1)
        platform.said += [json.dumps(job), client.get(f"{path}/log").text]
    assert job["status"] == "succeeded", job
    return dict(job)


def ask_badly(platform: Platform) -> None:
    """Sends secrets where they do not belong, and keeps what comes back."""
    plant = platform.plant
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/api/v1/jobs", {"headers": {"Authorization": f"Bearer {plant('a bearer that nobody has', fresh('qtr_x'))}"}}),
        ("GET", "/api/v1/jobs", {"headers": {"Authorization": f"Basic {plant('a basic header')}"}}),
        ("GET", "/api/v1/jobs", {"params": {"api_key": plant("a parameter")}}),
        ("GET", "/api/v1/jobs", {"headers": {"Cookie": f"session={plant('a cookie')}"}}),
        ("POST", "/api/v1/jobs", {"json": {"spec": {"type": "import", "password": plant("a field that there is not")}}}),
        ("POST", "/api/v1/jobs", {"content": f'{{"token": "{plant("a broken body")}"', "headers": {"Content-Type": "application/json"}}),
        ("POST", "/v1/chat/completions", {"json": {"model": "none", "messages": [{"role": "user", "content": plant("a prompt")}]}}),
        (
            "POST",
            "/v1/chat/completions",
            {"headers": {"Authorization": f"Bearer {plant('a key of no model', fresh('qtr_y'))}"}, "json": {}},
        ),
        ("GET", "/v1/models", {"headers": {"X-Request-Id": "bad id " + plant("a request id")}}),
        ("GET", "/api/v1/models", {"headers": {"tracestate": f"x={plant('a trace state')}"}}),
    ]
    with httpx.Client(base_url=platform.url, timeout=30, trust_env=False) as client:
        for method, path, options in requests:
            headers = {"Authorization": f"Bearer {platform.keys['admin_key']}", **options.pop("headers", {})}
            answer = client.request(method, path, headers=headers, **options)
            platform.said += [answer.text, str(dict(answer.headers))]


def scrape(platform: Platform) -> dict[str, str]:
    """Returns the metrics of each service; they are for nobody without their token."""
    found = {}
    for name, port in (("registry", "registry"), ("api", "api"), ("gateway", "gateway metrics"), ("worker", "worker metrics")):
        url = f"http://127.0.0.1:{platform.ports[port]}/metrics"
        for key in ("", platform.keys["admin_key"]):
            assert httpx.get(url, headers={"Authorization": f"Bearer {key}x"}, trust_env=False).status_code == 401, name
        answer = httpx.get(url, headers={"Authorization": f"Bearer {platform.planted['the metrics token']}"}, trust_env=False)
        assert answer.status_code == 200, name
        found[name] = answer.text
    assert httpx.get(f"{platform.url}/metrics", trust_env=False).status_code == 404
    return found


@dataclass(frozen=True)
class Ran:
    """What is left of the platform once it has ended."""

    platform: Platform
    job: Mapping[str, Any]
    metrics: Mapping[str, str]
    spans: list[Span]


@pytest.fixture(scope="module")
def ran(postgres: Postgres, template_database: str, redis_server: Redis, s3_server: S3) -> Iterator[Ran]:
    """Runs everything once: the tests below look at what came of it."""
    name = f"one_trace_{os.getpid()}"
    administer = f"host={postgres.socket_dir} user=quantry dbname=postgres"
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(administer, autocommit=True))
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY FILE_COPY")
        stack.callback(connection.execute, f"DROP DATABASE {name} WITH (FORCE)")
        directory = short_directory("quantry-trace-")
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        platform = Platform(directory, stack.enter_context(collecting()), asyncio.run(first_keys(postgres.database_url(name))))
        stack.callback(platform.kill)
        start_services(platform, postgres.database_url(name), redis_server, s3_server)
        job = do_the_job(platform)
        ask_badly(platform)
        metrics = scrape(platform)
        platform.stop()
        platform.said += metrics.values()
        yield Ran(platform, job, metrics, platform.collector.spans())


async def first_keys(database_url: str) -> dict[str, str]:
    database = Database(database_url)
    try:
        return await bootstrap(database)
    finally:
        await database.close()


def below(spans: list[Span], parent: Span) -> set[tuple[str, str]]:
    """Returns service and name of each span below another."""
    return {(span.service, span.name) for span in spans if span.parent_id == parent.span_id}


def test_one_job_is_one_trace_through_every_service(ran: Ran) -> None:
    mine = [span for span in ran.spans if span.trace_id == TRACE]
    assert {span.service for span in mine} == {"quantry-gateway", "quantry-api", "quantry-worker", "quantry-registry"}
    known = {span.span_id for span in mine} | {PARENT.split("-")[2]}
    assert [span for span in mine if span.parent_id not in known] == []
    submit = next(span for span in mine if span.name == "POST /api/v1/jobs")
    attempt = next(span for span in mine if span.name == "attempt import")
    assert attempt.parent_id == submit.span_id
    assert attempt.attributes.items() >= {"quantry.job.id": ran.job["id"], "quantry.job.attempt": 1, "quantry.outcome": "succeeded"}.items()
    assert below(mine, attempt) >= {("quantry-worker", name) for name in ("claim", "load", "child", "apply", "finish")}
    apply, finish = (next(span for span in mine if span.name == name) for name in ("apply", "finish"))
    for step, service, door, route in (
        (apply, "quantry-registry", "POST registry", "POST /api/v1/seals"),
        (finish, "quantry-api", "POST api", "POST /api/v1/execution/jobs/{job_id}/finish"),
    ):
        gateway = next(span for span in mine if span.parent_id == step.span_id and span.name == door)
        assert (service, route) in below(mine, gateway)
    child = next(span for span in mine if span.name == "child")
    assert child.events, "the child's phases are events of its span"
    # What workers ask all day begins no trace.
    assert not any("heartbeat" in span.name or "next" in span.name for span in ran.spans)


def test_log_lines_are_found_by_the_ids_of_request_job_and_trace(ran: Ran) -> None:
    for name in SERVICES:
        lines = ran.platform.lines(name)
        assert lines and {line["service"] for line in lines} == {name}
        assert all({"timestamp", "level", "event", "logger"} <= line.keys() for line in lines)
    (submitted,) = [line for line in ran.platform.lines("api") if line.get("request_id") == REQUEST_ID and line["event"] == "request"]
    assert submitted.items() >= {"path": "/api/v1/jobs", "status": 201, "trace_id": TRACE}.items()
    attempts = [line for line in ran.platform.lines("worker") if line.get("job_id") == ran.job["id"]]
    assert {"attempt begins", "attempt ended"} <= {line["event"] for line in attempts}
    assert {(line["attempt"], line["trace_id"]) for line in attempts} == {(1, TRACE)}
    assert any(line.get("job_id") == ran.job["id"] and line.get("trace_id") == TRACE for line in ran.platform.lines("api"))


def test_metrics_say_what_happened(ran: Ran) -> None:
    assert 'quantry_jobs_ended_total{reason="completed",status="succeeded",type="import"} 1.0' in ran.metrics["api"]
    assert 'quantry_worker_attempts_total{outcome="succeeded",reason="completed",type="import"} 1.0' in ran.metrics["worker"]
    assert 'quantry_http_requests_total{method="POST",route="/api/v1/seals",status="200"} 1.0' in ran.metrics["registry"]
    assert 'quantry_gateway_requests_total{plane="data",status="401"}' in ran.metrics["gateway"]


def test_no_secret_is_in_logs_answers_metrics_or_traces(ran: Ran) -> None:
    planted = ran.platform.planted
    assert len(planted) >= PLANTED and len(set(planted.values())) == len(planted)
    told = {f"{name}'s log": ran.platform.log(name) for name in SERVICES}
    told |= {f"answer {number}": text for number, text in enumerate(ran.platform.said)}
    told |= {f"trace {number}": body.decode("latin-1") for number, body in enumerate(ran.platform.collector.bodies)}
    found = [(where, place) for where, secret in planted.items() for place, text in told.items() if secret in text]
    assert found == []
