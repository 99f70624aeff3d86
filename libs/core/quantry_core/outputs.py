"""What a job makes: the kind of its version, the model that it belongs to, and the recipe that it is quantized by.

Asked by the control plane and by the worker, which say the same.
"""

from __future__ import annotations

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.jobs import FinetuneSpec, ImportSpec, JobSpec, JobType, MergeSpec, QuantizeSpec, RecalibrateSpec
from quantry_core.names import BadName, check_name
from quantry_core.versions import VersionKind

_KINDS: dict[JobType, VersionKind] = {
    JobType.IMPORT: VersionKind.MASTER,
    JobType.QUANTIZE: VersionKind.QUANTIZED,
    JobType.MERGE: VersionKind.MERGED,
    JobType.RECALIBRATE: VersionKind.QUANTIZED,
}
"""Of the types whose jobs always make the same; what a fine-tune job makes depends on its spec, and the others make nothing."""


def kind_made(job_type: JobType, *, adapter: object) -> VersionKind | None:
    """Returns the kind of version that a job makes; None for one that makes none. ``adapter`` is what its spec has by that name."""
    if job_type is JobType.FINETUNE:
        return VersionKind.MERGED if adapter is None else VersionKind.ADAPTER
    return _KINDS.get(job_type)


def made_kind(spec: JobSpec) -> VersionKind | None:
    """Returns the kind of version that a job of this spec makes; None where it makes none."""
    return kind_made(spec.type, adapter=getattr(spec, "adapter", None))


def made_model(spec: JobSpec, base_model: str) -> str:
    """Returns the model of what a job makes from a base of ``base_model``: ``<base model>-<suffix>`` where its spec has a suffix.

    Raises InvalidInput naming the field if that is no name.
    """
    if isinstance(spec, ImportSpec):
        return spec.model
    suffix = spec.suffix if isinstance(spec, FinetuneSpec | MergeSpec) else None
    if suffix is None:
        return base_model
    try:
        return check_name(f"{base_model}-{suffix}")
    except BadName as error:
        sentence = f"the new version would be of model {base_model}-{suffix}: {error}"
        raise InvalidInput(sentence, errors=[FieldProblem(field="spec.suffix", message=sentence)]) from error


def recipe_of(spec: JobSpec) -> QuantizeSpec | None:
    """Returns by which recipe a job makes its quantized version; None for a job that makes none, and while it is not found."""
    match spec:
        case QuantizeSpec():
            return spec
        case RecalibrateSpec():
            return spec.recipe
        case _:
            return None
