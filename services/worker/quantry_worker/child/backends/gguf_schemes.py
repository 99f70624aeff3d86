"""Whether an exported GGUF file is what was asked for. Told from headers alone; no library is imported."""

from __future__ import annotations

from math import prod

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.gguf import GgufInfo
from quantry_core.gguf_schemes import FILE_TYPES, MATRIX_TYPES
from quantry_core.methods import Scheme


def check_exported(info: GgufInfo, scheme: Scheme, master: CheckpointInfo) -> None:
    """Raises RuntimeError unless the file is of the scheme that was asked for and holds as many weights as the master."""
    file_type = info.key_values.get("general.file_type")
    if file_type != FILE_TYPES[scheme]:
        raise RuntimeError(f"auto-round wrote a GGUF file of type {file_type} where {scheme} is {FILE_TYPES[scheme]}")
    matrices = {name: tensor for name, tensor in info.tensors.items() if len(tensor.shape) > 1}
    types = {tensor.type_name for tensor in matrices.values()}
    mostly, *_ = known = [one.name for one in MATRIX_TYPES[scheme]]
    if mostly not in types or not types <= set(known):
        raise RuntimeError(f"auto-round wrote matrices of {', '.join(sorted(types))} into a {scheme} file")
    num_written = sum(tensor.num_elements for tensor in matrices.values())
    num_expected = sum(prod(tensor.shape) for tensor in master.tensors.values() if len(tensor.shape) > 1)
    if num_written != num_expected:
        raise RuntimeError(f"auto-round wrote {num_written} weights of matrices; the master has {num_expected}")
