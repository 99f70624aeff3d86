"""docker-compose.yml, without a Docker: its shape, what each container may, what it is given, and that it is the embedded stack."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest
import yaml
from cryptography.fernet import Fernet

from factories.chart.settings import OF_THE_PROCESS, READS, names_of
from factories.compose import ROOT, Compose, Service, compose, interpolate, raw
from factories.dockerfiles import Stage, stage_named
from quantry_blobs.minio_setup import MinioSetupSettings
from quantry_blobs.settings import BlobSettings
from quantry_core.bucket_policies import KeyHolder
from quantry_deploy.drivers.kubernetes.settings import KubernetesSettings
from quantry_deploy.settings import DeploySettings
from quantry_local.folders import Folders
from quantry_local.installation import Installation
from quantry_local.layout import Layout
from quantry_local.ports import Ports
from quantry_local.secret_values import Secrets
from quantry_registry.backup.settings import BackupSettings, BackupStoreSettings
from quantry_registry.settings import RegistrySettings
from quantry_store.settings import StoreSettings
from quantry_worker.app import HAND_BACK_S
from quantry_worker.settings import WorkerSettings

SERVERS = {"postgres", "redis", "minio"}
PROFILES = ({"cpu"}, {"gpu"}, {"cpu", "observability"}, {"gpu", "observability"}, set[str]())
PIN = re.compile(r"^[a-z0-9./-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}$")
WITHOUT_HEALTH_CHECK = {"otel-collector"}
"""Its image holds nothing that could ask."""

NOT_OURS = {"TMPDIR"} | OF_THE_PROCESS
"""Variables of ours that are no settings of Quantry's."""

ANYWHERE = ".".join("0000")
"""A container's own network decides who reaches it."""

BACKUP = (StoreSettings, BlobSettings, RegistrySettings, BackupSettings, BackupStoreSettings)
SETTINGS = READS | {
    "deploy": tuple(settings for settings in READS["deploy"] if settings is not KubernetesSettings),
    "minio-setup": (MinioSetupSettings,),
    "backup": BACKUP,
    "restore": BACKUP,
}
"""By service; those that end in -cpu and -gpu are the same program."""

ONLY_EMBEDDED = {
    "QUANTRY_EXIT_GRACE_S",
    "QUANTRY_CANCEL_GRACE_S",
    "QUANTRY_WORKER_DRAIN_GRACE_S",
    "QUANTRY_ENGINE_PYTHON",
    "QUANTRY_ENGINE_SCRIPT",
    "QUANTRY_LLAMA_CPP_PYTHON",
}
"""What the embedded stack says and compose leaves: haste, and a worker's own engine, which its image has not."""

VALUES = {
    "database_url": "postgresql+psycopg://quantry:word@postgres:5432/quantry",
    "broker_url": "redis://:word@redis:6379/0",
    "capture_keys": Fernet.generate_key().decode(),
    "webhook_keys": Fernet.generate_key().decode(),
}
"""What secrets are, where not any word will do."""


def program(name: str) -> str:
    """Returns which program a service is: ``worker`` for worker-gpu."""
    return name.removesuffix("-cpu").removesuffix("-gpu")


def image_of(service: Service) -> Stage:
    assert service.is_ours
    build = next(other.build for other in compose().services.values() if other.build and other.image == service.image)
    return stage_named(ROOT / build.dockerfile, build.target)


def command_of(service: Service) -> list[str]:
    """Returns what a container of ours runs: compose's word, or the image's."""
    words = service.command or image_of(service).command("CMD")
    assert words is not None
    return words


def environment_of(name: str) -> dict[str, str]:
    """Returns the variables of a container of ours once its secret files were read: the image's, and over them compose's."""
    service = compose().services[name]
    given = {key: value for key, value in service.environment.items() if value is not None}
    read = {}
    for key in [key for key in given if key.startswith("QUANTRY_") and key.endswith("_FILE")]:
        read[key.removesuffix("_FILE")] = VALUES.get(Path(given[key]).name, "0123456789abcdef0123456789")
    return {**image_of(service).environment(), **given, **read}


