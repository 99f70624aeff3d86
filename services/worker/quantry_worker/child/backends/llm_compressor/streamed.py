"""Methods that look at weights alone: tensor after tensor goes from the master's shards into those of the version.

No model is built and never more than one shard is in memory, whatever the checkpoint's size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from compressed_tensors.base import COMPRESSION_VERSION_NAME, QUANTIZATION_METHOD_NAME
from compressed_tensors.compressors import compress_module
from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme, QuantizationStatus, QuantizationStrategy
from llmcompressor.entrypoints.model_free.lifecycle import initialize_quantized_linear
from llmcompressor.modifiers.quantization.calibration import (
    apply_calibration_status,
    freeze_module_quantization,
    initialize_observer,
    observe,
    update_qparams,
)
from llmcompressor.observers import FusionHandler

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.errors import InvalidInput
from quantry_core.families import family_of, is_tied
from quantry_core.methods import Format
from quantry_worker.child.backends.layers import LayerCount, layer_of
from quantry_worker.child.backends.llm_compressor.allocation import return_freed_memory
from quantry_worker.child.backends.llm_compressor.saving import read_tensor
from quantry_worker.child.backends.llm_compressor.schemes import LINEAR_CLASS, Groups, config_groups
from quantry_worker.child.backends.llm_compressor.shards import ShardWriter
from quantry_worker.child.backends.master_model import modules_left_alone, weights_dtype
from quantry_worker.child.backends.shards import write_config
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport
from quantry_worker.child.numerics.tensors import TensorReader
from quantry_worker.child.plan import QuantizationPlan, fused_groups, names_in_words
from quantry_worker.child.toolchain import toolchain

MIXED_PRECISION = "mixed-precision"
"""compressed-tensors' name for a checkpoint whose groups are stored in several formats."""

Parts = dict[str, torch.Tensor]
"""What is stored of a module: tensors by their full names."""


def quantize_streamed(order: QuantizationOrder) -> QuantizationReport:
    """Writes the quantized version; raises InvalidInput if a module is to have a scheme that is fitted to text."""
    _check_data_free(order.plan)
    return_freed_memory()
    torch.set_num_threads(order.num_threads)
    groups = config_groups(order.plan)
    _Stream(order, groups).run()
    write_config(order.output_dir, order.master, _quantization_config(groups, modules_left_alone(order.plan, order.master.config)))
    return QuantizationReport(
        toolchain=toolchain("torch", "llmcompressor", "compressed-tensors"),
        settings={"compute_dtype": "float32", "num_threads": order.num_threads},
    )


def compressed(weights: Mapping[str, torch.Tensor], scheme: QuantizationScheme, scale_dtype: torch.dtype) -> Parts:
    """Returns what is stored of modules that engines join, by their weights, shape [out_features, in_features].

    Formats with a scale for the scales share that one among all of them. Scales of float32 are stored as ``scale_dtype``.
    """
    modules = {name: initialize_quantized_linear(weight.float(), scheme, "cpu") for name, weight in weights.items()}
    for module in modules.values():
        initialize_observer(module, "weight")
        apply_calibration_status(module)
    if scheme.weights.strategy == QuantizationStrategy.TENSOR_GROUP:
        FusionHandler.fuse([(module.weight_observer, module) for module in modules.values()])
    observe(modules.values(), base_name="weight")
    update_qparams(modules.values(), base_name="weight")
    parts: Parts = {}
    for name, module in modules.items():
        freeze_module_quantization(module)
        compress_module(module)
        parts |= module.state_dict(prefix=f"{name}.")
    return {name: _stored(name, tensor, scale_dtype) for name, tensor in parts.items()}


class _Stream:
    """One pass over a master's tensors, in the order in which they lie in its files."""

    def __init__(self, order: QuantizationOrder, groups: Groups) -> None:
        self._order = order
        self._master = order.master
        self._reader = TensorReader(DirectoryCheckpoint(order.master_dir), order.master)
        self._writer = ShardWriter(order.output_dir)
        self._scale_dtype = weights_dtype(order.master)
        by_target = {target: scheme for scheme in groups.values() for target in scheme.targets}
        self._schemes = {module: by_target[LINEAR_CLASS if len(groups) == 1 else module] for module in order.plan.targets}
        self._joined = {module: group for group in fused_groups(order.plan.targets) for module in group}
        self._tied = family_of(order.master.config).output_layers if is_tied(order.master.config) else ()
        self._done: set[str] = set()
        self._layers = LayerCount(self._schemes)

    def run(self) -> None:
        tensors = self._master.tensors
        files = self._master.tensor_files
        previous = None
        for name in sorted(tensors, key=lambda name: (files[name], tensors[name].begin)):
            if files[name] != previous:
                self._writer.end_shard()
                previous = files[name]
            module = name.removesuffix(".weight")
            if module in self._tied and module not in self._schemes:
                # A copy of the embedding that is never read.
                continue
            if module not in self._schemes:
                self._writer.add({name: read_tensor(self._reader, self._master, name)})
            elif module not in self._done:
                self._quantize(module)
        self._writer.finish()

    def _quantize(self, module: str) -> None:
        scheme = self._schemes[module]
        is_joined = scheme.weights.strategy == QuantizationStrategy.TENSOR_GROUP
        members = self._joined.get(module, [module]) if is_joined else [module]
        weights = {name: read_tensor(self._reader, self._master, f"{name}.weight") for name in members}
        self._writer.add(compressed(weights, scheme, self._scale_dtype))
        self._done.update(members)
        self._order.on_progress(len(self._done) / len(self._schemes), layer_of(module), self._layers.finish(members))


def _check_data_free(plan: QuantizationPlan) -> None:
    fitted = [name for name, target in plan.targets.items() if plan.method.needs_calibration(target.weights.scheme)]
    if fitted:
        schemes = ", ".join(sorted({plan.targets[name].weights.scheme for name in fitted}))
        raise InvalidInput(
            f"overrides: scheme {schemes} is fitted to text, and scheme {plan.scheme} of this job is not, so that no text was read "
            f"(for {names_in_words(fitted)}); turn them round: make {schemes} the job's scheme"
        )


def _stored(name: str, tensor: torch.Tensor, scale_dtype: torch.dtype) -> torch.Tensor:
    is_scale = name.endswith(".weight_scale") and tensor.dtype is torch.float32
    return (tensor.to(scale_dtype) if is_scale else tensor).detach().contiguous()


def _quantization_config(groups: Groups, ignore: list[str]) -> dict[str, object]:
    formats = {scheme.format.value for scheme in groups.values()}
    config = QuantizationConfig(
        config_groups=dict(groups),
        ignore=ignore,
        format=formats.pop() if len(formats) == 1 else MIXED_PRECISION,
        quantization_status=QuantizationStatus.COMPRESSED,
    )
    return {
        COMPRESSION_VERSION_NAME: toolchain("compressed-tensors")["compressed-tensors"],
        QUANTIZATION_METHOD_NAME: Format.COMPRESSED_TENSORS,
        **config.model_dump(exclude={QUANTIZATION_METHOD_NAME}),
    }
