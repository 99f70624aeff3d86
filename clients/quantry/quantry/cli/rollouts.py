"""``quantry rollouts``: look at rollouts, follow them, and decide about them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated

import typer
from rich.live import Live

from quantry.cli import rollout_view
from quantry.cli.completion import deployment_names
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.following import telling_what_goes_on
from quantry.cli.output import Column, emit_json, emit_json_line, print_fields, print_page, print_table, say, stderr, stdout, time_text
from quantry.client import Client
from quantry.errors import ApiError, ServerUnreachable
from quantry_core.ids import is_any_id
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, Rollout, RolloutState
from quantry_core.traffic import RolloutTraffic

app = typer.Typer(help="Look at rollouts, follow them, pause, resume, promote, abort and roll them back.", no_args_is_help=True)

RolloutArgument = Annotated[
    str,
    typer.Argument(
        metavar="ROLLOUT", autocompletion=deployment_names, help="rol_..., or a deployment: its rollout under way, else the last one."
    ),
]
NoteOption = Annotated[str | None, typer.Option(help="Why; kept in the history.")]

_COLUMNS: tuple[Column[Rollout], ...] = (
    ("rollout", lambda rollout: rollout.id),
    ("state", rollout_view.state_text),
    ("strategy", rollout_view.strategy_text),
    ("candidate", rollout_view.share_text),
    ("cause", lambda rollout: rollout.cause),
    ("created", lambda rollout: time_text(rollout.created_at)),
    ("why", rollout_view.why_text),
)


@app.command("list")
def list_rollouts(
    context: typer.Context,
    *,
    deployment: Annotated[str | None, typer.Option(help="Only this deployment's.")] = None,
    state: Annotated[RolloutState | None, typer.Option(help="Only those that are there.")] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """List rollouts, newest first."""
    with connect(context) as client:
        page = client.rollouts.list(deployment=deployment, state=state, after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no rollouts; begin one with 'quantry deploy'.")


@app.command("show")
def show_rollout(context: typer.Context, ref: RolloutArgument, as_json: JsonOption = False) -> None:
    """Show one rollout: where it is and why, what its rules found, and what both releases did."""
    with connect(context) as client:
        rollout = client.rollouts.get(_id_of(client, ref))
        traffic = None if as_json else _traffic(client, rollout)
    if as_json:
        emit_json(rollout)
        return
    print_fields(rollout_view.fields_of(rollout))
    if traffic is not None:
        say("")
        stdout().print(rollout_view.traffic_table(traffic))
    if findings := rollout_view.findings_of(rollout):
        say("")
        print_table(findings, rollout_view.FINDING_COLUMNS, empty="")


@app.command("pause")
def pause_rollout(context: typer.Context, ref: RolloutArgument, note: NoteOption = None, as_json: JsonOption = False) -> None:
    """Hold a rollout at its share."""
    _ask(context, ref, lambda client, found: client.rollouts.pause(found, note=note), as_json=as_json)


@app.command("resume")
def resume_rollout(context: typer.Context, ref: RolloutArgument, note: NoteOption = None, as_json: JsonOption = False) -> None:
    """Let a paused rollout go on."""
    _ask(context, ref, lambda client, found: client.rollouts.resume(found, note=note), as_json=as_json)


@app.command("promote")
def promote_rollout(context: typer.Context, ref: RolloutArgument, note: NoteOption = None, as_json: JsonOption = False) -> None:
    """Skip what is left of the strategy: the candidate serves all as soon as its replicas are ready."""
    _ask(context, ref, lambda client, found: client.rollouts.promote(found, note=note), as_json=as_json)


@app.command("abort")
def abort_rollout(context: typer.Context, ref: RolloutArgument, note: NoteOption = None, as_json: JsonOption = False) -> None:
    """End a rollout; the release before serves all at once."""
    _ask(context, ref, lambda client, found: client.rollouts.abort(found, note=note), as_json=as_json)


@app.command("rollback")
def roll_back_rollout(context: typer.Context, ref: RolloutArgument, note: NoteOption = None, as_json: JsonOption = False) -> None:
    """End a rollout as rolled back. A promoted one is undone by 'quantry deployments rollback'."""
    _ask(context, ref, lambda client, found: client.rollouts.rollback(found, note=note), as_json=as_json)


@app.command("follow")
def follow_rollout(context: typer.Context, ref: RolloutArgument, as_json: JsonOption = False) -> None:
    """Follow a rollout to its end; exits with 1 unless it is promoted. Ctrl-C leaves it going. With --json: a line per change."""
    with connect(context) as client:
        rollout = follow(client, _id_of(client, ref), as_json=as_json)
    if rollout.state is RolloutState.PROMOTED:
        if not as_json:
            say(rollout_view.end_text(rollout))
        return
    if not as_json:
        stderr().print(rollout_view.end_text(rollout))
    raise typer.Exit(1)


def follow(client: Client, rollout_id: str, *, as_json: bool) -> Rollout:
    """Shows a rollout until it has ended, and returns it: redrawn on a terminal, a line per change elsewhere."""
    with telling_what_goes_on([rollout_id], "rollouts abort"):
        if as_json:
            return _each(client, rollout_id, emit_json_line)
        console = stdout()
        if not console.is_terminal:
            return _each(client, rollout_id, _Lines().show)
        with Live(console=console, auto_refresh=False, transient=True) as live:
            return _each(client, rollout_id, _Picture(client, live).show)


def _each(client: Client, rollout_id: str, show: Callable[[Rollout], object]) -> Rollout:
    last: Rollout | None = None
    for rollout in client.rollouts.follow(rollout_id):
        show(rollout)
        last = rollout
    if last is None:
        raise AssertionError("a rollout that is followed is seen at least once")
    return last


class _Lines:
    """One line per change of state, share, verdict or reason."""

    def __init__(self) -> None:
        self._said = ""

    def show(self, rollout: Rollout) -> None:
        """Says where the rollout is, unless that was said already."""
        line = rollout_view.line_of(rollout)
        if line != self._said:
            self._said = line
            say(line)


class _Picture:
    """A picture that is drawn anew at each change."""

    def __init__(self, client: Client, live: Live) -> None:
        self._client = client
        self._live = live
        self._traffic: RolloutTraffic | None = None

    def show(self, rollout: Rollout) -> None:
        """Draws the rollout as it is."""
        # Without the newest figures those before stay. Whether the server is there again is the matter of who asks for the rollout.
        with suppress(ServerUnreachable, ApiError):
            self._traffic = _traffic(self._client, rollout)
        self._live.update(rollout_view.picture(rollout, self._traffic), refresh=True)


def _traffic(client: Client, rollout: Rollout) -> RolloutTraffic | None:
    """Returns what was measured, None where the candidate has had no traffic yet."""
    return None if rollout.exposed_at is None else client.rollouts.traffic(rollout.id)


def _ask(context: typer.Context, ref: str, question: Callable[[Client, str], Rollout], *, as_json: bool) -> None:
    with connect(context) as client:
        rollout = question(client, _id_of(client, ref))
    if as_json:
        emit_json(rollout)
        return
    goes_on = f"; follow it: quantry rollouts follow {rollout.id}" if rollout.state in ACTIVE_ROLLOUT_STATES else ""
    wanted = ", to be promoted once its replicas are ready" if rollout.promote_requested and goes_on else ""
    say(f"{rollout.id} {rollout.state}{wanted}{goes_on}")


def _id_of(client: Client, ref: str) -> str:
    """Returns the id of a rollout that is named by it or by its deployment; a usage error where that has had none."""
    if is_any_id(ref):
        return ref
    try:
        page = client.deployments.rollouts(ref, limit=1)
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise typer.BadParameter(f"there is no rollout and no deployment {ref!r}") from None
        raise
    if not page.data:
        raise typer.BadParameter(f"{ref} has had no rollout")
    # Two of one deployment never run at once, so that one under way is the newest.
    return page.data[0].id
