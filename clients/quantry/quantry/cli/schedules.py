"""``quantry schedules``: jobs and pipelines that run again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantry.cli.completion import schedule_ids
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, emit_json, print_fields, print_page, say, time_text
from quantry.cli.specs import build, words
from quantry.schedule_files import read_job, read_schedule
from quantry.yaml_files import read_pipeline
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.schedules import (
    NUM_NEXT_RUNS,
    JobTemplate,
    MissedPolicy,
    OverlapPolicy,
    PipelineTemplate,
    RunOutcome,
    Schedule,
    SchedulePreviewRequest,
    ScheduleRun,
    ScheduleSubmission,
)

app = typer.Typer(help="Make, pause, run and delete schedules.", no_args_is_help=True)

ScheduleArgument = Annotated[str, typer.Argument(metavar="SCHEDULE", autocompletion=schedule_ids, help="sch_...")]
KeyOption = Annotated[str | None, typer.Option("--idempotency-key", help="The same key with the same request again does no more.")]


def _last(schedule: Schedule) -> str:
    return "" if schedule.last_run is None else f"{time_text(schedule.last_run.due_at)} {schedule.last_run.outcome}"


def _next(schedule: Schedule) -> str:
    return "paused" if schedule.is_paused else time_text(schedule.next_run_at)


def _made(run: ScheduleRun) -> str:
    return run.job_id or run.pipeline_id or ""


_COLUMNS: tuple[Column[Schedule], ...] = (
    ("schedule", lambda schedule: schedule.id),
    ("name", lambda schedule: schedule.name),
    ("cron", lambda schedule: schedule.cron),
    ("time zone", lambda schedule: schedule.time_zone),
    ("next", _next),
    ("last", _last),
)

_OF_THE_SCHEDULE = ("name", "cron", "job", "pipeline", "time_zone", "overlap", "missed", "paused")
"""Options of ``schedules create`` that stand for what a FILE says."""

_RUN_COLUMNS: tuple[Column[ScheduleRun], ...] = (
    ("run", lambda run: run.id),
    ("due", lambda run: time_text(run.due_at) + (" (by hand)" if run.is_manual else "")),
    ("outcome", lambda run: run.outcome),
    ("submitted", _made),
    ("message", lambda run: run.message or ""),
)


@app.command("create")
def create_schedule(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="YAML of the whole schedule; see docs/schedules.md.", exists=True, dir_okay=False, readable=True
        ),
    ] = None,
    *,
    name: Annotated[str | None, typer.Option(help="For people; no two schedules share one.")] = None,
    cron: Annotated[str | None, typer.Option(help=words(ScheduleSubmission, "cron"))] = None,
    job: Annotated[Path | None, typer.Option(help="YAML of the job to run: spec and options.", exists=True, dir_okay=False)] = None,
    pipeline: Annotated[Path | None, typer.Option(help="YAML of the pipeline to run.", exists=True, dir_okay=False)] = None,
    time_zone: Annotated[str, typer.Option(help=words(ScheduleSubmission, "time_zone"))] = "UTC",
    overlap: Annotated[OverlapPolicy, typer.Option(help="What happens when the run before is not over.")] = OverlapPolicy.SKIP,
    missed: Annotated[MissedPolicy, typer.Option(help="What happens with runs that nobody could fire in time.")] = MissedPolicy.RUN_ONCE,
    paused: Annotated[bool, typer.Option("--paused", help="Fire nothing until it is resumed.")] = False,
    idempotency_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a schedule: from one FILE, or from --name, --cron and either --job or --pipeline."""
    if path is not None:
        _refuse_beside_a_file(context)
        submission = read_schedule(path)
    else:
        if name is None or cron is None or (job is None) == (pipeline is None):
            raise typer.BadParameter("give a FILE of the whole schedule, or --name, --cron and one of --job and --pipeline")
        template = _template(job, pipeline)
        submission = build(
            ScheduleSubmission,
            name=name,
            cron=cron,
            time_zone=time_zone,
            template=template,
            overlap=overlap,
            missed=missed,
            is_paused=paused,
        )
    with connect(context) as client:
        schedule = client.schedules.create(submission, idempotency_key=idempotency_key)
    _report(schedule, as_json=as_json)


def _refuse_beside_a_file(context: typer.Context) -> None:
    """Raises a usage error for an option that says what the file of a whole schedule says: it would be passed over."""
    for name in _OF_THE_SCHEDULE:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"--{name.replace('_', '-')} stands in the FILE of a whole schedule; give one or the other")


