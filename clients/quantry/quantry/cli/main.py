"""The command's entry point: puts the parts together and turns what goes wrong into a line and an exit code.

0: done. 1: the job failed or the request was refused. 2: the command was not right. 3: no server answers. 130: Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from quantry.cli import (
    audit,
    datasets,
    deployments,
    imports,
    jobs,
    keys,
    lineage,
    methods,
    models,
    pipelines,
    project,
    projects,
    rollouts,
    schedules,
    submit,
    vault,
    versions,
    webhooks,
    workers,
)
from quantry.cli.context import Server
from quantry.cli.output import say, stderr
from quantry.errors import ApiError, ClientError, ConfigurationError, FileRefused, InvalidReference, ServerUnreachable, UploadRefused

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130

PLUGIN_GROUP = "quantry.commands"
"""Entry points of this group are functions ``register(app: typer.Typer) -> None`` that add commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. ``arguments``: those of the process where None."""
    try:
        build_app()(args=None if arguments is None else list(arguments), prog_name="quantry")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (ClientError, OSError) as error:
        return _explain(error)
    return 0


def build_app() -> typer.Typer:
    """Returns the command with its own sub-commands and those of plugins."""
    app = typer.Typer(name="quantry", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_root)
    app.add_typer(jobs.app, name="jobs")
    app.add_typer(pipelines.app, name="pipelines")
    app.add_typer(schedules.app, name="schedules")
    app.add_typer(workers.app, name="workers")
    app.add_typer(project.app, name="project")
    app.add_typer(projects.app, name="projects")
    app.add_typer(models.app, name="models")
    app.add_typer(versions.app, name="versions")
    app.add_typer(vault.app, name="vault")
    app.command("lineage")(lineage.show_lineage)
    app.command("import")(imports.import_model)
    app.add_typer(datasets.app, name="datasets")
    app.add_typer(deployments.app, name="deployments")
    app.command("deploy")(submit.deploy)
    app.add_typer(rollouts.app, name="rollouts")
    app.add_typer(methods.app, name="methods")
    app.add_typer(keys.app, name="keys")
    app.add_typer(webhooks.app, name="webhooks")
    app.add_typer(audit.app, name="audit")
    add_plugins(app)
    return app


def add_plugins(app: typer.Typer) -> None:
    """Lets every installed plugin add its commands; one that cannot be loaded costs a warning, not the command."""
    for entry_point in sorted(entry_points(group=PLUGIN_GROUP), key=lambda entry: entry.name):
        try:
            entry_point.load()(app)
        except Exception as error:  # A plugin may fail in any way; the rest must work.
            stderr().print(f"quantry: the plugin {entry_point.name} cannot be used: {type(error).__name__}: {error}")


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"quantry {version('quantry')}")
        raise typer.Exit


def _root(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="The server; else QUANTRY_URL, else the client.json of 'quantry up'.")] = None,
    api_key: Annotated[str | None, typer.Option(help="The key; else QUANTRY_API_KEY, else the client.json of 'quantry up'.")] = None,
    _version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Quantize models, keep their lineage, evaluate and serve them."""
    context.obj = Server(url=url, api_key=api_key)


def _explain(error: ClientError | OSError) -> int:
    """Prints one or two lines that help, and returns the exit code."""
    match error:
        case ConfigurationError() | InvalidReference() | FileRefused() | UploadRefused():
            code, hints = EXIT_USAGE, []
        case ServerUnreachable(idempotency_key=str() as key):
            code, hints = EXIT_UNREACHABLE, [f"Whether it has arrived is not known. Once only: the same again with --idempotency-key {key}"]
        case ServerUnreachable():
            code, hints = EXIT_UNREACHABLE, ["Is it running? 'quantry status' tells for a stack on this machine."]
        case ApiError():
            code, hints = EXIT_REFUSED, [f"{problem.field}: {problem.message}" for problem in error.errors]
        case _:
            code, hints = EXIT_REFUSED, []
    console = stderr()
    console.print(f"quantry: {error}")
    for hint in hints:
        console.print(hint)
    return code


if __name__ == "__main__":
    sys.exit(main())
