"""The bar of a transfer: uploads, exports and downloads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from quantry.cli.output import stderr
from quantry.messages import Progress


@contextmanager
def transfer_bar(what: str, size_bytes: int) -> Iterator[Progress]:
    """Yields what is told the bytes that have moved; a bar on a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = stderr()
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=size_bytes)
        yield lambda num_bytes: bar.advance(task, num_bytes)
