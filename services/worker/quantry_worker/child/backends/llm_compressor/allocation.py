"""Memory of freed tensors goes back to the system at once, not into a heap that grows with every shard."""

from __future__ import annotations

import ctypes

M_MMAP_THRESHOLD = -3
"""glibc's mallopt(3): blocks from this size on are mapped on their own and unmapped when freed. Set by hand it stays where it is;
left alone it rises to the size of what was freed, and tensors then share a heap full of holes."""
THRESHOLD_BYTES = 1 << 20


def return_freed_memory() -> None:
    """Sets the threshold for this process; does nothing where the C library has no mallopt."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES)
