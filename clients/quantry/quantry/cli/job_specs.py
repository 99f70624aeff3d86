"""The options of each job type: one function per type, one option per field of its spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from quantry.cli.specs import build, default, words
from quantry_core.jobs import CalibrationSpec, DeploySpec, EngineConfig, EvaluateSpec, ImportSpec, JobSpec, JobType, QuantizeSpec
from quantry_core.sources import HUB_PREFIX

_IGNORED: list[str] = default(QuantizeSpec, "ignore")


def import_spec(
    *,
    model: Annotated[str, typer.Option(help=words(ImportSpec, "model"))],
    source: Annotated[str, typer.Option(help=words(ImportSpec, "source") + " A relative path is taken from here.")],
) -> ImportSpec:
    """Bring a 16-bit checkpoint into the registry as a master."""
    absolute = source if source.startswith((HUB_PREFIX, "/")) else str(Path(source).resolve())
    return build(ImportSpec, model=model, source=absolute)


def quantize_spec(
    *,
    base: Annotated[str, typer.Option(help=words(QuantizeSpec, "base"))],
    calibration: Annotated[list[str], typer.Option(help="A dataset to calibrate on; may be given again.")],
    method: Annotated[str, typer.Option(help="See 'quantry methods'.")] = default(QuantizeSpec, "method"),
    scheme: Annotated[str, typer.Option(help="See 'quantry methods'.")] = default(QuantizeSpec, "scheme"),
    group_size: Annotated[int | None, typer.Option(help=words(QuantizeSpec, "group_size"))] = None,
    damping: Annotated[float, typer.Option(help=words(QuantizeSpec, "damping"))] = default(QuantizeSpec, "damping"),
    ignore: Annotated[list[str], typer.Option(help=words(QuantizeSpec, "ignore") + " May be given again.")] = _IGNORED,
    num_samples: Annotated[int, typer.Option(help=words(CalibrationSpec, "num_samples"))] = default(CalibrationSpec, "num_samples"),
    length_tokens: Annotated[int, typer.Option(help=words(CalibrationSpec, "length_tokens"))] = default(CalibrationSpec, "length_tokens"),
    seed: Annotated[int, typer.Option(help="Seed of the calibration's draw.")] = default(CalibrationSpec, "seed"),
) -> QuantizeSpec:
    """Make a quantized version from a 16-bit master."""
    samples = build(CalibrationSpec, datasets=calibration, num_samples=num_samples, length_tokens=length_tokens, seed=seed)
    return build(
        QuantizeSpec,
        base=base,
        method=method,
        scheme=scheme,
        group_size=group_size,
        damping=damping,
        ignore=ignore,
        calibration=samples,
    )


def evaluate_spec(
    *,
    version: Annotated[str, typer.Option(help="The version to measure.")],
    corpus: Annotated[list[str], typer.Option(help="A dataset to measure on; may be given again.")],
    against: Annotated[str | None, typer.Option(help=words(EvaluateSpec, "against"))] = None,
    window_tokens: Annotated[int, typer.Option(help=words(EvaluateSpec, "window_tokens"))] = default(EvaluateSpec, "window_tokens"),
    max_windows: Annotated[int | None, typer.Option(help=words(EvaluateSpec, "max_windows"))] = None,
) -> EvaluateSpec:
    """Measure perplexity, and closeness to a reference version."""
    return build(EvaluateSpec, version=version, against=against, corpora=corpus, window_tokens=window_tokens, max_windows=max_windows)


def deploy_spec(
    *,
    deployment: Annotated[str, typer.Option(help="The name that clients call.")],
    version: Annotated[str, typer.Option(help="The version to serve.")],
    replicas: Annotated[int, typer.Option(help="Engine processes.")] = default(DeploySpec, "replicas"),
    max_model_len_tokens: Annotated[int | None, typer.Option(help=words(EngineConfig, "max_model_len_tokens"))] = None,
    kv_cache_bytes: Annotated[int, typer.Option(help=words(EngineConfig, "kv_cache_bytes"))] = default(EngineConfig, "kv_cache_bytes"),
    max_num_seqs: Annotated[int, typer.Option(help=words(EngineConfig, "max_num_seqs"))] = default(EngineConfig, "max_num_seqs"),
    ready_timeout_s: Annotated[int, typer.Option(help=words(DeploySpec, "ready_timeout_s"))] = default(DeploySpec, "ready_timeout_s"),
) -> DeploySpec:
    """Serve a version under a deployment's name, in place of what was served before."""
    engine = build(EngineConfig, max_model_len_tokens=max_model_len_tokens, kv_cache_bytes=kv_cache_bytes, max_num_seqs=max_num_seqs)
    return build(DeploySpec, deployment=deployment, version=version, replicas=replicas, engine=engine, ready_timeout_s=ready_timeout_s)


SPEC_OPTIONS: dict[JobType, Callable[..., JobSpec]] = {
    JobType.IMPORT: import_spec,
    JobType.QUANTIZE: quantize_spec,
    JobType.EVALUATE: evaluate_spec,
    JobType.DEPLOY: deploy_spec,
}
