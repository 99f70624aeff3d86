"""The reference pages: what they make of schemas, of the command and of settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import reference_api
import reference_commands
import reference_settings

from quantry_gateway.settings import GatewaySettings

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": "integer", "minimum": 1, "maximum": 9}, "integer (at least 1, at most 9)"),
        ({"$ref": "#/components/schemas/JobStatus"}, "[JobStatus](objects.md#jobstatus)"),
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "map to number"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"const": "quantize"}, "`quantize`"),
        ({"enum": ["cpu", "gpu"]}, "`cpu` or `gpu`"),
        ({}, "any"),
    ],
)
def test_a_type_is_said_in_words(schema: dict[str, Any], words: str) -> None:
    assert reference_api._type(schema) == words


def test_a_cell_cannot_break_its_table() -> None:
    assert reference_api._cell("a | b\nc <d> [e]") == r"a \| b c &lt;d> \[e]"
    assert reference_commands._cell("--a|--b\n  x") == r"--a\|--b x"
    assert reference_settings._cell("a | <b>") == r"a \| &lt;b>"


def test_an_operation_says_what_it_takes_answers_and_refuses() -> None:
    operation = {
        "operationId": "get_thing",
        "description": "Returns a thing.",
        "parameters": [{"name": "thing_id", "in": "path", "required": True, "schema": {"type": "string", "description": "Which."}}],
        "responses": {
            "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
            "204": {"description": "nothing"},
            "404": {},
        },
    }
    text = reference_api._operation("get", "/api/v1/things/{thing_id}", operation)
    assert "## GET /api/v1/things/{thing_id} {: #get_thing }" in text
    assert "| `thing_id` (required) | path | string | Which. |" in text
    assert "- 200: `application/json` [Thing](objects.md#thing)" in text
    assert "- 204: nothing" in text
    assert "- refused with 404" in text


def test_every_setting_of_a_service_is_told_with_its_default() -> None:
    section = reference_settings._section("gateway", GatewaySettings, "")
    for name in GatewaySettings.model_fields:
        assert f"| `QUANTRY_{name.upper()}` |" in section
    assert "| `QUANTRY_GATEWAY_TOKEN` | **required** |" in section
    assert "| `QUANTRY_GATEWAY_EXIT_GRACE_S` | `2` |" in section


def test_no_class_of_settings_is_left_out() -> None:
    sources = [path.read_text(encoding="utf-8") for folder in ("libs", "services") for path in (ROOT / folder).rglob("*.py")]
    classes = {name for source in sources for name in re.findall(r"^class (\w+)\(BaseSettings\)", source, re.MULTILINE)}
    # The worker's health check reads one of the worker's own.
    assert {settings.__name__ for settings, _ in reference_settings.SECTIONS.values()} == classes - {"HealthSettings"}


def test_every_group_of_commands_has_a_page() -> None:
    pages = reference_commands.pages()
    jobs = pages["reference/commands/jobs.md"]
    assert "## quantry jobs submit quantize" in jobs
    assert "| `--base" in jobs
    index = pages["reference/commands/index.md"]
    groups = {path.removeprefix("reference/commands/").removesuffix(".md") for path in pages} - {"index"}
    assert all(f"({group}.md)" in index for group in groups)
    assert "## quantry deploy" in index
