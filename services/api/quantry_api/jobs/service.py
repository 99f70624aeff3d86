"""What may be submitted, and what a job's log looks like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from quantry_api.jobs.sources import check_source
from quantry_core.jobs import ImportSpec, JobEvent, JobSpec, QuantizeSpec
from quantry_core.methods import check_ignore, check_method


async def check_spec(spec: JobSpec, import_roots: Sequence[Path]) -> None:
    """Raises what is wrong with a spec that can be told without the database: UnknownMethod, UnknownScheme, InvalidInput, SourceRefused."""
    if isinstance(spec, QuantizeSpec):
        check_method(spec.method, spec.scheme, spec.group_size)
        check_ignore(spec.ignore)
    if isinstance(spec, ImportSpec):
        await check_source(spec.source, import_roots)


def log_lines(events: Iterable[JobEvent]) -> Iterator[str]:
    """Yields a log as text, each attempt under a line that names it."""
    attempt: int | None = None
    for event in events:
        if event.attempt != attempt:
            attempt = event.attempt
            yield f"--- attempt {attempt} ---\n"
        yield f"{event.data.get('text', '')}\n"
