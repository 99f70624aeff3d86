"""The chart and the services' Settings classes: the names are the same, the values are taken, secrets are in files alone."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import pytest

from factories.chart.cases import DEV, EXTERNAL, GPUS, in_every_case
from factories.chart.rendering import CHART_DIR, Pod, Rendered, merged, render
from factories.chart.settings import OF_THE_PROCESS, READS, names_of, started_with
from quantry_api.settings import ApiSettings
from quantry_core.jobs import Queue, Resource
from quantry_dashboard.settings import DashboardSettings
from quantry_deploy.drivers.kubernetes.names import PORT
from quantry_deploy.drivers.kubernetes.settings import KubernetesSettings, Scaler
from quantry_deploy.settings import DeploySettings, DriverName
from quantry_gateway.settings import GatewaySettings
from quantry_http.settings import HttpSettings
from quantry_telemetry.settings import TelemetrySettings
from quantry_worker.app import HAND_BACK_S
from quantry_worker.settings import WorkerSettings

LEFT_TO_THE_IMAGE = {"worker": "QUANTRY_ML_PYTHON", "deploy": "QUANTRY_ENGINE_SCRIPT"}
"""Where something lies in an image, the image says itself: the chart does not know."""

DOCKER_DIR = CHART_DIR.parents[1] / "docker"

BESIDE_SECRETS = {"QUANTRY_DATABASE_URL", "QUANTRY_S3_ACCESS_KEY", "QUANTRY_IMPORT_S3_ACCESS_KEY", "QUANTRY_BACKUP_S3_ACCESS_KEY"}
"""Settings that lie in Secrets though their types do not say so."""

MINE = {"TZ"}
"""Variables that a case of the matrix adds."""


@functools.cache
def of_the_image(component: str) -> dict[str, str]:
    """Returns what the image of a component says that the chart leaves to it."""
    wanted = LEFT_TO_THE_IMAGE.get(component)
    if wanted is None:
        return {}
    said = re.findall(rf"^(?:ENV|   ) +{wanted}=(\S+)", (DOCKER_DIR / f"{component}.Dockerfile").read_text(), re.MULTILINE)
    assert len(set(said)) == 1, f"{component}.Dockerfile says of {wanted}: {said}"
    return {wanted: said[0]}


def containers(pod: Pod) -> list[str]:
    """Returns the containers of a pod that read settings."""
    return [one["name"] for one in pod.containers if one["name"] in READS]


def start(pod: Pod, container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives this process the variables of a container, and no other of ours."""
    for name in [name for name in os.environ if name.startswith("QUANTRY_")]:
        monkeypatch.delenv(name)
    for name, value in {**of_the_image(container), **started_with(pod, container)}.items():
        monkeypatch.setenv(name, value)


