"""What a file of a GGUF scheme holds. Told from headers alone; no library is imported.

Which type each tensor of a mixed scheme gets is llama.cpp's rule: https://github.com/ggml-org/llama.cpp, src/llama-quant.cpp
"""

from __future__ import annotations

from math import prod

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.gguf import GgufInfo
from quantry_core.methods import Scheme

MATRIX_TYPES: dict[Scheme, tuple[str, ...]] = {
    Scheme.Q8_0: ("Q8_0",),
    Scheme.Q5_K_M: ("Q5_K", "Q6_K"),
    Scheme.Q4_K_M: ("Q4_K", "Q6_K"),
}
"""What matrices of a file are stored as, the type of most of them first. Vectors are F32."""
FILE_TYPES: dict[Scheme, int] = {Scheme.Q8_0: 7, Scheme.Q4_K_M: 15, Scheme.Q5_K_M: 17}
"""general.file_type, as llama.cpp numbers it."""


def check_exported(info: GgufInfo, scheme: Scheme, master: CheckpointInfo) -> None:
    """Raises RuntimeError unless the file is of the scheme that was asked for and holds as many weights as the master."""
    file_type = info.key_values.get("general.file_type")
    if file_type != FILE_TYPES[scheme]:
        raise RuntimeError(f"auto-round wrote a GGUF file of type {file_type} where {scheme} is {FILE_TYPES[scheme]}")
    matrices = {name: tensor for name, tensor in info.tensors.items() if len(tensor.shape) > 1}
    types = {tensor.type_name for tensor in matrices.values()}
    if MATRIX_TYPES[scheme][0] not in types or not types <= set(MATRIX_TYPES[scheme]):
        raise RuntimeError(f"auto-round wrote matrices of {', '.join(sorted(types))} into a {scheme} file")
    num_written = sum(tensor.num_elements for tensor in matrices.values())
    num_expected = sum(prod(tensor.shape) for tensor in master.tensors.values() if len(tensor.shape) > 1)
    if num_written != num_expected:
        raise RuntimeError(f"auto-round wrote {num_written} weights of matrices; the master has {num_expected}")
