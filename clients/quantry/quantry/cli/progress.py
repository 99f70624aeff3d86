"""A job's progress in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from quantry.cli.output import bytes_text, duration_text
from quantry_core.jobs import LOSS, Progress

_BYTES = "bytes"


def progress_of(data: Mapping[str, Any]) -> Progress | None:
    """Returns the progress that an event tells, or None if this version of the SDK cannot read it."""
    try:
        return Progress.model_validate(data)
    except ValidationError:
        return None


def counts_text(progress: Progress) -> str:
    """Returns how much of the phase is done: ``5/12 layers``, ``1.5 MB of 11.5 MB``; empty where nothing is counted."""
    if progress.done is None:
        return ""
    if progress.unit == _BYTES:
        return bytes_text(progress.done) + (f" of {bytes_text(progress.total)}" if progress.total else "")
    count = f"{progress.done}/{progress.total}" if progress.total else str(progress.done)
    return f"{count} {progress.unit}".rstrip()


def rate_text(progress: Progress) -> str:
    """Returns the rate: ``1.3 layers/s``, ``12.5 MB/s``, and for slow ones ``8.2 s each``; empty where it is not known."""
    rate_per_s = progress.rate_per_s
    if not rate_per_s:
        return ""
    if progress.unit == _BYTES:
        return f"{bytes_text(round(rate_per_s))}/s"
    if rate_per_s < 1:
        return f"{duration_text(1 / rate_per_s)} each"
    return f"{rate_per_s:.1f} {progress.unit}/s" if progress.unit else f"{rate_per_s:.1f}/s"


def remaining_text(progress: Progress) -> str:
    """Returns the time that is left: ``3 min 20 s left``; empty where it is not known."""
    return "" if progress.remaining_s is None else f"{duration_text(progress.remaining_s)} left"


def loss_text(data: Mapping[str, Any]) -> str:
    """Returns the loss that a metrics event tells: ``loss 2.314``; empty where it tells none."""
    loss = data.get(LOSS)
    return f"{LOSS} {loss:.4g}" if isinstance(loss, float | int) else ""


def details_text(progress: Progress, loss: str = "") -> str:
    """Returns what stands beside the share: ``5/12 layers, 1.3 layers/s, 9 s left, loss 2.314, model.layers.4``."""
    parts = (counts_text(progress), rate_text(progress), remaining_text(progress), loss, progress.detail)
    return ", ".join(part for part in parts if part)


def progress_text(progress: Progress, loss: str = "") -> str:
    """Returns all of it on one line: ``quantize  42% 5/12 layers, 1.3 layers/s, 9 s left, model.layers.4``."""
    return f"{progress.phase} {progress.fraction:4.0%} {details_text(progress, loss)}".rstrip()
