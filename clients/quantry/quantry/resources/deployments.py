"""Deployments: the names that clients call, and what serves them. Made and changed by deploy jobs."""

from __future__ import annotations

from collections.abc import Sequence

from quantry.transport import Transport, path_part
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import AdapterAttachment, AttachedAdapter, Deployment, Rollout

_PATH = "/api/v1/deployments"


class Deployments:
    """``client.deployments``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Deployment]:
        """Returns one page of deployments, newest first."""
        return self._transport.get(Page[Deployment], _PATH, {"after": after, "limit": limit})

    def get(self, name: str) -> Deployment:
        """Returns a deployment with its release, rollout and replicas."""
        return self._transport.get(Deployment, f"{_PATH}/{path_part(name)}")

    def rollouts(self, name: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Rollout]:
        """Returns one page of a deployment's rollouts, newest first."""
        return self._transport.get(Page[Rollout], f"{_PATH}/{path_part(name)}/rollouts", {"after": after, "limit": limit})

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
