"""How large a version's weights are, alone and against those it was made from. Files and headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint

GGUF_SUFFIX = ".gguf"
WEIGHTS = (".safetensors", GGUF_SUFFIX)
"""How files of weights end."""
BITS = 8


def weights_bytes(directory: Path) -> int:
    """Returns the bytes of a checkpoint's files of weights."""
    return sum(size for name, size in DirectoryCheckpoint(directory).files().items() if name.endswith(WEIGHTS))


def size_figures(folders: Sequence[Path], reference: Sequence[Path] | None) -> dict[str, float]:
    """Returns the bytes of the weights; with a reference their ratio to its, and, if that is 16-bit, bits for each parameter of it.

    A version is one folder, an adapter its own and then that of its base: an engine loads both.
    """
    size = sum(map(weights_bytes, folders))
    if reference is None:
        return {"weights_bytes": size}
    figures = {"weights_bytes": size, "weights_ratio": size / sum(map(weights_bytes, reference))}
    num_parameters = _num_parameters(reference[-1])
    return figures if num_parameters is None else figures | {"bits_per_parameter": BITS * size / num_parameters}


def _num_parameters(directory: Path) -> int | None:
    """The parameters of a master; None for a quantized version, whose tensors are no parameters."""
    if any(directory.glob(f"*{GGUF_SUFFIX}")):
        return None
    info = inspect_checkpoint(DirectoryCheckpoint(directory))
    return None if "quantization_config" in info.config else info.num_parameters
