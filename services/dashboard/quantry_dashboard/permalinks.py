"""Addresses of things that are known by their id alone: each leads to the page that shows them."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from quantry import Client
from quantry_dashboard import sign_in
from quantry_dashboard.asking import NotDone
from quantry_dashboard.deployments import ROLLOUTS, rollout_address
from quantry_dashboard.in_place_of_files import asked_for


def routes(door: sign_in.Door) -> APIRouter:
    """Returns the addresses. The audit log and webhooks know a rollout by its id, its page is beneath its deployment's."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"{ROLLOUTS}/{{rollout_id}}")
    async def rollout(request: Request, rollout_id: str) -> Response:
        address = await asked_for(door, request, lambda client: _rollout_page(client, rollout_id))
        return address if isinstance(address, Response) else RedirectResponse(address, 303)

    return router


def _rollout_page(client: Client, rollout_id: str) -> str:
    rollout = client.rollouts.get(rollout_id)
    for deployment in client.deployments.iterate():
        if deployment.id == rollout.deployment_id:
            return rollout_address(deployment.name, rollout)
    raise NotDone("The deployment of this rollout is gone.", status=404)
