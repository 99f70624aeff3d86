"""``quantry deployments capture``: which prompts a deployment keeps, and a dataset of them."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.completion import deployment_names
from quantry.cli.context import JsonOption, connect
from quantry.cli.output import emit_json, print_fields, say, time_text
from quantry.cli.specs import build, default, words
from quantry_core.captures import CaptureDatasetOrder, CaptureSettings, CaptureStatus

app = typer.Typer(help="Keep a share of a deployment's prompts, encrypted, and make calibration data of them.", no_args_is_help=True)

DeploymentArgument = Annotated[str, typer.Argument(metavar="DEPLOYMENT", autocompletion=deployment_names)]


@app.command("show")
def show_capture(context: typer.Context, name: DeploymentArgument, as_json: JsonOption = False) -> None:
    """Show what is kept of a deployment's requests."""
    with connect(context) as client:
        status = client.deployments.capture(name)
    _report(status, as_json=as_json)


@app.command("on")
def start_capture(
    context: typer.Context,
    name: DeploymentArgument,
    *,
    percent: Annotated[float, typer.Option(help=words(CaptureSettings, "percent"))],
    max_prompts: Annotated[int, typer.Option(help=words(CaptureSettings, "max_prompts"))] = default(CaptureSettings, "max_prompts"),
    retention_days: Annotated[int, typer.Option(help=words(CaptureSettings, "retention_days"))] = default(
        CaptureSettings, "retention_days"
    ),
    as_json: JsonOption = False,
) -> None:
    """Keep a share of prompts from now on; again with other values changes them."""
    settings = build(CaptureSettings, percent=percent, max_prompts=max_prompts, retention_days=retention_days)
    with connect(context) as client:
        status = client.deployments.start_capture(name, settings)
    _report(status, as_json=as_json)


@app.command("off")
def stop_capture(context: typer.Context, name: DeploymentArgument, as_json: JsonOption = False) -> None:
    """Keep no further prompts, and delete those that are kept."""
    with connect(context) as client:
        client.deployments.stop_capture(name)
    if as_json:
        emit_json({"stopped": name})
    else:
        say(f"no further prompts of {name} are kept; those that were are deleted")


@app.command("dataset")
def make_dataset(
    context: typer.Context,
    name: DeploymentArgument,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Its name; a new version of it where it exists.")],
    as_json: JsonOption = False,
) -> None:
    """Make a dataset version of the prompts that are kept, scrubbed: calibration data."""
    order = build(CaptureDatasetOrder, name=dataset)
    with connect(context) as client:
        made = client.deployments.capture_dataset(name, order.name)
    if as_json:
        emit_json(made)
    else:
        say(f"{made.ref} was made of the prompts of {name}: {made.statistics.num_rows or 0} rows, scrubbed")


def _report(status: CaptureStatus, *, as_json: bool) -> None:
    if as_json:
        emit_json(status)
        return
    settings = status.settings
    kept = "nothing new" if settings is None else f"{settings.percent:g}% of requests, at most {settings.max_prompts} prompts"
    print_fields(
        [
            ("kept", kept),
            ("for", None if settings is None else f"{settings.retention_days} days"),
            ("prompts", str(status.num_prompts)),
            ("oldest", time_text(status.oldest_at) or None),
            ("newest", time_text(status.newest_at) or None),
        ]
    )
