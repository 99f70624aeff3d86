# Made from quantry/aio/resources/deployments.py by make_sync.py: change that file, and run this again.
"""Deployments: the names that clients call, what serves them, what served them, and what is kept of their requests."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import datetime

from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.captures import CaptureDatasetOrder, CaptureSettings, CaptureStatus
from quantry_core.datasets import Dataset
from quantry_core.deployment_diffs import DeploymentDiff
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import (
    AdapterAttachment,
    AttachedAdapter,
    Deployment,
    Release,
    RollbackOrder,
    Rollout,
    ServingPeriod,
)

_PATH = "/api/v1/deployments"


class Deployments:
    """``client.deployments``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Deployment]:
        """Returns one page of deployments, newest first."""
        return self._transport.get(Page[Deployment], _PATH, {"after": after, "limit": limit})

    def iterate(self, *, max_items: int | None = None) -> Generator[Deployment, None, None]:
        """Yields every deployment, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit), max_items)

    def get(self, name: str) -> Deployment:
        """Returns a deployment with its release, rollout and replicas."""
        return self._transport.get(Deployment, f"{_PATH}/{path_part(name)}")

    def rollouts(self, name: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Rollout]:
        """Returns one page of a deployment's rollouts, newest first."""
        return self._transport.get(Page[Rollout], f"{_PATH}/{path_part(name)}/rollouts", {"after": after, "limit": limit})

    def iterate_rollouts(self, name: str, *, max_items: int | None = None) -> Generator[Rollout, None, None]:
        """Yields every rollout of a deployment, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.rollouts(name, after=after, limit=limit), max_items)

    def releases(self, name: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Release]:
        """Returns one page of a deployment's releases, newest first."""
        return self._transport.get(Page[Release], f"{_PATH}/{path_part(name)}/releases", {"after": after, "limit": limit})

    def iterate_releases(self, name: str, *, max_items: int | None = None) -> Generator[Release, None, None]:
        """Yields every release of a deployment, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.releases(name, after=after, limit=limit), max_items)

    def rollback(self, name: str, release: int | None = None, *, note: str | None = None) -> Deployment:
        """Has an earlier release serve again and returns the deployment: at once where a replica of it is ready, else as soon as one is.

        ``release``: its number. None: a rollout under way is ended and what serves goes on; where there is none, the release that
        served before the current one. With a number it may be asked again; without one it is sent once, as a second one would go
        back further.
        """
        order, path = RollbackOrder(release=release, note=note), f"{_PATH}/{path_part(name)}/rollback"
        if release is None:
            return self._transport.post(Deployment, path, order)
        return self._transport.post_again(Deployment, path, order)

    def history(self, name: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[ServingPeriod]:
        """Returns one page of what served under a name, newest first: one period for each change."""
        return self._transport.get(Page[ServingPeriod], f"{_PATH}/{path_part(name)}/history", {"after": after, "limit": limit})

    def iterate_history(self, name: str, *, max_items: int | None = None) -> Generator[ServingPeriod, None, None]:
        """Yields everything that served under a name, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.history(name, after=after, limit=limit), max_items)

    def at(self, name: str, time: datetime) -> ServingPeriod:
        """Returns what served under a name at a moment (with its time zone); raises ApiError (404) before the first deploy."""
        return self._transport.get(ServingPeriod, f"{_PATH}/{path_part(name)}/at", {"time": time.isoformat()})

    def diff(self, name: str, left: int | datetime, right: int | datetime) -> DeploymentDiff:
        """Returns what tells two releases apart, each by its number, or as the one with the largest share at a moment (with its zone)."""
        return self._transport.get(DeploymentDiff, f"{_PATH}/{path_part(name)}/diff", {"from": _side(left), "to": _side(right)})

    def capture(self, name: str) -> CaptureStatus:
        """Returns which prompts a deployment keeps, and how many it has."""
        return self._transport.get(CaptureStatus, f"{_PATH}/{path_part(name)}/capture")

    def start_capture(self, name: str, settings: CaptureSettings) -> CaptureStatus:
        """Keeps a share of a deployment's prompts from now on, encrypted; refused where the server has no key for that."""
        return self._transport.put(CaptureStatus, f"{_PATH}/{path_part(name)}/capture", settings)

    def stop_capture(self, name: str) -> None:
        """Keeps no further prompts, and deletes those that are kept."""
        self._transport.delete(f"{_PATH}/{path_part(name)}/capture")

    def capture_dataset(self, name: str, dataset: str) -> Dataset:
        """Makes a dataset version of the prompts that are kept, scrubbed, and returns it: calibration data.

        Where the dataset's last version has the same text already, that is returned.
        """
        return self._transport.post_again(Dataset, f"{_PATH}/{path_part(name)}/capture/dataset", CaptureDatasetOrder(name=dataset))

    def adapters(self, name: str) -> Sequence[AttachedAdapter]:
        """Returns every adapter that a deployment serves beside its base, oldest first."""
        return self._transport.get(Page[AttachedAdapter], f"{_PATH}/{path_part(name)}/adapters").data

    def adapter(self, name: str, adapter: str) -> AttachedAdapter:
        """Returns one attached adapter by its name."""
        return self._transport.get(AttachedAdapter, f"{_PATH}/{path_part(name)}/adapters/{path_part(adapter)}")

    def attach(self, name: str, adapter: str, version: str) -> AttachedAdapter:
        """Serves an adapter version under the name ``adapter`` and returns it; engines load it while they run.

        Again changes nothing; another version takes the place of the one that is served.
        """
        body = AdapterAttachment(version=version)
        return self._transport.put(AttachedAdapter, f"{_PATH}/{path_part(name)}/adapters/{path_part(adapter)}", body)

    def detach(self, name: str, adapter: str) -> None:
        """Serves an adapter no more."""
        self._transport.delete(f"{_PATH}/{path_part(name)}/adapters/{path_part(adapter)}")

    def stop(self, name: str) -> Deployment:
        """Asks for a deployment's replicas to be stopped and returns it; its name and releases are kept."""
        return self._transport.post_again(Deployment, f"{_PATH}/{path_part(name)}/stop")

    def start(self, name: str) -> Deployment:
        """Asks for a stopped deployment to be served again and returns it."""
        return self._transport.post_again(Deployment, f"{_PATH}/{path_part(name)}/start")


def _side(which: int | datetime) -> str:
    return str(which) if isinstance(which, int) else which.isoformat()
