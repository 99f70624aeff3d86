"""EETQ's CUDA code as transformers runs it: the Python package ``kernels``, and a compiled kernel that it fetches from the hub.

A job's child is offline, so both must be there before: docs/methods.md says how an operator gets them.
"""

from __future__ import annotations

import torch
from transformers.integrations import hub_kernels
from transformers.utils import is_kernels_available
from transformers.utils.import_utils import KERNELS_MAX_VERSION, KERNELS_MIN_VERSION

from quantry_core.errors import InvalidInput

LIBRARY = "kernels"
KERNEL, KERNEL_VERSION = "kernels-community/quantization-eetq", 1
"""What transformers' EETQ modules ask for."""
DEVICE = "cuda:0"
INSTEAD = "take W8A16 by method gptq or rtn, which stores as many bits and runs anywhere"


def eetq_device() -> str:
    """Returns the device that EETQ runs on.

    Raises InvalidInput, before any weight is read, saying what is missing, how it is got, and what to take instead.
    """
    if not torch.cuda.is_available():
        raise InvalidInput(f"EETQ runs on NVIDIA GPUs only and this worker has none; {INSTEAD}")
    if not is_kernels_available():
        raise InvalidInput(
            f"EETQ's CUDA code comes with the Python package {LIBRARY}, which this worker does not have: install "
            f"'{LIBRARY}>={KERNELS_MIN_VERSION},<{KERNELS_MAX_VERSION}' into its ml environment; or {INSTEAD}"
        )
    try:
        hub_kernels.get_kernel(KERNEL, version=KERNEL_VERSION)
    except Exception as error:  # Of the hub, of the cache, of the linker: each has its own.
        raise InvalidInput(
            f"this worker does not have the compiled kernel {KERNEL}, version {KERNEL_VERSION}: fetch it on the worker's machine and "
            f"name its folder to the worker in KERNELS_CACHE (docs/methods.md); or {INSTEAD} ({type(error).__name__}: {error})"
        ) from error
    return DEVICE
