"""Peak memory of a job's child process, from what the recipes in quantry_worker.child hold at once.

Recipes load weights as float32 (4 bytes), whatever they are stored in. BASE_BYTES is what the process holds before any
weight: measured as the peak of a job on a model of a few kB.
"""

from __future__ import annotations

from math import prod

from quantry_core.estimates.facts import CheckpointFacts
from quantry_core.jobs import DeploySpec, EvaluateSpec, JobType, QuantizeSpec
from quantry_core.linears import is_named

MIB = 1024**2
FLOAT32_BYTES = 4
BASE_BYTES: dict[JobType, int] = {
    # Python, pydantic and the safetensors rules; no torch.
    JobType.IMPORT: 33 * MIB,
    # torch, transformers, llm-compressor and datasets.
    JobType.QUANTIZE: 590 * MIB,
    # torch and transformers.
    JobType.EVALUATE: 450 * MIB,
    # vLLM: the API server and the engine's process together.
    JobType.DEPLOY: 1500 * MIB,
}
COPY_BYTES = 2 * MIB
CALIBRATION_BATCH_TOKENS = 2048
"""As in the llm-compressor backend."""
LOGITS_BATCH_BYTES = 32 * MIB
"""As in the evaluate recipe: a batch holds as many windows as their float32 logits fit in here, and one at least."""
CUDA_CONTEXT_BYTES = 600 * MIB
"""Device memory that a process takes for the driver's context and the libraries' workspaces."""


def import_ram_bytes() -> int:
    """Returns the peak of an import: files are copied in pieces, and no tensor is loaded."""
    return BASE_BYTES[JobType.IMPORT] + COPY_BYTES


def quantize_ram_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """Returns the peak of a quantize job on the CPU.

    The whole model in float32, the pages of the files that it was read from, and the calibration.
    """
    loaded = base.num_parameters * FLOAT32_BYTES
    return BASE_BYTES[JobType.QUANTIZE] + loaded + base.weights_bytes + calibration_bytes(base, spec)


def quantize_vram_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """Returns the peak on the device: llm-compressor moves one layer at a time there, in float32, and its calibration with it."""
    largest = max((sum(map(prod, layer.values())) for layer in base.layers.values()), default=0)
    outside = base.vocabulary * base.hidden_size
    return CUDA_CONTEXT_BYTES + FLOAT32_BYTES * max(largest, outside) + working_bytes(base, spec)


def calibration_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """Returns what sequential calibration holds beside the model.

    The hidden states of every sample between two layers (num_samples x length x hidden), and what works on them.
    """
    num_tokens = spec.calibration.num_samples * spec.calibration.length_tokens
    return num_tokens * base.hidden_size * FLOAT32_BYTES + working_bytes(base, spec)


def working_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """Returns what one layer's calibration works in: Hessians while a batch runs, then their solution. No logits: llm-compressor
    leaves the output layer out.

    A Hessian is (in x in) float32, one for each Linear of the layer (GPTQ, arXiv:2210.17323, section 3). While a module is
    solved, its Hessian has a copy and its inverse beside it, and its weight is there three times: working copy, rounded, errors.
    """
    length = spec.calibration.length_tokens
    batch_tokens = max(length, CALIBRATION_BATCH_TOKENS // length * length)
    hessians = solving = widest = 0
    for layer in base.layers.values():
        shapes = [shape for name, shape in layer.items() if not is_named(name, spec.ignore)]
        hessians = max(hessians, sum(num_columns**2 for _, num_columns in shapes))
        solving = max(solving, max((3 * prod(shape) + 2 * shape[1] ** 2 for shape in shapes), default=0))
        widest = max(widest, sum(num_rows for num_rows, _ in layer.values()))
    attention = batch_tokens * length * base.num_heads
    forward = hessians + batch_tokens * (widest + 2 * base.hidden_size) + attention
    return FLOAT32_BYTES * max(forward, hessians + solving)


def evaluate_ram_bytes(subject: CheckpointFacts, reference: CheckpointFacts | None, spec: EvaluateSpec) -> int:
    """Returns the peak of an evaluate job: both models in float32, the pages of their files, and one batch's scoring.

    Scoring holds the batch's logits and their log-probabilities; with a reference those of both models, and three more of
    that size while KL is taken: exp(P), log P - log Q, and their product.
    """
    models = [subject] if reference is None else [subject, reference]
    loaded = sum(FLOAT32_BYTES * model.num_parameters + model.weights_bytes for model in models)
    window_bytes = FLOAT32_BYTES * spec.window_tokens * subject.vocabulary
    batch_bytes = max(window_bytes, LOGITS_BATCH_BYTES // max(1, window_bytes) * window_bytes)
    num_copies = 2 if reference is None else 5
    return BASE_BYTES[JobType.EVALUATE] + loaded + num_copies * batch_bytes


def deploy_ram_bytes(subject: CheckpointFacts, spec: DeploySpec) -> int:
    """Returns what all replicas hold together: each an engine, the weights as they are stored, and its KV cache."""
    return spec.replicas * (BASE_BYTES[JobType.DEPLOY] + subject.weights_bytes + spec.engine.kv_cache_bytes)


def deploy_vram_bytes(subject: CheckpointFacts, spec: DeploySpec) -> int:
    """Returns the device memory of all replicas together: weights as they are stored, the KV cache, and a batch's logits."""
    logits = FLOAT32_BYTES * spec.engine.max_num_seqs * subject.vocabulary
    return spec.replicas * (CUDA_CONTEXT_BYTES + subject.weights_bytes + spec.engine.kv_cache_bytes + logits)
