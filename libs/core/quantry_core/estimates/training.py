"""Peak memory of fine-tune and merge jobs: weights, what is trained, and what one forward and backward pass holds.

The constants are fitted to runs on a CPU (docs/estimates.md), where everything is computed in float32. On a GPU weights and
activations are bfloat16; what an adapter trains stays float32.
"""

from __future__ import annotations

from math import ceil, prod

from quantry_core.estimates.adapters import adapted_modules, num_adapter_parameters
from quantry_core.estimates.facts import SIDE_PARTS, CheckpointFacts
from quantry_core.estimates.memory import BASE_BYTES, CUDA_CONTEXT_BYTES, FLOAT32_BYTES, MIB, evaluate_ram_bytes, quantize_ram_bytes
from quantry_core.families import family_of
from quantry_core.jobs import (
    EvaluateSpec,
    FinetuneSpec,
    GrpoMethod,
    JobType,
    MergeSpec,
    QuantizationRecipe,
    QuantizeSpec,
    Resource,
    RlooMethod,
)
from quantry_core.training import AdapterKind, BasePrecision, Strategy, TrainingMethod

TRAINING_BASE_BYTES = 660 * MIB
"""Before any weight: torch, transformers, datasets, PEFT and TRL."""
GPU_HOST_BYTES = 2000 * MIB
"""Resident memory of a process that trains on a GPU, beside the pages of the files that weights are read from."""
BFLOAT16_BYTES = 2
NUM_ADAM_STATES = 2
"""First and second moment of each trained number (Kingma & Ba 2015, arXiv:1412.6980)."""
WEIGHT_BITS: dict[BasePrecision, float] = {BasePrecision.NF4: 4.127, BasePrecision.INT8: 8.0}
"""Of one rounded weight, its share of scales counted: nf4 has one for 64 weights, rounded itself (arXiv:2305.14314, section 3)."""
OUTPUTS_KEPT = 2.0
"""For each number that a layer's Linears put out for a token: what is kept until the backward pass."""
ADAPTED_OUTPUTS: dict[AdapterKind, float] = {AdapterKind.LORA: 1.1, AdapterKind.RSLORA: 1.1, AdapterKind.DORA: 3.2}
"""What is kept more for each number that a Linear with an adapter puts out: the adapter's own product; DoRA's norms besides."""
RECOMPUTED_KEPT = 0.4
"""The same with gradient checkpointing, beside each layer's input: what the allocator does not give back from layer to layer."""
LAYER_WORK = 11.0
"""For each number that the Linears of the widest layer put out: what lies beside it while it is worked at, back and forth."""
MERGED = "merged"
"""Stands where a spec names a version that is not there yet."""
NUM_LOGITS = 4.1
"""Arrays of [sequences, tokens, vocabulary] in float32 that are alive at once while the loss is taken."""
NUM_SEQUENCES: dict[TrainingMethod, int] = {
    TrainingMethod.SUPERVISED: 1,
    # A pair is two sequences in one pass. What kto scores besides, each prompt with another one's answer, has no gradient.
    TrainingMethod.DPO: 2,
    TrainingMethod.KTO: 1,
    TrainingMethod.ORPO: 2,
    TrainingMethod.GRPO: 1,
    TrainingMethod.RLOO: 1,
}
"""Sequences of one pass for each of a batch."""
REFERENCE_METHODS = frozenset({TrainingMethod.DPO, TrainingMethod.KTO, TrainingMethod.GRPO, TrainingMethod.RLOO})
"""They ask the base as it was. Under an adapter that is the same weights; otherwise a second model."""


ACTIVATION_BYTES: dict[Resource, int] = {Resource.CPU: FLOAT32_BYTES, Resource.GPU: BFLOAT16_BYTES}
"""Of one number of an activation; frozen weights rest in the same precision, what is trained is float32."""


def finetune_ram_bytes(base: CheckpointFacts, spec: FinetuneSpec) -> int:
    """Returns the peak of a fine-tune job on the CPU, all its processes together; raises InvalidInput as ``adapted_modules``."""
    num_processes = 1 if spec.distributed is None else spec.distributed.num_processes
    return num_processes * (TRAINING_BASE_BYTES + _process_bytes(base, spec, Resource.CPU)) + base.weights_bytes


def finetune_vram_bytes(base: CheckpointFacts, spec: FinetuneSpec) -> int:
    """Returns the peak on one device, of which each process has its own; raises InvalidInput as ``adapted_modules``."""
    return CUDA_CONTEXT_BYTES + _process_bytes(base, spec, Resource.GPU)


