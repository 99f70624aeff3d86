"""Every environment variable of every service, drawn from the classes that read them."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from quantry_api.retention.settings import RetentionSettings
from quantry_api.settings import ApiSettings
from quantry_blobs.settings import BlobSettings
from quantry_dashboard.settings import DashboardSettings
from quantry_deploy.drivers.kubernetes.settings import KubernetesSettings
from quantry_deploy.settings import DeploySettings
from quantry_gateway.settings import GatewaySettings
from quantry_registry.settings import RegistrySettings
from quantry_store.settings import StoreSettings
from quantry_worker.settings import WorkerSettings

SECTIONS: dict[str, tuple[type[BaseSettings], str]] = {
    "Database": (StoreSettings, "Of api, registry, deploy and the migration."),
    "Object store": (BlobSettings, "Of registry, worker, deploy and, for estimates, api; each with a key of its own."),
    "api": (ApiSettings, ""),
    "Retention": (RetentionSettings, "Of the api: for how long things are kept."),
    "registry": (RegistrySettings, ""),
    "worker": (WorkerSettings, ""),
    "deploy": (DeploySettings, ""),
    "deploy on Kubernetes": (KubernetesSettings, "Read where the driver is kubernetes."),
    "gateway": (GatewaySettings, ""),
    "dashboard": (DashboardSettings, ""),
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
    return alias if isinstance(alias, str) else f"{prefix}{field}".upper()


def _default(info: FieldInfo) -> str:
    if info.default_factory is not None or info.default is PydanticUndefined:
        return "made" if info.default_factory is not None else "**required**"
    if info.default is None:
        return "none"
    return "secret" if isinstance(info.default, SecretStr) else f"`{info.default}`".replace("|", "\\|")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
