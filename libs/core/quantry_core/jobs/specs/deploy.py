"""Deploy jobs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quantry_core.jobs.specs.references import Spec, VersionRef
from quantry_core.jobs.states import JobType
from quantry_core.names import Name


class EngineConfig(Spec):
    """How a replica is started. Typed and closed: no free arguments reach a command line."""

    engine: Literal["vllm"] = "vllm"
    max_model_len_tokens: int | None = Field(default=None, ge=64, le=1_048_576, description="Context length; the model's own where None.")
    kv_cache_bytes: int = Field(default=256 * 1024**2, ge=16 * 1024**2, description="Memory of one replica's KV cache.")
    max_num_seqs: int = Field(default=16, ge=1, le=1024, description="Sequences decoded together.")
    max_adapters: int = Field(default=0, ge=0, le=64, description="Adapters that may be attached and are held ready at once; 0: none.")
    max_adapter_rank: Literal[8, 16, 32, 64, 128, 256, 512] = Field(default=16, description="Of an adapter that may be attached.")


class DeploySpec(Spec):
    """Serves a version under a deployment's name, in place of what was served before."""

    type: Literal[JobType.DEPLOY] = JobType.DEPLOY
    deployment: Name
    version: VersionRef
    replicas: int = Field(default=1, ge=1, le=16)
    engine: EngineConfig = EngineConfig()
    ready_timeout_s: int = Field(default=600, ge=10, le=7200, description="Not all replicas ready by then: rolled back.")