def finetune_host_bytes(base: CheckpointFacts, spec: FinetuneSpec) -> int:
    """Returns the resident memory of all processes of a job that trains on GPUs."""
    num_processes = 1 if spec.distributed is None else spec.distributed.num_processes
    offloaded = 0
    if spec.distributed is not None and spec.distributed.offload_to_cpu:
        offloaded = _weights_bytes(base, spec, Resource.GPU) + _trained_bytes(base, spec)
    return num_processes * GPU_HOST_BYTES + base.weights_bytes + offloaded + _gathered_bytes(base, spec)


def _gathered_bytes(base: CheckpointFacts, spec: FinetuneSpec) -> int:
    """What the first process takes from the devices to write it: at each best measurement what is trained, in float32; of what is
    sharded, at each checkpoint, its moments as well."""
    is_sharded = spec.distributed is not None and spec.distributed.strategy is Strategy.FSDP
    return _num_trained(base, spec) * FLOAT32_BYTES * (1 + NUM_ADAM_STATES if is_sharded else 1)


def finetune_peak_bytes(base: CheckpointFacts, spec: FinetuneSpec, resource: Resource, *, of: Resource) -> int:
    """Returns the peak of a job that trains on ``resource``: of resident memory (cpu) or of one device's (gpu)."""
    if of is Resource.GPU:
        return finetune_vram_bytes(base, spec)
    return finetune_ram_bytes(base, spec) if resource is Resource.CPU else finetune_host_bytes(base, spec)


def is_packed(base: CheckpointFacts) -> bool:
    """Tells whether a base has fewer than 16 bits already."""
    return bool(base.packed) or any(SIDE_PARTS.search(name) for name in base.tensors)


def _process_bytes(base: CheckpointFacts, spec: FinetuneSpec, resource: Resource) -> int:
    """What one process holds beside its libraries: its share of weights and states, and one pass."""
    weights, trained = _weights_bytes(base, spec, resource), _trained_bytes(base, spec)
    training = _share(spec, weights, trained) + _pass_bytes(base, spec, resource) + _generation_bytes(base, spec, resource)
    return max(training, _whole_bytes(spec, weights))


def _whole_bytes(spec: FinetuneSpec, weights: int) -> int:
    """What one process holds while no step is under way: the weights as they come, before any is sharded. Afterwards, where all
    were trained, the base lies whole beside its share of them while corpora are compared."""
    distributed = spec.distributed
    if distributed is None or distributed.strategy is not Strategy.FSDP or spec.adapter is not None or not spec.corpora:
        return weights
    return weights + ceil(weights / distributed.num_processes)


def _share(spec: FinetuneSpec, weights: int, trained: int) -> int:
    """Weights, gradients and optimizer states of one process. ZeRO's stages shard the states, then gradients
    (Rajbhandari et al. 2020, arXiv:1910.02054, section 5); FSDP shards all. What is trained is two parts states, one gradients."""
    distributed = spec.distributed
    if distributed is None or distributed.strategy is Strategy.DDP:
        return weights + trained
    num = distributed.num_processes
    states, gradients = trained * NUM_ADAM_STATES // (NUM_ADAM_STATES + 1), trained // (NUM_ADAM_STATES + 1)
    if distributed.strategy is Strategy.FSDP:
        return ceil(weights / num) + ceil(states / num) + ceil(gradients / num)
    return ceil(states / num) + (gradients if distributed.zero_stage == 1 else ceil(gradients / num)) + weights


def _weights_bytes(base: CheckpointFacts, spec: FinetuneSpec, resource: Resource) -> int:
    """The model, a second one where the base as it was is asked and every weight is trained, and an adapter's own weights.

    Packed bitsandbytes weights stay as they are stored; every other quantized base is dequantized when it is loaded.
    """
    rounded = num_rounded_weights(base, spec)
    packed = round(rounded * _rounded_bits(base, spec) / 8)
    # What bitsandbytes leaves as it is, norms and embedding, is float32 anywhere.
    whole = (base.num_parameters - rounded) * (FLOAT32_BYTES if rounded or spec.adapter is None else ACTIVATION_BYTES[resource])
    if spec.adapter is None:
        return whole * (2 if spec.method.type in REFERENCE_METHODS else 1)
    return packed + whole + FLOAT32_BYTES * num_adapter_parameters(base, spec.adapter)


def num_rounded_weights(base: CheckpointFacts, spec: FinetuneSpec) -> int:
    """Returns the weights that are held in fewer bits while a job trains: those of bitsandbytes, rounded before or when loaded."""
    if spec.base_precision is not None:
        outside = family_of(base.config).output_layers
        return sum(prod(shape) for name, shape in base.linears.items() if name.rpartition(".")[2] not in outside)
    return sum(prod(base.linears[name]) for name in _bitsandbytes_modules(base))


