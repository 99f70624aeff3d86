"""What the demo shows while it runs: a live list of steps on a terminal, plain lines elsewhere. And its table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Column, Table
from rich.text import Text

from quantry_core.jobs import Job
from quantry_core.versions import VersionDetail
from quantry_local.demo_steps import TEST_CORPORA, corpus_metrics

BAR_CHARS = 20
TITLE_CHARS = 26


class View(Protocol):
    """Is told what happens, in order. ``close`` may be called at any time, and twice."""

    def begin(self, title: str) -> None: ...

    def progress(self, words: str, fraction: float | None) -> None: ...

    def note(self, line: str) -> None: ...

    def end(self, outcome: str, seconds: float) -> None: ...

    def fail(self, seconds: float) -> None: ...

    def close(self) -> None: ...


class LineView:
    """One line per step, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title = ""

    def begin(self, title: str) -> None:
        self._title = title

    def progress(self, words: str, fraction: float | None) -> None:
        """Nothing: a log wants results."""

    def note(self, line: str) -> None:
        self._console.print(f"        {line}", soft_wrap=True)

    def end(self, outcome: str, seconds: float) -> None:
        self._console.print(f"done    {self._title:<{TITLE_CHARS}} {seconds:6.1f} s   {outcome}", soft_wrap=True)

    def fail(self, seconds: float) -> None:
        self._console.print(f"failed  {self._title:<{TITLE_CHARS}} {seconds:6.1f} s", soft_wrap=True)

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class _Row:
    title: str
    started: float
    mark: str = "run"
    words: str = ""
    fraction: float | None = None
    seconds: float = 0.0
    spinner: Spinner = field(default_factory=lambda: Spinner("dots"))


class LiveView:
    """The list of steps, the current one with a spinner, a bar and its seconds."""

    def __init__(self, console: Console, titles: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting = list(titles)
        self._rows: list[_Row] = []
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=8, transient=False)
        self._live.start()

    def begin(self, title: str) -> None:
        self._rows.append(_Row(title, self._clock()))

    def progress(self, words: str, fraction: float | None) -> None:
        self._rows[-1].words, self._rows[-1].fraction = words, fraction

    def note(self, line: str) -> None:
        self.progress(line.strip(), self._rows[-1].fraction)

    def end(self, outcome: str, seconds: float) -> None:
        self._close_row("done", outcome, seconds)

    def fail(self, seconds: float) -> None:
        self._close_row("failed", self._rows[-1].words, seconds)

    def close(self) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        """Returns the list as it is now."""
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(width=TITLE_CHARS, no_wrap=True)
        table.add_column(justify="right", width=8)
        # What is left of the line, so that long words cost no other column its place.
        table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
        for row in self._rows:
            table.add_row(_mark(row), row.title, f"{self._seconds(row):.1f} s", _words(row))
        for title in self._waiting[len(self._rows) :]:
            table.add_row("", Text(title, style="dim"), "", "")
        return Group(table)

    def _seconds(self, row: _Row) -> float:
        return self._clock() - row.started if row.mark == "run" else row.seconds

    def _close_row(self, mark: str, words: str, seconds: float) -> None:
        row = self._rows[-1]
        row.mark, row.words, row.seconds, row.fraction = mark, words, seconds, None


def _mark(row: _Row) -> RenderableType:
    if row.mark == "run":
        return row.spinner
    return Text("✓", style="green") if row.mark == "done" else Text("✗", style="red")


def _words(row: _Row) -> Text:
    if row.fraction is None or row.mark != "run":
        return Text(row.words, style="dim" if row.mark == "run" else "")
    full = round(BAR_CHARS * row.fraction)
    return Text.assemble(("━" * full, "cyan"), ("━" * (BAR_CHARS - full), "dim"), f" {row.fraction:4.0%} ", (row.words, "dim"))


def result_table(master: VersionDetail, quantized: VersionDetail, import_job: Job, quantize_job: Job) -> Table:
    """Returns the demo's table: a column per version and one for the change in percent. It fits a terminal of 80 columns."""
    table = Table("version", _number(master.ref), _number(quantized.ref), _number("change"))
    before, after = corpus_metrics(master), corpus_metrics(quantized)
    table.add_row("scheme", master.dtype or "", quantized.scheme or "")
    table.add_row(
        "weights, bytes",
        f"{master.weights_bytes:,}",
        f"{quantized.weights_bytes:,}",
        _change(quantized.weights_bytes, master.weights_bytes),
        end_section=True,
    )
    for corpus in TEST_CORPORA:
        old, new = before[corpus]["perplexity"], after[corpus]["perplexity"]
        table.add_row(f"perplexity, {corpus}", f"{old:.2f}", f"{new:.2f}", _change(new, old), end_section=corpus == TEST_CORPORA[-1])
    table.add_row("mean KL from master, nats", "", f"{_token_mean(quantized, 'kl_mean_nats'):.4f}")
    table.add_row("top-1 agreement with master", "", f"{_token_mean(quantized, 'top1_agreement'):.1%}", end_section=True)
    costs = zip(("made in, seconds", "peak memory of its job"), _cost(import_job), _cost(quantize_job), strict=True)
    for row in costs:
        table.add_row(*row)
    return table


def _number(heading: str) -> Column:
    return Column(heading, justify="right")


def _change(now: float, before: float) -> str:
    return f"{(now / before - 1) * 100:+.2f}%"


def _cost(job: Job) -> tuple[str, str]:
    seconds = job.result.seconds if job.result else None
    peak_bytes = job.result.peak_memory_bytes if job.result else None
    return ("-" if seconds is None else f"{seconds:.1f}", "-" if peak_bytes is None else f"{peak_bytes / 1e6:,.0f} MB")


def _token_mean(version: VersionDetail, metric: str) -> float:
    """Returns the mean over all corpora, each weighted by its tokens."""
    figures = [corpus_metrics(version)[corpus] for corpus in TEST_CORPORA]
    num_tokens = sum(one["num_tokens"] for one in figures)
    return float(sum(one[metric] * one["num_tokens"] for one in figures) / num_tokens)
