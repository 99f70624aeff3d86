"""``quantry deployments rollback, history, at, diff``: what served under a name, and back to it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import typer

from quantry.cli.comparisons import print_comparison
from quantry.cli.completion import deployment_names
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, emit_json, print_fields, print_page, print_table, say, time_text
from quantry.cli.rollout_view import REASON_WORDS
from quantry.cli.values import moment
from quantry_core.comparisons import FieldDifference
from quantry_core.deployment_diffs import ServedSide
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.rollouts import Release, ServingPeriod

DeploymentArgument = Annotated[str, typer.Argument(metavar="DEPLOYMENT", autocompletion=deployment_names)]
_WHICH = "A release's number, or a moment (ISO 8601, local without a zone) at which it served most."


def who_text(period: ServingPeriod) -> str:
    """Returns whose key changed what is served."""
    return period.key_id or "the platform"


def why_text(period: ServingPeriod) -> str:
    """Returns why it changed: what was said of it, else what the platform found, else the kind of reason."""
    reason = "" if period.reason is None else REASON_WORDS[period.reason]
    return "; ".join(part for part in (period.note or "", period.message or reason) if part)


def shares_text(period: ServingPeriod) -> str:
    """Returns the shares, one a line; ``nothing`` where nothing was served."""
    return "\n".join(f"{share.percent}%" for share in period.shares) or "nothing"


_PERIOD_COLUMNS: tuple[Column[ServingPeriod], ...] = (
    ("since", lambda period: time_text(period.began_at)),
    ("shares", shares_text),
    ("release", lambda period: "\n".join(str(share.release_number) for share in period.shares)),
    ("version", lambda period: "\n".join(share.version_ref for share in period.shares)),
    ("cause", lambda period: period.cause),
    ("who", who_text),
    ("why", why_text),
)

_RELEASE_COLUMNS: tuple[Column[Release], ...] = (
    ("release", lambda release: str(release.number)),
    ("version", lambda release: release.version_ref),
    ("engine", lambda release: release.engine.engine),
    ("replicas", lambda release: str(len(release.servers) or release.num_replicas)),
    ("created", lambda release: time_text(release.created_at)),
)


def list_releases(
    context: typer.Context,
    name: DeploymentArgument,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what was rolled out under a name, newest first; one that has served can serve again by 'rollback --to'."""
    with connect(context) as client:
        page = client.deployments.releases(name, after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _RELEASE_COLUMNS, empty="It has no releases.")


def roll_back_deployment(
    context: typer.Context,
    name: DeploymentArgument,
    to: Annotated[
        int | None, typer.Option(min=1, help="A release's number; else a rollout under way is ended, or the release before serves.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="Why; kept in the history.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Have an earlier release serve again: at once where a replica of it is ready, else as soon as one is."""
    with connect(context) as client:
        deployment = client.deployments.rollback(name, to, note=note)
    if as_json:
        emit_json(deployment)
        return
    release, rollout = deployment.current_release, deployment.active_rollout
    if rollout is not None:
        say(f"{name} is being rolled back; what serves goes on until it is ready. Follow it: quantry rollouts follow {rollout.id}")
    elif release is None:
        say(f"the rollout of {name} is ended; nothing has served before it")
    else:
        say(f"{name} {'is stopped at' if deployment.is_stopped else 'serves'} {release.version_ref} (release {release.number})")


def show_history(
    context: typer.Context,
    name: DeploymentArgument,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what served under a name, newest first: shares, releases, who changed it and why."""
    with connect(context) as client:
        page = client.deployments.history(name, after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _PERIOD_COLUMNS, empty="Nothing has been served.")


def show_moment(
    context: typer.Context,
    name: DeploymentArgument,
    time: Annotated[datetime, typer.Argument(parser=moment, metavar="TIME", help="ISO 8601; local time without a zone.")],
    as_json: JsonOption = False,
) -> None:
    """Show what served under a name at a moment."""
    with connect(context) as client:
        period = client.deployments.at(name, time)
    if as_json:
        emit_json(period)
        return
    served = "\n".join(f"{share.percent}% {share.version_ref} (release {share.release_number})" for share in period.shares)
    print_fields(
        [
            ("served", served or "nothing"),
            ("since", time_text(period.began_at)),
            ("until", time_text(period.ended_at) or "now"),
            ("cause", period.cause),
            ("who", who_text(period)),
            ("why", why_text(period) or None),
            ("rollout", period.rollout_id),
        ]
    )


def show_difference(
    context: typer.Context,
    name: DeploymentArgument,
    left: Annotated[str, typer.Argument(metavar="LEFT", help=_WHICH)],
    right: Annotated[str, typer.Argument(metavar="RIGHT", help="What it is compared with.")],
    as_json: JsonOption = False,
) -> None:
    """Show what tells two releases apart: how they are served, and the recipe and evidence of their versions."""
    ours, theirs = which_release(left), which_release(right)
    with connect(context) as client:
        found = client.deployments.diff(name, ours, theirs)
    if as_json:
        emit_json(found)
        return
    left_name, right_name = _name_of(found.left), _name_of(found.right)
    columns: tuple[Column[FieldDifference], ...] = (
        ("served by", lambda item: item.key),
        (left_name, lambda item: _value(item.left)),
        (right_name, lambda item: _value(item.right)),
    )
    print_table(found.config, columns, empty=f"{left_name} and {right_name} are served the same way.")
    say("")
    print_comparison(found.versions)


def which_release(text: str) -> int | datetime:
    """Returns a release's number, or a moment; a usage error for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else moment(text)


def _name_of(side: ServedSide) -> str:
    return f"release {side.release.number}"


def _value(value: object) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
