"""Turns what pydantic says of a request into an error with a stable type and the path of each bad field."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from quantry_core.errors import FieldProblem, InvalidInput, InvalidName, UnknownJobType
from quantry_core.jobs import JobType
from quantry_core.names import BadName

_MAX_QUOTED_CHARS = 80
_MAX_FIELDS = 50
_QUOTED = re.compile(r"'([^']*)'")


def explain_validation(errors: Sequence[Mapping[str, Any]], body: Any) -> InvalidInput:
    """Returns the error to answer for pydantic's error list.

    ``body`` is the parsed body: with it the tags that pydantic adds to a path for a union's member are left out, so a
    field's path is the one that the client wrote (spec.scheme, not spec.quantize.scheme).
    """
    fields = [FieldProblem(field=_field_path(error, body), message=_message(error)) for error in errors[:_MAX_FIELDS]]
    for error in errors:
        if error["type"] == "union_tag_invalid" and _is_of_job_types(error):
            return UnknownJobType(_unknown_type_words(error), errors=fields)
    detail = "; ".join(f"{field.field}: {field.message}" if field.field else field.message for field in fields)
    if errors and all(isinstance(error.get("ctx", {}).get("error"), BadName) for error in errors):
        return InvalidName(detail, errors=fields)
    return InvalidInput(detail, errors=fields)


def _tags(error: Mapping[str, Any]) -> list[str]:
    """Returns what may stand in the field that tells the members of a union apart; pydantic lists them in quotes, enums as such."""
    return _QUOTED.findall(str(error.get("ctx", {}).get("expected_tags", "")))


def _is_of_job_types(error: Mapping[str, Any]) -> bool:
    return set(_tags(error)) <= set(JobType)


def _unknown_type_words(error: Mapping[str, Any]) -> str:
    tag = str(error.get("ctx", {}).get("tag", ""))[:_MAX_QUOTED_CHARS]
    noun = "job type" if _is_of_job_types(error) else _noun(error)
    return f"there is no {noun} {tag!r}; known: {', '.join(_tags(error))}"


def _needed_type_words(error: Mapping[str, Any]) -> str:
    noun = _noun(error)
    if noun in {"spec", "body"}:
        return f"a type is needed: one of {', '.join(JobType)}"
    return f"{_discriminator(error)} is needed: it says which {noun} is meant"


def _noun(error: Mapping[str, Any]) -> str:
    """Returns the name of the field that a union stands in; in a list, of what tells its entries apart."""
    last = error["loc"][-1] if error["loc"] else ""
    return last if isinstance(last, str) else _discriminator(error)


def _discriminator(error: Mapping[str, Any]) -> str:
    return str(error.get("ctx", {}).get("discriminator", "type")).strip("'")


def _message(error: Mapping[str, Any]) -> str:
    cause = error.get("ctx", {}).get("error")
    if error["type"] == "missing" and tuple(error["loc"]) == ("body",):
        return "a JSON body is needed"
    if error["type"] in {"model_type", "model_attributes_type"}:
        return "a JSON object is needed"
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {cause}"
    if error["type"] == "union_tag_not_found":
        return _needed_type_words(error)
    if error["type"] == "union_tag_invalid":
        return _unknown_type_words(error)
    return str(cause) if isinstance(cause, ValueError) else str(error["msg"])


def _field_path(error: Mapping[str, Any], body: Any) -> str:
    parts = list(error["loc"])
    if parts and parts[0] != "body":
        return ".".join(str(part) for part in parts[1:])
    path: list[str] = []
    value = body
    for index, part in enumerate(parts[1:], start=2):
        is_union_tag = isinstance(value, dict) and part not in value and (index < len(parts) or error["type"] == "value_error")
        if is_union_tag:
            continue
        path.append(str(part))
        value = _step(value, part)
    return ".".join(path)


def _step(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None
