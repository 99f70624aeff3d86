"""``quantry workers hosts``: machines with a worker's key of their own, for admins of the platform project."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, emit_json, print_page, say, stderr, time_text
from quantry.cli.specs import build
from quantry.cli.values import duration_s
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.worker_hosts import DEFAULT_ENROLMENT_S, Enrolment, EnrolmentRequest, WorkerHost

app = typer.Typer(help="Enrol, list and revoke machines that run workers.", no_args_is_help=True)


def _enrolment_state(enrolment: Enrolment) -> str:
    if enrolment.used_at is not None:
        return f"used by {enrolment.host_id}"
    return f"withdrawn {time_text(enrolment.revoked_at)}" if enrolment.revoked_at is not None else "open"


_HOSTS: tuple[Column[WorkerHost], ...] = (
    ("host", lambda host: host.id),
    ("name", lambda host: host.name),
    ("machine", lambda host: host.hostname),
    ("key begins with", lambda host: host.key_prefix),
    ("workers", lambda host: str(host.num_workers_alive)),
    ("enrolled", lambda host: time_text(host.enrolled_at)),
    ("rotated", lambda host: time_text(host.rotated_at)),
    ("last used", lambda host: time_text(host.last_used_at)),
    ("revoked", lambda host: time_text(host.revoked_at)),
)

_INVITATIONS: tuple[Column[Enrolment], ...] = (
    ("token", lambda enrolment: enrolment.id),
    ("name", lambda enrolment: enrolment.name),
    ("made", lambda enrolment: time_text(enrolment.created_at)),
    ("good until", lambda enrolment: time_text(enrolment.expires_at)),
    ("state", _enrolment_state),
)


@app.command("list")
def list_hosts(context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False) -> None:
    """List the machines that were enrolled, revoked ones included."""
    with connect(context) as client:
        page = client.worker_hosts.list(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _HOSTS, empty="No machine was enrolled: quantry workers hosts invite NAME makes a token for one.")


@app.command("invite")
def invite_host(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the machine will be called.")],
    lifetime: Annotated[
        int | None,
        typer.Option("--good-for", parser=duration_s, metavar="DURATION", help="How long the token may be used; 1h, at most 7d."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a one-time token for a machine and print it, once."""
    request = build(EnrolmentRequest, name=name, lifetime_s=lifetime or DEFAULT_ENROLMENT_S)
    with connect(context) as client:
        made = client.worker_hosts.invite(request.name, lifetime_s=request.lifetime_s)
        url = client.url
    if as_json:
        emit_json(made)
        return
    say(made.token)
    stderr().print(f"Good once, until {time_text(made.enrolment.expires_at)}. On the machine, with the token as standard input:")
    stderr().print(f"python -m quantry_worker.enrol --url {url} --key-file /etc/quantry/worker-key", soft_wrap=True)


@app.command("invitations")
def list_invitations(
    context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False
) -> None:
    """List one-time tokens, used and expired ones included; the tokens themselves are never stored."""
    with connect(context) as client:
        page = client.worker_hosts.invitations(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _INVITATIONS, empty="No token was made.")


@app.command("withdraw")
def withdraw_invitation(
    context: typer.Context,
    enrolment_id: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="enr_...")],
    as_json: JsonOption = False,
) -> None:
    """Make a one-time token worthless that was not used."""
    with connect(context) as client:
        client.worker_hosts.withdraw(enrolment_id)
    if as_json:
        emit_json({"withdrawn": enrolment_id})
    else:
        say(f"{enrolment_id} is worthless now")


@app.command("revoke")
def revoke_host(
    context: typer.Context, host_id: Annotated[str, typer.Argument(metavar="HOST", help="wkh_...")], as_json: JsonOption = False
) -> None:
    """Make a machine's key worthless at once; what it runs goes to other workers."""
    with connect(context) as client:
        client.worker_hosts.revoke(host_id)
    if as_json:
        emit_json({"revoked": host_id})
    else:
        say(
            f"{host_id} is revoked. Change the keys of the object store and the broker's password too if the machine is not yours any more."
        )
