"""``quantry jobs curve`` and ``quantry jobs checkpoints``: how a training job goes, and where it got to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantry.cli.context import JsonOption, connect
from quantry.cli.job_artifacts import JobArgument
from quantry.cli.output import Column, bytes_text, emit_json, print_table, say, stdout, time_text
from quantry.cli.plots import Dot, number_text, plot
from quantry.cli.transfers import transfer_bar
from quantry_core.jobs import EVAL_LOSS, LEARNING_RATE, LOSS, MAX_CURVE_POINTS, TOKENS_PER_S, CurvePoint, JobCheckpoint

DEFAULT_METRICS = (LOSS, EVAL_LOSS, LEARNING_RATE, TOKENS_PER_S)
_WIDTH, _HEIGHT, _SMALL_HEIGHT = 72, 10, 4
_LABEL_WIDTH = 11
"""Characters that the longest number beside a drawing takes, with the space after it."""
_MAX_POINTS = 1000

_COLUMNS: tuple[Column[JobCheckpoint], ...] = (
    ("step", lambda one: str(one.step)),
    ("attempt", lambda one: "an earlier job's" if one.attempt == 0 else str(one.attempt)),
    ("size", lambda one: bytes_text(one.size_bytes)),
    ("files", lambda one: "kept" if one.has_files else "gone"),
    ("metrics", lambda one: metrics_text(one.metrics)),
    ("created", lambda one: time_text(one.created_at)),
)


def metrics_text(metrics: dict[str, float]) -> str:
    """Returns metrics as words: ``loss 2.314, eval_loss 2.5``."""
    return ", ".join(f"{name} {number_text(value)}" for name, value in metrics.items())


def show_curve(
    context: typer.Context,
    job_id: JobArgument,
    *,
    metrics: Annotated[list[str] | None, typer.Option("--metric", help="Only this one; may be given again.")] = None,
    max_points: Annotated[int, typer.Option(min=2, max=MAX_CURVE_POINTS, help="Evenly chosen where there are more.")] = _MAX_POINTS,
    as_json: JsonOption = False,
) -> None:
    """Draw what a training job measured, by step: loss, eval loss, learning rate, tokens per second."""
    with connect(context) as client:
        curve = client.jobs.curve(job_id, max_points=max_points)
    if as_json:
        emit_json(curve)
        return
    if not curve.data:
        say(f"{job_id} has measured nothing so far.")
        return
    known = dict.fromkeys(name for point in curve.data for name in point.values)
    unknown = [name for name in metrics or () if name not in known]
    if unknown:
        raise typer.BadParameter(f"{job_id} has no metric {unknown[0]}; there are: {', '.join(known)}")
    for name in metrics or [name for name in DEFAULT_METRICS if name in known]:
        for line in curve_lines(curve.data, name):
            say(line)


def curve_lines(points: list[CurvePoint], name: str) -> list[str]:
    """Returns one metric as a heading and a drawing."""
    dots = [Dot(point.step, point.values[name]) for point in points if name in point.values]
    drawing = plot(
        dots, width=max(1, min(_WIDTH, stdout().width - _LABEL_WIDTH)), height=_HEIGHT if name in {LOSS, EVAL_LOSS} else _SMALL_HEIGHT
    )
    return [f"{name}: {number_text(dots[-1].y)} at step {dots[-1].x:.0f}", *drawing]


def list_checkpoints(
    context: typer.Context,
    job_id: JobArgument,
    *,
    download: Annotated[int | None, typer.Option("--download", metavar="STEP", min=0, help="Write the files of this step.")] = None,
    directory: Annotated[
        Path | None, typer.Option("--to", metavar="DIRECTORY", file_okay=False, help="Where to; made if it is not there.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List where a training job got to, newest first; with --download write the files of one step, each checked against its digest."""
    if (download is None) is not (directory is None):
        raise typer.BadParameter("--download names the step and --to the directory: give both, or neither")
    if download is not None and directory is not None:
        _download(context, job_id, download, directory, as_json=as_json)
        return
    with connect(context) as client:
        checkpoints = client.jobs.checkpoints(job_id)
    if as_json:
        emit_json(checkpoints)
    else:
        print_table(checkpoints, _COLUMNS, empty="There are no checkpoints.")


def _download(context: typer.Context, job_id: str, step: int, directory: Path, *, as_json: bool) -> None:
    with connect(context) as client:
        files = client.jobs.checkpoint_files(job_id, step)
        size_bytes = sum(file.size_bytes for file in files)
        with transfer_bar(job_id, size_bytes) as progress:
            written = [client.jobs.download_checkpoint_file(job_id, step, file, directory / file.path, progress=progress) for file in files]
    if as_json:
        emit_json({"job_id": job_id, "step": step, "directory": str(directory), "files": [str(path) for path in written]})
    else:
        say(f"{job_id}, step {step}: {len(written)} files, {bytes_text(size_bytes)}, digests checked, in {directory}")
