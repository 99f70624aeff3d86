"""``quantry deployments adapters``: what a deployment serves beside its base."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.completion import deployment_names, version_refs
from quantry.cli.context import JsonOption, connect
from quantry.cli.output import Column, emit_json, print_table, say, time_text
from quantry_core.rollouts import AttachedAdapter, Deployment

app = typer.Typer(help="Attach adapters to a deployment, list and detach them.", no_args_is_help=True)

DeploymentArgument = Annotated[str, typer.Argument(metavar="DEPLOYMENT", autocompletion=deployment_names)]
AdapterArgument = Annotated[str, typer.Argument(metavar="ADAPTER", help="The name that requests carry as their model.")]


def print_adapters(deployment: Deployment) -> None:
    """Prints the adapters of a deployment, and on how many of its replicas each is loaded."""
    columns: tuple[Column[AttachedAdapter], ...] = (
        ("adapter", lambda adapter: adapter.name),
        ("version", lambda adapter: adapter.version_ref),
        ("loaded", lambda adapter: f"{deployment.num_loaded(adapter)} of {len(deployment.replicas)}"),
        ("since", lambda adapter: time_text(adapter.created_at)),
        ("message", lambda adapter: adapter.message or ""),
    )
    print_table(deployment.adapters, columns, empty="It has no adapters.")


@app.command("list")
def list_adapters(context: typer.Context, deployment: DeploymentArgument, as_json: JsonOption = False) -> None:
    """List the adapters of a deployment, and on how many replicas each is loaded."""
    with connect(context) as client:
        found = client.deployments.get(deployment)
    if as_json:
        emit_json(found.adapters)
    else:
        print_adapters(found)


@app.command("attach")
def attach_adapter(
    context: typer.Context,
    deployment: DeploymentArgument,
    adapter: AdapterArgument,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", autocompletion=version_refs, help="A version of kind adapter, trained on what is served.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Serve an adapter under a name of its own, while the engines run; another version under the same name replaces it."""
    with connect(context) as client:
        attached = client.deployments.attach(deployment, adapter, version)
    if as_json:
        emit_json(attached)
    else:
        say(f"{attached.name} is {attached.version_ref}; the replicas of {deployment} load it now")


@app.command("detach")
def detach_adapter(context: typer.Context, deployment: DeploymentArgument, adapter: AdapterArgument, as_json: JsonOption = False) -> None:
    """Serve an adapter no more; its version stays."""
    with connect(context) as client:
        client.deployments.detach(deployment, adapter)
    if as_json:
        emit_json({"detached": adapter, "deployment": deployment})
    else:
        say(f"{adapter} is detached")
