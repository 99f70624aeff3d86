"""A job's estimate, and what really happened beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from quantry.cli.output import Column, bytes_text, duration_text, print_fields, print_table, say
from quantry_core.jobs import Estimate, Job, JobResult


def _minutes_text(minutes: float) -> str:
    return duration_text(60 * minutes)


def _bytes_text(size_bytes: float) -> str:
    return bytes_text(round(size_bytes))


class _Figure(NamedTuple):
    """A figure of EstimateFigures: how it is called, how it is written, and where what happened stands in a result."""

    name: str
    title: str
    text: Callable[[float], str]
    happened: Callable[[JobResult], float | None]


_FIGURES = (
    # A result does not say its size; what happened follows from the recorded ratio.
    _Figure("result_bytes", "result", _bytes_text, lambda _result: None),
    _Figure("peak_ram_bytes", "peak memory", _bytes_text, lambda result: result.peak_memory_bytes),
    _Figure("peak_vram_bytes", "peak device memory", _bytes_text, lambda result: result.peak_vram_bytes),
    _Figure("minutes", "time", _minutes_text, lambda result: None if result.seconds is None else result.seconds / 60),
)


class EstimateRow(NamedTuple):
    """One figure in words; empty where it is not known."""

    title: str
    estimate: str
    happened: str
    ratio: str


def estimate_rows(estimate: Estimate, result: JobResult | None = None) -> list[EstimateRow]:
    """Returns the figures that are known, each with what happened and its ratio to the estimate where the job has ended."""
    rows = []
    for figure in _FIGURES:
        expected: float | None = getattr(estimate, figure.name)
        happened = None if result is None else figure.happened(result)
        ratio = None if result is None else result.estimate_errors.get(figure.name)
        if happened is None and ratio is not None and expected is not None:
            happened = expected * ratio
        if expected is None and happened is None:
            continue
        rows.append(
            EstimateRow(
                figure.title,
                "" if expected is None else figure.text(expected),
                "" if happened is None else figure.text(happened),
                "" if ratio is None else f"{ratio:.2f}x",
            )
        )
    return rows


def print_estimate(estimate: Estimate) -> None:
    """Prints what a job would take, for one that was not submitted."""
    figures = [(row.title, row.estimate) for row in estimate_rows(estimate)]
    print_fields([("queue", estimate.queue), *figures, ("comes from", _source_text(estimate))])
    _say_notes(estimate)


def print_comparison(job: Job) -> None:
    """Prints a job's estimate, beside what happened where it has ended; nothing if there is none."""
    if job.estimate is None:
        return
    columns: list[Column[EstimateRow]] = [("", lambda row: row.title), ("estimate", lambda row: row.estimate)]
    if job.result is not None and not job.result.reused:
        columns += [("happened", lambda row: row.happened), ("ratio", lambda row: row.ratio)]
    say("")
    print_table(estimate_rows(job.estimate, job.result), columns, empty="Nothing could be estimated.")
    _say_notes(job.estimate)


def _source_text(estimate: Estimate) -> str:
    if not estimate.num_earlier_jobs:
        return "the headers and the spec alone"
    return f"the headers and the spec, corrected by {estimate.num_earlier_jobs} earlier jobs ({estimate.key})"


def _say_notes(estimate: Estimate) -> None:
    for note in estimate.notes:
        say(note)
