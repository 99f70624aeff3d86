"""AWQ where there is no accelerator: llm-compressor 0.14 pins memory for one all the same, which raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch
from llmcompressor.pipelines.cache import IntermediatesCache

AFFECTED = "0.14."
"""Releases whose AWQModifier calls ``IntermediatesCache.pin_memory`` unconditionally."""


@contextmanager
def pinning_only_for_accelerators() -> Iterator[None]:
    """Makes pinning do nothing inside this context. Does nothing itself with an accelerator, or with another release."""
    if torch.accelerator.is_available() or not version("llmcompressor").startswith(AFFECTED):
        yield
        return
    original = IntermediatesCache.pin_memory
    IntermediatesCache.pin_memory = _leave_where_it_is
    try:
        yield
    finally:
        IntermediatesCache.pin_memory = original


def _leave_where_it_is(_cache: IntermediatesCache, _batch_index: int, _input_names: list[str] | None = None) -> None:
    """Pinned memory is for copies to a device."""