ALL = sorted(compose().services)
OURS = sorted(name for name, service in compose().services.items() if service.is_ours)
WITH_SETTINGS = sorted(name for name in OURS if program(name) in SETTINGS)


def test_the_file_is_one_that_compose_reads() -> None:
    # Strictly: a key that this test does not know is refused, and so is text where Compose wants a number.
    document = yaml.safe_load(raw())
    assert {key for key in document if not key.startswith("x-")} == set(Compose.model_fields)
    with pytest.raises(AssertionError, match="has no default"):
        interpolate("${SOMETHING}")
    with pytest.raises(AssertionError, match="would take for a variable"):
        interpolate("$HOME")


@pytest.mark.parametrize("name", ALL)
def test_a_container_may_do_little(name: str) -> None:
    service = compose().services[name]
    assert service.read_only
    assert service.cap_drop == ["ALL"]
    assert service.security_opt == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9][0-9]*:[0-9]+", service.user), "not root, by number: Kubernetes and read-only images know no names"
    assert service.restart in {"unless-stopped", "no"}
    assert service.logging.options["max-size"]
    for mount in service.volumes:
        assert "docker.sock" not in mount.source
        if mount.type == "bind":
            assert mount.read_only, "nothing of the host is written"
            assert (ROOT / mount.source).exists()
            assert not mount.source.startswith("/")


@pytest.mark.parametrize("name", ALL)
def test_images_are_pinned(name: str) -> None:
    service = compose().services[name]
    if service.is_ours:
        assert service.image.endswith(":0.1.0")
    else:
        assert PIN.match(service.image), service.image


def test_the_servers_are_reached_by_containers_alone() -> None:
    for name, service in compose().services.items():
        networks = {network: compose().networks[network] for network in service.networks}
        if name in SERVERS:
            assert all(definition.internal for definition in networks.values())
            assert not service.ports
        if service.ports:
            assert "edge" in networks
        for port in service.ports:
            assert port.startswith("127.0.0.1:"), "who wants it reached from elsewhere says so"
    used = {network for service in compose().services.values() for network in service.networks}
    assert used == set(compose().networks)
    published = {name for name, service in compose().services.items() if service.ports}
    assert published == {"gateway", "dashboard", "prometheus", "grafana", "jaeger"}


def test_workers_reach_neither_the_database_nor_what_speaks_to_it_by_its_network() -> None:
    for name in ("worker-cpu", "worker-gpu"):
        assert set(compose().services[name].networks) == {"objects", "broker", "clients", "worker-egress", "telemetry"}
    assert set(compose().services["dashboard"].networks) == {"clients", "edge", "telemetry"}
    on_the_database = {program(name) for name, service in compose().services.items() if "database" in service.networks}
    assert on_the_database == {"postgres", "migrate", "bootstrap", "api", "registry", "deploy", "backup", "restore"}


@pytest.mark.parametrize("name", ALL)
def test_secrets_are_files_and_each_service_has_its_own_only(name: str) -> None:
    service = compose().services[name]
    assert set(service.secrets) <= set(compose().secrets)
    folders = [mount.target for mount in service.volumes]
    named = set()
    for variable, value in service.environment.items():
        if variable.endswith("_FILE") or variable.endswith("__FILE"):
            assert value is not None
            if value.startswith("/run/secrets/"):
                named.add(value.removeprefix("/run/secrets/"))
            else:
                assert any(value.startswith(f"{folder}/") for folder in folders), f"{variable}: {value}"
    named |= set(re.findall(r"/run/secrets/([a-z0-9_]+)", " ".join([*(service.command or []), *(service.healthcheck or NoCheck).test])))
    assert named == set(service.secrets), "no secret is mounted that is not used, and none used that is not mounted"
    if service.is_ours and program(name) in SETTINGS:
        secret = {variable for settings in SETTINGS[program(name)] for variable, is_secret in names_of(settings).items() if is_secret}
        secret |= {"QUANTRY_DATABASE_URL"}
        in_plain = {variable for variable, value in service.environment.items() if value is not None} & secret
        assert in_plain == set()


