"""Options of deploy jobs: what serves, by how many replicas of which engine, and how traffic moves to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from quantry.cli.completion import deployment_names, version_refs
from quantry.cli.spec_fields import Option, OptionGroup, taking
from quantry.cli.specs import build, build_named, default, words
from quantry.cli.strategy_options import STRATEGY_OPTIONS, strategy_of
from quantry.cli.values import duration_or_none_s, duration_s
from quantry_core.jobs import DeploySpec, EngineConfig, EngineKind, Scaling

_ENGINE: EngineKind = default(EngineConfig, "engine")
_SCALING_NAMES = {"scale_down_after_s": "scale_down_after", "idle_after_s": "idle_after"}
"""Fields that are called otherwise than their option."""

_SCALING = OptionGroup(
    {
        "min_replicas": Option(Annotated[int | None, typer.Option(help=words(Scaling, "min_replicas"))]),
        "max_replicas": Option(
            Annotated[int | None, typer.Option(help="Scaled up to so many by what waits; without it: always --replicas.")]
        ),
        "target_waiting": Option(Annotated[float | None, typer.Option(help=words(Scaling, "target_waiting"))]),
        "target_kv_use": Option(Annotated[float | None, typer.Option(help=words(Scaling, "target_kv_use"))]),
        "scale_down_after": Option(
            Annotated[int | None, typer.Option(parser=duration_s, metavar="DURATION", help=words(Scaling, "scale_down_after_s"))]
        ),
        "idle_after": Option(
            Annotated[int | None, typer.Option(parser=duration_s, metavar="DURATION", help=words(Scaling, "idle_after_s"))]
        ),
    }
)


@taking(STRATEGY_OPTIONS, _SCALING)
def deploy_spec(
    *,
    deployment: Annotated[str, typer.Option(help="The name that clients call.", autocompletion=deployment_names)],
    version: Annotated[str, typer.Option(help="The version to serve.", autocompletion=version_refs)],
    replicas: Annotated[int | None, typer.Option(help="Engine processes; where scaled, those of the start.", show_default="1")] = None,
    engine: Annotated[EngineKind, typer.Option(help="What serves it.")] = _ENGINE,
    num_gpus: Annotated[int, typer.Option(help=words(EngineConfig, "num_gpus"))] = default(EngineConfig, "num_gpus"),
    max_model_len_tokens: Annotated[int | None, typer.Option(help=words(EngineConfig, "max_model_len_tokens"))] = None,
    kv_cache_bytes: Annotated[int, typer.Option(help=words(EngineConfig, "kv_cache_bytes"))] = default(EngineConfig, "kv_cache_bytes"),
    max_num_seqs: Annotated[int, typer.Option(help=words(EngineConfig, "max_num_seqs"))] = default(EngineConfig, "max_num_seqs"),
    max_adapters: Annotated[int, typer.Option(help=words(EngineConfig, "max_adapters"))] = default(EngineConfig, "max_adapters"),
    max_adapter_rank: Annotated[int, typer.Option(help=words(EngineConfig, "max_adapter_rank"))] = default(
        EngineConfig, "max_adapter_rank"
    ),
    server: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="A server that someone else runs and that serves this version, a replica each; may be given again."
        ),
    ] = None,
    ready_timeout_s: Annotated[int, typer.Option(help=words(DeploySpec, "ready_timeout_s"))] = default(DeploySpec, "ready_timeout_s"),
    watch: Annotated[
        int | None, typer.Option(parser=duration_or_none_s, metavar="DURATION", help=words(DeploySpec, "watch_s"), show_default="5m")
    ] = None,
    note: Annotated[str | None, typer.Option(help=words(DeploySpec, "note"))] = None,
    **values: Any,
) -> DeploySpec:
    """Serve a version under a deployment's name, in place of what was served before."""
    config = build(
        EngineConfig,
        engine=engine,
        num_gpus=num_gpus,
        max_model_len_tokens=max_model_len_tokens,
        kv_cache_bytes=kv_cache_bytes,
        max_num_seqs=max_num_seqs,
        max_adapters=max_adapters,
        max_adapter_rank=max_adapter_rank,
    )
    scaling = _scaling(values)
    chosen = {"strategy": strategy_of(values), "watch_s": watch, "replicas": replicas if replicas is not None else _first_replicas(scaling)}
    return build_named(
        DeploySpec,
        {
            "deployment": deployment,
            "version": version,
            "engine": config,
            "ready_timeout_s": ready_timeout_s,
            "scaling": scaling,
            "servers": server or [],
            "note": note,
            **{name: value for name, value in chosen.items() if value is not None},
        },
        {"servers": "server", "watch_s": "watch"},
    )


def _scaling(values: Mapping[str, Any]) -> Scaling | None:
    """Returns how replicas are scaled, None where they are not; a usage error for a part of it without --max-replicas."""
    given = {name: values[name] for name in _SCALING.options if values[name] is not None}
    if not given:
        return None
    if "max_replicas" not in given:
        raise typer.BadParameter(f"--{next(iter(given)).replace('_', '-')} is of a deployment that is scaled: give --max-replicas too")
    fields = {option: name for name, option in _SCALING_NAMES.items()}
    return build_named(Scaling, {fields.get(name, name): value for name, value in given.items()}, _SCALING_NAMES)


def _first_replicas(scaling: Scaling | None) -> int | None:
    """Returns with how many replicas a scaled deployment starts where nobody said."""
    return None if scaling is None else max(1, scaling.min_replicas)
