"""``quantry jobs``: list, show, follow, cancel, retry; what jobs left is in a file beside this one."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from quantry.cli import submit
from quantry.cli.completion import job_ids, pipeline_ids
from quantry.cli.context import AfterOption, JsonOption, LimitOption, SelectorOption, connect
from quantry.cli.following import MAX_FOLLOWED, end_with, follow_all, merged_events, telling_what_goes_on
from quantry.cli.job_artifacts import JobArgument, download_artifacts, list_artifacts
from quantry.cli.job_training import list_checkpoints, show_curve
from quantry.cli.job_view import about, place, print_job
from quantry.cli.output import Column, emit_json, emit_json_line, emit_text, print_page, say, status_text, time_text
from quantry.cli.references import ScheduleOption
from quantry.client import Client
from quantry.errors import ClientError
from quantry_core.evidence_tables import EvidenceTable
from quantry_core.jobs import EventKind, Job, JobStatus, JobType
from quantry_core.pages import DEFAULT_LIMIT

app = typer.Typer(help="Submit, estimate, follow, cancel and retry jobs.", no_args_is_help=True)
app.add_typer(submit.app, name="submit")
app.add_typer(submit.estimate_app, name="estimate")

JobArguments = Annotated[list[str], typer.Argument(metavar="JOB...", autocompletion=job_ids, help="job_...; several may be given.")]

_COLUMNS: tuple[Column[Job], ...] = (
    ("job", lambda job: job.id),
    ("type", lambda job: job.type),
    ("status", lambda job: status_text(job.status)),
    ("reason", lambda job: job.reason or ""),
    ("queue", lambda job: job.queue or ""),
    ("place", place),
    ("about", about),
    ("created", lambda job: time_text(job.created_at)),
)


@app.command("list")
def list_jobs(
    context: typer.Context,
    *,
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs of this status.")] = None,
    job_type: Annotated[JobType | None, typer.Option("--type", help="Only jobs of this type.")] = None,
    labels: SelectorOption = None,
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
    pipeline: Annotated[
        str | None, typer.Option(metavar="PIPELINE", autocompletion=pipeline_ids, help="Only jobs of this pipeline, pip_...")
    ] = None,
    schedule: ScheduleOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    with connect(context) as client:
        page = client.jobs.list(
            after=after, limit=limit, status=status, type=job_type, labels=labels, queue=queue, pipeline_id=pipeline, schedule_id=schedule
        )
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no jobs.")


@app.command("show")
def show_job(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show one job: where it is and why, what was estimated, what happened, and what a training or a merge measured."""
    with connect(context) as client:
        job = client.jobs.get(job_id)
        needed = [] if as_json else [client.jobs.get(need) for need in job.needs]
        measured, trouble = ([], "") if as_json else _measured(client, job)
    if as_json:
        emit_json(job)
        return
    print_job(job, needed, measured)
    if trouble:
        say(f"what it measured could not be read: {trouble}")


@app.command("watch")
def watch_jobs(context: typer.Context, job_ids: JobArguments, as_json: JsonOption = False) -> None:
    """Follow jobs to their end; exits with 1 unless all succeed. Ctrl-C leaves them running. With --json: one event per line."""
    unique = list(dict.fromkeys(job_ids))
    if len(unique) > MAX_FOLLOWED:
        raise typer.BadParameter(f"at most {MAX_FOLLOWED} jobs can be watched at once, not {len(unique)}")
    with connect(context) as client:
        if as_json:
            with telling_what_goes_on(unique, "jobs cancel"):
                for event in merged_events([client.jobs.events(job_id) for job_id in unique]):
                    emit_json_line(event)
            if any(client.jobs.get(job_id).status is not JobStatus.SUCCEEDED for job_id in unique):
                raise typer.Exit(1)
        else:
            end_with(*follow_all(client, unique), as_json=False)


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


@app.command("retry")
def retry_job(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Submit a job that failed or was cancelled once more, as a new job."""
    with connect(context) as client:
        job = client.jobs.retry(job_id)
    if as_json:
        emit_json(job)
    else:
        say(f"{job.id} {job.status}, a retry of {job_id}; follow it: quantry jobs watch {job.id}")


@app.command("log", hidden=True)
@app.command("logs")
def show_logs(
    context: typer.Context,
    job_id: JobArgument,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until the job has ended.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Only this attempt.")] = None,
    tail: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the last N lines of what is there already.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what the job's attempts wrote. With --follow --json: one event per line."""
    with connect(context) as client:
        if follow:
            for line in _followed_lines(client, job_id, attempt, tail, as_json=as_json):
                emit_text(line)
            return
        text = client.jobs.log(job_id, attempt, tail=tail)
    if as_json:
        emit_json({"job_id": job_id, "log": text})
    elif text:
        emit_text(text)


app.command("artifacts")(list_artifacts)
app.command("download")(download_artifacts)
app.command("curve")(show_curve)
app.command("checkpoints")(list_checkpoints)


def _measured(client: Client, job: Job) -> tuple[Sequence[EvidenceTable], str]:
    """Returns the tables of what a job measured, and why they could not be read: they lie with the registry, the job does not."""
    try:
        return client.jobs.measured(job), ""
    except ClientError as error:
        return [], str(error)


def _followed_lines(client: Client, job_id: str, attempt: int | None, tail: int | None, *, as_json: bool) -> Iterator[str]:
    """Yields a job's log lines, old and new; of the old ones the last ``tail`` where that is given."""
    # Each line is one event, so that the old ones can be counted; what is written meanwhile counts as new.
    num_old = 0 if tail is None else _num_lines(client.jobs.log(job_id, attempt))
    held: deque[str] = deque(maxlen=tail)
    current: int | None = None
    for event in client.jobs.events(job_id, kinds=[EventKind.LOG, EventKind.STATE]):
        if event.kind is not EventKind.LOG or attempt not in (None, event.attempt):
            continue
        if event.attempt != current and num_old == 0 and not as_json:
            yield _heading(event.attempt)
        current = event.attempt
        held.append(event.model_dump_json() if as_json else str(event.data.get("text", "")))
        num_old = max(0, num_old - 1)
        if num_old == 0:
            yield from held
            held.clear()
    yield from held


def _heading(attempt: int) -> str:
    """Returns the line above an attempt's log, as the api writes it."""
    return f"--- attempt {attempt} ---"


def _num_lines(log: str) -> int:
    """Returns how many lines of a log the job itself wrote."""
    return sum(re.fullmatch(r"--- attempt \d+ ---", line) is None for line in log.split("\n")[:-1])
