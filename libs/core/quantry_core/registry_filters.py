"""The filters and orders that MLflow's clients ask with: ``name LIKE 'bard%' AND tags.`stage` = 'test'``, ``version_number DESC``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.names import is_number

MAX_FILTER_CHARS = 4000
MAX_CONDITIONS = 16
MAX_ORDERS = 4
_SHOWN_CHARS = 60

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<field>[A-Za-z_]\w*(?:\s*\.\s*(?:`[^`]*`|"[^"]*"|[A-Za-z_][\w.\-/]*))?)
        |(?P<operator>!=|<>|<=|>=|=|<|>)
        |(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
        |(?P<number>\d+)
        |(?P<bracket>[(),])
    )""",
    re.VERBOSE,
)


class Field(StrEnum):
    """What of a model or version is compared and ordered by."""

    NAME = "name"
    VERSION_NUMBER = "version_number"
    CREATED = "creation_timestamp"
    UPDATED = "last_updated_timestamp"
    TAG = "tag"


class Comparator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    LIKE = "LIKE"
    ILIKE = "ILIKE"


TEXT_COMPARATORS = frozenset({Comparator.EQUAL, Comparator.NOT_EQUAL, Comparator.LIKE, Comparator.ILIKE})
NUMBER_COMPARATORS = frozenset(Comparator) - {Comparator.LIKE, Comparator.ILIKE}

_SPELLINGS: Mapping[str, Field] = {
    "name": Field.NAME,
    "version": Field.VERSION_NUMBER,
    "version_number": Field.VERSION_NUMBER,
    "creation_timestamp": Field.CREATED,
    "creation_time": Field.CREATED,
    "timestamp": Field.UPDATED,
    "last_updated_timestamp": Field.UPDATED,
}

OF_MODELS: frozenset[Field] = frozenset({Field.NAME, Field.TAG})
OF_VERSIONS: frozenset[Field] = frozenset({Field.NAME, Field.VERSION_NUMBER, Field.TAG})
"""What a filter may compare."""
ORDERS_OF_MODELS: frozenset[Field] = frozenset({Field.NAME, Field.CREATED, Field.UPDATED})
ORDERS_OF_VERSIONS: frozenset[Field] = ORDERS_OF_MODELS | {Field.VERSION_NUMBER}


class Condition(NamedTuple):
    """One comparison. ``tag`` is the key of a tag, empty for other fields; a number is written in digits."""

    field: Field
    comparator: Comparator
    value: str
    tag: str = ""


class Order(NamedTuple):
    field: Field
    is_descending: bool


def parse_filter(text: str, fields: frozenset[Field]) -> list[Condition]:
    """Returns the conditions of a filter, all of which must hold; none for an empty one. Raises InvalidInput saying where it goes wrong."""
    if len(text) > MAX_FILTER_CHARS:
        raise _refused(f"it has {len(text)} characters, at most {MAX_FILTER_CHARS} are read")
    tokens = _Tokens(text)
    conditions: list[Condition] = []
    while not tokens.is_empty:
        if conditions:
            tokens.take_and()
        conditions.append(_condition(tokens, fields))
    if len(conditions) > MAX_CONDITIONS:
        raise _refused(f"it has {len(conditions)} conditions, at most {MAX_CONDITIONS} are taken")
    return conditions


def parse_orders(texts: Sequence[str], fields: frozenset[Field]) -> list[Order]:
    """Returns the orders of ``name ASC`` and the like, a field once at most; raises InvalidInput."""
    orders: list[Order] = []
    for text in (part for whole in texts for part in whole.split(",")):
        words = text.split()
        direction = words[1].upper() if len(words) == 2 else "ASC"
        field = _SPELLINGS.get(words[0].strip('`"').removeprefix("attribute.").lower()) if words else None
        if field not in fields or field is None or len(words) > 2 or direction not in {"ASC", "DESC"}:
            known = ", ".join(sorted(fields))
            why = f"{text[:_SHOWN_CHARS]!r} is no order: one of {known}, and ASC or DESC after it"
            raise InvalidInput(f"order_by: {why}", errors=[FieldProblem(field="order_by", message=why)])
        if field not in {order.field for order in orders}:
            orders.append(Order(field, direction == "DESC"))
    if len(orders) > MAX_ORDERS:
        raise InvalidInput(f"order_by: at most {MAX_ORDERS} fields are ordered by")
    return orders


