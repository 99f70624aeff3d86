"""Options of ``jobs submit`` taken from the job specs themselves, so that help, defaults and checks are written once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

SpecT = TypeVar("SpecT", bound=BaseModel)


def words(spec: type[BaseModel], field: str) -> str:
    """Returns a field's description, for an option's help."""
    return spec.model_fields[field].description or field.replace("_", " ").capitalize() + "."


def default(spec: type[BaseModel], field: str) -> Any:
    """Returns a field's default, for an option's default."""
    return spec.model_fields[field].get_default(call_default_factory=True)


def build(spec: type[SpecT], **fields: object) -> SpecT:
    """Returns the spec; a value it refuses is a usage error that names the option."""
    return build_named(spec, fields, {})


def build_named(spec: type[SpecT], fields: Mapping[str, object], option_names: Mapping[str, str]) -> SpecT:
    """Returns the spec as ``build`` does; ``option_names`` has the fields whose options are called otherwise."""
    try:
        return spec.model_validate(fields)
    except ValidationError as error:
        raise typer.BadParameter(refusal_words(error, option_names)) from None


def refusal_words(error: ValidationError, option_names: Mapping[str, str] = MappingProxyType({})) -> str:
    """Returns what a model refused, each with the option it came from; ``option_names`` has fields that are called otherwise."""
    return "; ".join(_words_of(item, option_names) for item in error.errors())


def _words_of(item: ErrorDetails, option_names: Mapping[str, str]) -> str:
    names = [str(part) for part in item["loc"] if isinstance(part, str)]
    name = next((option_names[name] for name in reversed(names) if name in option_names), names[0] if names else "")
    option = f"--{name.replace('_', '-')}" if name else "the job"
    return f"{option}: {item['msg'].removeprefix('Value error, ')}"
