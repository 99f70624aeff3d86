"""Model cards of exported versions, in the form of the Hugging Face hub: YAML front matter, then Markdown. Pure functions.

Everything in a card is taken from what the registry knows of a version: its recipe, its lineage and its evidence.
Fields of the front matter: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from quantry_core.card_words import adapter_serving_section, cell, code, is_trained, made_words, training_section
from quantry_core.evidence_tables import checks, evidence_tables
from quantry_core.methods import SCHEMES, Format, Scheme
from quantry_core.servability import EngineName, loaders
from quantry_core.sources import HubSource, parse_source
from quantry_core.versions import EdgeRole, VersionDetail, VersionKind

LIBRARY_NAMES = {Format.GGUF: "gguf", Format.PEFT: "peft"}
"""Which library loads a format; transformers where it is not here."""

CARD_MARK = "This card is no part of the manifest."
"""Stands in every card that is generated here, and in no other."""


def model_card(version: VersionDetail, master: VersionDetail | None, names: Mapping[str, str]) -> str:
    """Returns the README.md of a version. ``master`` is its base, ``names`` is name@number by id of datasets and merged adapters."""
    return "\n".join([front_matter(version, master), *_body(version, master, names)]).rstrip() + "\n"


def front_matter(version: VersionDetail, master: VersionDetail | None) -> str:
    """Returns the YAML between its two lines of dashes. Strings are written as JSON writes them, which YAML reads the same."""
    fields: dict[str, Any] = {
        "base_model": _base_models(version, master),
        "base_model_relation": _relation(version),
        "license": version.card.license,
        "language": version.card.languages,
        "pipeline_tag": version.card.pipeline_tag or "text-generation",
        "library_name": LIBRARY_NAMES.get(version.format, "transformers"),
        "tags": _tags(version),
        "quantization": _quantization(version),
    }
    lines = ["---"]
    for key, value in fields.items():
        if value in (None, [], {}):
            continue
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {name}: {_scalar(item)}" for name, item in value.items())]
        elif isinstance(value, list):
            lines += [f"{key}:", *(f"- {_scalar(item)}" for item in value)]
        else:
            lines.append(f"{key}: {_scalar(value)}")
    return "\n".join([*lines, "---"])


def _body(version: VersionDetail, master: VersionDetail | None, names: Mapping[str, str]) -> Iterable[str]:
    yield f"\n# {version.ref}\n"
    if master is None:
        yield f"A {version.kind} of {version.dtype or version.scheme or version.format}, as it was imported.\n"
    elif version.kind is VersionKind.QUANTIZED:
        made_by = f"`{_method(version)}` ({version.scheme})"
        yield f"Made from the 16-bit {_noun(master)} `{master.ref}` by {made_by}, stored as {version.format}.\n"
    else:
        yield made_words(version, master.ref, names) + "\n"
    yield from _scheme_section(version, master)
    yield from _calibration_section(version, names)
    yield from training_section(version, names)
    yield from _evidence_sections(version)
    yield from _gate_section(version)
    yield from _serving_section(version, master)
    yield from _recipe_section(version)
    yield from _verification_section(version)


def _scheme_section(version: VersionDetail, master: VersionDetail | None) -> Iterable[str]:
    yield "## Weights\n"
    yield "| | |\n|---|---|"
    for name, value in _quantization(version).items():
        yield f"| {name.replace('_', ' ')} | {cell(value)} |"
    yield f"| bytes of weights | {version.weights_bytes:,} |"
    if version.kind is VersionKind.QUANTIZED and master is not None and master.weights_bytes > 0:
        left = f"{version.weights_bytes / master.weights_bytes:.1%} are left"
        yield f"| bytes of the {_noun(master)}'s weights | {master.weights_bytes:,} ({left}) |"
    kept = _kept_modules(version.recipe)
    if kept and version.kind is VersionKind.QUANTIZED:
        yield f"| kept at 16 bit | {', '.join(code(pattern) for pattern in kept)} |"
    yield ""


def _calibration_section(version: VersionDetail, dataset_names: Mapping[str, str]) -> Iterable[str]:
    calibration = version.recipe.get("calibration")
    if not isinstance(calibration, dict):
        return
    yield "## Calibration\n"
    used = [edge.parent_dataset_id for edge in version.edges if edge.role is EdgeRole.CALIBRATION and edge.parent_dataset_id is not None]
    samples, length = calibration.get("num_samples"), calibration.get("length_tokens")
    yield "| | |\n|---|---|"
    yield f"| datasets | {', '.join(code(dataset_names.get(id_, id_)) for id_ in used)} |"
    yield f"| samples | {cell(samples)} |"
    yield f"| tokens of one sample | {cell(length)} |"
    if isinstance(samples, int) and isinstance(length, int):
        yield f"| tokens in all | {samples * length:,} |"
    yield f"| seed | {cell(calibration.get('seed'))} |\n"


def _evidence_sections(version: VersionDetail) -> Iterable[str]:
    for table in evidence_tables(version):
        yield f"## {cell(table.title)}\n"
        has_bounds = any(row.asked for row in table.rows)
        headings = ["figure", *table.columns, *(["asked for"] if has_bounds else []), "what it is"]
        yield f"| {' | '.join(map(cell, headings))} |"
        yield "|---" * len(headings) + "|"
        for row in table.rows:
            cells = [row.name, *row.cells, *([row.asked] if has_bounds else []), row.words]
            yield f"| {' | '.join(map(cell, cells))} |"
        yield ""
        if table.problems:
            yield "\n".join(f"- {code(problem)}" for problem in table.problems) + "\n"


def _gate_section(version: VersionDetail) -> Iterable[str]:
    made = checks(version)
    if not made:
        return
    yield "## Checks\n"
    yield "Every quantized version passes these before it is ready; inconclusive is what has no data here.\n"
    yield "| check | verdict | found |\n|---|---|---|"
    for check in made:
        yield f"| {cell(check.name)} | {check.verdict} | {cell(check.found)} |"
    yield ""


def _serving_section(version: VersionDetail, master: VersionDetail | None) -> Iterable[str]:
    if version.kind is VersionKind.ADAPTER:
        yield from adapter_serving_section("its base" if master is None else master.ref)
        return
    rows = loaders(version.format, _scheme(version))
    yield "## How to serve it\n"
    if not rows:
        yield "No engine is known here that loads this format and scheme.\n"
        return
    yield "| engine | version | device | |\n|---|---|---|---|"
    for row in rows:
        yield f"| {row.engine} | {row.version} | {row.device} | {cell(row.note)} |"
    yield ""
    engines = {row.engine for row in rows}
    if EngineName.VLLM in engines:
        option = " --kv-cache-dtype fp8" if _has_kv_scales(version) else ""
        yield f"With vLLM, in this directory:\n\n```sh\nvllm serve .{option}\n```\n"
    if EngineName.TRANSFORMERS in engines:
        yield "With transformers:\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n"
        yield 'model = AutoModelForCausalLM.from_pretrained(".", device_map="auto")\ntokenizer = AutoTokenizer.from_pretrained(".")\n```\n'
    if EngineName.LLAMA_CPP in engines:
        name = next((file.path for file in version.files if file.path.endswith(".gguf")), "model.gguf")
        yield f"With llama.cpp:\n\n```sh\nllama-server -m ./{name}\n```\n"
    if EngineName.VLLM not in engines:
        yield "vLLM does not serve this version.\n"


def _recipe_section(version: VersionDetail) -> Iterable[str]:
    yield "## Recipe\n"
    # Tildes, four of them: no string of a recipe closes that fence, for JSON is on one line each and never begins with one.
    yield f"~~~~json\n{json.dumps(version.recipe, indent=2, sort_keys=True, ensure_ascii=True)}\n~~~~\n"
    if version.toolchain:
        yield "Made with " + ", ".join(f"{name} {number}" for name, number in sorted(version.toolchain.items())) + ".\n"


def _verification_section(version: VersionDetail) -> Iterable[str]:
    yield "## How it was verified\n"
    yield f"The digest of the version's manifest (path, SHA-256 and size of each of its {len(version.files)} files) is\n"
    yield f"`{version.manifest_digest}`\n"
    yield f"Each file was hashed when it entered the registry and again when it was exported. {CARD_MARK}\n"
    yield "| file | bytes | SHA-256 |\n|---|---|---|"
    for file in version.files:
        yield f"| {cell(file.path)} | {file.size_bytes:,} | `{file.sha256}` |"


def _relation(version: VersionDetail) -> str | None:
    """Returns what a version is to its base, in the hub's words."""
    match version.kind:
        case VersionKind.MASTER:
            return None
        case VersionKind.QUANTIZED:
            return "quantized"
        case VersionKind.ADAPTER:
            return "adapter"
        case VersionKind.MERGED:
            return "finetune" if is_trained(version) else "merge"


