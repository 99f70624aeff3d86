"""Label selectors as conditions on a column of labels."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, not_
from sqlalchemy.orm import InstrumentedAttribute

from quantry_core.jobs import Operator, Requirement


def label_conditions(labels: InstrumentedAttribute[dict[str, str]], requirements: Sequence[Requirement]) -> list[ColumnElement[bool]]:
    """Returns a condition for each requirement. As in Kubernetes, key!=value holds too where there is no such key."""
    return [_condition(labels, requirement) for requirement in requirements]


def _condition(labels: InstrumentedAttribute[dict[str, str]], requirement: Requirement) -> ColumnElement[bool]:
    # Containment is what the index on labels answers.
    has_value = labels.contains({requirement.key: requirement.value})
    # What the ? operator calls; some drivers take a question mark for a parameter.
    has_key = func.jsonb_exists(labels, requirement.key)
    match requirement.operator:
        case Operator.EQUAL:
            return has_value
        case Operator.NOT_EQUAL:
            return not_(has_value)
        case Operator.PRESENT:
            return has_key
        case Operator.ABSENT:
            return not_(has_key)
