"""What an adapter adds to a model: its tensors, told from the shapes of the modules that it is put on."""

from __future__ import annotations

from quantry_core.estimates.facts import CheckpointFacts, StoredTensor
from quantry_core.estimates.sizes import safetensors_bytes
from quantry_core.families import family_of
from quantry_core.jobs import AdapterSpec
from quantry_core.linears import Shape
from quantry_core.training import AdapterKind, check_rank, targeted_modules

STORED_DTYPE = "F32"
"""Adapters are trained and stored in float32."""
PREFIX = "base_model.model."
"""Before the name of each module, as PEFT saves it."""


def adapted_modules(base: CheckpointFacts, adapter: AdapterSpec) -> dict[str, Shape]:
    """Returns the modules that an adapter is put on, with their shapes.

    Raises InvalidInput for target modules that the base does not have, and a rank that is more than a side of one.
    """
    outside = family_of(base.config).output_layers
    linears = {name: shape for name, shape in base.linears.items() if name.rpartition(".")[2] not in outside}
    targeted = targeted_modules(linears, adapter.target_modules)
    check_rank(linears, targeted, adapter.rank)
    return {name: linears[name] for name in targeted}


def adapter_tensors(base: CheckpointFacts, adapter: AdapterSpec) -> dict[str, StoredTensor]:
    """Returns an adapter's tensors by name: A of [rank, in] and B of [out, rank] for each module, of DoRA a magnitude of [out] too.

    Raises InvalidInput as ``adapted_modules``.
    """
    tensors: dict[str, StoredTensor] = {}
    for module, (num_rows, num_columns) in adapted_modules(base, adapter).items():
        tensors[f"{PREFIX}{module}.lora_A.weight"] = StoredTensor(STORED_DTYPE, (adapter.rank, num_columns))
        tensors[f"{PREFIX}{module}.lora_B.weight"] = StoredTensor(STORED_DTYPE, (num_rows, adapter.rank))
        if adapter.kind is AdapterKind.DORA:
            tensors[f"{PREFIX}{module}.lora_magnitude_vector"] = StoredTensor(STORED_DTYPE, (num_rows,))
    return tensors


def adapter_bytes(base: CheckpointFacts, adapter: AdapterSpec) -> int:
    """Returns the size of adapter_model.safetensors; raises as ``adapted_modules``."""
    return safetensors_bytes(adapter_tensors(base, adapter))


def num_adapter_parameters(base: CheckpointFacts, adapter: AdapterSpec) -> int:
    """Returns the numbers that are trained; raises as ``adapted_modules``."""
    return sum(tensor.num_elements for tensor in adapter_tensors(base, adapter).values())
