"""``quantry projects``: all projects, for admins of the platform project."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, emit_json, print_page, say, stderr, time_text
from quantry.cli.project import print_project
from quantry.cli.specs import build, words
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.projects import Project, ProjectLimits, ProjectRequest

app = typer.Typer(help="Make, look at, limit and archive projects: for admins of the platform project.", no_args_is_help=True)

ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="Its name or id.")]
ShareOption = Annotated[float | None, typer.Option(help=words(ProjectLimits, "share"))]
QueuedOption = Annotated[int | None, typer.Option(help=words(ProjectLimits, "max_queued") + " 0 takes the bound away.")]
RunningOption = Annotated[int | None, typer.Option(help=words(ProjectLimits, "max_running") + " 0 takes the bound away.")]


def _state(project: Project) -> str:
    if project.archived_at is not None:
        return f"archived {time_text(project.archived_at)}"
    return "platform" if project.is_platform else ""


_COLUMNS: tuple[Column[Project], ...] = (
    ("project", lambda project: project.name),
    ("id", lambda project: project.id),
    ("share", lambda project: f"{project.limits.share:g}"),
    ("waiting", lambda project: str(project.num_waiting)),
    ("queued", lambda project: str(project.num_queued)),
    ("running", lambda project: str(project.num_running)),
    ("created", lambda project: time_text(project.created_at)),
    ("", _state),
)


@app.command("list")
def list_projects(
    context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False
) -> None:
    """List all projects, archived ones included."""
    with connect(context) as client:
        page = client.projects.list(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no projects.")


@app.command("create")
def create_project(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    share: ShareOption = None,
    max_queued: QueuedOption = None,
    max_running: RunningOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project and print the secret of its first admin's key, once."""
    given = {"share": share, "max_queued": max_queued or None, "max_running": max_running or None}
    limits = build(ProjectLimits, **{field: value for field, value in given.items() if value is not None})
    request = build(ProjectRequest, name=name, limits=limits)
    with connect(context) as client:
        made = client.projects.create(request.name, request.limits)
    if as_json:
        emit_json(made)
    else:
        say(made.admin_key.secret)
        stderr().print(f"Project {made.project.name}, {made.project.id}. This is its admin's key; keep it: it is not shown again.")


@app.command("show")
def show_project(context: typer.Context, project: ProjectArgument, as_json: JsonOption = False) -> None:
    """Show a project: its share of the workers, its limits, and how many jobs are where."""
    with connect(context) as client:
        found = client.projects.get(project)
    if as_json:
        emit_json(found)
    else:
        print_project(found)


@app.command("change")
def change_project(
    context: typer.Context,
    *,
    project: ProjectArgument,
    share: ShareOption = None,
    max_queued: QueuedOption = None,
    max_running: RunningOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a project's share and limits. Jobs that run or are queued go on."""
    changes: dict[str, Any] = {} if share is None else {"share": share}
    changes |= {name: bound or None for name, bound in (("max_queued", max_queued), ("max_running", max_running)) if bound is not None}
    if not changes:
        raise typer.BadParameter("say what to change: --share, --max-queued or --max-running")
    _change(context, project, as_json, **changes)


@app.command("archive")
def archive_project(context: typer.Context, project: ProjectArgument, as_json: JsonOption = False) -> None:
    """Have a project take no new jobs. What runs, serves and is kept goes on."""
    _change(context, project, as_json, is_archived=True)


@app.command("unarchive")
def unarchive_project(context: typer.Context, project: ProjectArgument, as_json: JsonOption = False) -> None:
    """Have an archived project take jobs again."""
    _change(context, project, as_json, is_archived=False)


def _change(context: typer.Context, project: str, as_json: bool, **changes: Any) -> None:
    with connect(context) as client:
        changed = client.projects.change(project, **changes)
    if as_json:
        emit_json(changed)
    else:
        print_project(changed)
