"""What each type of job is asked to do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs.states import JobType
from quantry_core.names import Name

OUTPUT_PREFIX = "output:"
"""Begins a reference to the version that another job will make: ``output:job_...``, or in a pipeline ``output:<step>``."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


VersionRef = Annotated[str, StringConstraints(min_length=1, max_length=160)]
"""``ver_...``, ``name@3``, or ``name`` for the latest ready version of a fitting kind."""

DatasetRef = Annotated[str, StringConstraints(min_length=1, max_length=160)]
"""``dat_...``, ``name@3``, or ``name`` for the latest."""


class ImportSpec(_Spec):
    """Brings a 16-bit checkpoint into the registry as a master."""

    type: Literal[JobType.IMPORT] = JobType.IMPORT
    model: Name = Field(description="The model it becomes a version of; made if it is not there yet.")
    source: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="An absolute path below an allowed root, or hf:<owner>/<name>[@<revision>] for the Hugging Face hub."
    )


class CalibrationSpec(_Spec):
    """Which text a method sees to fit its rounding."""

    datasets: list[DatasetRef] = Field(min_length=1, max_length=16)
    num_samples: int = Field(default=64, ge=1, le=4096, description="Samples drawn over all datasets.")
    length_tokens: int = Field(default=256, ge=16, le=32768, description="Tokens of one sample.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class QuantizeSpec(_Spec):
    """Makes a quantized version from a 16-bit master."""

    type: Literal[JobType.QUANTIZE] = JobType.QUANTIZE
    base: VersionRef = Field(description="The master.")
    method: str = Field(default="gptq", max_length=64)
    scheme: str = Field(default="W4A16", max_length=64)
    group_size: int | None = Field(default=None, description="Weights that share one scale; the method's default where not given.")
    damping: float = Field(default=0.01, gt=0, le=1, description="Share of the mean Hessian diagonal added to it (GPTQ).")
    ignore: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field(
        default=["lm_head"], max_length=64, description="Modules kept at 16 bit: exact names, or re:<regular expression>."
    )
    calibration: CalibrationSpec


class EvaluateSpec(_Spec):
    """Measures perplexity on corpora, and closeness to a reference version where one is named."""

    type: Literal[JobType.EVALUATE] = JobType.EVALUATE
    version: VersionRef
    against: VersionRef | None = Field(default=None, description="Reference of KL and top-1 agreement; usually the master.")
    corpora: list[DatasetRef] = Field(min_length=1, max_length=16)
    window_tokens: int = Field(default=256, ge=16, le=32768, description="Length of one scored window.")
    max_windows: int | None = Field(default=None, ge=1, description="Scores only the first windows of each corpus; None scores all.")


class EngineConfig(_Spec):
    """How a replica is started. Typed and closed: no free arguments reach a command line."""

    engine: Literal["vllm"] = "vllm"
    max_model_len_tokens: int | None = Field(default=None, ge=64, le=1_048_576, description="Context length; the model's own where None.")
    kv_cache_bytes: int = Field(default=256 * 1024**2, ge=16 * 1024**2, description="Memory of one replica's KV cache.")
    max_num_seqs: int = Field(default=16, ge=1, le=1024, description="Sequences decoded together.")


class DeploySpec(_Spec):
    """Serves a version under a deployment's name, in place of what was served before."""

    type: Literal[JobType.DEPLOY] = JobType.DEPLOY
    deployment: Name
    version: VersionRef
    replicas: int = Field(default=1, ge=1, le=16)
    engine: EngineConfig = EngineConfig()
    ready_timeout_s: int = Field(default=600, ge=10, le=7200, description="Not all replicas ready by then: rolled back.")


JobSpec = Annotated[ImportSpec | QuantizeSpec | EvaluateSpec | DeploySpec, Field(discriminator="type")]

SPECS: dict[JobType, type[ImportSpec] | type[QuantizeSpec] | type[EvaluateSpec] | type[DeploySpec]] = {
    JobType.IMPORT: ImportSpec,
    JobType.QUANTIZE: QuantizeSpec,
    JobType.EVALUATE: EvaluateSpec,
    JobType.DEPLOY: DeploySpec,
}


def needed_outputs(spec: JobSpec) -> list[str]:
    """Returns the job ids (in a pipeline: steps) whose outputs a spec uses, each once, in the order of its fields."""
    names = [ref.removeprefix(OUTPUT_PREFIX) for ref in version_refs(spec).values() if ref.startswith(OUTPUT_PREFIX)]
    return list(dict.fromkeys(names))


def version_refs(spec: JobSpec) -> dict[str, VersionRef]:
    """Returns a spec's references to versions by the name of their field; those that are not given are left out."""
    refs = {name: getattr(spec, name, None) for name in ("base", "version", "against")}
    return {name: ref for name, ref in refs.items() if ref is not None}


def with_outputs(spec: JobSpec, job_ids: dict[str, str]) -> JobSpec:
    """Returns a pipeline step's spec with each ``output:<step>`` turned into ``output:<job id>``; raises KeyError for an unknown step."""
    changed = {
        name: OUTPUT_PREFIX + job_ids[ref.removeprefix(OUTPUT_PREFIX)]
        for name, ref in version_refs(spec).items()
        if ref.startswith(OUTPUT_PREFIX)
    }
    return spec.model_copy(update=changed)


def is_job_output(ref: str) -> bool:
    """Tells whether a reference names the output of a job by its id."""
    return ref.startswith(OUTPUT_PREFIX) and is_id(ref.removeprefix(OUTPUT_PREFIX), IdPrefix.JOB)
