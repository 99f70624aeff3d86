"""Options of merge jobs: their own, and those of a quantize job for a recipe other than the base's."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from quantry.cli.quantize_options import quantize_spec
from quantry.cli.spec_fields import with_options
from quantry.cli.specs import build, default, words
from quantry_core.jobs import AS_BASE, AdapterShare, MergeSpec, QuantizationRecipe
from quantry_core.training import AdapterMerge

_SEED, _WINDOW_TOKENS, _MAX_WINDOWS = (default(MergeSpec, name) for name in ("seed", "window_tokens", "max_windows"))
_COMBINATION: AdapterMerge = default(MergeSpec, "combination")
_ADAPTER = "An adapter, with what it counts for where that is not 1, as in bard-6m@4=0.5; may be given again."
_RENAMED = {"seed": "calibration_seed"}
"""Options of a quantize job that are called otherwise here."""


def _recipe_options() -> list[inspect.Parameter]:
    """Returns the options of a quantize job but for its base. No method: the recipe is the base's."""
    options = []
    for name, parameter in inspect.signature(quantize_spec, eval_str=True).parameters.items():
        if name == "method":
            words_ = "Quantize by this method, with the options below, and not as the adapters' base was. See 'quantry methods'."
            options.append(parameter.replace(default=None, annotation=Annotated[str | None, typer.Option(help=words_)]))
        elif name != "base":
            options.append(parameter.replace(name=_RENAMED.get(name, name)))
    return options


_RECIPE_OPTIONS = _recipe_options()


def _merge_spec(
    *,
    adapter: Annotated[list[str], typer.Option(metavar="ADAPTER[=WEIGHT]", help=_ADAPTER)],
    combination: Annotated[AdapterMerge, typer.Option(help=words(MergeSpec, "combination"))] = _COMBINATION,
    density: Annotated[float | None, typer.Option(help=words(MergeSpec, "density"))] = None,
    seed: Annotated[int, typer.Option(help=words(MergeSpec, "seed"))] = _SEED,
    measure: Annotated[bool, typer.Option("--measure", help=words(MergeSpec, "measure"))] = False,
    validation_file: Annotated[str | None, typer.Option(help=words(MergeSpec, "validation_file"))] = None,
    corpus: Annotated[list[str] | None, typer.Option(help=words(MergeSpec, "corpora") + " May be given again.")] = None,
    window_tokens: Annotated[int, typer.Option(help=words(MergeSpec, "window_tokens"))] = _WINDOW_TOKENS,
    max_windows: Annotated[int | None, typer.Option(help=words(MergeSpec, "max_windows"))] = _MAX_WINDOWS,
    suffix: Annotated[str | None, typer.Option(help=words(MergeSpec, "suffix"))] = None,
    no_quantize: Annotated[bool, typer.Option("--no-quantize", help="The merged 16-bit version is all.")] = False,
    **values: Any,
) -> MergeSpec:
    """Merge adapters into 16-bit weights, then quantize as their base was."""
    if no_quantize and values["method"] is not None:
        raise typer.BadParameter("--method: nothing is quantized with --no-quantize")
    return build(
        MergeSpec,
        adapters=[share_of(item) for item in adapter],
        combination=combination,
        density=density,
        seed=seed,
        quantize=None if no_quantize else _recipe(values),
        measure=measure,
        validation_file=validation_file,
        corpora=corpus or [],
        window_tokens=window_tokens,
        max_windows=max_windows,
        suffix=suffix,
    )


merge_spec = with_options(_merge_spec, _RECIPE_OPTIONS)


def share_of(item: str) -> AdapterShare:
    """Returns an adapter and its weight from ``ADAPTER[=WEIGHT]``; a usage error for a weight that is no number."""
    adapter, has_weight, weight = item.partition("=")
    try:
        return build(AdapterShare, adapter=adapter, **({"weight": float(weight)} if has_weight else {}))
    except ValueError:
        raise typer.BadParameter(f"--adapter {item!r}: {weight!r} is no number") from None


def _recipe(values: dict[str, Any]) -> QuantizationRecipe | str:
    """Returns the recipe that was given; a usage error for a part of one without a method."""
    if values["method"] is not None:
        names = {new: old for old, new in _RENAMED.items()}
        spec = quantize_spec(base="merged", **{names.get(name, name): value for name, value in values.items()})
        return QuantizationRecipe.model_validate(spec.model_dump(exclude={"type", "base"}))
    for option in _RECIPE_OPTIONS:
        if values[option.name] != option.default:
            name = option.name.replace("_", "-")
            raise typer.BadParameter(f"--{name} is of a recipe of its own: name its --method, or leave it out to quantize {AS_BASE}")
    return AS_BASE
