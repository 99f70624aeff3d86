"""``quantry pipelines``: several jobs from one file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live

from quantry.cli.completion import pipeline_ids
from quantry.cli.context import AfterOption, JsonOption, LimitOption, SelectorOption, connect
from quantry.cli.following import telling_what_goes_on
from quantry.cli.output import Column, emit_json, emit_json_line, print_page, say, status_text, stderr, stdout, time_text
from quantry.cli.pipeline_view import StepLines, counts_text, pipeline_end_text, step_name, step_tree
from quantry.cli.references import ScheduleOption
from quantry.client import Client
from quantry.yaml_files import read_pipeline
from quantry_core.jobs import JobStatus
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.pipelines import Pipeline, PipelineDetail

app = typer.Typer(help="Submit, follow, cancel and retry pipelines.", no_args_is_help=True)

PipelineArgument = Annotated[str, typer.Argument(metavar="PIPELINE", autocompletion=pipeline_ids, help="pip_...")]

_COLUMNS: tuple[Column[Pipeline], ...] = (
    ("pipeline", lambda pipeline: pipeline.id),
    ("name", lambda pipeline: pipeline.name),
    ("status", lambda pipeline: status_text(pipeline.status)),
    ("jobs", counts_text),
    ("created", lambda pipeline: time_text(pipeline.created_at)),
)


@app.command("submit")
def submit_pipeline(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="YAML; see docs/pipelines.md.", exists=True, dir_okay=False, readable=True)],
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end; exit with 1 unless every job succeeds.")] = False,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key with the same file again makes no second one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Submit all jobs of a file at once, or none."""
    submission = read_pipeline(path)
    with connect(context) as client:
        pipeline = client.pipelines.submit(submission, idempotency_key=idempotency_key)
        if not as_json:
            follow = "" if watch else f"; follow it: quantry pipelines watch {pipeline.id}"
            say(f"{pipeline.id} {len(pipeline.jobs)} jobs{follow}")
        if watch:
            _watch(client, pipeline.id, as_json=as_json)
        elif as_json:
            emit_json(pipeline)


@app.command("list")
def list_pipelines(
    context: typer.Context,
    *,
    labels: SelectorOption = None,
    schedule: ScheduleOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """List pipelines, newest first."""
    with connect(context) as client:
        page = client.pipelines.list(after=after, limit=limit, labels=labels, schedule_id=schedule)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no pipelines; submit one with 'quantry pipelines submit'.")


@app.command("show")
def show_pipeline(context: typer.Context, pipeline_id: PipelineArgument, as_json: JsonOption = False) -> None:
    """Show a pipeline's steps: what each needs, where it is and how it ended."""
    with connect(context) as client:
        pipeline = client.pipelines.get(pipeline_id)
    if as_json:
        emit_json(pipeline)
    else:
        stdout().print(step_tree(pipeline), soft_wrap=True)


@app.command("watch")
def watch_pipeline(context: typer.Context, pipeline_id: PipelineArgument, as_json: JsonOption = False) -> None:
    """Follow a pipeline to its end; exits with 1 unless every job succeeds. Ctrl-C leaves it running."""
    with connect(context) as client:
        _watch(client, pipeline_id, as_json=as_json)


@app.command("cancel")
def cancel_pipeline(context: typer.Context, pipeline_id: PipelineArgument, as_json: JsonOption = False) -> None:
    """Ask for every job that has not ended to be cancelled."""
    with connect(context) as client:
        pipeline = client.pipelines.cancel(pipeline_id)
    _print_change(pipeline, as_json=as_json)


@app.command("retry")
def retry_pipeline(context: typer.Context, pipeline_id: PipelineArgument, as_json: JsonOption = False) -> None:
    """Submit again what did not succeed; what did is used as it is."""
    with connect(context) as client:
        pipeline = client.pipelines.retry(pipeline_id)
    _print_change(pipeline, as_json=as_json)


def _print_change(pipeline: PipelineDetail, *, as_json: bool) -> None:
    if as_json:
        emit_json(pipeline)
    else:
        say(f"{pipeline.id} {pipeline.status}: {counts_text(pipeline)}")


def _watch(client: Client, pipeline_id: str, *, as_json: bool) -> None:
    """Follows a pipeline and prints its end; exits with 1 unless it succeeded. JSON is the pipeline at each change, one for each line."""
    with telling_what_goes_on([pipeline_id], "pipelines cancel"):
        looks = client.pipelines.watch(pipeline_id)
        pipeline = _follow_documents(looks) if as_json else _follow_live(looks) if stdout().is_terminal else _follow_lines(looks)
    if not as_json:
        say(pipeline_end_text(pipeline))
        for job in pipeline.jobs:
            if job.status is JobStatus.FAILED:
                stderr().print(f"The log of {step_name(job)}: quantry jobs logs {job.id}")
    if pipeline.status is not JobStatus.SUCCEEDED:
        raise typer.Exit(1)


def _follow_live(looks: Iterable[PipelineDetail]) -> PipelineDetail:
    with Live(console=stdout(), refresh_per_second=4) as live:
        for pipeline in looks:
            live.update(step_tree(pipeline))
            last = pipeline
    return last


def _follow_lines(looks: Iterable[PipelineDetail]) -> PipelineDetail:
    steps = StepLines()
    for pipeline in looks:
        for line in steps.lines(pipeline):
            say(line)
        last = pipeline
    return last


def _follow_documents(looks: Iterable[PipelineDetail]) -> PipelineDetail:
    said = None
    for pipeline in looks:
        if pipeline != said:
            emit_json_line(pipeline)
        said = last = pipeline
    return last