class NoCheck:
    test: tuple[str, ...] = ()


def test_keys_reach_those_who_prove_themselves_with_them() -> None:
    holders = {
        volume: {name for name, service in compose().services.items() if any(mount.source == volume for mount in service.volumes)}
        for volume in ("admin-key", "worker-key", "gateway-key")
    }
    assert holders == {
        "admin-key": {"bootstrap", "admin-key"},
        "worker-key": {"bootstrap", "worker-cpu", "worker-gpu"},
        "gateway-key": {"bootstrap", "gateway"},
    }
    s3 = {name: service.environment.get("QUANTRY_S3_ACCESS_KEY") for name, service in compose().services.items()}
    assert {key: {program(name) for name, held in s3.items() if held == key} for key in set(s3.values()) if key} == {
        "quantry-registry": {"registry", "backup", "restore"},
        "quantry-worker": {"worker"},
        "quantry-reader": {"api", "deploy"},
    }
    made = MinioSetupSettings.model_validate(
        {"endpoint": "x", "root_user": "root", "root_password": "password"} | {f"{holder}_secret_key": "password" for holder in KeyHolder}
    )
    assert {access_key for access_key, _ in made.keys.values()} == {key for key in s3.values() if key}


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_every_variable_is_a_setting_and_every_setting_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service, settings = compose().services[name], SETTINGS[program(name)]
    known = {variable for one in settings for variable in names_of(one)}
    given = {*service.environment} - NOT_OURS
    if not service.is_one_shot:
        given |= {variable for variable in image_of(service).environment() if variable.startswith("QUANTRY_")}
    unknown = {variable for variable in given if variable not in known and variable.removesuffix("_FILE") not in known}
    assert not unknown, "a variable that nobody reads is a mistake"
    monkeypatch.setattr(os, "environ", environment_of(name))
    for one in settings:
        one()


def test_engines_are_reached_where_gateways_look_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, device in (("deploy-cpu", "cpu"), ("deploy-gpu", "cuda")):
        service = compose().services[name]
        monkeypatch.setattr(os, "environ", environment_of(name))
        settings = DeploySettings()
        assert settings.engine_device == device
        assert settings.engine_python is not None
        alias = service.networks["engines"]
        assert alias is not None
        assert settings.engine_host in alias["aliases"]
        named_elsewhere = [network for network, names in service.networks.items() if names and settings.engine_host in names["aliases"]]
        assert named_elsewhere == ["engines"], "the name is the address in this network alone"
        assert set(service.networks) & set(compose().services["gateway"].networks) >= {"engines"}


def test_addresses_and_ports_agree() -> None:
    ports = {
        name: environment_of(name)[variable]
        for name, variable in {
            "api": "QUANTRY_API_PORT",
            "registry": "QUANTRY_REGISTRY_PORT",
            "gateway": "QUANTRY_GATEWAY_PORT",
            "dashboard": "QUANTRY_DASHBOARD_PORT",
            "deploy-cpu": "QUANTRY_DEPLOY_PORT",
            "deploy-gpu": "QUANTRY_DEPLOY_PORT",
        }.items()
    }
    for name, port in ports.items():
        service, image = compose().services[name], image_of(compose().services[name])
        assert image.of("EXPOSE")[-1] == port
        assert environment_of(name)[f"QUANTRY_{program(name).upper()}_HOST"] == ANYWHERE
        assert service.healthcheck is not None
        assert service.healthcheck.test[-1] == f"http://127.0.0.1:{port}/healthz"
        assert all(published.endswith(f":{port}") for published in service.ports)
    for name, variable, other in (
        ("gateway", "QUANTRY_API_URL", "api"),
        ("gateway", "QUANTRY_REGISTRY_URL", "registry"),
        ("dashboard", "QUANTRY_CONTROL_URL", "gateway"),
        ("worker-cpu", "QUANTRY_CONTROL_URL", "gateway"),
        ("worker-gpu", "QUANTRY_CONTROL_URL", "gateway"),
    ):
        assert environment_of(name)[variable] == f"http://{other}:{ports[other]}"
        assert set(compose().services[name].networks) & set(compose().services[other].networks), f"{name} cannot reach {other}"
    for name in ("api", "registry", "worker-cpu", "worker-gpu", "deploy-cpu", "deploy-gpu"):
        assert environment_of(name)["QUANTRY_S3_ENDPOINT"] == "minio:9000"
    assert ":9000" in (compose().services["minio"].command or [])


