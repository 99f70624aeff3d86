"""``quantry jobs submit``: one command per job type, one option per field of its spec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantry.cli.context import JsonOption, connect
from quantry.cli.following import end_with, follow
from quantry.cli.output import emit_json, say
from quantry.cli.specs import build, default, words
from quantry_core.jobs import CalibrationSpec, DeploySpec, EngineConfig, EvaluateSpec, ImportSpec, JobSpec, JobSubmission, QuantizeSpec
from quantry_core.sources import HUB_PREFIX

app = typer.Typer(help="Submit a job.", no_args_is_help=True)

PriorityOption = Annotated[int, typer.Option("--priority", min=0, max=9, help="0 is claimed first, 9 last.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Follow the job to its end; exit with 1 unless it succeeds.")]

_DEFAULT_PRIORITY: int = default(JobSubmission, "priority")
_IGNORED: list[str] = default(QuantizeSpec, "ignore")


@app.command("import")
def submit_import(
    context: typer.Context,
    *,
    model: Annotated[str, typer.Option(help=words(ImportSpec, "model"))],
    source: Annotated[str, typer.Option(help=words(ImportSpec, "source") + " A relative path is taken from here.")],
    priority: PriorityOption = _DEFAULT_PRIORITY,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a 16-bit checkpoint into the registry as a master."""
    absolute = source if source.startswith((HUB_PREFIX, "/")) else str(Path(source).resolve())
    _submit(context, build(ImportSpec, model=model, source=absolute), priority, wait=wait, as_json=as_json)


@app.command("quantize")
def submit_quantize(
    context: typer.Context,
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
    priority: PriorityOption = _DEFAULT_PRIORITY,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a quantized version from a 16-bit master."""
    samples = build(CalibrationSpec, datasets=calibration, num_samples=num_samples, length_tokens=length_tokens, seed=seed)
    spec = build(
        QuantizeSpec,
        base=base,
        method=method,
        scheme=scheme,
        group_size=group_size,
        damping=damping,
        ignore=ignore,
        calibration=samples,
    )
    _submit(context, spec, priority, wait=wait, as_json=as_json)


@app.command("evaluate")
def submit_evaluate(
    context: typer.Context,
    *,
    version: Annotated[str, typer.Option(help="The version to measure.")],
    corpus: Annotated[list[str], typer.Option(help="A dataset to measure on; may be given again.")],
    against: Annotated[str | None, typer.Option(help=words(EvaluateSpec, "against"))] = None,
    window_tokens: Annotated[int, typer.Option(help=words(EvaluateSpec, "window_tokens"))] = default(EvaluateSpec, "window_tokens"),
    max_windows: Annotated[int | None, typer.Option(help=words(EvaluateSpec, "max_windows"))] = None,
    priority: PriorityOption = _DEFAULT_PRIORITY,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure perplexity, and closeness to a reference version."""
    spec = build(EvaluateSpec, version=version, against=against, corpora=corpus, window_tokens=window_tokens, max_windows=max_windows)
    _submit(context, spec, priority, wait=wait, as_json=as_json)


@app.command("deploy")
def submit_deploy(
    context: typer.Context,
    *,
    deployment: Annotated[str, typer.Option(help="The name that clients call.")],
    version: Annotated[str, typer.Option(help="The version to serve.")],
    replicas: Annotated[int, typer.Option(help="Engine processes.")] = default(DeploySpec, "replicas"),
    max_model_len_tokens: Annotated[int | None, typer.Option(help=words(EngineConfig, "max_model_len_tokens"))] = None,
    kv_cache_bytes: Annotated[int, typer.Option(help=words(EngineConfig, "kv_cache_bytes"))] = default(EngineConfig, "kv_cache_bytes"),
    max_num_seqs: Annotated[int, typer.Option(help=words(EngineConfig, "max_num_seqs"))] = default(EngineConfig, "max_num_seqs"),
    ready_timeout_s: Annotated[int, typer.Option(help=words(DeploySpec, "ready_timeout_s"))] = default(DeploySpec, "ready_timeout_s"),
    priority: PriorityOption = _DEFAULT_PRIORITY,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve a version under a deployment's name, in place of what was served before."""
    engine = build(EngineConfig, max_model_len_tokens=max_model_len_tokens, kv_cache_bytes=kv_cache_bytes, max_num_seqs=max_num_seqs)
    spec = build(DeploySpec, deployment=deployment, version=version, replicas=replicas, engine=engine, ready_timeout_s=ready_timeout_s)
    _submit(context, spec, priority, wait=wait, as_json=as_json)


def _submit(context: typer.Context, spec: JobSpec, priority: int, *, wait: bool, as_json: bool) -> None:
    with connect(context) as client:
        job = client.jobs.submit(spec, priority=priority)
        if not wait:
            if as_json:
                emit_json(job)
            else:
                say(f"{job.id} {job.status}; follow it: quantry jobs watch {job.id}")
            return
        if as_json:
            end_with(client.jobs.wait(job.id), as_json=True)
        else:
            say(job.id)
            end_with(follow(client, job.id), as_json=False)
