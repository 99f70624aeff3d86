"""Check ``tensors``: names, shapes and dtypes tell the same story as config.json, quantization_config and the master.

Each of the master's tensors is there: the same bytes, or, for a module that is quantized, exactly its parts. Nothing else is
there: an output layer that was tied and is now stored a second time is found here.

Two kinds of checkpoint hold other bytes rightly. SmoothQuant and AWQ divide channels of what goes before a module by what they
multiply its weights with: vectors (norms, biases) may differ in value, not in shape or dtype, and are judged by the logits
(check ``reader``). GGUF stores vectors as float32: they have the master's values.
"""

from __future__ import annotations

import re

import numpy as np

from quantry_core.families import family_of, is_tied
from quantry_core.gate import GateCheck
from quantry_core.linears import is_embedding
from quantry_core.methods import Method
from quantry_core.safetensors import TensorInfo
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.formats.stored import StoredCheckpoint, part_problems
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.numerics.tensors import TensorReader

COMPUTED_BUFFERS = re.compile(r".*rotary_emb\.inv_freq")
"""Old checkpoints store them; models compute them."""
KV_SCALE = re.compile(r".*\.(k|v)_scale")
SMOOTHING_METHODS = frozenset({Method.SMOOTHQUANT, Method.AWQ})
CONVERTED_DTYPES = frozenset({"F32", "F16", "BF16"})


def check_tensors(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if the checkpoint cannot be read at all."""
    stored = given.stored
    problems = [*stored.problems, *_names(given, stored)]
    for module in stored.modules.values():
        # A part that is missing has been named.
        problems += [problem for problem in part_problems(module, stored.info) if not problem.endswith("is missing")]
    problems += _plain_tensors(given, stored)
    metrics = {
        "num_tensors": len(stored.info.tensors),
        "num_quantized_modules": len(stored.modules),
        "num_plain_modules": len(given.plan.kept),
    }
    return evidence(GateCheck.TENSORS, problems, metrics)


def _names(given: GateInput, stored: StoredCheckpoint) -> list[str]:
    master = given.master
    parts = {name: part for module in stored.modules.values() for name, part in module.parts().items()}
    plain = {name for name in master.tensors if name.removesuffix(".weight") not in stored.modules}
    required = {name for name, part in parts.items() if not part.is_optional} | plain
    required -= {name for name in plain if COMPUTED_BUFFERS.fullmatch(name)}
    if is_tied(master.config):
        required -= {f"{name}.weight" for name in family_of(master.config).output_layers}
    allowed = set(parts) | plain
    present = set(stored.info.tensors)
    if given.plan.has_kv_scales:
        # Whether they are good ones is another check's question.
        present = {name for name in present if not KV_SCALE.fullmatch(name)}
    missing, extra = sorted(required - present), sorted(present - allowed)
    return [f"tensor {name} is missing" for name in missing] + [f"tensor {name} does not belong here" for name in extra]


def _plain_tensors(given: GateInput, stored: StoredCheckpoint) -> list[str]:
    """What is not quantized must be the master's, byte for byte but for the two exceptions, and finite."""
    problems = []
    for name, tensor in sorted(stored.info.tensors.items()):
        original = given.master.tensors.get(name)
        if original is None or name.removesuffix(".weight") in stored.modules:
            continue
        problems += _plain_problems(name, tensor, original, given, stored)
        if stored.reader.has_nonfinite(name):
            problems.append(f"{name} holds infinities or NaN")
    return problems


def _plain_problems(name: str, tensor: TensorInfo, original: TensorInfo, given: GateInput, stored: StoredCheckpoint) -> list[str]:
    if stored.is_converted:
        return _converted_problems(name, tensor, original, given.master_reader, stored.reader)
    if (tensor.dtype, tensor.shape) != (original.dtype, original.shape):
        return [f"{name} is {tensor.dtype} {list(tensor.shape)}, in the master {original.dtype} {list(original.shape)}"]
    if _may_be_smoothed(name, given) or stored.reader.is_same_as(name, given.master_reader):
        return []
    return [f"{name} is not quantized and does not hold the master's bytes"]


def _may_be_smoothed(name: str, given: GateInput) -> bool:
    """A module that stays at 16 bits may take a share of its neighbour's channels too; an embedding never does."""
    return given.plan.method.method in SMOOTHING_METHODS and not is_embedding(name.removesuffix(".weight"))


def _converted_problems(
    name: str, tensor: TensorInfo, original: TensorInfo, master_reader: TensorReader, reader: TensorReader
) -> list[str]:
    if tensor.dtype not in CONVERTED_DTYPES or tensor.shape != original.shape:
        return [f"{name} is {tensor.dtype} {list(tensor.shape)}, in the master {original.dtype} {list(original.shape)}"]
    if np.array_equal(reader.floats(name), master_reader.floats(name)):
        return []
    return [f"{name} is not quantized and does not hold the master's values"]
