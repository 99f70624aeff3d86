"""``quantry jobs submit`` and ``quantry jobs estimate``: one command per job type each; and ``quantry deploy``, which is one of them."""

from __future__ import annotations

import typer

from quantry.cli.context import connect
from quantry.cli.estimates import print_estimate
from quantry.cli.following import follow_submitted
from quantry.cli.job_documents import submit_json
from quantry.cli.job_options import JobOptions, SubmitOptions, command_of
from quantry.cli.job_specs import SPEC_OPTIONS
from quantry.cli.output import emit_json, say
from quantry_core.jobs import DeploySpec, JobSpec, JobStatus, JobType


def _estimate(context: typer.Context, spec: JobSpec, options: JobOptions) -> None:
    keywords = options.keywords(spec)
    with connect(context) as client:
        estimate = client.jobs.estimate(spec, **keywords)
    if options.as_json:
        emit_json(estimate)
    else:
        print_estimate(estimate)


def _submit(context: typer.Context, spec: JobSpec, options: SubmitOptions) -> None:
    if options.estimate:
        _estimate(context, spec, options)
        return
    keywords = options.keywords(spec)
    with connect(context) as client:
        job = client.jobs.submit(spec, idempotency_key=options.idempotency_key, **keywords)
        if options.wait:
            follow_submitted(client, job.id, as_json=options.as_json)
        elif options.as_json:
            emit_json(job)
        elif job.status is JobStatus.SUCCEEDED and job.result is not None and job.result.reused:
            say(f"{job.id} {job.status}: {job.result.version_id} was made by an identical job already; --force works all the same")
        elif isinstance(spec, DeploySpec) and job.status is not JobStatus.WAITING:
            say(f"{job.id} {job.status}; follow its rollout: quantry rollouts follow {spec.deployment}")
        else:
            say(f"{job.id} {job.status}; follow it: quantry jobs watch {job.id}")


app = typer.Typer(help="Submit a job.", no_args_is_help=True)
estimate_app = typer.Typer(help="Show what a job would take, and the queue it would go to; nothing is submitted.", no_args_is_help=True)

for _type, _spec_options in SPEC_OPTIONS.items():
    app.command(_type.value)(command_of(_spec_options, SubmitOptions, _submit))
    estimate_app.command(_type.value)(command_of(_spec_options, JobOptions, _estimate))

app.command("json")(submit_json)

deploy = command_of(SPEC_OPTIONS[JobType.DEPLOY], SubmitOptions, _submit)
