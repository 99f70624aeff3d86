"""The command's entry point: puts the parts together and turns what goes wrong into a line and an exit code.

0: done. 1: the job failed or the request was refused. 2: the command was not right. 3: no server answers. 130: Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from quantry.cli import (
    audit,
    config,
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
    queues,
    retention,
    rollouts,
    schedules,
    submit,
    uploads,
    vault,
    versions,
    webhooks,
    workers,
)
from quantry.cli.completion import profile_names
from quantry.cli.context import Server
from quantry.cli.doctor import doctor
from quantry.cli.output import say, stderr
from quantry.cli.plugins import add_plugins
from quantry.cli.whoami import whoami
from quantry.errors import ApiError, ClientError, ConfigurationError, FileRefused, InvalidReference, ServerUnreachable, UploadRefused

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130


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
    app = typer.Typer(name="quantry", no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_root)
    app.add_typer(jobs.app, name="jobs")
    app.add_typer(pipelines.app, name="pipelines")
    app.add_typer(schedules.app, name="schedules")
    app.add_typer(workers.app, name="workers")
    app.add_typer(queues.app, name="queues")
    app.add_typer(project.app, name="project")
    app.add_typer(projects.app, name="projects")
    app.add_typer(models.app, name="models")
    app.add_typer(versions.app, name="versions")
    app.add_typer(uploads.app, name="uploads")
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
    app.add_typer(retention.app, name="retention")
    app.add_typer(config.app, name="config")
    app.command("doctor")(doctor)
    app.command("whoami")(whoami)
    add_plugins(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"quantry {version('quantry')}")
        raise typer.Exit


def _root(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="The server; else a profile, QUANTRY_URL, or the client.json of 'quantry up'.")] = None,
    api_key: Annotated[str | None, typer.Option(help="The key; better in a profile or QUANTRY_API_KEY, where no list shows it.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="A server and key by name; else QUANTRY_PROFILE.", autocompletion=profile_names)
    ] = None,
    _version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Quantize models, keep their lineage, evaluate and serve them."""
    context.obj = Server(url=url, api_key=api_key, profile=profile)


def _explain(error: ClientError | OSError) -> int:
    """Prints one or two lines that help, and returns the exit code."""
    match error:
        case ConfigurationError() | InvalidReference() | FileRefused() | UploadRefused():
            code, hints = EXIT_USAGE, []
        case ServerUnreachable(idempotency_key=str() as key):
            code, hints = EXIT_UNREACHABLE, [f"Whether it has arrived is not known. Once only: the same again with --idempotency-key {key}"]
        case ServerUnreachable():
            code, hints = EXIT_UNREACHABLE, ["Is it running? 'quantry doctor' looks at server and machine."]
        case ApiError():
            code, hints = EXIT_REFUSED, [*(f"{problem.field}: {problem.message}" for problem in error.errors), *_advice(error)]
        case _:
            code, hints = EXIT_REFUSED, []
    console = stderr()
    console.print(f"quantry: {_words(error)}")
    for hint in hints:
        console.print(hint)
    return code


def _words(error: ClientError | OSError) -> str:
    """Returns what went wrong; of files which one, instead of the number that the operating system has for it."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _advice(error: ApiError) -> list[str]:
    """Returns what to do about a refusal, where its own words do not say it."""
    match error.status:
        case 401:
            return ["Which key was sent: 'quantry config show'. Another one: --api-key, --profile or QUANTRY_API_KEY."]
        case 403:
            return ["What this key may do: 'quantry keys list' of an admin; docs/access.md has each role."]
        case 429 | 503 if error.retry_after_s is not None:
            return [f"Again in {error.retry_after_s:.0f} s."]
        case _:
            return []


if __name__ == "__main__":
    sys.exit(main())
