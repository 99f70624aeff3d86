"""Forms are built from the API's schemas alone."""

from __future__ import annotations

import pytest

from factories.work_api import openapi
from quantry_core.jobs import JobType
from quantry_dashboard.shapes import (
    ABSENT,
    Alternatives,
    Choice,
    Constant,
    Document,
    Entries,
    Field,
    Flag,
    Group,
    Many,
    Maybe,
    Number,
    Plain,
    Shape,
    Text,
    UnreadableSchema,
    is_prominent,
    submission_shape,
    words_of,
)

SUBMISSION = submission_shape(openapi())


def field_of(group: Shape, name: str) -> Field:
    assert isinstance(group, Group)
    return next(field for field in group.fields if field.name == name)


def spec_of(kind: JobType) -> Group:
    spec = field_of(SUBMISSION, "spec").shape
    assert isinstance(spec, Alternatives)
    group = next(member.shape for member in spec.members if member.name == kind)
    assert isinstance(group, Group)
    return group


def shape_of(schema: dict[str, object], **schemas: object) -> Shape:
    body = {"content": {"application/json": {"schema": {"type": "object", "properties": {"it": schema}}}}}
    document = {"paths": {"/api/v1/jobs": {"post": {"requestBody": body}}}, "components": {"schemas": schemas}}
    return field_of(submission_shape(document), "it").shape


def test_every_type_of_job_has_a_form() -> None:
    spec = field_of(SUBMISSION, "spec")
    assert isinstance(spec.shape, Alternatives)
    assert spec.shape.key == "type"
    assert {member.name for member in spec.shape.members} == set(JobType)
    for kind in JobType:
        assert "type" not in {field.name for field in spec_of(kind).fields}


def test_what_schemas_say_of_a_field_is_kept() -> None:
    quantize = spec_of(JobType.QUANTIZE)
    assert field_of(quantize, "base") == Field("base", "A master, or 16-bit weights that were trained or merged.", Text("version"), True)
    assert field_of(quantize, "method").default == "gptq"
    assert field_of(quantize, "scheme").shape == Text("scheme")
    assert field_of(quantize, "kv_cache").shape == Choice(("fp8",))
    assert field_of(quantize, "options").shape == Entries(Plain())
    calibration = field_of(quantize, "calibration").shape
    assert isinstance(calibration, Maybe)
    assert field_of(calibration.shape, "datasets").shape == Many(Text("dataset"), 1, 16)
    assert field_of(calibration.shape, "num_samples").shape == Number(True, "1 to 4096")
    assert field_of(spec_of(JobType.FINETUNE), "adapter").default["rank"] == 16
    assert field_of(SUBMISSION, "force").shape == Flag()
    assert field_of(SUBMISSION, "not_before").shape == Text(is_moment=True)


def test_what_is_never_given_is_not_asked_for() -> None:
    assert "recipe" not in {field.name for field in spec_of(JobType.RECALIBRATE).fields}


def test_what_must_be_given_names_something_or_chooses_stands_in_front() -> None:
    def in_front(kind: JobType) -> set[str]:
        return {field.name for field in spec_of(kind).fields if is_prominent(field)}

    assert in_front(JobType.QUANTIZE) == {"base", "method", "scheme", "calibration"}
    assert in_front(JobType.EVALUATE) == {"version", "against", "corpora"}
    assert in_front(JobType.DEPLOY) == {"deployment", "version", "strategy"}
    assert {field.name for field in SUBMISSION.fields if is_prominent(field)} == {"spec"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, Number(True)),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, Maybe(Flag())),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 4}, Maybe(Number(True))),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, Number(False, "above 0, at most 0.5")),
        ({"type": "integer", "minimum": 1.0}, Number(True, "at least 1")),
        ({"anyOf": [{"type": "string"}, {"type": "number"}]}, Plain()),
        ({"type": "object"}, Entries(Document())),
        ({"type": "object", "additionalProperties": {"type": "number"}}, Entries(Number(False))),
        ({"enum": [1, 2]}, Choice((1, 2))),
        ({"const": 3}, Constant(3)),
        ({}, Document()),
    ],
)
def test_each_way_to_write_a_schema_has_a_shape(schema: dict[str, object], expected: Shape) -> None:
    assert shape_of(schema) == expected


def test_values_that_tell_themselves_apart_are_alternatives() -> None:
    shape = shape_of({"anyOf": [{"type": "integer"}, {"const": "channel"}, {"type": "null"}]})
    assert isinstance(shape, Alternatives)
    assert [(member.name, member.shape) for member in shape.members] == [
        ("a whole number", Number(True)),
        ("channel", Constant("channel")),
        ("none", Constant(None)),
    ]


def test_a_schema_within_itself_ends() -> None:
    node = {"type": "object", "title": "Node", "properties": {"next": {"$ref": "#/components/schemas/Node"}}}
    shape = shape_of({"$ref": "#/components/schemas/Node"}, Node=node)
    assert field_of(shape, "next").shape == Document()


@pytest.mark.parametrize("document", [{}, {"paths": {"/api/v1/jobs": {}}}, {"paths": None}])
def test_a_document_without_the_schema_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(UnreadableSchema, match="does not say what a POST to /api/v1/jobs takes"):
        submission_shape(document)


def test_a_body_that_is_no_object_is_refused() -> None:
    body = {"content": {"application/json": {"schema": {"type": "string"}}}}
    with pytest.raises(UnreadableSchema, match="takes no object"):
        submission_shape({"paths": {"/api/v1/jobs": {"post": {"requestBody": body}}}})


def test_units_of_names_stand_in_brackets() -> None:
    assert [words_of(name) for name in ("num_samples", "wait_s", "s", "memory_bytes")] == ["Num samples", "Wait (s)", "S", "Memory (bytes)"]


def test_a_field_without_a_default_has_none() -> None:
    assert field_of(spec_of(JobType.IMPORT), "source").default is ABSENT