@functools.cache
def read_all(container: str, environment: frozenset[tuple[str, str]]) -> None:
    """Reads every setting of a container that has these variables and no other; once for each set of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {**of_the_image(container), **dict(environment)})
        for settings in READS[container]:
            settings()


@in_every_case
def test_every_variable_is_a_setting_of_its_service_and_every_secret_a_file(rendered: Rendered) -> None:
    for pod in rendered.pods():
        for container in containers(pod):
            known = {name: is_secret for settings in READS[container] for name, is_secret in names_of(settings).items()}
            environment = pod.environment(container)
            # Files first: QUANTRY_WORKER_TOKEN_FILE is a setting of its own as well.
            files = {name.removesuffix("_FILE") for name in environment if name.endswith("_FILE") and name.startswith("QUANTRY_")}
            plain = {name for name in environment if not name.endswith("_FILE")}
            assert files | plain <= {*known, *OF_THE_PROCESS, *MINE}, pod.name
            assert all(known[name] or name in BESIDE_SECRETS for name in files), pod.name
            assert not [name for name in plain if known.get(name)], pod.name


@in_every_case
def test_every_service_starts_with_what_it_gets(rendered: Rendered) -> None:
    for pod in rendered.pods():
        for container in containers(pod):
            read_all(container, frozenset(started_with(pod, container).items()))


def test_every_secrets_file_is_mounted_where_its_variable_says() -> None:
    for pod in render(GPUS).pods():
        for container in pod.containers:
            variables = {
                one["value"] for one in container.get("env", []) if one["name"].startswith("QUANTRY_") and one["name"].endswith("_FILE")
            }
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            items = {
                f"{mounts[volume['name']]}/{item['path']}"
                for volume in pod.spec.get("volumes", [])
                if volume["name"] == "secrets" and volume["name"] in mounts
                for source in volume["projected"]["sources"]
                for item in source["secret"]["items"]
            }
            assert variables <= items, pod.name


def test_the_api_knows_the_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    start(render(GPUS).pod("api"), "api", monkeypatch)
    settings = ApiSettings()
    assert [(one.name, one.max_memory_bytes, one.num_gpus) for one in settings.queues] == [
        ("cpu", 16 * 1024**3, 1),
        ("gpu", 24 * 1024**3, 1),
        ("gpu-quad", 80 * 1024**3, 4),
    ]
    assert settings.default_resource is Resource.GPU
    assert settings.public_url == "https://api.example.com"
    assert settings.dashboard_url == "https://models.example.com"
    # Behind the gateway, whose pods are in the cluster's network.
    assert "10.0.0.0/8" in HttpSettings().trusted_proxies


def test_workers_have_a_gpu_for_each_slots_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = render(GPUS).worker("gpu-quad")
    start(pod, "worker", monkeypatch)
    settings = WorkerSettings()
    queues: list[Queue] = ["gpu-quad"]
    assert (settings.worker_queues, settings.worker_slots, settings.worker_gpus, settings.worker_gpus_per_slot) == (queues, 1, ["auto"], 4)
    resources = pod.spec["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "4"
    assert render(GPUS).worker("gpu").spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2", "two slots with one each"
    assert "nvidia.com/gpu" not in render(GPUS).worker("cpu").spec["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize("drain_s", [0, 120, 7200])
def test_a_worker_has_time_to_hand_its_jobs_back(drain_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = render(merged(DEV, {"workerDefaults": {"drainGraceSeconds": drain_s}})).worker("cpu")
    start(pod, "worker", monkeypatch)
    assert WorkerSettings().worker_drain_grace_s == drain_s
    assert pod.spec["terminationGracePeriodSeconds"] > drain_s + HAND_BACK_S


@pytest.mark.parametrize(("pre_stop_s", "whole_s"), [(15, 60), (0, 10), (40, 660)])
def test_a_gateway_ends_before_it_is_killed(pre_stop_s: int, whole_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = merged(EXTERNAL, {"gateway": {"preStopSeconds": pre_stop_s, "terminationGracePeriodSeconds": whole_s}})
    pod = render(values).pod("gateway")
    start(pod, "gateway", monkeypatch)
    slept_s = pod.spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert slept_s == pre_stop_s
    assert slept_s + GatewaySettings().gateway_exit_grace_s + 1 < pod.spec["terminationGracePeriodSeconds"] == whole_s


def test_the_controller_starts_pods_here(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = render(GPUS)
    pod = rendered.pod("deploy")
    start(pod, "deploy", monkeypatch)
    deploy, kubernetes = DeploySettings(), KubernetesSettings()
    assert deploy.deploy_driver is DriverName.KUBERNETES
    assert not deploy.stops_replicas
    assert kubernetes.scaler is Scaler.CONTROLLER
    mounts = {mount["mountPath"]: mount for mount in pod.spec["containers"][0]["volumeMounts"]}
    cache = mounts[str(deploy.deploy_dir / "cache")]
    assert cache["subPath"] == kubernetes.cache_sub_path
    (volume,) = [one for one in pod.spec["volumes"] if one["name"] == cache["name"]]
    assert volume["persistentVolumeClaim"]["claimName"] == kubernetes.cache_claim
    (claim,) = rendered.of_kind("PersistentVolumeClaim")
    assert (claim["metadata"]["name"], claim["metadata"]["namespace"]) == (kubernetes.cache_claim, kubernetes.namespace)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert rendered.one("Deployment", "deploy")["spec"]["strategy"] == {"type": "Recreate"}, "never two controllers"


def test_services_listen_where_they_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = render(GPUS)
    for component, host, port in (
        ("api", "api_host", "api_port"),
        ("registry", "registry_host", "registry_port"),
        ("deploy", "deploy_host", "deploy_port"),
        ("gateway", "gateway_host", "gateway_port"),
        ("dashboard", "dashboard_host", "dashboard_port"),
    ):
        pod = rendered.pod(component)
        start(pod, component, monkeypatch)
        settings = READS[component][0]()
        assert getattr(settings, host) == "0.0.0.0"  # noqa: S104  a pod's own
        assert getattr(settings, port) == pod.ports["http"]
        telemetry = TelemetrySettings()
        assert telemetry.traces_endpoint == "http://otel.monitoring:4318"
        assert telemetry.metrics_token is not None
        assert pod.ports.get("metrics") == telemetry.metrics_port
    start(rendered.pod("gateway"), "gateway", monkeypatch)
    gateway = GatewaySettings()
    assert gateway.api_url == f"http://prod-quantry-api.ai.svc.cluster.local:{rendered.pod('api').ports['http']}"
    assert gateway.registry_url == f"http://prod-quantry-registry.ai.svc.cluster.local:{rendered.pod('registry').ports['http']}"
    assert Path(gateway.gateway_state_dir) == Path("/var/lib/quantry")
    assert f"engine: {PORT}" in (CHART_DIR / "templates" / "_names.tpl").read_text(), "policies open the port that engines have"


@pytest.mark.parametrize(
    ("values", "is_secure"),
    [
        ({}, False),
        ({"expose": {"mode": "ingress", "gateway": {"host": "a.example.com"}}}, True),
        ({"expose": {"mode": "ingress", "gateway": {"host": "a.example.com"}, "tls": {"enabled": False}}}, False),
        ({"dashboard": {"secureCookie": True}}, True),
        ({"expose": {"mode": "ingress", "gateway": {"host": "a.example.com"}}, "dashboard": {"secureCookie": False}}, False),
    ],
)
def test_the_dashboards_cookie_goes_over_https_where_people_do(
    values: dict[str, object], is_secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(render(merged(EXTERNAL, values)).pod("dashboard"), "dashboard", monkeypatch)
    assert DashboardSettings().dashboard_secure_cookie is is_secure
