"""The parts of a model card that are about training: what an adapter or merged weights were made of, and how an adapter is served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quantry_core.versions import EdgeRole, VersionDetail, VersionKind

_METHOD_WORDS = {"supervised": "supervised fine-tuning"}
"""What a method is called where its name is not what people say."""


def is_trained(version: VersionDetail) -> bool:
    """Tells whether a version was made by training: an adapter, or 16-bit weights that were all trained."""
    return version.kind is VersionKind.ADAPTER or "merged_into" not in version.recipe


def made_words(version: VersionDetail, base_ref: str, names: Mapping[str, str]) -> str:
    """Returns the sentence that says how an adapter or merged weights came from their base. ``names`` is name@number by id."""
    recipe = version.recipe
    if not is_trained(version):
        merged = [edge.parent_version_id or "" for edge in version.edges if edge.role is EdgeRole.ADAPTER]
        weights = [share.get("weight", 1.0) for share in recipe.get("adapters") or [] if isinstance(share, dict)]
        what = ", ".join(f"{code(names.get(id_, id_))} (weight {weight})" for id_, weight in zip(merged, weights, strict=False))
        into = "the weights" if recipe["merged_into"] == "master" else "the dequantized weights"
        return f"{into.capitalize()} of `{base_ref}` with what was trained beside them merged in: {what or 'one adapter'}."
    method = _part(recipe, "method").get("type")
    how = _METHOD_WORDS.get(str(method), str(method))
    if version.kind is VersionKind.MERGED:
        return f"All weights of `{base_ref}`, trained by {how}."
    adapter = _part(recipe, "adapter")
    rounded = f", which was rounded to {recipe['base_precision']} meanwhile" if recipe.get("base_precision") else ""
    return (
        f"An adapter ({adapter.get('kind')}, rank {adapter.get('rank')}, alpha {adapter.get('alpha')}) of `{base_ref}`{rounded}, "
        f"trained by {how}. Without that base it is nothing."
    )


def training_section(version: VersionDetail, dataset_names: Mapping[str, str]) -> Iterable[str]:
    """Yields what a version was trained on and how; nothing for one that was not trained."""
    settings = _part(version.recipe, "hyperparameters")
    if not settings:
        return
    used = [edge.parent_dataset_id for edge in version.edges if edge.role is EdgeRole.TRAINING and edge.parent_dataset_id is not None]
    yield "## Training\n"
    yield "| | |\n|---|---|"
    yield f"| datasets | {', '.join(code(dataset_names.get(id_, id_)) for id_ in used)} |"
    targets = _part(version.recipe, "adapter").get("target_modules")
    if targets is not None:
        yield f"| modules | {cell(', '.join(targets) if isinstance(targets, list) else targets)} |"
    for name in ("n_epochs", "max_steps", "batch_size", "accumulation_steps", "learning_rate", "schedule", "sequence_tokens"):
        if settings.get(name) is not None:
            yield f"| {name.replace('_', ' ')} | {cell(settings[name])} |"
    yield f"| seed | {cell(version.recipe.get('seed'))} |\n"


def adapter_serving_section(base: str) -> Iterable[str]:
    """Yields how an adapter is loaded: beside its base, in the two libraries that do."""
    yield "## How to serve it\n"
    yield f"Beside {code(base)}, in a directory of its own. With vLLM, where it is no DoRA:\n"
    yield "```sh\nvllm serve <base> --enable-lora --lora-modules adapter=.\n```\n"
    yield "With transformers and PEFT:\n\n```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM"
    yield 'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("<base>"), ".")\n```\n'


def _part(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns a part of a recipe that has fields of its own; an empty one where it has not."""
    part = recipe.get(name)
    return part if isinstance(part, dict) else {}


def cell(value: object) -> str:
    """Returns a value as one cell of a Markdown table."""
    text = str(value)
    for mark in ("\\", "|", "[", "`"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.replace("<", "&lt;").splitlines())


def code(text: str) -> str:
    """Returns text as code on one line of a table, whatever it holds."""
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "\\|") + "`"
