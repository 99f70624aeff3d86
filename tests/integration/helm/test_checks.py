"""What is looked at in a cluster before anything is installed: whether the Secrets are there. The cluster is a small HTTP server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

import helm_python
import pytest

from factories.chart.cases import EXTERNAL
from factories.chart.rendering import NAMESPACE, RELEASE, Values, chart, merged
from factories.threaded_server import serving_threads

ALL = {"the-database", "the-broker", "s3-all", "s3-work", "s3-read"}
KINDS = {"secrets": "Secret", "serviceaccounts": "ServiceAccount"}


class ApiServer(BaseHTTPRequestHandler):
    """Has a namespace with its account, and the Secrets that a test puts there."""

    secrets: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        match path.strip("/").split("/"):
            case ["api"]:
                self._answer(200, {"kind": "APIVersions", "versions": ["v1"]})
            case ["apis"]:
                self._answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
            case ["api", "v1"]:
                resources = [
                    {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]} for name, kind in KINDS.items()
                ]
                self._answer(200, {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources})
            case ["api", "v1", "namespaces", _, plural, name] if name in {*self.secrets, "default"}:
                metadata = {"name": name, "namespace": NAMESPACE}
                self._answer(200, {"apiVersion": "v1", "kind": KINDS[plural], "metadata": metadata, "data": {"database-url": "c2VjcmV0"}})
            case _:
                self._answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})

    def log_message(self, format: str, *args: Any) -> None:
        """A line for each request would bury the rest."""

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def cluster() -> Iterator[helm_python.Config]:
    with serving_threads(ApiServer) as url:
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {"token": "token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
        }
        with helm_python.Config(kubeconfig_content=json.dumps(kubeconfig), namespace=NAMESPACE) as config:
            yield config


def install(cluster: helm_python.Config, values: Values) -> dict[str, str]:
    return cluster.render(chart(), dict(values), name=RELEASE, namespace=NAMESPACE)


def test_secrets_that_are_there_are_enough(cluster: helm_python.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ApiServer, "secrets", ALL)
    assert install(cluster, EXTERNAL)


@pytest.mark.parametrize(("missing", "value"), [("the-database", "postgres.existingSecret"), ("s3-work", "s3.worker.existingSecret")])
def test_a_secret_that_is_not_there_stops_the_install(
    missing: str, value: str, cluster: helm_python.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ApiServer, "secrets", ALL - {missing})
    with pytest.raises(helm_python.HelmRenderError) as refused:
        install(cluster, EXTERNAL)
    assert f"{value} names Secret {missing}, and there is none in namespace ai: make it first" in str(refused.value)
    assert install(cluster, merged(EXTERNAL, {"checkSecrets": False}))


def test_the_passwords_of_a_trial_stay_as_they_are(cluster: helm_python.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ApiServer, "secrets", {"prod-quantry-dev"})
    rendered = install(cluster, {"dev": {"enabled": True}})
    (servers,) = [text for path, text in rendered.items() if path.endswith("dev/servers.yaml")]
    assert "stringData:\n  database-url: secret\n" in servers
