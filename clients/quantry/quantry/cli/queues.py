"""``quantry queues``: what waits in each, and who works it off."""

from __future__ import annotations

import typer
from rich.text import Text

from quantry.cli.context import JsonOption, connect
from quantry.cli.output import Column, bytes_text, duration_text, emit_json, print_page
from quantry_core.queue_loads import QueueLoad

app = typer.Typer(help="Look at the queues.", no_args_is_help=True)


def _slots(queue: QueueLoad) -> Text:
    return Text(str(queue.num_slots), style="" if queue.num_slots else "red")


_COLUMNS: tuple[Column[QueueLoad], ...] = (
    ("queue", lambda queue: queue.name),
    ("slots", _slots),
    ("running", lambda queue: str(queue.num_running)),
    ("queued", lambda queue: str(queue.num_queued)),
    ("waiting", lambda queue: str(queue.num_waiting)),
    ("oldest queued", lambda queue: "" if queue.oldest_queued_s is None else duration_text(queue.oldest_queued_s)),
    ("memory of a slot", lambda queue: "" if queue.max_memory_bytes is None else bytes_text(queue.max_memory_bytes)),
)


@app.command("list")
def list_queues(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the queues with their jobs, and the slots of workers that are alive."""
    with connect(context) as client:
        page = client.queues.list()
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="This installation has no queues.")
