"""The options that every job type shares, written once and added to the commands of each type."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from pydantic import ValidationError

from quantry.cli.completion import job_ids
from quantry.cli.context import JsonOption
from quantry.cli.specs import default, refusal_words, words
from quantry.cli.values import duration_s, labels, metadata, moment, size_bytes
from quantry.submissions import JobKeywords, job_submission
from quantry_core.jobs import JobSpec, JobSubmission, Resource

OptionsT = TypeVar("OptionsT", bound="JobOptions")


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What may be said of a job beside its spec. Each field is an option of ``jobs submit`` and ``jobs estimate``."""

    priority: Annotated[int, typer.Option(min=0, max=9, help="0 is claimed first, 9 last.")] = default(JobSubmission, "priority")
    resource: Annotated[Resource | None, typer.Option(help=words(JobSubmission, "resource"))] = None
    queue: Annotated[str | None, typer.Option(help=words(JobSubmission, "queue"))] = None
    time_limit: Annotated[
        int | None, typer.Option(parser=duration_s, metavar="DURATION", help="Of one attempt, such as 2h or 45m; beyond, it has timed out.")
    ] = None
    memory_limit: Annotated[
        int | None, typer.Option(parser=size_bytes, metavar="SIZE", help="Of one attempt, such as 16GiB; beyond, it is out of memory.")
    ] = None
    not_before: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="Not started before, ISO 8601; local time without a zone.")
    ] = None
    label: Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="To find it by; may be given again.")] = field(default_factory=list)
    metadata: Annotated[list[str], typer.Option(metavar="KEY=JSON", help="Kept with the job; may be given again.")] = field(
        default_factory=list
    )
    need: Annotated[
        list[str], typer.Option(metavar="JOB", autocompletion=job_ids, help="A job that must succeed first; may be given again.")
    ] = field(default_factory=list)
    force: Annotated[bool, typer.Option("--force", help=words(JobSubmission, "force"))] = False
    as_json: JsonOption = False

    def keywords(self, spec: JobSpec) -> JobKeywords:
        """Returns the SDK's keywords; a usage error if the job cannot be."""
        keywords: JobKeywords = {
            "priority": self.priority,
            "resource": self.resource,
            "queue": self.queue,
            "time_limit_s": self.time_limit,
            "memory_limit_bytes": self.memory_limit,
            "not_before": self.not_before,
            "labels": labels(self.label),
            "metadata": metadata(self.metadata),
            "needs": self.need,
            "force": self.force,
        }
        try:
            job_submission(spec, **keywords)
        except ValidationError as error:
            raise typer.BadParameter(refusal_words(error, _OPTION_NAMES)) from None
        return keywords


_OPTION_NAMES = {"labels": "label", "needs": "need", "time_s": "time-limit", "memory_bytes": "memory-limit"}
"""Fields that are called otherwise than their option."""


@dataclass(frozen=True, kw_only=True)
class SubmitOptions(JobOptions):
    """What else may be said when a job is submitted."""

    idempotency_key: Annotated[str | None, typer.Option(help="The same key with the same job again makes no second one.")] = None
    estimate: Annotated[bool, typer.Option("--estimate", "--dry-run", help="Show what the job would take; submit nothing.")] = False
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its end; exit with 1 unless it succeeds.")] = False


def command_of(
    spec_options: Callable[..., JobSpec], options_type: type[OptionsT], act: Callable[[typer.Context, JobSpec, OptionsT], None]
) -> Callable[..., None]:
    """Returns a command with the options of a job type and those of ``options_type``, which builds the spec and calls ``act``."""
    hints = get_type_hints(options_type, include_extras=True)
    shared = {one.name: _parameter(one, hints[one.name]) for one in dataclasses.fields(options_type)}
    own = inspect.signature(spec_options, eval_str=True).parameters
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

    @functools.wraps(spec_options)
    def command(context: typer.Context, **values: Any) -> None:
        spec = spec_options(**{name: values[name] for name in own})
        act(context, spec, options_type(**{name: values[name] for name in shared}))

    parameters = [context, *own.values(), *shared.values()]
    # Typer reads both: what a command takes is said once for all types, so that it has to be put together here.
    vars(command)["__signature__"] = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameter(option: dataclasses.Field[Any], annotation: Any) -> inspect.Parameter:
    value = option.default_factory() if option.default_factory is not dataclasses.MISSING else option.default
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=annotation)
