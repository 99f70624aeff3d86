"""The port that serves metrics alone: who may read, and what else is there."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from pydantic import SecretStr

from factories.servers import free_port
from quantry_telemetry.metrics_port import MetricsPort, serving_metrics
from quantry_telemetry.settings import TelemetrySettings

TOKEN = SecretStr("a-token-for-prometheus")


@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("quantry_things", "Things.", registry=made).inc(3)
    return made


def test_whoever_reaches_it_reads_where_no_token_is_set(registry: CollectorRegistry) -> None:
    with serving_metrics(registry, TelemetrySettings(metrics_port=0)) as port:
        assert port is not None
        url = f"http://127.0.0.1:{port.port}"
        answer = httpx.get(f"{url}/metrics?name[]=x", trust_env=False)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
        assert "quantry_things_total 3.0" in answer.text
        assert [httpx.get(url + path, trust_env=False).status_code for path in ("/", "/metrics/", "/healthz")] == [404, 404, 404]
        assert httpx.post(f"{url}/metrics", trust_env=False).status_code == 501


def test_with_a_token_only_who_holds_it_reads(registry: CollectorRegistry) -> None:
    with serving_metrics(registry, TelemetrySettings(metrics_port=0, metrics_token=TOKEN)) as port:
        assert port is not None
        url = f"http://127.0.0.1:{port.port}/metrics"
        for headers in ({}, {"Authorization": "Bearer another-token-of-16"}, {"Authorization": TOKEN.get_secret_value()}):
            refused = httpx.get(url, headers=headers, trust_env=False)
            assert (refused.status_code, "quantry_things" in refused.text) == (401, False)
        assert httpx.get(url, headers={"Authorization": f"Bearer {TOKEN.get_secret_value()}"}, trust_env=False).status_code == 200


def test_no_port_no_server_and_a_port_that_is_taken_is_said(registry: CollectorRegistry) -> None:
    with serving_metrics(registry, TelemetrySettings()) as port:
        assert port is None
    taken = MetricsPort(registry, host="127.0.0.1", port=free_port(), token=None)
    taken.start()
    try:
        with pytest.raises(OSError, match="in use"):
            MetricsPort(registry, host="127.0.0.1", port=taken.port, token=None)
    finally:
        taken.close()
