"""Which settings each of the chart's components reads, and what a container would be started with."""

from __future__ import annotations

import functools

from pydantic import AliasChoices, SecretStr
from pydantic_settings import BaseSettings

from factories.chart.rendering import Pod
from quantry_api.retention.settings import RetentionSettings
from quantry_api.sessions.settings import OidcSettings
from quantry_api.settings import ApiSettings
from quantry_blobs.outbound_settings import OutboundSettings
from quantry_blobs.settings import BlobSettings
from quantry_dashboard.settings import DashboardSettings
from quantry_deploy.drivers.kubernetes.settings import KubernetesSettings
from quantry_deploy.settings import DeploySettings
from quantry_gateway.settings import GatewaySettings
from quantry_http.settings import HttpSettings
from quantry_registry.backup.settings import BackupSettings, BackupStoreSettings
from quantry_registry.settings import RegistrySettings
from quantry_store.settings import StoreSettings
from quantry_telemetry.connections import ConnectionSettings
from quantry_telemetry.settings import TelemetrySettings
from quantry_worker.buckets import ImportStoreSettings
from quantry_worker.settings import WorkerSettings

SERVED: tuple[type[BaseSettings], ...] = (HttpSettings, ConnectionSettings, TelemetrySettings)
"""What a service of the control plane reads beside its own."""

READS: dict[str, tuple[type[BaseSettings], ...]] = {
    "api": (ApiSettings, RetentionSettings, OidcSettings, StoreSettings, BlobSettings, OutboundSettings, *SERVED),
    "registry": (RegistrySettings, StoreSettings, BlobSettings, *SERVED),
    "deploy": (DeploySettings, KubernetesSettings, StoreSettings, BlobSettings, *SERVED),
    "gateway": (GatewaySettings, ConnectionSettings, TelemetrySettings),
    "dashboard": (DashboardSettings, ConnectionSettings, TelemetrySettings),
    "worker": (WorkerSettings, BlobSettings, ImportStoreSettings, OutboundSettings, TelemetrySettings),
    "migrate": (StoreSettings,),
    "bootstrap": (StoreSettings,),
    "create": (StoreSettings, BlobSettings, BackupSettings, BackupStoreSettings),
    "prune": (BackupSettings, BackupStoreSettings),
    "verify": (BackupSettings, BackupStoreSettings),
    "restore": (StoreSettings, BlobSettings, BackupSettings, BackupStoreSettings),
}
"""By container. A worker's image says where its environments are."""

OF_THE_PROCESS = {"HOME", "PYTHONDONTWRITEBYTECODE", "SSL_CERT_FILE", "NICEGUI_STORAGE_PATH"}
"""Variables that are not ours."""

SECRETS = {
    "QUANTRY_DATABASE_URL": "postgresql+psycopg://q:password@db:5432/quantry",
    "QUANTRY_BROKER_URL": "redis://:password@redis:6379/0",
    "QUANTRY_CAPTURE_KEYS": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg=",
    "QUANTRY_WEBHOOK_KEYS": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg=",
    "QUANTRY_OUTBOUND_PROXY": "http://proxy.example.com:3128",
}
"""What files hold, where not any text will do."""


@functools.cache
def names_of(settings: type[BaseSettings]) -> dict[str, bool]:
    """Returns the variables of a Settings class, and of each whether it is secret."""
    prefix = settings.model_config.get("env_prefix", "")
    found: dict[str, bool] = {}
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        aliases = [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else [f"{prefix}{name}".upper()]
        found |= dict.fromkeys(aliases, "SecretStr" in str(field.annotation) or field.annotation is SecretStr)
    return found


def started_with(pod: Pod, container: str) -> dict[str, str]:
    """Returns a container's variables once its files were read."""
    environment = pod.environment(container)
    files = {name.removesuffix("_FILE") for name in environment if name.startswith("QUANTRY_") and name.endswith("_FILE")}
    read = {name: SECRETS.get(name, "0123456789abcdef0123456789abcdef") for name in files}
    return {name: value for name, value in environment.items() if name.removesuffix("_FILE") not in files} | read
