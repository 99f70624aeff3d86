"""The front matter of a model card, as far as it is kept: four fields of YAML between two lines of dashes.

Not a YAML parser, on purpose: what is read here comes from strangers. Of YAML it knows top-level keys with a plain or quoted
word, a flow list or a block list; what is written otherwise, and every other key, is left out. Nothing is ever made of it
but short strings. Fields: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import re

from quantry_core.versions import VersionCard

MAX_CARD_BYTES = 64 * 1024
"""Of README.md, that much is looked at; the front matter is at its beginning."""
MAX_VALUES = 64
MAX_VALUE_CHARS = 128

_FENCE = "---"
_ENTRY = re.compile(r"(?P<key>[A-Za-z_][A-Za-z0-9_-]*):(?:[ \t]+(?P<value>.*?))?[ \t]*")
_ITEM = re.compile(r"[ \t]*-[ \t]+(?P<value>.*?)[ \t]*")
_QUOTED = re.compile(r"""'(?P<single>[^']*)'|"(?P<double>[^"\\]*)\"""")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+/()-]*")
_COMMENT = re.compile(r"(?:^|[ \t])#.*$")
_FLOW = re.compile(r"\[(?P<items>[^\[\]{}]*)\]")


def read_front_matter(text: str) -> VersionCard:
    """Returns licence, base models, languages and task of a model card; empty where it has none or they cannot be read."""
    fields = _fields(text)
    tasks = fields.get("pipeline_tag", [])
    licenses = fields.get("license", [])
    names = fields.get("license_name", [])
    if licenses == ["other"] and len(names) == 1:
        # "other" says nothing; the hub wants the licence's own name beside it.
        licenses = names
    return VersionCard(
        license=licenses[0] if len(licenses) == 1 else None,
        base_model=fields.get("base_model", []),
        languages=fields.get("language", []),
        pipeline_tag=tasks[0] if len(tasks) == 1 else None,
    )


def _fields(text: str) -> dict[str, list[str]]:
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        return {}
    ends = [number for number, line in enumerate(lines[1:], start=1) if line.rstrip() == _FENCE]
    if not ends:
        return {}
    fields: dict[str, list[str]] = {}
    key = ""
    for line in lines[1 : ends[0]]:
        entry = _ENTRY.fullmatch(line)
        item = _ITEM.fullmatch(line)
        if entry is not None:
            key = entry["key"]
            fields[key] = _values(entry["value"] or "")
        elif item is not None and key in fields:
            if len(fields[key]) < MAX_VALUES:
                fields[key] += _scalar(item["value"])
        elif line.strip() and not line.lstrip().startswith("#"):
            # Nested, or a string of several lines: what belongs to the key before is not known.
            fields.pop(key, None)
            key = ""
    return fields


def _values(text: str) -> list[str]:
    flow = _FLOW.fullmatch(_COMMENT.sub("", text).strip())
    if flow is None:
        return _scalar(text)
    parts = flow["items"].split(",")[:MAX_VALUES]
    return [value for part in parts for value in _scalar(part)]


def _scalar(text: str) -> list[str]:
    """Returns the one word that stands there; none if there is none, or something that is no word."""
    quoted = _QUOTED.match(text.strip())
    if quoted is not None:
        rest = text.strip()[quoted.end() :].strip()
        value = "" if rest and not rest.startswith("#") else (quoted["single"] or quoted["double"] or "")
    else:
        value = _COMMENT.sub("", text).strip()
        value = value if _PLAIN.fullmatch(value) and value.lower() not in {"null", "true", "false"} else ""
    return [value] if 0 < len(value) <= MAX_VALUE_CHARS and value.isprintable() else []
