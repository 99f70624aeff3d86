"""Memory of models that are no longer held."""

from __future__ import annotations

import ctypes
import gc


def release_memory() -> None:
    """Gives the memory of what is no longer held back to the system, so that the next model does not come on top of the last.

    What compressed-tensors wraps holds itself in a circle. And glibc keeps freed blocks below 32 MiB, which most weights are
    (mallopt(3), M_MMAP_THRESHOLD); a C library without malloc_trim(3) is left to itself.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
