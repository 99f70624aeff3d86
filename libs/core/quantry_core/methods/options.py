"""Options of methods: typed, bounded, each with its default, its unit and its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.errors import InvalidInput

OptionValue = bool | int | float | str


class OptionInfo(BaseModel):
    """One option of a method. Its type is that of its default."""

    model_config = ConfigDict(frozen=True)

    name: str
    default: OptionValue
    words: str = Field(description="What it does, and its unit.")
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None


def check_options(method: str, known: Sequence[OptionInfo], given: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Returns every option with its value, the defaults filled in; raises InvalidInput naming what is wrong and what there is."""
    by_name = {option.name: option for option in known}
    for name in given:
        if name not in by_name:
            raise InvalidInput(f"method {method} has no option {name!r}; it has: {', '.join(by_name) or 'none'}")
    return {name: _checked(method, option, given[name]) if name in given else option.default for name, option in by_name.items()}


def _checked(method: str, option: OptionInfo, value: Any) -> OptionValue:
    wanted = type(option.default)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise InvalidInput(f"option {option.name} of method {method} is a {_TYPE_WORDS[wanted]}, not {value!r}")
    if option.choices is not None and value not in option.choices:
        raise InvalidInput(f"option {option.name} of method {method} is one of {', '.join(option.choices)}, not {value!r}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = option.minimum, option.maximum
        # Written so that NaN is refused too.
        if not ((low is None or value >= low) and (high is None or value <= high)):
            raise InvalidInput(f"option {option.name} of method {method} is {value}; it lies from {low} to {high}")
    checked: OptionValue = value
    return checked


_TYPE_WORDS: dict[type, str] = {bool: "boolean", int: "whole number", float: "number", str: "word"}
