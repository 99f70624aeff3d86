"""What can be told of a job before it is written: that its method does not run there, or not on such a model.

The worker says the same once more, from the files themselves; here it costs the submitter no wait in a queue.
"""

from __future__ import annotations

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.estimates import CheckpointFacts
from quantry_core.families import context_tokens
from quantry_core.jobs import FinetuneSpec, QuantizeSpec, Resource, chosen
from quantry_core.methods import METHODS, DeviceKind, Method, Scheme
from quantry_core.plans import plan_quantization

DEVICES: dict[Resource, DeviceKind] = {Resource.CPU: DeviceKind.CPU, Resource.GPU: DeviceKind.CUDA}


def check_quantizable(spec: QuantizeSpec, base: CheckpointFacts | None, resource: Resource) -> None:
    """Raises InvalidInput for a method that does not run on that resource, and what quantry_core.plans does to a base whose facts are
    known."""
    reason = _device_refusal(spec, resource)
    if reason is not None:
        raise InvalidInput(reason, errors=[FieldProblem(field="spec.method", message=reason)])
    if base is not None:
        plan_quantization(spec, base.config, base.tensors)


def check_context(spec: FinetuneSpec, base: CheckpointFacts) -> None:
    """Raises InvalidInput for sequences that are longer than the base's context, where config.json states one."""
    length, context = spec.hyperparameters.sequence_tokens, context_tokens(base.config)
    if context is not None and length > context:
        sentence = f"sequence_tokens is {length}, and the model's context is {context} tokens"
        raise InvalidInput(sentence, errors=[FieldProblem(field="spec.hyperparameters.sequence_tokens", message=sentence)])


def devices_of(spec: QuantizeSpec) -> tuple[DeviceKind, ...]:
    """Returns what works on a job. Scales of a KV cache are fitted where those of method kv-cache are, whatever comes along."""
    choice = chosen(spec)
    if spec.kv_cache is not None:
        return METHODS[Method.KV_CACHE].devices(Scheme.KV_FP8)
    return choice.devices


def _device_refusal(spec: QuantizeSpec, resource: Resource) -> str | None:
    devices = devices_of(spec)
    if DEVICES[resource] in devices:
        return None
    choice = chosen(spec)
    scheme = choice.scheme
    others = [other.method for other in METHODS.values() if scheme in other.schemes and DEVICES[resource] in other.devices(scheme)]
    instead = f", or take {scheme} by method {' or '.join(others)}" if others else ""
    what = f"method {choice.info.method}" if len(choice.info.schemes) == 1 else f"scheme {scheme} of method {choice.info.method}"
    return f"{what} runs on {' and '.join(devices)} only, and this job would go to a queue for {resource}; name another queue{instead}"
