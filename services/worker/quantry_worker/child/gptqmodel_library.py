"""GPTQModel's library, which is in an environment of its own, imported the way that works on a machine of any size."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

LIBRARY = "gptqmodel"
WORKERS_VARIABLE = "GPTQMODEL_CPU_WORKERS"
MIN_WORKERS = 2
"""With fewer, as it chooses on two cores, the library refuses to start."""


def has_gptqmodel() -> bool:
    """Tells whether this environment is the one that has the library."""
    return find_spec(LIBRARY) is not None


def import_gptqmodel(num_threads: int) -> Any:
    """Returns the library's module; raises ImportError where this environment does not have it."""
    # Read when the library is imported.
    os.environ[WORKERS_VARIABLE] = str(max(MIN_WORKERS, num_threads))
    return import_module(LIBRARY)
