"""What every service shows at /metrics, without starting one: each is built as its main module builds it, and its registry written out."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr

from quantry_api.app import build_app
from quantry_api.settings import ApiSettings
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.routes import RouteSnapshot
from quantry_dashboard.metrics import dashboard_registry
from quantry_deploy.__main__ import make_app as deploy_app
from quantry_deploy.settings import DeploySettings
from quantry_gateway.balancer import Balancer
from quantry_gateway.ejection import Ejection
from quantry_gateway.metrics import GatewayMetrics, GatewayState
from quantry_gateway.queues import Queues
from quantry_gateway.table import RouteTable, compile_routes
from quantry_registry.app import make_app as registry_app
from quantry_registry.parts import make_parts
from quantry_registry.settings import RegistrySettings
from quantry_store.database import Database
from quantry_store.settings import StoreSettings
from quantry_telemetry.gpus import Gpus
from quantry_telemetry.http_metrics import HttpMetrics
from quantry_worker.figures import clear_figures
from quantry_worker.metrics import worker_registry

NOWHERE = "postgresql+psycopg://quantry@127.0.0.1:1/quantry"
BLOBS = BlobSettings(endpoint="127.0.0.1:1", access_key="access-key", secret_key=SecretStr("secret-key"))

_FAMILY = re.compile(r"# TYPE (\S+) (\S+)")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count", "")}


@cache
def expositions(*, with_gen_ai: bool = False) -> dict[str, str]:
    """Returns each service's metrics as text, by the service's name."""
    with TemporaryDirectory() as directory:
        made = _registries(Path(directory), with_gen_ai=with_gen_ai)
        return {service: generate_latest(registry).decode() for service, registry in made.items()}


def families(text: str) -> dict[str, str]:
    """Returns the families of an exposition with their types."""
    return dict(_FAMILY.findall(text))


def sample_names(text: str) -> set[str]:
    """Returns the names that a query may ask for."""
    return {name + suffix for name, kind in families(text).items() for suffix in _SUFFIXES.get(kind, ("",))}


def _registries(directory: Path, *, with_gen_ai: bool) -> dict[str, CollectorRegistry]:
    api = build_app(ApiSettings(broker_url=SecretStr("redis://127.0.0.1:1/0")), StoreSettings(database_url=NOWHERE))
    parts = make_parts(RegistrySettings(registry_port=1), BLOBS, MinioStore(BLOBS))
    registry = registry_app(Database(NOWHERE), parts)
    deploy_settings = DeploySettings(deploy_port=1, deploy_dir=directory / "deploy", engine_script=directory / "serve.py")
    deploy = deploy_app(deploy_settings, StoreSettings(database_url=NOWHERE), BLOBS)
    clear_figures(directory / "figures")
    dashboard = dashboard_registry(lambda: 0, lambda: 0)
    HttpMetrics(dashboard)
    return {
        "api": api.state.exposition.registry,
        "registry": registry.state.exposition.registry,
        "deploy": deploy.state.exposition.registry,
        "gateway": _gateway(with_gen_ai=with_gen_ai),
        "worker": worker_registry(directory / "figures", directory / "cache", num_slots=1, gpus=Gpus(lambda: None)),
        "dashboard": dashboard,
    }


def _gateway(*, with_gen_ai: bool) -> CollectorRegistry:
    metrics, table = GatewayMetrics(with_gen_ai=with_gen_ai), RouteTable()
    balancer = Balancer(Ejection(after=1, first_s=1, longest_s=1, clock_s=lambda: 0.0))
    table.swap(compile_routes(RouteSnapshot(revision=1, routes=[], keys=[])))
    metrics.watch(GatewayState(table, balancer, Queues(balancer, max_waiting=1, wait_s=1), lambda: 0, lambda: 0.0))
    return metrics.registry
