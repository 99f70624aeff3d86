"""What a form is built from: a JSON schema of the API's OpenAPI document, read into shapes. Nothing here knows a job type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeGuard

from quantry_core.jobs.specs import REFERS_TO

UNITS = frozenset({"s", "ms", "bytes"})


class Absent(Enum):
    """What is not there, where None is a value."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


@dataclass(frozen=True)
class Text:
    """A text; ``refers_to``: what it names (version, dataset, ...), where it does."""

    refers_to: str | None = None
    pattern: str | None = None
    is_moment: bool = False


@dataclass(frozen=True)
class Number:
    """A number, with its bounds in words."""

    is_whole: bool
    bounds: str = ""


@dataclass(frozen=True)
class Flag:
    """Yes or no."""


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[str | int | float | bool, ...]


@dataclass(frozen=True)
class Plain:
    """A number, a yes or no, or a text: what it is is read from how it is written."""


@dataclass(frozen=True)
class Document:
    """Anything, written as JSON."""


@dataclass(frozen=True)
class Many:
    """A list."""

    item: Shape
    least: int = 0
    most: int | None = None


@dataclass(frozen=True)
class Entries:
    """Values by keys that people choose."""

    value: Shape


@dataclass(frozen=True)
class Field:
    """A member of a group. ``default`` is ABSENT where the schema names none."""

    name: str
    help: str
    shape: Shape
    is_required: bool = False
    default: Any = ABSENT

    @property
    def label(self) -> str:
        """What it is called."""
        return words_of(self.name)


@dataclass(frozen=True)
class Group:
    """Named fields."""

    title: str
    help: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Member:
    """One of several shapes that a value may have; ``name`` says which."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Alternatives:
    """One of several shapes. ``key``: the field in which a group says which it is; None where the value itself tells."""

    members: tuple[Member, ...]
    key: str | None = None


@dataclass(frozen=True)
class Constant:
    """A value that cannot be another."""

    value: Any


@dataclass(frozen=True)
class Maybe:
    """A shape, or null."""

    shape: Shape


Leaf = Text | Number | Flag | Choice | Plain | Document
Shape = Leaf | Many | Entries | Group | Alternatives | Constant | Maybe


class UnreadableSchema(ValueError):
    """The API's document has no schema where one is looked for."""


