"""What a GGUF file of each scheme holds.

Which type each tensor of a mixed scheme gets is llama.cpp's rule: https://github.com/ggml-org/llama.cpp, src/llama-quant.cpp
"""

from __future__ import annotations

from quantry_core.gguf import TENSOR_TYPES, TensorType
from quantry_core.methods import Scheme

_TYPES = {one.name: one for one in TENSOR_TYPES.values()}

MATRIX_TYPES: dict[Scheme, tuple[TensorType, ...]] = {
    Scheme.Q8_0: (_TYPES["Q8_0"],),
    Scheme.Q5_K_M: (_TYPES["Q5_K"], _TYPES["Q6_K"]),
    Scheme.Q4_K_M: (_TYPES["Q4_K"], _TYPES["Q6_K"]),
}
"""What matrices of a file are stored as, the type of most of them first: the M in K_M is Q6_K for half of the layers' most delicate
matrices. Vectors are F32."""
FILE_TYPES: dict[Scheme, int] = {Scheme.Q8_0: 7, Scheme.Q4_K_M: 15, Scheme.Q5_K_M: 17}
"""general.file_type, as llama.cpp numbers it."""


def block_weights(scheme: Scheme) -> int:
    """Returns how many weights one block of most of a file's matrices has."""
    return MATRIX_TYPES[scheme][0].block_elements
