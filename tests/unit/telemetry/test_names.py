"""Names of metrics follow Prometheus's conventions, and no label holds what a tenant named or secret values are made of."""

from __future__ import annotations

import re

import pytest

from factories.expositions import expositions, families

SERVICES = ("api", "registry", "deploy", "gateway", "worker", "dashboard")
NAME = re.compile(r"(quantry|process|gen_ai)_[a-z][a-z0-9_]*[a-z0-9]")
BAD_ENDINGS = ("_ms", "_milliseconds", "_kb", "_mib", "_minutes", "_hours", "_percent", "_s", "_num", "_gauge", "_counter")
LABELS = {
    *(
        "queue",
        "status",
        "type",
        "reason",
        "method",
        "route",
        "plane",
        "outcome",
        "kind",
        "source",
        "slot",
        "le",
        "loop",
        "service",
        "version",
    ),
    *("deployment", "role", "state", "strategy", "verdict", "move", "gpu", "index", "model", "owner", "id"),
    *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_token_type"),
}
"""Every label there is. model is that of a GPU; deployment and id are ids, which say nothing to whom they are not told."""


@pytest.mark.parametrize("service", SERVICES)
def test_names_and_types_fit_each_other(service: str) -> None:
    found = families(expositions(with_gen_ai=True)[service])
    assert len(found) > 8
    for name, kind in found.items():
        assert NAME.fullmatch(name), name
        assert not name.endswith(BAD_ENDINGS), name
        # The process collector's and Info's names are the library's.
        if name.startswith("quantry_") and name != "quantry_build_info":
            assert name.endswith("_total") is (kind == "counter"), (name, kind)
        if kind == "histogram" and name.startswith("quantry_"):
            assert name.endswith("_seconds"), name


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_says_which_it_is(service: str) -> None:
    assert re.search(rf'^quantry_build_info{{service="{service}",version="[0-9.]+"}} 1\.0$', expositions()[service], re.MULTILINE)
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"} <= families(expositions()[service]).keys()


def test_labels_are_these_and_no_others() -> None:
    for text in expositions(with_gen_ai=True).values():
        for line in text.splitlines():
            if not line.startswith("#") and "{" in line:
                assert set(re.findall(r'(\w+)="', line)) <= LABELS, line


def test_gen_ai_names_are_only_there_where_they_were_asked_for() -> None:
    assert not any("gen_ai" in text for text in expositions().values())
    assert {name for name in families(expositions(with_gen_ai=True)["gateway"]) if name.startswith("gen_ai")} == {
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_client_token_usage",
    }
