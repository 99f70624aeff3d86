"""What can be told of a quantize job before it is written: that its method does not run there, or not on such a model.

The worker says the same once more, from the files themselves; here it costs the submitter no wait in a queue.
"""

from __future__ import annotations

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.estimates import CheckpointFacts
from quantry_core.families import blocks_refusal, is_router, refusal
from quantry_core.jobs import QuantizeSpec, Resource, chosen
from quantry_core.linears import is_named
from quantry_core.methods import METHODS, DeviceKind, Format, MethodChoice

DEVICES: dict[Resource, DeviceKind] = {Resource.CPU: DeviceKind.CPU, Resource.GPU: DeviceKind.CUDA}


def check_quantizable(spec: QuantizeSpec, base: CheckpointFacts | None, resource: Resource) -> None:
    """Raises InvalidInput for a method that does not run on that resource, or that cannot do this to a base whose facts are known."""
    choice = chosen(spec)
    reason = _device_refusal(choice, resource)
    if reason is None and base is not None:
        reason = refusal(choice, base.config, base.tensors) or _export_refusal(choice, spec, base)
    if reason is not None:
        raise InvalidInput(reason, errors=[FieldProblem(field="spec.method", message=reason)])


def _device_refusal(choice: MethodChoice, resource: Resource) -> str | None:
    info = choice.info
    if DEVICES[resource] in info.devices:
        return None
    others = [other.method for other in METHODS.values() if choice.scheme in other.schemes and DEVICES[resource] in other.devices]
    instead = f", or take {choice.scheme} by method {' or '.join(others)}" if others else ""
    devices = " and ".join(info.devices)
    return f"method {info.method} runs on {devices} only, and this job would go to a queue for {resource}; name another queue{instead}"


def _export_refusal(choice: MethodChoice, spec: QuantizeSpec, base: CheckpointFacts) -> str | None:
    if choice.info.format is not Format.GGUF:
        return None
    kept = [name for name in base.linears if is_router(name) or is_named(name, spec.kept_patterns)]
    return blocks_refusal(choice.scheme, kept, base.tensors)
