"""Options of quantize jobs that are more than a word: group sizes, options of methods, overrides, thresholds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from quantry.cli.completion import dataset_refs, version_refs
from quantry.cli.spec_fields import Option, OptionGroup, taking
from quantry.cli.specs import build, default, refusal_words, words
from quantry.cli.values import pairs
from quantry_core.errors import InvalidInput
from quantry_core.jobs import CalibrationSpec, ModuleOverride, QualitySpec, QuantizeSpec, TasksSpec, chosen
from quantry_core.methods import CHANNEL, GroupSize

_THRESHOLD = "What the quality gate asks, as in perplexity_ratio=1.05; may be given again."
_IGNORED: list[str] = default(QuantizeSpec, "ignore")


_QUALITY = OptionGroup(
    {
        "quality_corpus": Option(Annotated[list[str] | None, typer.Option(help=words(QualitySpec, "corpora") + " May be given again.")]),
        "threshold": Option(Annotated[list[str] | None, typer.Option(metavar="METRIC=BOUND", help=_THRESHOLD)]),
        "quality_window_tokens": Option(
            Annotated[int, typer.Option(help=words(QualitySpec, "window_tokens"))], default(QualitySpec, "window_tokens")
        ),
        "quality_max_windows": Option(
            Annotated[int, typer.Option(help=words(QualitySpec, "max_windows"))], default(QualitySpec, "max_windows")
        ),
        "quality_seed": Option(Annotated[int, typer.Option(help="Seed of the quality gate's bootstrap.")], default(QualitySpec, "seed")),
        "quality_extremes": Option(Annotated[bool, typer.Option("--quality-extremes", help=words(QualitySpec, "extremes"))], False),
        "quality_task": Option(Annotated[list[str] | None, typer.Option(help=words(QualitySpec, "tasks") + " May be given again.")]),
        "quality_task_limit": Option(Annotated[int | None, typer.Option(help=words(TasksSpec, "limit"))]),
        "no_quality": Option(Annotated[bool, typer.Option("--no-quality", help="No look at the quality of the result.")], False),
    }
)


@taking(_QUALITY)
def quantize_spec(
    *,
    base: Annotated[str, typer.Option(help=words(QuantizeSpec, "base"), autocompletion=version_refs)],
    calibration: Annotated[
        list[str] | None,
        typer.Option(help="A dataset to calibrate on, where the method needs text; may be given again.", autocompletion=dataset_refs),
    ] = None,
    method: Annotated[str, typer.Option(help="See 'quantry methods'.")] = default(QuantizeSpec, "method"),
    scheme: Annotated[str | None, typer.Option(help="See 'quantry methods'; the method's first where not given.")] = None,
    group_size: Annotated[str | None, typer.Option(metavar="SIZE|channel", help=words(QuantizeSpec, "group_size"))] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the method, see 'quantry methods show'; may be given again.")
    ] = None,
    ignore: Annotated[list[str], typer.Option(help=words(QuantizeSpec, "ignore") + " May be given again.")] = _IGNORED,
    keep_16bit: Annotated[
        list[str] | None, typer.Option("--keep-16bit", help=words(QuantizeSpec, "keep_16bit") + " May be given again.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=SCHEME[:SIZE]", help="Other precision for some modules, as in '*.o_proj=W8A16:64'. May be given again."
        ),
    ] = None,
    kv_cache: Annotated[str | None, typer.Option(metavar="fp8", help=words(QuantizeSpec, "kv_cache"))] = None,
    num_samples: Annotated[int, typer.Option(help=words(CalibrationSpec, "num_samples"))] = default(CalibrationSpec, "num_samples"),
    length_tokens: Annotated[int, typer.Option(help=words(CalibrationSpec, "length_tokens"))] = default(CalibrationSpec, "length_tokens"),
    seed: Annotated[int, typer.Option(help="Seed of the calibration's draw.")] = default(CalibrationSpec, "seed"),
    **values: Any,
) -> QuantizeSpec:
    """Make a quantized version from a 16-bit master."""
    samples = None
    if calibration:
        samples = build(CalibrationSpec, datasets=calibration, num_samples=num_samples, length_tokens=length_tokens, seed=seed)
    spec = build(
        QuantizeSpec,
        base=base,
        method=method,
        scheme=scheme,
        group_size=None if group_size is None else group_size_of(group_size),
        options=method_options(option or []),
        ignore=ignore,
        keep_16bit=keep_16bit or [],
        overrides=[override_of(item) for item in override or []],
        kv_cache=kv_cache,
        calibration=samples,
        quality=_quality(_QUALITY.taken(values)),
    )
    try:
        chosen(spec)
    except InvalidInput as error:
        raise typer.BadParameter(error.detail) from None
    return spec


def group_size_of(text: str) -> GroupSize:
    """Returns a group size from ``64`` or ``channel``; a usage error for anything else."""
    if text == CHANNEL:
        return CHANNEL
    if not text.isdecimal():
        raise typer.BadParameter(f"--group-size {text!r}: a number of weights, or {CHANNEL}")
    return int(text)


def method_options(items: Iterable[str]) -> dict[str, Any]:
    """Returns a method's options from ``name=value`` words; numbers and true or false are taken as such, the rest as words."""
    return {name: _number_or_word(value) for name, value in pairs(items, "--option", "name=value, as in damping=0.05").items()}


def override_of(item: str) -> ModuleOverride:
    """Returns an override from ``PATTERN=SCHEME`` or ``PATTERN=SCHEME:SIZE``; either of the two may be left empty."""
    pattern, has_value, value = item.rpartition("=")
    scheme, _, size = value.partition(":")
    if not has_value or not pattern or not value:
        raise typer.BadParameter(f"--override {item!r}: PATTERN=SCHEME[:SIZE], as in '*.down_proj=W8A16:64'")
    return build(ModuleOverride, modules=[pattern], scheme=scheme or None, group_size=group_size_of(size) if size else None)


def thresholds(items: Iterable[str]) -> dict[str, float]:
    """Returns thresholds from ``metric=bound`` words; a usage error for a bound that is no number."""
    bounds: dict[str, float] = {}
    for name, value in pairs(items, "--threshold", "metric=bound, as in perplexity_ratio=1.05").items():
        try:
            bounds[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"--threshold {name}: {value!r} is no number") from None
    return bounds


def _quality(values: Mapping[str, Any]) -> QualitySpec | None:
    """Returns what the quality gate asks; a usage error names the option, which is called otherwise than its field."""
    if values["no_quality"]:
        return None
    tasks, bounds = values["quality_task"], values["threshold"]
    asked: dict[str, Any] = {
        "corpora": values["quality_corpus"] or [],
        "window_tokens": values["quality_window_tokens"],
        "max_windows": values["quality_max_windows"],
        "extremes": values["quality_extremes"],
        "tasks": build(TasksSpec, names=tasks, limit=values["quality_task_limit"]) if tasks else None,
        "seed": values["quality_seed"],
    }
    try:
        return QualitySpec.model_validate(asked | ({"thresholds": thresholds(bounds)} if bounds else {}))
    except ValidationError as error:
        names = {"corpora": "quality_corpus", "thresholds": "threshold"}
        names |= {field: f"quality_{field}" for field in ("window_tokens", "max_windows", "seed")}
        raise typer.BadParameter(refusal_words(error, names)) from None


def _number_or_word(value: str) -> Any:
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return parsed if isinstance(parsed, bool | int | float) else value