def submission_shape(openapi: Mapping[str, Any], path: str = "/api/v1/jobs") -> Group:
    """Returns the shape of what a POST to ``path`` takes; raises UnreadableSchema where the document does not say."""
    try:
        schema = openapi["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        shape = _Reader(openapi).shape(schema)
    except (KeyError, TypeError) as error:
        raise UnreadableSchema(f"the API's document does not say what a POST to {path} takes: {error!r} is missing") from error
    if not isinstance(shape, Group):
        raise UnreadableSchema(f"a POST to {path} takes no object")
    return shape


def words_of(name: str) -> str:
    """Returns a field's name as words, its unit in brackets: ``num_samples`` is Num samples, ``wait_s`` is Wait (s)."""
    what, _, unit = name.rpartition("_")
    text = f"{what} ({unit})" if what and unit in UNITS else name
    text = text.replace("_", " ").replace("-", " ")
    return text[:1].upper() + text[1:]


def is_leaf(shape: Shape) -> TypeGuard[Leaf]:
    """Tells whether a shape is one value in one control."""
    return isinstance(shape, Text | Number | Flag | Choice | Plain | Document)


def is_prominent(field: Field) -> bool:
    """Tells whether a field stands in front, not under More: it must be given, names something, or chooses between ways."""
    return field.is_required or _leads(field.shape)


def _leads(shape: Shape) -> bool:
    match shape:
        case Text(refers_to=noun):
            return noun is not None
        case Many(item=item):
            return isinstance(item, Text) and item.refers_to is not None
        case Maybe(shape=inner):
            return _leads(inner) or (isinstance(inner, Group) and any(field.is_required and _leads(field.shape) for field in inner.fields))
        case Alternatives(key=key):
            return key is not None
        case _:
            return False


class _Reader:
    """Reads schemas of one document. A schema within itself is taken as JSON from its second time on."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._open: list[str] = []

    def shape(self, schema: Mapping[str, Any]) -> Shape:
        if "$ref" in schema:
            return self._referred(schema["$ref"])
        if "const" in schema:
            return Constant(schema["const"])
        if "enum" in schema:
            return Choice(tuple(schema["enum"]))
        members = schema.get("oneOf") or schema.get("anyOf")
        if members is not None:
            return self._alternatives(schema, members)
        if "allOf" in schema and len(schema["allOf"]) == 1:
            return self.shape(schema["allOf"][0])
        return self._typed(schema)

    def _referred(self, ref: str) -> Shape:
        if ref in self._open:
            return Document()
        target: Any = self._document
        for part in ref.removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        self._open.append(ref)
        try:
            return self.shape(target)
        finally:
            self._open.pop()

    def _typed(self, schema: Mapping[str, Any]) -> Shape:
        shape: Shape = Document()
        match schema.get("type"):
            case "string":
                shape = Text(schema.get(REFERS_TO), schema.get("pattern"), is_moment=schema.get("format") == "date-time")
            case "integer" | "number" as kind:
                shape = Number(kind == "integer", _bounds(schema, is_whole=kind == "integer"))
            case "boolean":
                shape = Flag()
            case "null":
                shape = Constant(None)
            case "array":
                shape = Many(self.shape(schema.get("items", {})), schema.get("minItems", 0), schema.get("maxItems"))
            case "object" if "properties" in schema:
                shape = self._group(schema)
            case "object":
                of = schema.get("additionalProperties", True)
                shape = Entries(self.shape(of) if isinstance(of, Mapping) and of else Document())
        return shape

    def _group(self, schema: Mapping[str, Any]) -> Group:
        required = schema.get("required", ())
        fields = []
        for name, of in schema["properties"].items():
            if of.get("readOnly"):
                continue
            shape = self.shape(of)
            default = of.get("default", ABSENT)
            fields.append(Field(name, of.get("description", ""), _as_field(shape, default), name in required, default))
        return Group(schema.get("title", ""), schema.get("description", ""), tuple(fields))

    def _alternatives(self, schema: Mapping[str, Any], members: list[Mapping[str, Any]]) -> Shape:
        shapes = [self.shape(member) for member in members]
        key = schema.get("discriminator", {}).get("propertyName")
        if key is not None:
            return Alternatives(tuple(_told_apart(shape, key) for shape in shapes if isinstance(shape, Group)), key)
        rest = [shape for shape in shapes if shape != Constant(None)]
        if len(rest) == 1:
            return Maybe(rest[0]) if len(shapes) > 1 else rest[0]
        if all(isinstance(shape, Text | Number | Flag) for shape in rest):
            return Plain() if len(rest) == len(shapes) else Maybe(Plain())
        return Alternatives(tuple(Member(_name_of(shape), shape) for shape in shapes))


def _as_field(shape: Shape, default: Any) -> Shape:
    """Returns the shape of a field: a value that may be null and is null where it is not given needs no switch: it is left empty."""
    if not isinstance(shape, Maybe) or default not in (None, ABSENT):
        return shape
    inner = Choice((shape.shape.value,)) if isinstance(shape.shape, Constant) else shape.shape
    return inner if is_leaf(inner) and not isinstance(inner, Flag) else shape


def _told_apart(shape: Group, key: str) -> Member:
    """Returns a group without the field that says which group it is."""
    tags = [field.shape.value for field in shape.fields if field.name == key and isinstance(field.shape, Constant)]
    if not tags:
        raise UnreadableSchema(f"{shape.title} does not say its {key}")
    return Member(str(tags[0]), Group(shape.title, shape.help, tuple(field for field in shape.fields if field.name != key)))


def _name_of(shape: Shape) -> str:
    if isinstance(shape, Constant):
        return "none" if shape.value is None else str(shape.value)
    if isinstance(shape, Group) and shape.title:
        return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in shape.title).strip()
    if isinstance(shape, Number):
        return "a whole number" if shape.is_whole else "a number"
    return {Text: "a text", Many: "a list"}.get(type(shape), "a value")


def _bounds(schema: Mapping[str, Any], *, is_whole: bool) -> str:
    low = _bound(schema, "minimum", "at least", is_whole=is_whole) or _bound(schema, "exclusiveMinimum", "above", is_whole=is_whole)
    high = _bound(schema, "maximum", "at most", is_whole=is_whole) or _bound(schema, "exclusiveMaximum", "below", is_whole=is_whole)
    if low.startswith("at least") and high.startswith("at most"):
        return f"{low.removeprefix('at least ')} to {high.removeprefix('at most ')}"
    return ", ".join(part for part in (low, high) if part)


def _bound(schema: Mapping[str, Any], name: str, words: str, *, is_whole: bool) -> str:
    if name not in schema:
        return ""
    value = schema[name]
    return f"{words} {int(value) if is_whole or value == int(value) else value}"
