"""What a speed measurement needs, asked before any work: an engine at hand, and a version that it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantry_core.errors import InvalidInput
from quantry_core.families import context_tokens
from quantry_core.jobs import SpeedSpec
from quantry_core.servability import EngineName, not_served, schemes_of
from quantry_worker.child.engine import EngineFacts, unseen_device
from quantry_worker.protocol import ChildInput


def check_speed(spec: SpeedSpec, subject: ChildInput, config: Mapping[str, Any], engine: EngineFacts | None) -> EngineFacts:
    """Returns the engine; raises InvalidInput naming what stands in the way of a measurement."""
    if engine is None:
        raise InvalidInput("speed is measured with vLLM, and this worker has no engine environment; leave speed out")
    unseen = unseen_device(engine)
    if unseen is not None:
        raise InvalidInput(f"speed is measured with vLLM, but {unseen}; leave speed out")
    if subject.format is None:
        raise TypeError(f"{subject.ref} is no version")
    recipe = subject.recipe or {}
    reason = not_served(subject.format, schemes_of(recipe.get("scheme"), recipe), EngineName.VLLM, engine.device)
    if reason is not None:
        raise InvalidInput(f"the speed of {subject.ref} cannot be measured: {reason}; or leave speed out")
    context, asked = context_tokens(config), spec.prompt_tokens + spec.output_tokens
    if context is not None and asked > context:
        raise InvalidInput(f"speed.prompt_tokens and output_tokens are {asked} together, but the model's context is {context} tokens")
    return engine
