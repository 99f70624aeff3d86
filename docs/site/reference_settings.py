"""Every environment variable of every service, drawn from the classes that read them."""

from __future__ import annotations

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from quantry_api.retention.settings import RetentionSettings
from quantry_api.sessions.settings import OidcSettings
from quantry_api.settings import ApiSettings
from quantry_blobs.minio_setup import MinioSetupSettings
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

SECTIONS: dict[str, tuple[type[BaseSettings], str]] = {
    "Database": (StoreSettings, "Of api, registry, deploy and the migration."),
    "Object store": (BlobSettings, "Of registry, worker, deploy and, for estimates, api; each with a key of its own."),
    "Limits of requests": (HttpSettings, "Of api, registry and deploy."),
    "Connections": (ConnectionSettings, "Of every service that listens."),
    "What goes out": (OutboundSettings, "Of the api, for webhooks, and of workers, for imports."),
    "Metrics and traces": (TelemetrySettings, "Of every service; the port is that of gateway, worker and dashboard."),
    "api": (ApiSettings, ""),
    "Retention": (RetentionSettings, "Of the api: for how long things are kept."),
    "Sign-in by a provider": (OidcSettings, "Of the api; the dashboard has its own below."),
    "registry": (RegistrySettings, ""),
    "Backups": (BackupSettings, "Of the registry's command that makes them and brings them back."),
    "Backups on another server": (BackupStoreSettings, "Of the same command."),
    "worker": (WorkerSettings, ""),
    "Imports from another server": (ImportStoreSettings, "Of the worker."),
    "deploy": (DeploySettings, ""),
    "deploy on Kubernetes": (KubernetesSettings, "Read where the driver is kubernetes."),
    "gateway": (GatewaySettings, ""),
    "dashboard": (DashboardSettings, ""),
    "MinIO, set up": (MinioSetupSettings, "Of the one-shot of compose that makes buckets, keys and policies."),
}


def pages() -> dict[str, str]:
    """Returns the page of settings."""
    sections = "\n".join(_section(name, settings, text) for name, (settings, text) in SECTIONS.items())
    return {"reference/settings.md": f"# Settings\n\nEach service reads them from its environment, once, when it starts.\n\n{sections}"}


def _section(name: str, settings: type[BaseSettings], text: str) -> str:
    prefix = settings.model_config.get("env_prefix", "")
    lines = [f"## {name}", "", text, "", "| variable | default | |", "|---|---|---|"]
    lines += [
        f"| `{_variable(prefix, field, info)}` | {_default(info)} | {_cell(info.description or '')} |"
        for field, info in settings.model_fields.items()
    ]
    return "\n".join([*lines, ""])


def _variable(prefix: str, field: str, info: FieldInfo) -> str:
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        # The first one is ours; the others are names that libraries know.
        return str(alias.choices[0])
    return alias if isinstance(alias, str) else f"{prefix}{field}".upper()


def _default(info: FieldInfo) -> str:
    if info.default_factory is not None or info.default is PydanticUndefined:
        return "made" if info.default_factory is not None else "**required**"
    if info.default is None:
        return "none"
    if info.default == "":
        return "empty"
    return "secret" if isinstance(info.default, SecretStr) else f"`{info.default}`".replace("|", "\\|")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
