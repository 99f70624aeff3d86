"""Settings of the rollout controller, read from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from quantry_core.methods import DeviceKind


class DeploySettings(BaseSettings):
    """Where the controller listens, which engine it starts, and how patient it is."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore")

    deploy_host: str = Field(default="127.0.0.1", description="Address of the health endpoint.")
    deploy_port: int = Field(ge=1, le=65535, description="Port of the health endpoint.")
    deploy_dir: Path = Field(description="Directory of this controller alone: pulled versions, replica logs, the engines' caches.")
    engine_python: Path = Field(description="Python of the environment that holds vLLM.")
    engine_device: DeviceKind | None = Field(default=None, description="Where the engines run; not asked for what they load where not set.")
    engine_script: Path = Field(description="services/engine/serve.py, or a script with the same arguments.")
    reconcile_interval_s: float = Field(default=1.0, gt=0, description="Seconds between two looks at the deployments.")
    stop_replicas_on_exit: bool = Field(
        default=True, description="Whether replicas end with the controller. If not, the next controller adopts them."
    )
    drain_s: float = Field(default=5.0, ge=0, description="Seconds a replica without routes goes on before it is asked to end.")
    stop_grace_s: float = Field(
        default=120.0, ge=1, description="Seconds that a replica's requests have to finish in once it is asked to end; then it is killed."
    )
    exit_grace_s: float = Field(default=8.0, gt=0, description="Seconds in which all replicas are stopped when the controller ends.")
    start_timeout_s: float = Field(default=900.0, gt=0, description="Seconds a restarted engine may take to answer, outside a rollout.")
    state_dir: Path | None = Field(
        default=None, description="The embedded stack's directory; handed on, so that leftovers are found by it."
    )