def _template(job: Path | None, pipeline: Path | None) -> JobTemplate | PipelineTemplate:
    if job is not None:
        return JobTemplate(submission=read_job(job))
    if pipeline is not None:
        return PipelineTemplate(submission=read_pipeline(pipeline))
    raise ValueError("a template comes from one of two files")


@app.command("list")
def list_schedules(
    context: typer.Context, *, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False
) -> None:
    """List schedules, newest first."""
    with connect(context) as client:
        page = client.schedules.list(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no schedules; make one with 'quantry schedules create'.")


@app.command("show")
def show_schedule(context: typer.Context, schedule_id: ScheduleArgument, as_json: JsonOption = False) -> None:
    """Show a schedule with its next runs and its last one."""
    with connect(context) as client:
        schedule = client.schedules.get(schedule_id)
    if as_json:
        emit_json(schedule)
        return
    last = schedule.last_run
    print_fields(
        [
            ("schedule", schedule.id),
            ("name", schedule.name),
            ("cron", f"{schedule.cron} ({schedule.time_zone})"),
            ("overlap", schedule.overlap),
            ("missed", schedule.missed),
            ("runs", str(schedule.template.get("kind", ""))),
            ("next", "paused" if schedule.is_paused else "\n".join(_zoned(moment.isoformat()) for moment in schedule.next_runs)),
            ("last", None if last is None else " ".join(part for part in (_last(schedule), _made(last), last.message or "") if part)),
            ("created", time_text(schedule.created_at)),
        ]
    )


@app.command("pause")
def pause_schedule(context: typer.Context, schedule_id: ScheduleArgument, as_json: JsonOption = False) -> None:
    """Fire nothing until the schedule is resumed."""
    with connect(context) as client:
        schedule = client.schedules.pause(schedule_id)
    _report(schedule, as_json=as_json)


@app.command("resume")
def resume_schedule(context: typer.Context, schedule_id: ScheduleArgument, as_json: JsonOption = False) -> None:
    """Fire again. What came due meanwhile counts as missed."""
    with connect(context) as client:
        schedule = client.schedules.resume(schedule_id)
    _report(schedule, as_json=as_json)


@app.command("run")
def run_schedule(
    context: typer.Context, schedule_id: ScheduleArgument, *, idempotency_key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """Run a schedule now, beside its cron times."""
    with connect(context) as client:
        run = client.schedules.run(schedule_id, idempotency_key=idempotency_key)
    if as_json:
        emit_json(run)
    else:
        say(f"{run.id} {run.outcome} {_made(run) or run.message or ''}".rstrip())


@app.command("runs")
def list_runs(
    context: typer.Context,
    schedule_id: ScheduleArgument,
    *,
    outcome: Annotated[RunOutcome | None, typer.Option(help="Only runs of this outcome.")] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what became of a schedule's due times, newest first."""
    with connect(context) as client:
        page = client.schedules.runs(schedule_id, after=after, limit=limit, outcome=outcome)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _RUN_COLUMNS, empty="Nothing has come due yet.")


@app.command("delete")
def delete_schedule(context: typer.Context, schedule_id: ScheduleArgument, as_json: JsonOption = False) -> None:
    """Delete a schedule and its list of runs; jobs that it started go on."""
    with connect(context) as client:
        client.schedules.delete(schedule_id)
    if as_json:
        emit_json({"deleted": schedule_id})
    else:
        say(f"{schedule_id} is deleted")


@app.command("preview")
def preview_schedule(
    context: typer.Context,
    cron: Annotated[str, typer.Argument(help=words(ScheduleSubmission, "cron"))],
    *,
    time_zone: Annotated[str, typer.Option(help=words(ScheduleSubmission, "time_zone"))] = "UTC",
    num_runs: Annotated[int, typer.Option("--runs", min=1, max=50, help="How many.")] = NUM_NEXT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """Show when a cron expression would fire; quote it, because of its stars."""
    request = build(SchedulePreviewRequest, cron=cron, time_zone=time_zone, num_runs=num_runs)
    with connect(context) as client:
        preview = client.schedules.preview(request.cron, time_zone=request.time_zone, num_runs=request.num_runs)
    if as_json:
        emit_json(preview)
    else:
        for moment in preview.next_runs:
            say(_zoned(moment.isoformat()))


def _zoned(moment: str) -> str:
    """Returns a moment in the schedule's own time zone, with its offset: what daylight saving does to it is to be seen."""
    return moment.replace("T", " ")


def _report(schedule: Schedule, *, as_json: bool) -> None:
    if as_json:
        emit_json(schedule)
    else:
        say(f"{schedule.id} {schedule.name}: " + ("paused" if schedule.is_paused else f"next run {time_text(schedule.next_run_at)}"))
