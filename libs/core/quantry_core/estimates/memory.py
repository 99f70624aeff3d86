"""Peak memory of a job's child process, from what the recipes in quantry_worker.child hold at once.

Recipes load weights as float32 (4 bytes), whatever they are stored in. BASE_BYTES is what the process holds before any weight,
METHOD_BASE_BYTES that of quantize jobs.
"""

from __future__ import annotations

from math import prod

from quantry_core.estimates.facts import CheckpointFacts
from quantry_core.jobs import DeploySpec, EvaluateSpec, JobType, QuantizeSpec, chosen
from quantry_core.linears import is_named
from quantry_core.methods import Backend, CostClass, Format

MIB = 1024**2
FLOAT32_BYTES = 4
BASE_BYTES: dict[JobType, int] = {
    # Python, pydantic and the safetensors rules; no torch.
    JobType.IMPORT: 33 * MIB,
    # torch and transformers.
    JobType.EVALUATE: 450 * MIB,
    # vLLM: the API server and the engine's process together.
    JobType.DEPLOY: 1500 * MIB,
}
METHOD_BASE_BYTES: dict[Backend, int] = {
    # torch, transformers, llm-compressor and datasets.
    Backend.LLM_COMPRESSOR: 600 * MIB,
    Backend.AUTO_ROUND: 600 * MIB,
    Backend.GPTQMODEL: 700 * MIB,
    Backend.HQQ: 600 * MIB,
    Backend.BITSANDBYTES: 540 * MIB,
    Backend.EETQ: 540 * MIB,
}
"""Before any weight, as BASE_BYTES: what is imported for a method differs from library to library."""
READER_BYTES: dict[Format, int] = {Format.GGUF: 240 * MIB}
"""What the library holds more that the gate reads a format with."""
NUM_LOADED: dict[Format, int] = {Format.GGUF: 2}
"""Float32 copies of the weights while the gate loads a format; one for the others. transformers makes a GGUF file's tensors before it
fills the model with them."""
COPY_BYTES = 2 * MIB
CALIBRATION_BATCH_TOKENS = 2048
"""As in the llm-compressor backend."""
LOGITS_BATCH_BYTES = 32 * MIB
"""As in the evaluate recipe: a batch holds as many windows as their float32 logits fit in here, and one at least."""
NUM_LOGITS_WITH_REFERENCE = 5
"""log P, log Q, exp P, their difference and the product."""
PROBE_TOKENS = 128
"""About as many as the gate's probe has."""
NUM_EXTREMES, EXTREMES_TOKENS = 10, 64
"""Answers to odd inputs that are kept, both models' together, and the tokens whose logits each has."""
STREAMING_BACKENDS = frozenset({Backend.LLM_COMPRESSOR, Backend.HQQ})
"""Their data-free methods read and write tensor by tensor; others hold the whole model."""
NUM_STREAM_COPIES = 6
"""Of the largest tensor, float32: as read, scaled, rounded, packed, and what lies between."""
CUDA_CONTEXT_BYTES = 600 * MIB
"""Device memory that a process takes for the driver's context and the libraries' workspaces."""


def import_ram_bytes() -> int:
    """Returns the peak of an import: files are copied in pieces, and no tensor is loaded."""
    return BASE_BYTES[JobType.IMPORT] + COPY_BYTES


def quantize_ram_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """Returns the peak of a quantize job on the CPU: of making the version, or of the gate that looks at it afterwards."""
    backend = chosen(spec).info.backend
    return METHOD_BASE_BYTES[backend] + max(_making_bytes(base, spec), _reader_bytes(base, spec), _quality_bytes(base, spec))


def _making_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """What a method holds. Data-free ones go through the tensors one by one; the others hold the whole model in float32 and
    the pages of the files that it was read from, and those that train also what they train."""
    choice = chosen(spec)
    loaded = base.num_parameters * FLOAT32_BYTES + base.weights_bytes
    if spec.calibration is None:
        is_streamed = choice.info.backend in STREAMING_BACKENDS
        largest = max((tensor.num_elements for tensor in base.tensors.values()), default=0)
        return NUM_STREAM_COPIES * largest * FLOAT32_BYTES if is_streamed else loaded
    needed = loaded + calibration_bytes(base, spec)
    if choice.cost is CostClass.TUNED:
        # Signed gradients of one layer, its rounding offsets, and the same samples' outputs before and after it.
        num_tokens = spec.calibration.num_samples * spec.calibration.length_tokens
        needed += FLOAT32_BYTES * (4 * _largest_layer(base) + num_tokens * base.hidden_size)
    return needed


