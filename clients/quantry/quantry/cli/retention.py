"""``quantry retention``: policy, list, show, run."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, bytes_text, emit_json, print_fields, print_page, print_table, say, time_text
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.retention import RetentionCount, RetentionRule, RetentionRun, RetentionRunStatus

app = typer.Typer(help="What is kept how long, and what was removed.", no_args_is_help=True)

EXIT_FAILED = 1


def _kept(rule: RetentionRule) -> str:
    if rule.keep_days is not None:
        return f"{rule.keep_days:g} days"
    return "its own time" if rule.has_own_time else "for ever"


def _time(run: RetentionRun) -> str:
    return "" if run.finished_at is None else time_text(run.finished_at)


_RULES: tuple[Column[RetentionRule], ...] = (
    ("kind", lambda rule: rule.kind),
    ("kept", _kept),
    ("counted from", lambda rule: rule.counted_from),
    ("what", lambda rule: rule.what),
    ("setting", lambda rule: rule.setting or ""),
)

_RUNS: tuple[Column[RetentionRun], ...] = (
    ("run", lambda run: run.id),
    ("by", lambda run: run.part),
    ("status", lambda run: run.status),
    ("asked", lambda run: time_text(run.created_at)),
    ("ended", _time),
    ("removed", lambda run: f"{run.num_removed:,} would be" if run.dry_run else f"{run.num_removed:,}"),
    ("bytes", lambda run: bytes_text(run.size_bytes)),
)

_COUNTS: tuple[Column[RetentionCount], ...] = (
    ("kind", lambda count: count.kind),
    ("removed", lambda count: f"{count.num_removed:,}"),
    ("bytes", lambda count: bytes_text(count.size_bytes)),
    ("oldest kept", lambda count: "" if count.oldest_kept_at is None else time_text(count.oldest_kept_at)),
    ("took", lambda count: f"{count.duration_s:.2f} s"),
    ("error", lambda count: count.error or ""),
)


@app.command("policy")
def policy(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show what is kept for how long."""
    _show_policy(context, as_json)


@app.command("show")
def show(
    context: typer.Context,
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="ret_...; what is kept for how long where left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what one run removed; without its id, what is kept for how long."""
    if run_id is None:
        _show_policy(context, as_json)
        return
    with connect(context) as client:
        run = client.retention.get(run_id)
    _show(run, as_json)


@app.command("list")
@app.command("runs", hidden=True)
def list_runs(context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False) -> None:
    """List what runs removed, newest first. For admins of the platform project."""
    with connect(context) as client:
        page = client.retention.runs(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _RUNS, empty="Nothing was removed yet.")


@app.command("run")
def run_now(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be removed.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove now what is kept long enough, as the platform does by itself. With --wait the exit code is 1 where something failed."""
    with connect(context) as client:
        run = client.retention.run(dry_run=dry_run)
        if wait:
            run = client.retention.wait(run.id)
    _show(run, as_json)
    if run.finished_at is None and not as_json:
        say(f"It goes on: quantry retention show {run.id}")


def _show_policy(context: typer.Context, as_json: bool) -> None:
    with connect(context) as client:
        found = client.retention.policy()
    if as_json:
        emit_json(found)
        return
    print_table(found.rules, _RULES, empty="")
    say("Kept until somebody deletes it, or for ever:")
    for line in found.for_ever:
        say(f"  {line}")


def _show(run: RetentionRun, as_json: bool) -> None:
    if as_json:
        emit_json(run)
    else:
        removed = f"nothing: {run.num_removed:,} were only counted" if run.dry_run else f"{run.num_removed:,}"
        print_fields([("run", run.id), ("status", run.status), ("removed", removed), ("bytes", bytes_text(run.size_bytes))])
        if told := [count for count in run.counts if count.num_removed or count.error]:
            print_table(told, _COUNTS, empty="")
    if run.status is RetentionRunStatus.FAILED:
        raise typer.Exit(EXIT_FAILED)