def test_prometheus_finds_what_it_asks() -> None:
    document = yaml.safe_load((ROOT / "docker" / "observability" / "prometheus.yml").read_text())
    targets = {target for job in document["scrape_configs"] for static in job.get("static_configs", []) for target in static["targets"]}
    found = {
        f"{name}:{one['port']}" for job in document["scrape_configs"] for one in job.get("dns_sd_configs", []) for name in one["names"]
    }
    reachable = {
        f"{name}:{port}"
        for service_name, service in compose().services.items()
        if service.is_ours and "telemetry" in service.networks
        for name in {service_name, *((service.networks["telemetry"] or {}).get("aliases", []))}
        for port in _metrics_ports(service_name)
    }
    assert targets | found <= reachable
    assert all("telemetry" in service.networks for name, service in compose().services.items() if name in _long_running_of_ours())
    collector = yaml.safe_load((ROOT / "docker" / "observability" / "otel-collector.yaml").read_text())
    [exporter] = collector["exporters"].values()
    assert exporter["endpoint"].split("/")[2].split(":")[0] in compose().services


def _metrics_ports(name: str) -> set[str]:
    environment = environment_of(name)
    own = {value for variable, value in environment.items() if re.fullmatch(r"QUANTRY_(API|REGISTRY|DEPLOY)_PORT", variable)}
    return own | {environment[variable] for variable in ("QUANTRY_METRICS_PORT",) if variable in environment}


def _long_running_of_ours() -> set[str]:
    return {name for name, service in compose().services.items() if service.is_ours and not service.is_one_shot}


@pytest.mark.parametrize("name", ALL)
def test_health_is_looked_at_and_the_image_says_the_same(name: str) -> None:
    service = compose().services[name]
    if service.is_one_shot or name in WITHOUT_HEALTH_CHECK:
        assert service.healthcheck is None
        return
    assert service.healthcheck is not None
    assert service.healthcheck.test[0] in {"CMD", "CMD-SHELL"}
    if service.is_ours:
        assert service.healthcheck.test[1:] == image_of(service).health_command()


@pytest.mark.parametrize("profiles", PROFILES, ids=lambda profiles: "+".join(sorted(profiles)) or "none")
def test_what_a_profile_starts_becomes_green(profiles: set[str]) -> None:
    started = compose().of_profiles(*profiles)
    for name, service in started.items():
        for other, dependency in service.depends_on.items():
            assert other in started, f"{name} waits for {other}, which {profiles} does not start"
            if dependency.condition == "service_healthy":
                assert started[other].healthcheck is not None
            else:
                assert started[other].is_one_shot
    # `up --wait` takes the end of a container for a failure, unless somebody waits for just that.
    waited_for = {
        other
        for service in started.values()
        for other, dependency in service.depends_on.items()
        if dependency.condition == "service_completed_successfully"
    }
    assert {name for name, service in started.items() if service.is_one_shot} == waited_for
    order: list[str] = []
    while len(order) < len(started):
        ready = [name for name, service in started.items() if name not in order and set(service.depends_on) <= set(order)]
        assert ready, f"these wait for each other: {set(started) - set(order)}"
        order += ready
    assert sum(program(name) == "deploy" for name in started) == bool(profiles & {"cpu", "gpu"}), "one rollout controller"


