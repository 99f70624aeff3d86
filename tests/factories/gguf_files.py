"""A GGUF file of a few bytes, written by hand after the format's description in ggml's docs/gguf.md."""

from __future__ import annotations

import struct

ALIGNMENT = 32
F32 = 0


def gguf_bytes(num_tensors: int = 1) -> bytes:
    """Returns a well-formed file with so many tensors of one number each."""
    key_values = _string("general.architecture") + struct.pack("<I", 8) + _string("llama")
    tensors = b"".join(_string(f"t{number}") + struct.pack("<IQIQ", 1, 1, F32, number * ALIGNMENT) for number in range(num_tensors))
    header = b"GGUF" + struct.pack("<IQQ", 3, num_tensors, 1) + key_values + tensors
    return header + bytes(-len(header) % ALIGNMENT) + bytes(num_tensors * ALIGNMENT)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
