"""Settings of the rollout controller, read from the environment."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from quantry_core.methods import DeviceKind


class DriverName(StrEnum):
    """What starts engines. Releases that name servers of somebody else are served by those, whichever it is."""

    PROCESS = "process"
    """Processes of this host."""
    KUBERNETES = "kubernetes"


class DeploySettings(BaseSettings):
    """Where the controller listens, which engine it starts, and how patient it is."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore")

    deploy_host: str = Field(default="127.0.0.1", description="Address of the health endpoint.")
    deploy_port: int = Field(ge=1, le=65535, description="Port of the health endpoint.")
    deploy_dir: Path = Field(description="Directory of this controller alone: pulled versions, replica logs, the engines' caches.")
    engine_python: Path | None = Field(default=None, description="Python of the environment that holds vLLM.")
    engine_host: str = Field(
        default="127.0.0.1",
        description="Host as which gateways reach the processes of engines; they listen on its address, and on no other. Has to be the "
        "controller's own: in a container, its name in the network that the gateways share.",
    )
    llama_cpp_python: Path | None = Field(default=None, description="Python of the environment that holds xllamacpp, where there is one.")
    llama_cpp_script: Path | None = Field(default=None, description="serve_llama_cpp.py; beside engine_script where not set.")
    sglang_python: Path | None = Field(default=None, description="Python of an environment that holds SGLang, where there is one.")
    lmdeploy_python: Path | None = Field(default=None, description="Python of an environment that holds LMDeploy, where there is one.")
    deploy_driver: DriverName = Field(default=DriverName.PROCESS, description="What starts engines: process or kubernetes.")
    deploy_cache_bytes: int | None = Field(
        default=None, ge=1, description="Bytes that pulled versions may take on this host; without a limit what nobody wants is removed."
    )
    host_gpus: str | None = Field(
        default=None,
        description="GPUs that engines are given, as CUDA_VISIBLE_DEVICES writes them; where not set that variable, else all that "
        "nvidia-smi lists. Looked at where engine_device is cuda.",
    )
    static_hosts: str = Field(
        default="127.0.0.1,localhost,[::1]",
        description="Hosts, or host:port, with * for any part of one, that a release may name as servers of somebody else; commas between.",
    )
    engine_device: DeviceKind | None = Field(default=None, description="Where the engines run; not asked for what they load where not set.")
    engine_script: Path = Field(description="services/engine/serve.py, or a script with the same arguments.")
    reconcile_interval_s: float = Field(default=1.0, gt=0, description="Seconds between two looks at the deployments.")
    stop_replicas_on_exit: bool | None = Field(
        default=None,
        description="Whether replicas end with the controller; if not, the next controller adopts them. "
        "Where not set: processes end, pods do not.",
    )
    drain_s: float = Field(default=5.0, ge=0, description="Seconds a replica without routes goes on before it is asked to end.")
    stop_grace_s: float = Field(
        default=120.0, ge=1, description="Seconds that a replica's requests have to finish in once it is asked to end; then it is killed."
    )
    exit_grace_s: float = Field(default=8.0, gt=0, description="Seconds in which all replicas are stopped when the controller ends.")
    start_timeout_s: float = Field(default=900.0, gt=0, description="Seconds a restarted engine may take to answer, outside a rollout.")
    lost_after_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds without a ready replica after which a candidate that had traffic, or a release in its watch, is rolled back.",
    )
    prometheus_url: str | None = Field(
        default=None, description="Root of a Prometheus that rules of an analysis may ask; without one such rules are inconclusive."
    )
    state_dir: Path | None = Field(
        default=None, description="The embedded stack's directory; handed on, so that leftovers are found by it."
    )

    @property
    def stops_replicas(self) -> bool:
        """Whether replicas end with the controller."""
        return self.deploy_driver is DriverName.PROCESS if self.stop_replicas_on_exit is None else self.stop_replicas_on_exit
