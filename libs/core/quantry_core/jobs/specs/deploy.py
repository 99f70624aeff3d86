"""Deploy jobs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from quantry_core.jobs.specs.references import DeploymentName, Spec, VersionRef
from quantry_core.jobs.states import JobType
from quantry_core.strategies import ImmediateStrategy, Strategy


class EngineKind(StrEnum):
    """The servers that a release may be started with; quantry_core.engines says what each loads."""

    VLLM = "vllm"
    LLAMA_CPP = "llama.cpp"
    SGLANG = "sglang"
    LMDEPLOY = "lmdeploy"


class EngineConfig(Spec):
    """How a replica is started. Typed and closed: no free arguments reach a command line."""

    engine: EngineKind = EngineKind.VLLM
    num_gpus: int = Field(default=1, ge=1, le=64, description="GPUs of one replica, where it runs on GPUs: its tensor-parallel size.")
    max_model_len_tokens: int | None = Field(default=None, ge=64, le=1_048_576, description="Context length; the model's own where None.")
    kv_cache_bytes: int = Field(default=256 * 1024**2, ge=16 * 1024**2, le=2**44, description="Memory of one replica's KV cache.")
    max_num_seqs: int = Field(default=16, ge=1, le=1024, description="Sequences decoded together.")
    max_adapters: int = Field(default=0, ge=0, le=64, description="Adapters that may be attached and are held ready at once; 0: none.")
    max_adapter_rank: Literal[8, 16, 32, 64, 128, 256, 512] = Field(default=16, description="Of an adapter that may be attached.")


class Scaling(Spec):
    """Replicas by what waits and by how full their KV caches are."""

    min_replicas: int = Field(default=1, ge=0, le=16, description="0: scaled to zero when idle; the first request then waits.")
    max_replicas: int = Field(ge=1, le=16)
    target_waiting: float = Field(default=2.0, gt=0, le=1000, description="Requests that may wait in one replica, on average.")
    target_kv_use: float = Field(default=0.8, gt=0, lt=1, description="Share of the KV cache that may be in use, on average.")
    scale_down_after_s: float = Field(default=300.0, ge=1, le=86400, description="Fewer must have sufficed for so long.")
    idle_after_s: float = Field(
        default=900.0, ge=1, le=7 * 86400, description="Of min_replicas 0: without a request for so long nothing is kept."
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas is {self.min_replicas} and max_replicas {self.max_replicas}")
        return self


ServerUrl = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+$", max_length=200)]
"""Scheme, host and port of a server that someone else runs."""


class DeploySpec(Spec):
    """Serves a version under a deployment's name, in place of what was served before."""

    type: Literal[JobType.DEPLOY] = JobType.DEPLOY
    deployment: DeploymentName
    version: VersionRef
    replicas: int = Field(default=1, ge=1, le=16)
    engine: EngineConfig = EngineConfig()
    ready_timeout_s: int = Field(default=600, ge=10, le=7200, description="Not all replicas ready by then: rolled back.")
    strategy: Strategy = ImmediateStrategy()
    watch_s: float = Field(
        default=300.0,
        ge=0,
        le=7 * 86400,
        description="After promotion the release before stays warm for so long, and a failure rolls back.",
    )
    scaling: Scaling | None = Field(default=None, description="None: always ``replicas``.")
    servers: list[ServerUrl] = Field(
        default=[], max_length=16, description="Servers that someone else runs and that serve this version, one a replica."
    )
    note: str | None = Field(default=None, max_length=500, description="Why; kept in the history.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.servers and len(set(self.servers)) != len(self.servers):
            raise ValueError("a server is named twice; each is one replica")
        if self.servers and (self.scaling is not None or self.replicas not in {1, len(self.servers)}):
            raise ValueError(f"{len(self.servers)} servers are named: they are the replicas, neither fewer, more nor scaled")
        if self.scaling is not None and not self.scaling.min_replicas <= self.replicas <= self.scaling.max_replicas:
            raise ValueError(f"replicas {self.replicas} is not within {self.scaling.min_replicas} and {self.scaling.max_replicas}")
        return self

    @property
    def num_replicas(self) -> int:
        """Replicas of the release at its start."""
        return len(self.servers) or self.replicas