@pytest.mark.parametrize("name", OURS)
def test_what_is_started_is_a_module_of_its_image(name: str) -> None:
    service = compose().services[name]
    words = command_of(service)
    assert words[0].endswith("python")
    if words[1] == "-c":
        compile(words[2], name, "exec")
        return
    module = words[2]
    assert words[1] == "-m"
    found = importlib.util.find_spec(module)
    assert found is not None
    if found.submodule_search_locations:
        assert importlib.util.find_spec(f"{module}.__main__") is not None
    copied = {target.removeprefix("./") for _, _, target in image_of(service).copies()}
    assert found.origin is not None
    lies_at = Path(found.origin).relative_to(ROOT).as_posix()
    assert any(lies_at.startswith(f"{folder}/") for folder in copied), f"{lies_at} is not in {service.image}"


def embedded(tmp_path: Path) -> Layout:
    secrets = Secrets(redis_password="word", s3_access_key="key", s3_secret_key="word", worker_token="word", gateway_token="word")
    home = Path("/opt/quantry")
    return Layout(
        folders=Folders(tmp_path, None, tmp_path / "postgres", tmp_path / "run"),
        installation=Installation(home, home / "light", home / "ml", home / "engine", home / "serve.py", None, home / "llama"),
        ports=Ports(gateway=8000, redis=6379, s3=9000, registry=8002, api=8001, deploy=8003, dashboard=8080),
        secrets=secrets,
        import_roots=[Path("/imports")],
        inherited={},
        settings={},
    )


def test_services_are_started_as_the_embedded_stack_starts_them(tmp_path: Path) -> None:
    layout = embedded(tmp_path)
    started = {part.name: part.launch for part in layout.services()} | {"migrate": layout.migrate().launch}
    for part, launch in started.items():
        name = f"{part}-cpu" if part in {"worker", "deploy"} else part
        words = command_of(compose().services[name])
        assert words[1:] == launch.command[1:], f"{name} starts another module"
        given = environment_of(name)
        wanted = {variable for variable in launch.environment if variable.startswith("QUANTRY_")} - {"QUANTRY_STATE_DIR"}
        assert wanted - set(given) <= ONLY_EMBEDDED, f"{name} is not told what the embedded stack tells it"
    long_running = {program(name) for name in _long_running_of_ours()}
    assert long_running == set(started) - {"migrate"}


@pytest.mark.parametrize("name", OURS)
def test_volumes_belong_to_those_who_write_them(name: str) -> None:
    service = compose().services[name]
    made = " ".join(image_of(service).of("RUN")).split()
    for mount in service.volumes:
        if mount.type == "volume":
            assert mount.source in compose().volumes
            if not mount.read_only:
                assert mount.target in made, f"{mount.target} is not made in {service.image}: the volume would be root's"
    for variable, value in environment_of(name).items():
        if variable.endswith("_DIR") or variable == "TMPDIR":
            assert any(value == mount.target for mount in service.volumes), f"{variable} is on a read-only file system"


def test_every_volume_and_secret_is_somebodys() -> None:
    mounted = {mount.source for service in compose().services.values() for mount in service.volumes if mount.type == "volume"}
    assert mounted == set(compose().volumes)
    assert {secret for service in compose().services.values() for secret in service.secrets} == set(compose().secrets)


def test_a_worker_is_given_time_to_hand_back_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("worker-cpu", "worker-gpu"):
        monkeypatch.setattr(os, "environ", environment_of(name))
        drain_s = WorkerSettings().worker_drain_grace_s
        assert int(compose().services[name].stop_grace_period.removesuffix("s")) > drain_s + HAND_BACK_S
    for name in ("deploy-cpu", "deploy-gpu"):
        monkeypatch.setattr(os, "environ", environment_of(name))
        assert int(compose().services[name].stop_grace_period.removesuffix("s")) > DeploySettings().exit_grace_s


def test_gpus_are_given_to_those_who_use_them() -> None:
    with_gpus = {name for name, service in compose().services.items() if service.deploy.resources.reservations is not None}
    assert with_gpus == {"worker-gpu", "deploy-gpu"}
    worker, engines = environment_of("worker-gpu"), environment_of("deploy-gpu")
    assert not set(worker["QUANTRY_WORKER_GPUS"].split(",")) & set(engines["QUANTRY_HOST_GPUS"].split(",")), "no GPU is given twice"
