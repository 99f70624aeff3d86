"""Check 1: the files are whole, and tensors, config.json and quantization_config tell the same story as the master.

Every file is hashed, every safetensors header parsed. Then each of the master's tensors must be there: the same bytes, or,
for a module that quantization_config targets, packed with exactly its parts. Nothing else may be there: an output layer that
was tied and is now stored a second time is found here. config.json is the master's own, with quantization_config added.
"""

from __future__ import annotations

import json
import re
from typing import Any

from quantry_blobs.directory import hash_directory
from quantry_core.checkpoints import CheckpointInfo, inspect_checkpoint
from quantry_core.linears import Shape, linear_modules
from quantry_core.versions import EvidenceDraft, manifest_digest
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.gate.packing import PACKED_PARTS, packed_columns
from quantry_worker.child.gate.stated import StatedQuantization, read_quantization
from quantry_worker.child.numerics.tensors import TensorReader
from quantry_worker.child.plan import OUTPUT_LAYER, carried_files

NAME = "integrity"
CONFIG_ADDED = "quantization_config"
COMPUTED_BUFFERS = re.compile(r".*rotary_emb\.inv_freq")
"""Old checkpoints store them; models compute them."""


def check_integrity(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if the checkpoint cannot be read at all."""
    manifest = hash_directory(given.output_dir)
    info = inspect_checkpoint(given.output)
    stated = read_quantization(info)
    linears = linear_modules(given.master.tensors)
    covered = {name: shape for name, shape in linears.items() if stated.covers(name)}
    problems = [
        *_files_missing(given),
        *_config_changes(given.master, info),
        *_tensor_names(given.master, info, covered),
        *_changed_tensors(given, info, covered),
    ]
    for module, shape in covered.items():
        problems += packed_problems(module, shape, info, stated, given.master)
    problems += _stated_shapes(TensorReader(given.output, info), info, covered)
    metrics = {
        "manifest_digest": manifest_digest(manifest),
        "num_files": len(manifest),
        "num_tensors": len(info.tensors),
        "num_packed_modules": len(covered),
        "num_plain_modules": len(linears) - len(covered),
        "size_bytes": sum(file.size_bytes for file in manifest),
    }
    return evidence(NAME, problems, metrics)


def packed_problems(module: str, shape: Shape, info: CheckpointInfo, stated: StatedQuantization, master: CheckpointInfo) -> list[str]:
    """Returns what is wrong with the parts of one packed module, judged by their headers."""
    out_features, in_features = shape
    if in_features % stated.group_size:
        return [f"{module}: {in_features} inputs are no multiple of the group size {stated.group_size}"]
    expected = {
        "weight_packed": ({"I32"}, (out_features, packed_columns(in_features, stated.bits))),
        "weight_scale": ({master.tensors[f"{module}.weight"].dtype}, (out_features, in_features // stated.group_size)),
        "weight_shape": ({"I32", "I64"}, (2,)),
    }
    problems = []
    for part, (dtypes, part_shape) in expected.items():
        tensor = info.tensors.get(f"{module}.{part}")
        if tensor is not None and (tensor.dtype not in dtypes or tensor.shape != part_shape):
            problems.append(
                f"{module}.{part} is {tensor.dtype} {list(tensor.shape)}, expected is {'/'.join(sorted(dtypes))} {list(part_shape)}"
            )
    return problems


def _files_missing(given: GateInput) -> list[str]:
    """What a tokenizer or an engine needs and the master has must have come along unchanged."""
    problems = []
    output, original = given.output, given.original
    ours, theirs = output.files(), original.files()
    for name in carried_files(theirs):
        if name not in ours:
            problems.append(f"{name} of the master is missing")
        elif ours[name] != theirs[name] or output.read(name, 0, ours[name]) != original.read(name, 0, theirs[name]):
            problems.append(f"{name} is not the master's")
    return problems


def _config_changes(master: CheckpointInfo, info: CheckpointInfo) -> list[str]:
    """The same keys with the same values, told apart as JSON does: an absent key is no null, and 1 is not true."""
    ours, theirs = _as_json(info.config), _as_json(master.config)
    names = sorted(name for name in ours.keys() | theirs.keys() if name != CONFIG_ADDED and ours.get(name) != theirs.get(name))
    return [f"config.json: {name} is {ours.get(name, 'absent')}, in the master {theirs.get(name, 'absent')}" for name in names]


def _as_json(config: dict[str, Any]) -> dict[str, str]:
    return {name: json.dumps(value, sort_keys=True) for name, value in config.items()}


def _tensor_names(master: CheckpointInfo, info: CheckpointInfo, covered: dict[str, Shape]) -> list[str]:
    expected = {f"{module}.{part}" for module in covered for part in PACKED_PARTS}
    expected |= {name for name in master.tensors if name.removesuffix(".weight") not in covered}
    may_be_absent = {name for name in expected if COMPUTED_BUFFERS.fullmatch(name)}
    if master.config.get("tie_word_embeddings"):
        may_be_absent.add(f"{OUTPUT_LAYER}.weight")
    missing = sorted(expected - set(info.tensors) - may_be_absent)
    extra = sorted(set(info.tensors) - expected)
    return [f"tensor {name} is missing" for name in missing] + [f"tensor {name} does not belong here" for name in extra]


def _changed_tensors(given: GateInput, info: CheckpointInfo, covered: dict[str, Shape]) -> list[str]:
    """What is not quantized must be the master's, byte for byte, and finite."""
    reader, master_reader = TensorReader(given.output, info), TensorReader(given.original, given.master)
    problems = []
    for name, tensor in sorted(info.tensors.items()):
        original = given.master.tensors.get(name)
        if original is None or name.removesuffix(".weight") in covered:
            continue
        if (tensor.dtype, tensor.shape) != (original.dtype, original.shape):
            problems.append(f"{name} is {tensor.dtype} {list(tensor.shape)}, in the master {original.dtype} {list(original.shape)}")
        elif not reader.is_same_as(name, master_reader):
            problems.append(f"{name} is not quantized and does not hold the master's bytes")
        if reader.has_nonfinite(name):
            problems.append(f"{name} holds infinities or NaN")
    return problems


def _stated_shapes(reader: TensorReader, info: CheckpointInfo, covered: dict[str, Shape]) -> list[str]:
    """weight_shape is data, not a header: read it."""
    problems = []
    for module, shape in covered.items():
        name = f"{module}.weight_shape"
        tensor = info.tensors.get(name)
        if tensor is None or tensor.dtype not in {"I32", "I64"}:
            continue
        stated_shape = tuple(int(side) for side in reader.integers(name))
        if stated_shape != shape:
            problems.append(f"{name} says {list(stated_shape)}, the master's weight is {list(shape)}")
    return problems