def _noun(base: VersionDetail) -> str:
    """Returns what a card calls the 16-bit version that another was made from."""
    return "master" if base.kind is VersionKind.MASTER else "base"


def _base_models(version: VersionDetail, master: VersionDetail | None) -> list[str]:
    """Returns what it was made from, as the hub calls it where that is known."""
    if master is None:
        return version.card.base_model
    source = str(master.recipe.get("source", ""))
    if source.startswith("hf:"):
        parsed = parse_source(source)
        return [parsed.repository] if isinstance(parsed, HubSource) else []
    return [master.model_name]


def _tags(version: VersionDetail) -> list[str]:
    tags = ["quantry", _method(version), version.scheme, version.format if version.kind is VersionKind.QUANTIZED else None]
    return list(dict.fromkeys(str(tag) for tag in tags if tag))


def _method(version: VersionDetail) -> str | None:
    method = version.recipe.get("method")
    return method if isinstance(method, str) else None


def _quantization(version: VersionDetail) -> dict[str, Any]:
    if version.kind is not VersionKind.QUANTIZED:
        return {}
    facts: dict[str, Any] = {"method": _method(version), "scheme": version.scheme, "format": str(version.format)}
    known = _scheme(version)
    if known is not None:
        info = SCHEMES[known]
        facts |= {"bits": info.weight_bits, "activations": str(info.activations)}
        group_size = version.recipe.get("group_size") or info.group_size
        granularity = info.granularity or ("channel" if group_size in {"channel", None} else "group")
        facts["granularity"] = str(granularity)
        if isinstance(group_size, int):
            facts["group_size"] = group_size
    if _has_kv_scales(version):
        facts["kv_cache"] = "fp8"
    return {name: value for name, value in facts.items() if value is not None}


def _kept_modules(recipe: Mapping[str, Any]) -> list[str]:
    named = [*(recipe.get("ignore") or []), *(recipe.get("keep_16bit") or [])]
    return [str(pattern) for pattern in named]


def _has_kv_scales(version: VersionDetail) -> bool:
    return version.recipe.get("kv_cache") == "fp8" or version.scheme == Scheme.KV_FP8


def _scheme(version: VersionDetail) -> Scheme | None:
    return Scheme(version.scheme) if version.scheme in set(Scheme) else None


def _scalar(value: object) -> str:
    return json.dumps(value, ensure_ascii=True)
