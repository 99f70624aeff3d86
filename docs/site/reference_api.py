"""The REST reference: one page for each noun of the API, and one for the objects, drawn from the services' OpenAPI documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from quantry_api.app import build_app as build_api
from quantry_api.settings import ApiSettings
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_registry.app import make_app as make_registry
from quantry_registry.parts import make_parts
from quantry_registry.settings import RegistrySettings
from quantry_store.database import Database
from quantry_store.settings import StoreSettings

NOWHERE = {"database_url": "postgresql+psycopg://nobody@127.0.0.1/none"}
"""Nothing is asked of a database: the documents come from the code."""

Schema = Mapping[str, Any]
_REF = "#/components/schemas/"


def pages() -> dict[str, str]:
    """Returns the reference pages by their paths in the site."""
    documents = openapi_documents()
    schemas = {name: schema for document in documents for name, schema in document["components"]["schemas"].items()}
    by_tag: dict[str, list[str]] = {}
    for document in documents:
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                by_tag.setdefault(operation["tags"][0].replace(" ", "-"), []).append(_operation(method, path, operation))
    found = {f"reference/api/{tag}.md": _page(tag, sections) for tag, sections in sorted(by_tag.items())}
    found["reference/api/objects.md"] = "# Objects\n\nWhat requests and answers are made of.\n\n" + "\n".join(
        _object(name, schema) for name, schema in sorted(schemas.items())
    )
    lines = "\n".join(f"- [{tag}]({tag}.md)" for tag in sorted(by_tag))
    found["reference/api/index.md"] = f"{INTRODUCTION}\n{lines}\n- [objects](objects.md)\n"
    return found


INTRODUCTION = """\
# The REST API

Everything is below the gateway's address. Send a key as `Authorization: Bearer qtr_...`. Lists come in pages: `limit` items after the id in
`after`, with `has_more` and `last_id`. An error is a problem document (RFC 9457) with a stable `type`; below `/v1` it is OpenAI's error
object. A POST with an `Idempotency-Key` may be sent again. The machine-readable documents are `/api/v1/openapi.json` and
`/api/v1/registry/openapi.json`.
"""


def openapi_documents() -> list[dict[str, Any]]:
    """Returns the OpenAPI documents of the api and of the registry."""
    store = StoreSettings.model_validate(NOWHERE)
    blobs = BlobSettings.model_validate({"endpoint": "127.0.0.1:9", "access_key": "nobody", "secret_key": "nobody"})
    api = build_api(ApiSettings.model_validate({"broker_url": "redis://127.0.0.1:9/0"}), store)
    parts = make_parts(RegistrySettings.model_validate({"registry_port": 1}), blobs, MinioStore(blobs))
    registry = make_registry(Database(store.database_url), parts)
    return [api.openapi(), registry.openapi()]


def _page(tag: str, sections: Iterable[str]) -> str:
    return f"# {tag[:1].upper()}{tag[1:].replace('-', ' ')}\n\n" + "\n".join(sections)


def _operation(method: str, path: str, operation: Schema) -> str:
    lines = [f"## {method.upper()} {path} {{: #{operation['operationId']} }}", "", str(operation.get("description", "")), ""]
    parameters = operation.get("parameters", ())
    if parameters:
        lines += ["| parameter | in | type | |", "|---|---|---|---|"]
        lines += [
            f"| `{one['name']}`{' (required)' if one.get('required') else ''} | {one['in']} | {_type(one['schema'])} | "
            f"{_cell(one.get('description') or one['schema'].get('description', ''))} |"
            for one in parameters
        ]
        lines.append("")
    body = operation.get("requestBody")
    if body:
        lines += [f"Body: {_content(body)}", ""]
    for status, answer in sorted(operation["responses"].items()):
        if int(status) < 400:
            lines.append(f"- {status}: {_content(answer) or 'nothing'}")
    refusals = [status for status in sorted(operation["responses"]) if int(status) >= 400]
    return "\n".join([*lines, f"- refused with {', '.join(refusals)}", ""])


def _object(name: str, schema: Schema) -> str:
    lines = [f"## {name} {{: #{_anchor(name)} }}", "", str(schema.get("description", "")).strip(), ""]
    fields = schema.get("properties", {})
    if "enum" in schema:
        lines.append("One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".")
    elif fields:
        lines += ["| field | type | default | |", "|---|---|---|---|"]
        needed = set(schema.get("required", ()))
        lines += [
            f"| `{field}`{' (required)' if field in needed else ''} | {_type(one)} | {_default(one)} | "
            f"{_cell(one.get('description', ''))} |"
            for field, one in fields.items()
        ]
    else:
        lines.append(_type(schema))
    return "\n".join([*lines, ""])


def _content(message: Schema) -> str:
    return ", ".join(f"`{kind}` {_type(content.get('schema', {}))}" for kind, content in message.get("content", {}).items())


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return f"[{name}](objects.md#{_anchor(name)})"
    ways = [one for way in ("anyOf", "oneOf", "allOf") for one in schema.get(way, ())]
    if ways:
        return " or ".join(dict.fromkeys(_type(one) for one in ways))
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    if values:
        return " or ".join(f"`{value}`" for value in values)
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    others = schema.get("additionalProperties")
    if kind == "object" and isinstance(others, Mapping):
        return f"map to {_type(others)}"
    bounds = [f"{words} {schema[key]}" for key, words in BOUNDS.items() if key in schema]
    return kind + (f" ({', '.join(bounds)})" if bounds else "")


BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "maxLength": "characters at most",
    "maxItems": "items at most",
}


def _default(schema: Schema) -> str:
    return f"`{schema['default']!r}`".replace("|", "\\|") if schema.get("default") is not None else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
