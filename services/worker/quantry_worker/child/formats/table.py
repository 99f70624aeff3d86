"""Which reader opens a quantized checkpoint of which format: one literal table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quantry_core.checkpoints import CheckpointInfo, CheckpointReader, inspect_checkpoint
from quantry_core.errors import SourceRefused
from quantry_core.families import family_of
from quantry_core.linears import Shape, linear_modules
from quantry_core.methods import Format
from quantry_worker.child.formats.bitsandbytes import open_bitsandbytes
from quantry_worker.child.formats.compressed_tensors import open_compressed_tensors
from quantry_worker.child.formats.eetq import open_eetq
from quantry_worker.child.formats.gguf import open_gguf
from quantry_worker.child.formats.gptq import open_gptq
from quantry_worker.child.formats.stored import StoredCheckpoint
from quantry_worker.child.numerics.tensors import TensorReader

Opener = Callable[[CheckpointInfo, TensorReader, Mapping[str, Shape]], StoredCheckpoint]
"""Called with headers, a reader of tensors, and the master's Linear modules."""

OPENERS: dict[Format, Opener] = {
    Format.COMPRESSED_TENSORS: open_compressed_tensors,
    Format.GPTQ: open_gptq,
    Format.BITSANDBYTES: open_bitsandbytes,
    Format.EETQ: open_eetq,
}
"""Formats whose tensors lie in safetensors files."""


def open_stored(format_: Format, files: CheckpointReader, master: CheckpointInfo) -> StoredCheckpoint:
    """Returns a quantized checkpoint of the format; raises SourceRefused if it is not one that can be read."""
    linears = linear_modules(master.tensors, family_of(master.config).transposed)
    if format_ is Format.GGUF:
        return open_gguf(files, master, linears)
    info = inspect_checkpoint(files)
    if format_ not in OPENERS:
        raise SourceRefused(f"format {format_} cannot be read here")
    return OPENERS[format_](info, TensorReader(files, info), linears)
