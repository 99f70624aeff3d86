"""Single objects of the chart, each for what it is there for."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest
import yaml

from factories.chart.cases import DEV, DIGEST, EXTERNAL, GPUS
from factories.chart.rendering import CHART_DIR, Rendered, Values, matches, merged, render

METADATA: dict[str, Any] = yaml.safe_load((CHART_DIR / "Chart.yaml").read_text())


def annotations_of(kind: str, name: str, rendered: Rendered) -> dict[str, str]:
    found: dict[str, str] = rendered.one(kind, name)["metadata"].get("annotations", {})
    return found


def test_the_chart_says_what_it_is() -> None:
    notes = METADATA["annotations"]
    assert METADATA["kubeVersion"] == ">=1.30.0-0"
    assert notes["artifacthub.io/license"] == "Apache-2.0"
    assert notes["artifacthub.io/category"] == "ai-machine-learning"
    for listed in ("changes", "links", "recommendations"):
        assert yaml.safe_load(notes[f"artifacthub.io/{listed}"]), listed
    assert not METADATA.get("dependencies"), "no chart of somebody else's database comes along"


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, "ghcr.io/quantry/api:0.1.0"),
        ({"image": {"tag": "2"}}, "ghcr.io/quantry/api:2"),
        ({"image": {"tag": "2"}, "api": {"image": {"tag": "3"}}}, "ghcr.io/quantry/api:3"),
        ({"image": {"registry": "mirror.example.com:5000/hub"}}, "mirror.example.com:5000/hub/quantry/api:0.1.0"),
        ({"image": {"registry": ""}, "api": {"image": {"repository": "mine"}}}, "mine:0.1.0"),
        ({"api": {"image": {"tag": "3", "digest": DIGEST}}}, f"ghcr.io/quantry/api@{DIGEST}"),
    ],
)
def test_an_image_is_named_by_digest_else_by_tag(values: Values, image: str) -> None:
    rendered = render(merged(EXTERNAL, values))
    assert {one["image"] for component in ("api", "migrate", "bootstrap") for one in rendered.pod(component).containers} == {image}


@pytest.mark.parametrize("component", ["api", "registry", "gateway", "dashboard", "deploy", "worker"])
def test_an_image_is_the_one_that_is_built(component: str) -> None:
    dockerfile = (CHART_DIR.parents[1] / "docker" / f"{component}.Dockerfile").read_text()
    rendered = render(EXTERNAL)
    pod = next(pod for pod in rendered.pods() if pod.component == component)
    (container,) = pod.spec["containers"]
    repository = container["image"].removeprefix("ghcr.io/").rpartition(":")[0]
    assert f'org.opencontainers.image.title="{repository}"' in dockerfile
    assert f"USER {pod.spec['securityContext']['runAsUser']}:{pod.spec['securityContext']['runAsGroup']}" in dockerfile
    assert f"CMD {json.dumps(container['command'])}" in dockerfile
    for port in pod.ports.values():
        assert f"EXPOSE {port}\n" in dockerfile or port == pod.ports.get("metrics")


def test_migrations_come_before_everything_and_say_what_went_wrong() -> None:
    rendered = render(EXTERNAL)
    notes = annotations_of("Job", "migrate", rendered)
    assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded", "one that failed stays, to be looked at"
    assert not [pod.name for pod in rendered.pods() if "initContainers" in pod.spec]
    (container,) = rendered.pod("migrate").containers
    assert container["command"] == ["python", "-m", "quantry_store.migrate"]


@pytest.mark.parametrize("values", [DEV, merged(EXTERNAL, {"migration": {"mode": "init"}})], ids=["dev", "asked for"])
def test_a_database_that_comes_with_the_chart_is_migrated_by_who_needs_it(values: Values) -> None:
    rendered = render(values)
    assert not [one for one in rendered.of_kind("Job") if "migrate" in one["metadata"]["name"]]
    assert {pod.component for pod in rendered.pods() if "initContainers" in pod.spec} == {"api", "registry", "deploy", "bootstrap"}


def test_a_gateway_that_ends_is_out_of_the_balancers_first() -> None:
    rendered = render(EXTERNAL)
    pod = rendered.pod("gateway")
    (container,) = pod.spec["containers"]
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 15}}}
    assert pod.spec["terminationGracePeriodSeconds"] == 60
    assert pod.environment("gateway")["QUANTRY_GATEWAY_EXIT_GRACE_S"] == "43"
    deployment = rendered.one("Deployment", "gateway")
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    spread = pod.spec["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert all(matches(one["labelSelector"]["matchLabels"], pod.labels) for one in spread)


def test_liveness_asks_nothing_that_others_answer() -> None:
    rendered = render(EXTERNAL)
    for component in ("api", "registry", "gateway"):
        (container,) = rendered.pod(component).spec["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"
    (controller,) = rendered.pod("deploy").spec["containers"]
    probe = controller["livenessProbe"]
    # The controller's health knows whether its loop goes on; ten minutes without are not a database that is away for a moment.
    assert probe["httpGet"]["path"] == "/healthz"
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 600


def test_a_browser_stays_on_its_dashboard() -> None:
    rendered = render(GPUS)
    service = rendered.one("Service", "dashboard")["spec"]
    assert (service["sessionAffinity"], service["sessionAffinityConfig"]) == ("ClientIP", {"clientIP": {"timeoutSeconds": 43200}})
    assert annotations_of("Ingress", "dashboard", rendered)["nginx.ingress.kubernetes.io/affinity"] == "cookie"


@pytest.mark.parametrize("given", ["", "wildcard"])
def test_each_host_has_its_certificate(given: str) -> None:
    rendered = render(merged(GPUS, {"expose": {"tls": {"secretName": given}}}))
    for component, host in (("gateway", "api.example.com"), ("dashboard", "models.example.com")):
        spec = rendered.one("Ingress", component)["spec"]
        assert spec["tls"] == [{"hosts": [host], "secretName": given or f"prod-quantry-{component}-tls"}]
        (rule,) = spec["rules"]
        backend = rule["http"]["paths"][0]["backend"]["service"]
        assert rule["host"] == host
        assert backend["port"]["name"] in {port["name"] for port in rendered.one("Service", component)["spec"]["ports"]}


def test_routes_lead_to_services() -> None:
    values = {
        "expose": {"mode": "httpRoute", "parentRefs": [{"name": "public"}], "gateway": {"host": "a.b"}, "dashboard": {"host": "d.b"}},
        "gateway": {"service": {"port": 8443}},
    }
    rendered = render(merged(EXTERNAL, values))
    for component in ("gateway", "dashboard"):
        (rule,) = rendered.one("HTTPRoute", component)["spec"]["rules"]
        (backend,) = rule["backendRefs"]
        assert backend["port"] in {
            port["port"] for port in rendered.one("Service", backend["name"].removeprefix("prod-quantry-"))["spec"]["ports"]
        }


def test_tests_ask_every_service_and_every_door() -> None:
    rendered = render(EXTERNAL)
    pods = [pod for pod in rendered.pods() if pod.component == "test"]
    assert [pod.owner["metadata"]["annotations"]["helm.sh/hook"] for pod in pods] == ["test", "test"]
    for pod in pods:
        (script,) = pod.containers[0]["args"]
        ast.parse(script)
    services = {pod.owner["metadata"]["name"]: pod.containers[0]["args"][0] for pod in pods}
    for component in ("api", "registry", "deploy", "gateway", "dashboard"):
        assert f"http://prod-quantry-{component}.ai.svc.cluster.local:" in services["prod-quantry-test-services"]
    assert '"/metrics": 404' in services["prod-quantry-test-door"]


def test_scrapers_show_the_token_where_there_is_one() -> None:
    rendered = render(GPUS)
    for monitor in rendered.of_kind("ServiceMonitor", "PodMonitor"):
        (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        is_ours = monitor["metadata"]["labels"]["app.kubernetes.io/component"] != "engine"
        assert ("authorization" in endpoint) is is_ours, "engines ask nobody for a token"


def test_scrapers_keep_the_label_that_alerts_ask_for() -> None:
    asked = re.findall(r'service="(\w+)"', "".join(path.read_text() for path in CHART_DIR.glob("alerts/*.yaml")))
    monitored = set()
    for monitor in render(GPUS).of_kind("ServiceMonitor", "PodMonitor"):
        component = monitor["metadata"]["labels"]["app.kubernetes.io/component"]
        (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        if endpoint.get("honorLabels"):
            monitored.add(component)
    # Else the operator's own label of that name, the Service's name, would hide it, and every absent() would hold for ever.
    assert set(asked) <= monitored == {"api", "registry", "deploy", "gateway", "dashboard", "worker"}


def test_everything_can_be_labelled_by_whoever_installs_it() -> None:
    rendered = render(merged(GPUS, {"commonLabels": {"team": "models"}, "commonAnnotations": {"owner": "me"}}))
    assert all(one["metadata"]["labels"]["team"] == "models" for one in rendered.documents)
    assert all(one["metadata"]["annotations"]["owner"] == "me" for one in rendered.documents)
    assert all(pod.labels["team"] == "models" for pod in rendered.pods())
    selectors = [one["spec"]["selector"]["matchLabels"] for one in rendered.of_kind("Deployment")]
    assert not [selector for selector in selectors if "team" in selector], "a selector can never be changed again"


def test_trial_servers_take_their_passwords_from_files() -> None:
    rendered = render(DEV)
    secret = rendered.one("Secret", "dev")["stringData"]
    assert len(set(secret.values())) == len(secret)
    assert secret["postgres-password"] in secret["database-url"]
    assert secret["redis-password"] in secret["broker-url"]
    for component in ("dev-postgres", "dev-redis", "dev-s3"):
        pod = rendered.pod(component)
        mounted = {item["key"] for source in pod.spec["volumes"][0]["projected"]["sources"] for item in source["secret"]["items"]}
        assert mounted <= set(secret)
        assert len(mounted) in {1, 2}
    assert "Not for anything that must last" in rendered.notes
    assert not [one for one in render(EXTERNAL).documents if "-dev" in one["metadata"]["name"]]


def test_trial_servers_are_those_that_compose_runs() -> None:
    services = yaml.safe_load((CHART_DIR.parents[1] / "docker-compose.yml").read_text())["services"]
    images = yaml.safe_load((CHART_DIR / "values.yaml").read_text())["dev"]["images"]
    for name, service in {"postgres": "postgres", "redis": "redis", "s3": "minio"}.items():
        assert images[name].removeprefix("docker.io/").removeprefix("library/") == services[service]["image"]


def test_servers_that_are_there_already_are_used_in_a_trial_too() -> None:
    rendered = render(merged(DEV, {"postgres": {"existingSecret": "mine", "key": "url"}, "s3": {"endpoint": "s3:9000", "secure": False}}))
    sources = [one["secret"] for one in rendered.pod("api").spec["volumes"][0]["projected"]["sources"]]
    assert sources[0] == {"name": "mine", "items": [{"key": "url", "path": "database_url"}]}
    assert rendered.pod("api").environment("api")["QUANTRY_S3_ENDPOINT"] == "s3:9000"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (EXTERNAL, "port-forward service/prod-quantry-gateway 8000:80"),
        (EXTERNAL, "get secret prod-quantry-keys -o jsonpath='{.data.admin_key}' | base64 -d"),
        (GPUS, "https://api.example.com"),
        (merged(EXTERNAL, {"networkPolicy": {"enabled": False}}), "! networkPolicy.enabled is false"),
        (merged(GPUS, {"expose": {"tls": {"enabled": False}}}), "! expose.tls.enabled is false"),
        (merged(EXTERNAL, {"dashboard": {"replicas": 2}}), "must keep a browser on its pod"),
        (EXTERNAL, "! backup.enabled is false"),
        (merged(EXTERNAL, {"backup": {"enabled": True}}), "create job --from=cronjob/prod-quantry-backup backup-now"),
    ],
)
def test_the_notes_say_what_to_do_next(values: Values, words: str) -> None:
    assert words in render(values).notes
