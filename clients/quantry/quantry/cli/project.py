"""``quantry project``: the project of the key, and what it may use."""

from __future__ import annotations

import typer

from quantry.cli.context import JsonOption, connect
from quantry.cli.output import emit_json, print_fields, time_text
from quantry_core.projects import Project

app = typer.Typer(help="Look at the project.", no_args_is_help=True)


def _count(number: int, bound: int | None) -> str:
    return f"{number}" if bound is None else f"{number} of at most {bound}"


@app.command("show")
def show_project(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the project of this key: its share of the workers, its limits, and how many jobs are where."""
    with connect(context) as client:
        project = client.project.get()
    if as_json:
        emit_json(project)
    else:
        print_project(project)


def print_project(project: Project) -> None:
    """Prints a project: its share, its limits, and how many jobs are where."""
    limits = project.limits
    print_fields(
        [
            ("project", project.name),
            ("id", project.id),
            ("looks after", "the installation" if project.is_platform else None),
            ("archived", time_text(project.archived_at) or None),
            ("share", f"{limits.share:g}"),
            ("running", _count(project.num_running, limits.max_running)),
            ("queued", _count(project.num_queued, limits.max_queued)),
            ("waiting", str(project.num_waiting)),
        ]
    )
