"""Options that a command has beside its function's own: a nested spec's fields, one each, or a group that belongs together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, ParamSpec, TypeVar

import typer
from pydantic import BaseModel

from quantry.cli.specs import default, words

SpecT = TypeVar("SpecT")
P = ParamSpec("P")


@dataclass(frozen=True)
class SpecFields:
    """The fields of a spec that a command takes as options. ``names`` has those that are called otherwise there."""

    spec: type[BaseModel]
    names: Mapping[str, str] = field(default_factory=dict)

    def parameters(self) -> list[inspect.Parameter]:
        """Returns an option for each field, in their order."""
        return [
            inspect.Parameter(
                self.names.get(name, name),
                inspect.Parameter.KEYWORD_ONLY,
                default=default(self.spec, name),
                annotation=Annotated[info.annotation, typer.Option(help=words(self.spec, name))],
            )
            for name, info in self.spec.model_fields.items()
        ]

    def taken(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the spec's fields out of a command's values."""
        return {name: values[self.names.get(name, name)] for name in self.spec.model_fields}


class Option(NamedTuple):
    """An option's type with its help, and its default."""

    annotation: Any
    default: Any = None


@dataclass(frozen=True)
class OptionGroup:
    """Options that belong together, by name."""

    options: Mapping[str, Option]

    def parameters(self) -> list[inspect.Parameter]:
        """Returns the options, in their order."""
        return [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.annotation)
            for name, option in self.options.items()
        ]

    def taken(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the group's options out of a command's values."""
        return {name: values[name] for name in self.options}


def taking(*groups: SpecFields | OptionGroup) -> Callable[[Callable[P, SpecT]], Callable[P, SpecT]]:
    """Gives a function whose last parameter is ``**values`` the options of ``groups`` in its place."""

    def decorate(function: Callable[P, SpecT]) -> Callable[P, SpecT]:
        return with_options(function, [parameter for group in groups for parameter in group.parameters()])

    return decorate


def with_options(function: Callable[P, SpecT], options: list[inspect.Parameter]) -> Callable[P, SpecT]:
    """Returns a function with more options, which it is given as ``**values``."""

    @functools.wraps(function)
    def taken(*args: P.args, **values: P.kwargs) -> SpecT:
        return function(*args, **values)

    own = inspect.signature(function, eval_str=True).parameters.values()
    named = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    vars(taken)["__signature__"] = inspect.Signature([*named, *options])
    return taken
