"""``quantry workers``: who runs jobs."""

from __future__ import annotations

import typer
from rich.text import Text

from quantry.cli import worker_hosts
from quantry.cli.context import JsonOption, connect
from quantry.cli.output import Column, bytes_text, emit_json, print_page, time_text
from quantry_core.workers import Device, Worker

app = typer.Typer(help="Look at the workers, and at the machines they may run on.", no_args_is_help=True)
app.add_typer(worker_hosts.app, name="hosts")


def _device(device: Device) -> str:
    memory = "" if device.memory_bytes is None else f" {bytes_text(device.memory_bytes)}"
    return f"{device.id} {device.name}".rstrip() + memory


_COLUMNS: tuple[Column[Worker], ...] = (
    ("worker", lambda worker: worker.id),
    ("host", lambda worker: f"{worker.host} pid {worker.pid}"),
    ("state", lambda worker: Text("there", style="green") if worker.is_alive else Text("gone", style="red")),
    ("queues", lambda worker: ", ".join(worker.queues)),
    ("slots", lambda worker: f"{len(worker.job_ids)} of {worker.num_slots} busy"),
    ("environments", lambda worker: ", ".join(worker.environments)),
    ("devices", lambda worker: ", ".join(map(_device, worker.devices))),
    ("version", lambda worker: worker.version),
    ("last seen", lambda worker: time_text(worker.last_seen_at)),
)


@app.command("list")
def list_workers(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the workers that were heard of lately, with the queues they serve."""
    with connect(context) as client:
        page = client.workers.list()
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="No worker was heard of: jobs stay queued until one is started.")
