"""The options of each job type: one function per type, one option per field of its spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from quantry.cli.completion import dataset_refs, deployment_names, model_names, version_refs
from quantry.cli.deploy_options import deploy_spec
from quantry.cli.finetune_options import finetune_spec
from quantry.cli.merge_options import merge_spec
from quantry.cli.quantize_options import quantize_spec, thresholds
from quantry.cli.specs import build, default, words
from quantry_core.jobs import (
    EvaluateSpec,
    ImportSpec,
    JobSpec,
    JobType,
    JudgedBy,
    RecalibrateSpec,
    SpeedSpec,
    TasksSpec,
)
from quantry_core.sources import is_local

_JUDGED_BY: JudgedBy = default(RecalibrateSpec, "judged_by")
_CONCURRENCY: list[int] = default(SpeedSpec, "concurrency")


def import_spec(
    *,
    model: Annotated[str, typer.Option(help=words(ImportSpec, "model"), autocompletion=model_names)],
    source: Annotated[str, typer.Option(help=words(ImportSpec, "source") + " A relative path is taken from here.")],
) -> ImportSpec:
    """Bring a 16-bit checkpoint into the registry as a master."""
    return build(ImportSpec, model=model, source=str(Path(source).resolve()) if is_local(source) else source)


def evaluate_spec(
    *,
    version: Annotated[str, typer.Option(help="The version to measure.", autocompletion=version_refs)],
    corpus: Annotated[
        list[str] | None, typer.Option(help="A dataset to measure on; may be given again.", autocompletion=dataset_refs)
    ] = None,
    against: Annotated[str | None, typer.Option(help=words(EvaluateSpec, "against"), autocompletion=version_refs)] = None,
    window_tokens: Annotated[int, typer.Option(help=words(EvaluateSpec, "window_tokens"))] = default(EvaluateSpec, "window_tokens"),
    stride_tokens: Annotated[int | None, typer.Option(help=words(EvaluateSpec, "stride_tokens"))] = None,
    max_windows: Annotated[int | None, typer.Option(help=words(EvaluateSpec, "max_windows"))] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(metavar="METRIC=BOUND", help="Decides the verdict, as in kl_mean_nats=0.05; may be given again.")
    ] = None,
    attention: Annotated[bool, typer.Option("--attention", help=words(EvaluateSpec, "attention"))] = False,
    extremes: Annotated[bool, typer.Option("--extremes", help=words(EvaluateSpec, "extremes"))] = False,
    task: Annotated[list[str] | None, typer.Option(help="A task of lm-evaluation-harness; may be given again.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help=words(TasksSpec, "num_fewshot"))] = None,
    task_limit: Annotated[int | None, typer.Option(help=words(TasksSpec, "limit"))] = None,
    speed: Annotated[bool, typer.Option("--speed", help="Measure a real engine that serves the version.")] = False,
    concurrency: Annotated[list[int], typer.Option(help=words(SpeedSpec, "concurrency"))] = _CONCURRENCY,
    prompt_tokens: Annotated[int, typer.Option(help="Of each request, with --speed.")] = default(SpeedSpec, "prompt_tokens"),
    output_tokens: Annotated[int, typer.Option(help="Of each request, with --speed.")] = default(SpeedSpec, "output_tokens"),
    num_requests: Annotated[int, typer.Option(help=words(SpeedSpec, "num_requests"))] = default(SpeedSpec, "num_requests"),
    seed: Annotated[int, typer.Option(help=words(EvaluateSpec, "seed"))] = default(EvaluateSpec, "seed"),
) -> EvaluateSpec:
    """Measure a version: perplexity, closeness to a reference version, behaviour, tasks, speed."""
    asked: dict[str, Any] = {"thresholds": thresholds(threshold)} if threshold else {}
    if task:
        asked["tasks"] = build(TasksSpec, names=task, num_fewshot=num_fewshot, limit=task_limit)
    if speed:
        asked["speed"] = build(
            SpeedSpec, concurrency=concurrency, prompt_tokens=prompt_tokens, output_tokens=output_tokens, num_requests=num_requests
        )
    return build(
        EvaluateSpec,
        version=version,
        against=against,
        corpora=corpus or [],
        window_tokens=window_tokens,
        stride_tokens=stride_tokens,
        max_windows=max_windows,
        attention=attention,
        extremes=extremes,
        seed=seed,
        **asked,
    )


def recalibrate_spec(
    *,
    dataset: Annotated[
        list[str], typer.Option(help=words(RecalibrateSpec, "datasets") + " May be given again.", autocompletion=dataset_refs)
    ],
    corpus: Annotated[
        list[str], typer.Option(help=words(RecalibrateSpec, "corpora") + " May be given again.", autocompletion=dataset_refs)
    ],
    serving: Annotated[str | None, typer.Option(help=words(RecalibrateSpec, "serving"))] = None,
    deployment: Annotated[str | None, typer.Option(help=words(RecalibrateSpec, "deployment"), autocompletion=deployment_names)] = None,
    margin_nats: Annotated[float, typer.Option(help=words(RecalibrateSpec, "margin_nats"))] = default(RecalibrateSpec, "margin_nats"),
    judged_by: Annotated[JudgedBy, typer.Option(help=words(RecalibrateSpec, "judged_by"))] = _JUDGED_BY,
    window_tokens: Annotated[int, typer.Option(help="Length of one scored window.")] = default(RecalibrateSpec, "window_tokens"),
    max_windows: Annotated[int | None, typer.Option(help="Scores only the first windows of each corpus.")] = None,
    alias: Annotated[str, typer.Option(help=words(RecalibrateSpec, "alias"))] = default(RecalibrateSpec, "alias"),
    rollout: Annotated[bool, typer.Option("--rollout", help=words(RecalibrateSpec, "rollout"))] = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = default(RecalibrateSpec, "seed"),
) -> RecalibrateSpec:
    """Quantize again with the recipe that serves now, on newer text, and compare."""
    return build(
        RecalibrateSpec,
        serving=serving,
        deployment=deployment,
        datasets=dataset,
        corpora=corpus,
        margin_nats=margin_nats,
        judged_by=judged_by,
        window_tokens=window_tokens,
        max_windows=max_windows,
        alias=alias,
        rollout=rollout,
        seed=seed,
    )


SPEC_OPTIONS: dict[JobType, Callable[..., JobSpec]] = {
    JobType.IMPORT: import_spec,
    JobType.QUANTIZE: quantize_spec,
    JobType.FINETUNE: finetune_spec,
    JobType.MERGE: merge_spec,
    JobType.EVALUATE: evaluate_spec,
    JobType.RECALIBRATE: recalibrate_spec,
    JobType.DEPLOY: deploy_spec,
}
