"""``quantry methods``: what can be asked of a quantize job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from quantry.cli.context import JsonOption, connect
from quantry.cli.output import Column, emit_json, print_fields, print_table, say
from quantry_core.method_views import MethodView, SchemeView
from quantry_core.methods import OptionInfo

app = typer.Typer(help="Quantization methods.")


def _group_sizes(view: MethodView) -> str:
    return ", ".join(f"{size}*" if size == view.info.default_group_size else str(size) for size in view.info.group_sizes) or "fixed"


def _text(view: MethodView) -> str:
    needing = [scheme.info.scheme for scheme in view.schemes if scheme.needs_calibration]
    if not needing:
        return "no"
    return "yes" if len(needing) == len(view.schemes) else ", ".join(needing)


def _differing(view: MethodView, word: Callable[[SchemeView], str]) -> str:
    """Returns what is said of every scheme once, or what is said of which where they differ."""
    schemes: dict[str, list[str]] = {}
    for scheme in view.schemes:
        schemes.setdefault(word(scheme), []).append(scheme.info.scheme)
    if len(schemes) == 1:
        return next(iter(schemes))
    return "; ".join(f"{said} ({', '.join(names)})" for said, names in schemes.items())


def _cost(view: MethodView) -> str:
    return _differing(view, lambda scheme: scheme.cost)


def _devices(view: MethodView) -> str:
    return _differing(view, lambda scheme: ", ".join(scheme.devices))


def _served(scheme: SchemeView) -> str:
    return ", ".join(f"{row.engine} ({row.device})" for row in scheme.loaded_by)


def _bounds(option: OptionInfo) -> str:
    if option.choices is not None:
        return ", ".join(option.choices)
    if option.minimum is None and option.maximum is None:
        return "true, false" if isinstance(option.default, bool) else ""
    return f"{option.minimum:g} to {option.maximum:g}"


_COLUMNS: tuple[Column[MethodView], ...] = (
    ("method", lambda view: view.info.method),
    ("schemes", lambda view: ", ".join(view.info.schemes)),
    ("group sizes", _group_sizes),
    ("text", _text),
    ("cost", _cost),
    ("runs on", _devices),
    ("format", lambda view: view.info.format),
    ("what it is", lambda view: view.info.title),
)
_SCHEME_COLUMNS: tuple[Column[SchemeView], ...] = (
    ("scheme", lambda scheme: scheme.info.scheme),
    ("bits", lambda scheme: f"{scheme.info.weight_bits:g}"),
    ("one scale for a", lambda scheme: scheme.info.granularity or "group or channel"),
    ("activations", lambda scheme: scheme.info.activations),
    ("needs text", lambda scheme: "yes" if scheme.needs_calibration else "no"),
    ("cost", lambda scheme: scheme.cost),
    ("runs on", lambda scheme: ", ".join(scheme.devices)),
    ("loaded by", _served),
)
_OPTION_COLUMNS: tuple[Column[OptionInfo], ...] = (
    ("option", lambda option: option.name),
    ("default", lambda option: str(option.default).lower() if isinstance(option.default, bool) else str(option.default)),
    ("from", _bounds),
    ("what it does", lambda option: option.words),
)


@app.callback(invoke_without_command=True)
def list_methods(context: typer.Context, as_json: JsonOption = False) -> None:
    """List quantization methods; a * marks a default."""
    if context.invoked_subcommand is not None:
        return
    with connect(context) as client:
        methods = client.methods.list()
    if as_json:
        emit_json(methods)
    else:
        print_table(methods, _COLUMNS, empty="The server knows no methods.")


@app.command("show")
def show_method(
    context: typer.Context, method: Annotated[str, typer.Argument(help="Its name, such as gptq.")], as_json: JsonOption = False
) -> None:
    """Show a method's schemes and options, and what loads its results."""
    with connect(context) as client:
        view = client.methods.get(method)
    if as_json:
        emit_json(view)
        return
    info = view.info
    print_fields(
        [
            ("method", info.method),
            ("what it is", info.title),
            ("paper", info.paper),
            ("library", info.backend),
            ("format", info.format),
            ("cost", _cost(view)),
            ("runs on", _devices(view)),
            ("group sizes", _group_sizes(view)),
            ("overrides", "yes" if info.takes_overrides else "no"),
            ("fp8 KV cache", "can be calibrated along" if info.takes_kv_cache else "no"),
        ]
    )
    say("")
    print_table(view.schemes, _SCHEME_COLUMNS, empty="It has no schemes.")
    say("")
    print_table(info.options, _OPTION_COLUMNS, empty="It has no options.")
