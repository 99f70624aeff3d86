"""Options of ``jobs submit`` taken from the job specs themselves, so that help, defaults and checks are written once."""

from __future__ import annotations

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
    try:
        return spec.model_validate(fields)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(_words_of(item) for item in error.errors())) from None


def _words_of(item: ErrorDetails) -> str:
    option = str(item["loc"][0]).replace("_", "-") if item["loc"] else "the job"
    return f"--{option}: {item['msg'].removeprefix('Value error, ')}"
