"""What the shell offers for names and ids: asked of the server, briefly, and nothing at all where that does not work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import typer

from quantry.cli.context import Server, connect_once
from quantry.client import Client
from quantry.profiles import profiles_path, read_profiles
from quantry_core.jobs import FINAL_STATUSES
from quantry_core.pages import MAX_LIMIT

Completer = Callable[[typer.Context, str], list[str]]
"""Given what stands there already, returns what it may become."""


def _asking(names: Callable[[Client, str], Iterable[str]]) -> Completer:
    """Returns a completer that asks the server ``names`` has. A shell that waits for a key is no place for troubles."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        given = context.find_root().params
        server = Server(given.get("url"), given.get("api_key"), given.get("profile"))
        try:
            with connect_once(server) as client:
                return sorted({name for name in names(client, incomplete) if name.startswith(incomplete)})
        except Exception:  # Whatever it is: the shell offers nothing, and the command itself will say why.
            return []

    return complete


def _versions(client: Client, incomplete: str) -> Iterator[str]:
    """Yields models, and after an @ the versions and aliases of that model."""
    model, has_model, _ = incomplete.partition("@")
    if not has_model:
        yield from (found.name for found in client.models.list(limit=MAX_LIMIT).data)
        return
    yield from (version.ref for version in client.versions.list(model, limit=MAX_LIMIT).data)
    yield from (f"{model}@{alias.alias}" for alias in client.models.aliases(model))


def _datasets(client: Client, _incomplete: str) -> Iterator[str]:
    for dataset in client.datasets.list(limit=MAX_LIMIT).data:
        yield from (dataset.name, dataset.ref)


model_names = _asking(lambda client, _: (model.name for model in client.models.list(limit=MAX_LIMIT).data))
version_refs = _asking(_versions)
dataset_refs = _asking(_datasets)
job_ids = _asking(lambda client, _: (job.id for job in client.jobs.list(limit=MAX_LIMIT).data))
running_job_ids = _asking(lambda client, _: (job.id for job in client.jobs.list(limit=MAX_LIMIT).data if job.status not in FINAL_STATUSES))
pipeline_ids = _asking(lambda client, _: (pipeline.id for pipeline in client.pipelines.list(limit=MAX_LIMIT).data))
schedule_ids = _asking(lambda client, _: (schedule.id for schedule in client.schedules.list(limit=MAX_LIMIT).data))
deployment_names = _asking(lambda client, _: (deployment.name for deployment in client.deployments.list(limit=MAX_LIMIT).data))
webhook_ids = _asking(lambda client, _: (webhook.id for webhook in client.webhooks.list(limit=MAX_LIMIT).data))
key_ids = _asking(lambda client, _: (key.id for key in client.keys.list(limit=MAX_LIMIT).data))


def profile_names(incomplete: str) -> list[str]:
    """Returns the profiles that begin so."""
    try:
        return sorted(name for name in read_profiles(profiles_path()).profiles if name.startswith(incomplete))
    except Exception:  # As above.
        return []