class _Token(NamedTuple):
    kind: str
    text: str


class _Tokens:
    """The words of a filter, taken from the left."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_split(text))
        self._next = 0

    @property
    def is_empty(self) -> bool:
        return self._next == len(self._tokens)

    def take(self, wanted: str) -> _Token:
        """Returns the next word; ``wanted`` says in words what it should be."""
        if self.is_empty:
            raise _refused(f"it ends where {wanted} should be")
        self._next += 1
        return self._tokens[self._next - 1]

    def take_and(self) -> None:
        token = self.take("AND")
        if token.text.upper() == "OR":
            raise _refused("OR is not taken here: conditions are joined by AND; ask twice")
        if token.text.upper() != "AND":
            raise _refused(f"{token.text[:_SHOWN_CHARS]!r} stands where AND should be")


def _split(text: str) -> Iterator[_Token]:
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _refused(f"it cannot be read from {text[position : position + _SHOWN_CHARS].strip()!r} on")
        yield _Token(match.lastgroup, match[match.lastgroup])
        position = match.end()


def _condition(tokens: _Tokens, fields: frozenset[Field]) -> Condition:
    left = tokens.take("a field")
    if left.kind != "field":
        raise _refused(f"{left.text[:_SHOWN_CHARS]!r} stands where a field should be: {_known(fields)}")
    field, tag = _field(left.text, fields)
    comparator = _comparator(tokens.take("a comparison"), field)
    right = tokens.take("a value")
    if field is Field.VERSION_NUMBER:
        number = _unquoted(right)
        if not is_number(number):
            raise _refused(f"{number[:_SHOWN_CHARS]!r} is no version number")
        return Condition(field, comparator, number)
    if right.kind != "text":
        raise _refused(f"{right.text[:_SHOWN_CHARS]!r} stands where a text in quotes should be")
    return Condition(field, comparator, _unquoted(right), tag)


def _field(written: str, fields: frozenset[Field]) -> tuple[Field, str]:
    prefix, dot, rest = written.partition(".")
    if dot and prefix.strip().lower() in {"tag", "tags"}:
        key = rest.strip().strip('`"')
        if not key:
            raise _refused("the key of a tag is empty")
        return Field.TAG, key
    is_attribute = not dot or prefix.strip().lower() in {"attribute", "attributes"}
    field = _SPELLINGS.get((rest if dot else written).strip().strip('`"').lower()) if is_attribute else None
    if field is None or field not in fields:
        raise _refused(f"{written[:_SHOWN_CHARS]!r} is nothing to filter by; known: {_known(fields)}")
    return field, ""


def _comparator(token: _Token, field: Field) -> Comparator:
    allowed = NUMBER_COMPARATORS if field is Field.VERSION_NUMBER else TEXT_COMPARATORS
    written = {"<>": "!="}.get(token.text, token.text.upper())
    if written not in set(allowed):
        listed = ", ".join(sorted(allowed))
        raise _refused(f"{token.text[:_SHOWN_CHARS]!r} does not compare {field}; known: {listed}")
    return Comparator(written)


def _unquoted(token: _Token) -> str:
    if token.kind != "text":
        return token.text
    quote = token.text[0]
    return token.text[1:-1].replace(quote * 2, quote)


def _known(fields: frozenset[Field]) -> str:
    return ", ".join("tags.`key`" if field is Field.TAG else field for field in sorted(fields))


def _refused(why: str) -> InvalidInput:
    return InvalidInput(f"filter: {why}", errors=[FieldProblem(field="filter", message=why)])
