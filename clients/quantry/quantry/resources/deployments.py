"""Deployments: the names that clients call, and what serves them. Made and changed by deploy jobs."""

from __future__ import annotations

from quantry.transport import Transport, path_part
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import Deployment, Rollout

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

    def stop(self, name: str) -> Deployment:
        """Asks for a deployment's replicas to be stopped and returns it; its name and releases are kept."""
        return self._transport.post_again(Deployment, f"{_PATH}/{path_part(name)}/stop")

    def start(self, name: str) -> Deployment:
        """Asks for a stopped deployment to be served again and returns it."""
        return self._transport.post_again(Deployment, f"{_PATH}/{path_part(name)}/start")
