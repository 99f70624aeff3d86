"""Settings of the Kubernetes driver, read from the environment. Asked for only where ``QUANTRY_DEPLOY_DRIVER`` is kubernetes."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from quantry_core.jobs import EngineKind


class Scaler(StrEnum):
    """Who says how many pods a scaled release has."""

    CONTROLLER = "controller"
    """The rollout controller, by what engines and gateways say. Needs nothing else in the cluster, and scales to zero and back."""
    HPA = "hpa"
    """A HorizontalPodAutoscaler over custom metrics of the pods. Never to zero."""
    KEDA = "keda"
    """A ScaledObject over Prometheus. To zero; from there the controller brings the first pod up."""


class KubernetesSettings(BaseSettings):
    """Where pods run, of which images, and with what."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_KUBE_", frozen=True, extra="ignore")

    namespace: str = Field(default="quantry-pools", description="Namespace of the engines. Nothing else should be in it.")
    owner: str = Field(
        default="quantry", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="Tells this controller's objects from others'."
    )
    cluster_domain: str = Field(default="svc", description="What follows <pod>.<service>.<namespace>: svc, or svc.cluster.local.")
    cache_claim: str = Field(description="PersistentVolumeClaim (ReadWriteMany) whose folder the controller has as its cache.")
    cache_sub_path: str = Field(default="cache", description="Folder in that claim which is QUANTRY_DEPLOY_DIR/cache here.")
    image_vllm: str | None = Field(default=None, description="Image built from services/engine/Dockerfile.cuda or .cpu.")
    image_llama_cpp: str | None = Field(default=None, description="Image built from services/engine/Dockerfile.llama-cpp.")
    image_sglang: str | None = Field(default=None, description="SGLang's own image.")
    image_lmdeploy: str | None = Field(default=None, description="LMDeploy's own image.")
    image_pull_secret: str | None = Field(default=None, description="Secret with which images are pulled.")
    priority_class: str | None = Field(default=None, description="PriorityClass of the pods.")
    runtime_class: str | None = Field(default=None, description="RuntimeClass of the pods, such as nvidia.")
    node_selector: dict[str, str] = Field(default={}, description="Labels that a node must have, as JSON.")
    gpu_resource: str = Field(default="nvidia.com/gpu", description="What a GPU is asked for as.")
    cpus: str = Field(default="1", description="CPU that a pod asks for, in Kubernetes' words.")
    overhead_bytes: int = Field(default=2 * 1024**3, ge=0, description="Memory that a pod asks for beside its weights and KV cache.")
    scaler: Scaler = Field(default=Scaler.CONTROLLER, description="Who scales a release with scaling: controller, hpa or keda.")
    prometheus_url: str | None = Field(default=None, description="Of scaler keda: where Prometheus answers that scrapes the pods.")

    @model_validator(mode="after")
    def _has_prometheus(self) -> Self:
        if self.scaler is Scaler.KEDA and self.prometheus_url is None:
            raise ValueError("scaler keda asks Prometheus: set QUANTRY_KUBE_PROMETHEUS_URL")
        return self

    def image(self, kind: EngineKind) -> tuple[str | None, str]:
        """Returns the image of an engine, None where there is none, and the name of its variable."""
        return {
            EngineKind.VLLM: (self.image_vllm, "QUANTRY_KUBE_IMAGE_VLLM"),
            EngineKind.LLAMA_CPP: (self.image_llama_cpp, "QUANTRY_KUBE_IMAGE_LLAMA_CPP"),
            EngineKind.SGLANG: (self.image_sglang, "QUANTRY_KUBE_IMAGE_SGLANG"),
            EngineKind.LMDEPLOY: (self.image_lmdeploy, "QUANTRY_KUBE_IMAGE_LMDEPLOY"),
        }[kind]
