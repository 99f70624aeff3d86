"""Bytes of the version that a job makes, exactly, from shapes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from math import ceil

from quantry_core.estimates.facts import PACKED_SUFFIX, SCALE_SUFFIX, SHAPE_SUFFIX, WORD_BITS, CheckpointFacts, StoredTensor
from quantry_core.jobs import QuantizeSpec
from quantry_core.linears import is_named
from quantry_core.methods import check_method
from quantry_core.safetensors import DTYPE_BITS, LENGTH_BYTES

HEADER_ALIGNMENT_BYTES = 8
METADATA = {"format": "pt"}
"""What transformers writes into every header."""


def quantized_facts(base: CheckpointFacts, spec: QuantizeSpec) -> CheckpointFacts:
    """Returns the facts of the version that a quantize job will make of its base.

    Each Linear that ``ignore`` does not name, of shape (out, in), becomes what compressed-tensors stores in the format
    pack-quantized: ``weight_packed`` I32 (out, ceil(in * bits / 32)), ``weight_scale`` in the weight's dtype
    (out, ceil(in / group size)), and ``weight_shape`` I64 (2,). The schemes are symmetric, so there are no zero points. Every
    other tensor stays as it is. Raises UnknownMethod, UnknownScheme or InvalidInput for a method that is none.
    """
    method, scheme, group_size = check_method(spec.method, spec.scheme, spec.group_size)
    bits = method.schemes[scheme]
    tensors = dict(base.tensors)
    for module, (num_rows, num_columns) in base.linears.items():
        weight = tensors.get(f"{module}.weight")
        if weight is None or is_named(module, spec.ignore):
            continue
        del tensors[f"{module}.weight"]
        tensors[module + PACKED_SUFFIX] = StoredTensor("I32", (num_rows, ceil(num_columns * bits / WORD_BITS)))
        tensors[module + SCALE_SUFFIX] = StoredTensor(weight.dtype, (num_rows, ceil(num_columns / group_size)))
        tensors[module + SHAPE_SUFFIX] = StoredTensor("I64", (2,))
    return replace(base, tensors=tensors, weights_bytes=safetensors_bytes(tensors), bits=bits)


def safetensors_bytes(tensors: Mapping[str, StoredTensor]) -> int:
    """Returns the size of one safetensors file with these tensors.

    As the library writes it: 8 bytes, compact JSON padded with spaces to a multiple of 8, then the tensors, those with the
    widest elements first and by name among them. https://huggingface.co/docs/safetensors
    """
    header: dict[str, object] = {"__metadata__": METADATA}
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-DTYPE_BITS[item[1].dtype], item[0])):
        end = position + tensor.size_bytes
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text_bytes = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return LENGTH_BYTES + ceil(text_bytes / HEADER_ALIGNMENT_BYTES) * HEADER_ALIGNMENT_BYTES + position
