"""The device memory that this process has used."""

from __future__ import annotations

import sys


def peak_vram_bytes() -> int | None:
    """Returns the most bytes that torch ever had allocated, over all devices this process sees; None without a device."""
    # Not imported for this: a recipe that needed no torch has used no device.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return sum(int(torch.cuda.max_memory_allocated(index)) for index in range(torch.cuda.device_count()))
