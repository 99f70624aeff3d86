"""Who may reach whom: the whole table, not a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from factories.chart.cases import DEV, EXTERNAL, GPUS
from factories.chart.network import Place, may_pass, may_reach_outside
from factories.chart.rendering import FULLNAME, NAMESPACE, Rendered, merged, render
from quantry_deploy.drivers.kubernetes.names import PORT, labels

SERVERS = {"dev-postgres": 5432, "dev-redis": 6379, "dev-s3": 9000}
MONITORING = Place.of("monitoring", {"app": "prometheus"})
KEDA = Place.of("keda", {"app": "keda-operator"})
DNS = Place.of("kube-system", {"k8s-app": "kube-dns"})
STRANGER = Place.of("elsewhere", {"app": "stranger"})
NEIGHBOUR = Place.of(NAMESPACE, {"app": "neighbour"})


def places(rendered: Rendered, engines_in: str = NAMESPACE) -> dict[str, tuple[Place, set[int]]]:
    """Returns every pod by its component, with its ports; engines and what is not of this release among them."""
    found = {pod.component: (Place.of(pod.namespace, pod.labels), set(pod.ports.values())) for pod in rendered.pods()}
    return found | {
        "engine": (Place.of(engines_in, labels(FULLNAME, "rel_1")), {PORT}),
        "monitoring": (MONITORING, set()),
        "keda": (KEDA, set()),
        "stranger": (STRANGER, {443}),
        "neighbour": (NEIGHBOUR, {443}),
    }


def table(rendered: Rendered, engines_in: str = NAMESPACE) -> set[tuple[str, str, int]]:
    """Returns every connection that may be made."""
    known = places(rendered, engines_in)
    return {
        (sender, receiver, port)
        for sender, (from_, _) in known.items()
        for receiver, (to, ports) in known.items()
        for port in ports
        if sender != receiver and {sender, receiver} & set(OURS) and may_pass(rendered, from_, to, port)
    }


OURS = ("api", "registry", "gateway", "dashboard", "deploy", "worker", "migrate", "bootstrap", "test", "engine", "backup", *SERVERS)

API, REGISTRY, DEPLOY, GATEWAY, DASHBOARD, METRICS = 8001, 8002, 8003, 8000, 8080, 9090

INSIDE = {
    ("gateway", "api", API),
    ("gateway", "registry", REGISTRY),
    ("gateway", "engine", PORT),
    ("deploy", "engine", PORT),
    ("worker", "gateway", GATEWAY),
    ("dashboard", "gateway", GATEWAY),
    ("test", "api", API),
    ("test", "registry", REGISTRY),
    ("test", "deploy", DEPLOY),
    ("test", "gateway", GATEWAY),
    ("test", "dashboard", DASHBOARD),
}
"""What services ask of each other."""

FROM_ANYWHERE = {
    (who, *what) for who in ("stranger", "neighbour", "monitoring", "keda") for what in (("gateway", GATEWAY), ("dashboard", DASHBOARD))
}
"""Without networkPolicy.clients."""

SCRAPES = {
    ("monitoring", "api", API),
    ("monitoring", "registry", REGISTRY),
    ("monitoring", "deploy", DEPLOY),
    ("monitoring", "gateway", METRICS),
    ("monitoring", "dashboard", METRICS),
    ("monitoring", "worker", METRICS),
    ("monitoring", "engine", PORT),
}

TO_ANY_SERVER = {(who, what, 443) for who in ("api", "registry", "deploy", "worker", "bootstrap") for what in ("stranger", "neighbour")}
"""Rules for servers whose addresses nobody gave let anything pass on their ports: that is what the values say."""


def test_nothing_passes_but_what_is_needed() -> None:
    assert table(render(EXTERNAL)) - TO_ANY_SERVER == INSIDE | FROM_ANYWHERE | SCRAPES


def test_keda_asks_the_api_where_it_starts_workers() -> None:
    passing = table(render(GPUS)) - TO_ANY_SERVER
    assert passing == INSIDE | FROM_ANYWHERE | SCRAPES | {("keda", "api", API)}


def test_servers_of_a_trial_are_reached_by_who_holds_their_passwords() -> None:
    assert table(render(DEV)) == INSIDE | FROM_ANYWHERE | SCRAPES | {
        ("deploy", "neighbour", 443),
        ("deploy", "stranger", 443),
        ("bootstrap", "neighbour", 443),
        ("bootstrap", "stranger", 443),
        *((who, "dev-postgres", 5432) for who in ("api", "registry", "deploy", "bootstrap")),
        *((who, "dev-redis", 6379) for who in ("api", "worker")),
        *((who, "dev-s3", 9000) for who in ("api", "registry", "deploy", "worker")),
    }


def test_engines_in_a_namespace_of_their_own_are_reached_there() -> None:
    values: Mapping[str, Any] = {"pools": {"namespace": "pools", "cacheClaim": "models"}}
    rendered = render(merged(EXTERNAL, values))
    passing = table(rendered, engines_in="pools")
    assert {("gateway", "engine", PORT), ("deploy", "engine", PORT)} <= passing
    assert not [sender for sender, receiver, _ in passing if receiver == "engine" and sender not in {"gateway", "deploy", "monitoring"}]
    assert not may_pass(rendered, Place.of(NAMESPACE, labels(FULLNAME, "rel_1")), places(rendered)["api"][0], API)


def test_clients_that_are_named_are_the_only_ones() -> None:
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}}]
    passing = table(render(merged(EXTERNAL, {"networkPolicy": {"clients": peers, "metrics": []}})))
    into = {(sender, receiver) for sender, receiver, _ in passing if receiver in {"gateway", "dashboard"}}
    assert into == {
        ("stranger", "gateway"),
        ("stranger", "dashboard"),
        ("worker", "gateway"),
        ("dashboard", "gateway"),
        ("test", "gateway"),
    } | {("test", "dashboard")}
    assert not [one for one in passing if one[0] == "monitoring"]


@pytest.mark.parametrize(
    ("component", "ports"),
    [
        ("api", {5432, 6379, 443, 9000}),
        ("registry", {5432, 443, 9000}),
        ("deploy", {5432, 443, 6443, 9000}),
        ("worker", {6379, 443, 9000}),
        ("migrate", {5432}),
        ("bootstrap", {5432, 443, 6443}),
        ("gateway", set()),
        ("dashboard", set()),
        ("test", set()),
        ("engine", set()),
    ],
)
def test_what_is_reached_outside_is_what_a_service_asks(component: str, ports: set[int]) -> None:
    rendered = render(EXTERNAL)
    place, _ = places(rendered)[component]
    asked = {5432, 6379, 443, 80, 6443, 9000, 4318, 9090, 22}
    assert {port for port in asked if may_reach_outside(rendered, place, port)} == ports


def test_names_are_looked_up_by_all_but_engines() -> None:
    rendered = render(EXTERNAL)
    for component, (place, _) in places(rendered).items():
        if component in OURS:
            assert may_pass(rendered, place, DNS, 53) is (component != "engine"), component


def test_workers_without_the_internet_reach_no_port_of_it_but_s3s() -> None:
    values = {"networkPolicy": {"internet": {"enabled": False}, "s3": {"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}], "ports": [9000]}}}
    rendered = render(merged(EXTERNAL, values))
    for component in ("worker", "api"):
        place, _ = places(rendered)[component]
        assert not may_reach_outside(rendered, place, 443), component


def test_masters_of_the_cloud_and_private_networks_are_no_internet() -> None:
    (rule,) = [
        rule
        for rule in render(EXTERNAL).one("NetworkPolicy", "worker-cpu")["spec"]["egress"]
        if any("ipBlock" in peer for peer in rule.get("to", []))
    ]
    (peer,) = rule["to"]
    assert set(peer["ipBlock"]["except"]) >= {"169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}


def test_people_of_a_provider_are_sent_back_to_the_dashboard() -> None:
    oidc = {"issuer": "https://id.b", "clientId": "q", "grants": [{"value": "a", "project": "default", "role": "admin"}]}
    expose = {"mode": "ingress", "gateway": {"host": "a.b"}, "dashboard": {"host": "d.b"}}
    rendered = render(merged(EXTERNAL, {"oidc": oidc, "expose": expose, "networkPolicy": {"oidc": {"ports": [8443]}}}))
    dashboard = rendered.pod("dashboard")
    environment = dashboard.environment("dashboard")
    assert environment["QUANTRY_OIDC_REDIRECT_URL"] == "https://d.b/sign-in/provider/callback"
    assert environment["QUANTRY_PUBLIC_URL"] == "https://a.b", "commands that pages show name what people reach"
    for component in ("api", "dashboard"):
        pod = rendered.pod(component)
        assert may_reach_outside(rendered, Place.of(pod.namespace, pod.labels), 8443), component
