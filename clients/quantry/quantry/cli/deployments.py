"""``quantry deployments``: what is served, and what was."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli import deployment_adapters, deployment_capture
from quantry.cli.completion import deployment_names
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.deployment_history import list_releases, roll_back_deployment, show_difference, show_history, show_moment
from quantry.cli.output import Column, emit_json, print_fields, print_page, print_table, say, time_text
from quantry.cli.rollout_view import share_text, verdict_text
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.rollouts import Deployment, Replica

app = typer.Typer(help="Look at deployments and their history, roll back, stop and start them, attach adapters.", no_args_is_help=True)
app.add_typer(deployment_adapters.app, name="adapters")
app.add_typer(deployment_capture.app, name="capture")
app.command("releases")(list_releases)
app.command("rollback")(roll_back_deployment)
app.command("history")(show_history)
app.command("at")(show_moment)
app.command("diff")(show_difference)

NameArgument = Annotated[str, typer.Argument(metavar="DEPLOYMENT", autocompletion=deployment_names)]


def _release(deployment: Deployment) -> str:
    release = deployment.current_release
    return "" if release is None else f"{release.version_ref} (release {release.number})"


def _state(deployment: Deployment) -> str:
    if deployment.is_stopped:
        return "stopped"
    if deployment.active_rollout is not None:
        return f"rollout {deployment.active_rollout.state}"
    return "ready" if deployment.num_ready else "not ready"


_COLUMNS: tuple[Column[Deployment], ...] = (
    ("deployment", lambda deployment: deployment.name),
    ("state", _state),
    ("serves", _release),
    ("ready", lambda deployment: f"{deployment.num_ready} of {len(deployment.replicas)}"),
    ("created", lambda deployment: time_text(deployment.created_at)),
)

_REPLICA_COLUMNS: tuple[Column[Replica], ...] = (
    ("replica", lambda replica: replica.id),
    ("state", lambda replica: replica.state),
    ("url", lambda replica: replica.url or ""),
    ("restarts", lambda replica: str(replica.num_restarts)),
    ("message", lambda replica: replica.message or ""),
)


@app.command("list")
def list_deployments(
    context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False
) -> None:
    """List deployments, newest first."""
    with connect(context) as client:
        page = client.deployments.list(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no deployments; make one with 'quantry jobs submit deploy'.")


@app.command("show")
def show_deployment(context: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Show one deployment, its replicas and its adapters."""
    with connect(context) as client:
        deployment = client.deployments.get(name)
    if as_json:
        emit_json(deployment)
        return
    rollout, watched = deployment.active_rollout, deployment.watched_rollout
    print_fields(
        [
            ("deployment", deployment.name),
            ("id", deployment.id),
            ("state", _state(deployment)),
            ("serves", _release(deployment) or None),
            (
                "rollout",
                None if rollout is None else f"{rollout.id} {rollout.state}" + (f" (job {rollout.job_id})" if rollout.job_id else ""),
            ),
            ("candidate", None if rollout is None else share_text(rollout)),
            ("verdict", None if rollout is None or rollout.judgement is None else verdict_text(rollout)),
            ("watched", None if watched is None else f"until {time_text(watched.watch_until)}: the release before stays warm"),
            ("wanted", None if deployment.num_wanted is None else f"{deployment.num_wanted} replicas, by what waits"),
            ("capture", None if deployment.capture is None else f"{deployment.capture.percent:g}% of prompts"),
            ("created", time_text(deployment.created_at)),
        ]
    )
    print_table(deployment.replicas, _REPLICA_COLUMNS, empty="It has no replicas.")
    if deployment.adapters:
        deployment_adapters.print_adapters(deployment)


@app.command("stop")
def stop_deployment(context: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Stop serving; the name and its releases are kept."""
    with connect(context) as client:
        deployment = client.deployments.stop(name)
    if as_json:
        emit_json(deployment)
    else:
        say(f"{deployment.name} is being stopped")


@app.command("start")
def start_deployment(context: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Serve a stopped deployment again."""
    with connect(context) as client:
        deployment = client.deployments.start(name)
    if as_json:
        emit_json(deployment)
    else:
        say(f"{deployment.name} is being started")
