"""What a version in GGUF must be: one file that holds everything, and inert files beside it."""

from __future__ import annotations

from quantry_core.checkpoints import CheckpointReader, check_listing
from quantry_core.errors import SourceRefused
from quantry_core.gguf import GgufError, read_gguf

SUFFIX = ".gguf"


def check_gguf(reader: CheckpointReader) -> None:
    """Raises SourceRefused unless there is exactly one GGUF file, its header describes it, and what lies beside it may be kept."""
    files = dict(reader.files())
    paths = [path for path in files if path.endswith(SUFFIX)]
    if len(paths) != 1:
        raise SourceRefused(f"a version in GGUF has exactly one *{SUFFIX} file, not {len(paths)}")
    check_listing({path: size_bytes for path, size_bytes in files.items() if path not in paths})
    try:
        info = read_gguf(reader, paths[0])
    except GgufError as error:
        raise SourceRefused(f"{paths[0]}: {error}") from error
    if not info.tensors:
        raise SourceRefused(f"there are no weights in {paths[0]}")