def _bitsandbytes_modules(base: CheckpointFacts) -> list[str]:
    """Modules that bitsandbytes packed, by the parts that it alone stores."""
    parts = (".weight.absmax", ".SCB")
    named = {name.removesuffix(part) for name in base.tensors for part in parts if name.endswith(part)}
    return sorted(named & set(base.linears))


def _rounded_bits(base: CheckpointFacts, spec: FinetuneSpec) -> float:
    if spec.base_precision is not None:
        return WEIGHT_BITS[spec.base_precision]
    has_int8 = any(name.endswith(".SCB") for name in base.tensors)
    return WEIGHT_BITS[BasePrecision.INT8 if has_int8 else BasePrecision.NF4]


def _trained_bytes(base: CheckpointFacts, spec: FinetuneSpec) -> int:
    """Gradients and AdamW's states, float32 wherever it trains."""
    return _num_trained(base, spec) * FLOAT32_BYTES * (1 + NUM_ADAM_STATES)


def _num_trained(base: CheckpointFacts, spec: FinetuneSpec) -> int:
    return base.num_parameters if spec.adapter is None else num_adapter_parameters(base, spec.adapter)


def _pass_bytes(base: CheckpointFacts, spec: FinetuneSpec, resource: Resource) -> int:
    """Activations that are kept until the backward pass, and logits.

    With gradient checkpointing (Chen et al. 2016, arXiv:1604.06174) a layer keeps its input alone, and one layer at a time is whole.
    """
    given = spec.hyperparameters
    num_tokens = given.batch_size * NUM_SEQUENCES[spec.method.type] * given.sequence_tokens
    layers = [sum(num_rows for num_rows, _ in layer.values()) for layer in base.layers.values()]
    widest = max(layers, default=0)
    kept = OUTPUTS_KEPT * sum(layers) + _adapted_outputs(base, spec)
    if given.gradient_checkpointing:
        kept = base.hidden_size * len(layers) + RECOMPUTED_KEPT * sum(layers) + kept * widest / max(1, sum(layers))
    numbers = (kept + LAYER_WORK * widest) * ACTIVATION_BYTES[resource]
    return round(num_tokens * (numbers + NUM_LOGITS * base.vocabulary * FLOAT32_BYTES))


def _adapted_outputs(base: CheckpointFacts, spec: FinetuneSpec) -> float:
    """What is kept for a token beside each module that has an adapter."""
    if spec.adapter is None:
        return 0.0
    return ADAPTED_OUTPUTS[spec.adapter.kind] * sum(num_rows for num_rows, _ in adapted_modules(base, spec.adapter).values())


def _generation_bytes(base: CheckpointFacts, spec: FinetuneSpec, resource: Resource) -> int:
    """Keys and values of the answers of one batch while they are generated."""
    if not isinstance(spec.method, GrpoMethod | RlooMethod):
        return 0
    num_tokens = spec.hyperparameters.batch_size * spec.hyperparameters.sequence_tokens
    return num_tokens * 2 * base.kv_width * base.num_layers * ACTIVATION_BYTES[resource]


def merge_ram_bytes(base: CheckpointFacts, spec: MergeSpec, recipe: QuantizationRecipe | None) -> int:
    """Returns the peak of a merge job: the 16-bit version in float32, the pages of its file, and what is written.

    With ``measure`` it quantizes by ``recipe`` and evaluates in the same process, one after the other.
    """
    merging = BASE_BYTES[JobType.EVALUATE] + FLOAT32_BYTES * base.num_parameters + 2 * base.weights_bytes
    if not spec.measure or recipe is None:
        return merging
    return max(merging, quantize_ram_bytes(base, merged_spec(recipe)), evaluate_ram_bytes(base, base, compared_spec(spec)))


def merged_spec(recipe: QuantizationRecipe) -> QuantizeSpec:
    """Returns the quantize job that a merge job's recipe means, of the version that is merged."""
    return QuantizeSpec(base=MERGED, **{name: getattr(recipe, name) for name in QuantizationRecipe.model_fields})


def compared_spec(spec: MergeSpec) -> EvaluateSpec:
    """Returns how a measured merge looks at each of its candidates beside the 16-bit version."""
    return EvaluateSpec(version=MERGED, against=MERGED, corpora=[MERGED], window_tokens=spec.window_tokens, max_windows=spec.max_windows)