def _reader_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """What the gate's reader holds, with quality or without: one model, and three sets of log-probabilities of a short probe."""
    return _loaded_bytes(base, spec) + 3 * FLOAT32_BYTES * PROBE_TOKENS * base.vocabulary


def _loaded_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """What the gate holds of models: one at a time in float32, master or version, and the pages of the file it was read from."""
    form = chosen(spec).info.format
    return READER_BYTES.get(form, 0) + NUM_LOADED.get(form, 1) * FLOAT32_BYTES * base.num_parameters + base.weights_bytes


def _quality_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """What the gate holds that compares the version with its master: one model and a batch's logits. The master is given up before
    the version is loaded; what it said is on disk, but for its logits on odd inputs."""
    quality = spec.quality
    if quality is None:
        return 0
    copies = NUM_LOGITS_WITH_REFERENCE * _batch_bytes(base, quality.window_tokens)
    answers = NUM_EXTREMES * FLOAT32_BYTES * EXTREMES_TOKENS * base.vocabulary if quality.extremes else 0
    return _loaded_bytes(base, spec) + copies + answers


def quantize_vram_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """Returns the peak on the device: llm-compressor moves one layer at a time there, in float32, and its calibration with it."""
    outside = base.vocabulary * base.hidden_size
    return CUDA_CONTEXT_BYTES + FLOAT32_BYTES * max(_largest_layer(base), outside) + working_bytes(base, spec)


def _largest_layer(base: CheckpointFacts) -> int:
    return max((sum(map(prod, layer.values())) for layer in base.layers.values()), default=0)


def calibration_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """Returns what sequential calibration holds beside the model; 0 for a method that needs no text.

    The hidden states of every sample between two layers (num_samples x length x hidden), and what works on them.
    """
    if spec.calibration is None:
        return 0
    num_tokens = spec.calibration.num_samples * spec.calibration.length_tokens
    return num_tokens * base.hidden_size * FLOAT32_BYTES + working_bytes(base, spec)


def working_bytes(base: CheckpointFacts, spec: QuantizeSpec) -> int:
    """Returns what one layer's calibration works in: Hessians while a batch runs, then their solution. No logits: llm-compressor
    leaves the output layer out.

    A Hessian is (in x in) float32, one for each Linear of the layer (GPTQ, arXiv:2210.17323, section 3). While a module is
    solved, its Hessian has a copy and its inverse beside it, and its weight is there three times: working copy, rounded, errors.
    """
    if spec.calibration is None:
        return 0
    length = spec.calibration.length_tokens
    batch_tokens = max(length, CALIBRATION_BATCH_TOKENS // length * length)
    hessians = solving = widest = 0
    for layer in base.layers.values():
        shapes = [shape for name, shape in layer.items() if not is_named(name, spec.kept_patterns)]
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
    num_copies = 2 if reference is None else NUM_LOGITS_WITH_REFERENCE
    return BASE_BYTES[JobType.EVALUATE] + loaded + num_copies * _batch_bytes(subject, spec.window_tokens)


def _batch_bytes(model: CheckpointFacts, window_tokens: int) -> int:
    """The logits of one batch: as many windows as fit, and one at least."""
    window_bytes = FLOAT32_BYTES * window_tokens * model.vocabulary
    return max(window_bytes, LOGITS_BATCH_BYTES // max(1, window_bytes) * window_bytes)


def deploy_ram_bytes(subject: CheckpointFacts, spec: DeploySpec) -> int:
    """Returns what all replicas hold together: each an engine, the weights as they are stored, and its KV cache."""
    return spec.replicas * (BASE_BYTES[JobType.DEPLOY] + subject.weights_bytes + spec.engine.kv_cache_bytes)


def deploy_vram_bytes(subject: CheckpointFacts, spec: DeploySpec) -> int:
    """Returns the device memory of all replicas together: weights as they are stored, the KV cache, and a batch's logits."""
    logits = FLOAT32_BYTES * spec.engine.max_num_seqs * subject.vocabulary
    return spec.replicas * (CUDA_CONTEXT_BYTES + subject.weights_bytes + spec.engine.kv_cache_bytes + logits)
