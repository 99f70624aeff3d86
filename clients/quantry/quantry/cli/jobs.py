"""``quantry jobs``: list, show, follow, cancel."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli import submit
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.following import end_with, follow
from quantry.cli.output import Column, emit_json, print_fields, print_page, say, status_text, time_text
from quantry_core.jobs import DeploySpec, EvaluateSpec, ImportSpec, Job, JobStatus, JobType, QuantizeSpec
from quantry_core.pages import DEFAULT_LIMIT

app = typer.Typer(help="Submit, follow and cancel jobs.", no_args_is_help=True)
app.add_typer(submit.app, name="submit")

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="job_...")]


def _about(job: Job) -> str:
    match job.spec:
        case ImportSpec(model=model, source=source):
            return f"{model} <- {source}"
        case QuantizeSpec(base=base, method=method, scheme=scheme):
            return f"{base} {method} {scheme}"
        case EvaluateSpec(version=version, corpora=corpora):
            return f"{version} on {', '.join(corpora)}"
        case DeploySpec(deployment=deployment, version=version):
            return f"{version} as {deployment}"


def _progress(job: Job) -> str:
    return "" if job.progress is None or job.status is not JobStatus.RUNNING else f"{job.progress.fraction:.0%} {job.progress.phase}"


_COLUMNS: tuple[Column[Job], ...] = (
    ("job", lambda job: job.id),
    ("type", lambda job: job.type),
    ("status", lambda job: status_text(job.status)),
    ("reason", lambda job: job.reason or ""),
    ("progress", _progress),
    ("about", _about),
    ("created", lambda job: time_text(job.created_at)),
)


@app.command("list")
def list_jobs(
    context: typer.Context,
    *,
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs of this status.")] = None,
    job_type: Annotated[JobType | None, typer.Option("--type", help="Only jobs of this type.")] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    with connect(context) as client:
        page = client.jobs.list(after=after, limit=limit, status=status, type=job_type)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no jobs.")


@app.command("show")
def show_job(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show one job."""
    with connect(context) as client:
        job = client.jobs.get(job_id)
    if as_json:
        emit_json(job)
        return
    result = None if job.result is None else job.result.model_dump_json(exclude_none=True)
    print_fields(
        [
            ("job", job.id),
            ("type", job.type),
            ("status", status_text(job.status)),
            ("reason", job.reason),
            ("message", job.message),
            ("progress", _progress(job) or None),
            ("attempt", f"{job.attempt} ({job.num_lost_attempts} lost)"),
            ("created", time_text(job.created_at)),
            ("started", time_text(job.started_at) or None),
            ("finished", time_text(job.finished_at) or None),
            ("spec", job.spec.model_dump_json()),
            ("result", result),
        ]
    )


@app.command("watch")
def watch_job(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Follow a job to its end; exits with 1 unless it succeeds. With --json: one event per line."""
    with connect(context) as client:
        if as_json:
            for event in client.jobs.events(job_id):
                typer.echo(event.model_dump_json())
            if client.jobs.get(job_id).status is not JobStatus.SUCCEEDED:
                raise typer.Exit(1)
        else:
            end_with(follow(client, job_id), as_json=False)


@app.command("cancel")
def cancel_job(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Ask for a job to be cancelled."""
    with connect(context) as client:
        job = client.jobs.cancel(job_id)
    if as_json:
        emit_json(job)
    elif job.status is JobStatus.RUNNING:
        say(f"{job.id} is running; its worker was asked to stop")
    else:
        say(f"{job.id} {job.status}")


@app.command("log")
def show_log(
    context: typer.Context,
    job_id: JobArgument,
    attempt: Annotated[int | None, typer.Option(min=1, help="Only this attempt.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what the job's attempts wrote."""
    with connect(context) as client:
        text = client.jobs.log(job_id, attempt)
    if as_json:
        emit_json({"job_id": job_id, "log": text})
    else:
        typer.echo(text, nl=not text.endswith("\n"))
