"""What an API in memory says of deployments, their rollouts, releases and history, and does when it is asked for something."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel

from quantry_core.errors import Forbidden, RolloutOver, UnknownDeployment, UnknownRollout
from quantry_core.keys import Role
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import (
    ACTIVE_ROLLOUT_STATES,
    Deployment,
    Release,
    Rollout,
    RolloutReason,
    RolloutRequest,
    RolloutState,
    ServingPeriod,
)
from quantry_core.traffic import RolloutTraffic
from quantry_core.traffic_spans import RolloutSpans

ItemT = TypeVar("ItemT", bound=BaseModel)

_BECOMES = {
    RolloutRequest.PAUSE: RolloutState.PAUSED,
    RolloutRequest.RESUME: RolloutState.PROGRESSING,
    RolloutRequest.ABORT: RolloutState.ABORTED,
    RolloutRequest.ROLL_BACK: RolloutState.ROLLED_BACK,
}


class ServingApi:
    """Tests set what it holds. It is asked under the lock of whoever holds it."""

    def __init__(self) -> None:
        self.deployments: list[Deployment] = []
        self.releases: dict[str, list[Release]] = {}
        """Of a deployment's name, newest first; and so are periods."""
        self.periods: dict[str, list[ServingPeriod]] = {}
        self.rollouts: dict[str, Rollout] = {}
        self.traffic: dict[str, RolloutTraffic] = {}
        self.spans: dict[str, RolloutSpans] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """Paths of what changed something, with the bodies."""

    def forget(self) -> None:
        """Begins anew, for the next test."""
        for kept in (self.deployments, self.releases, self.periods, self.rollouts, self.traffic, self.spans, self.asked):
            kept.clear()

    def answer(self, method: str, path: str, query: dict[str, str], role: Role, body: bytes) -> BaseModel:
        """Returns what a path below /api/v1 says; raises QuantryError."""
        if method == "POST":
            if role is Role.VIEWER:
                raise Forbidden("this needs the role operator")
            self.asked.append((path, json.loads(body or b"{}")))
        noun, *rest = path.strip("/").split("/")
        return self._of_deployments(rest, query) if noun == "deployments" else self._of_rollouts(rest)

    def _of_deployments(self, parts: Sequence[str], query: dict[str, str]) -> BaseModel:
        if not parts:
            return page_of(self.deployments, query)
        deployment = self._deployment(parts[0])
        own = [rollout for rollout in self.rollouts.values() if rollout.deployment_id == deployment.id]
        match parts[1:]:
            case []:
                said: BaseModel = deployment
            case ["releases"]:
                said = page_of(self.releases.get(deployment.name, []), query)
            case ["history"]:
                said = page_of(self.periods.get(deployment.name, []), query)
            case ["rollouts"]:
                said = page_of(own, query)
            case ["rollback"]:
                said = self._roll_back(deployment, self.asked[-1][1]["release"])
            case _:
                raise UnknownDeployment(f"nothing answers {parts}")
        return said

    def _of_rollouts(self, parts: Sequence[str]) -> BaseModel:
        rollout_id, *rest = parts
        if rest == ["traffic"]:
            return self.traffic.get(rollout_id, RolloutTraffic(rollout_id=rollout_id, since=None))
        if rest == ["traffic", "spans"]:
            return self.spans.get(rollout_id, RolloutSpans(rollout_id=rollout_id, since=None))
        if rollout_id not in self.rollouts:
            raise UnknownRollout(f"there is no rollout {rollout_id!r}")
        rollout = self.rollouts[rollout_id]
        return self._ask(rollout, RolloutRequest(rest[0])) if rest else rollout

    def keep(self, rollout: Rollout) -> Rollout:
        """Keeps a rollout, as its deployment's active one while it is, and returns it."""
        self.rollouts[rollout.id] = rollout
        active = rollout if rollout.state in ACTIVE_ROLLOUT_STATES else None
        for place, deployment in enumerate(self.deployments):
            if deployment.id == rollout.deployment_id:
                self.deployments[place] = deployment.model_copy(update={"active_rollout": active})
        return rollout

    def _ask(self, rollout: Rollout, request: RolloutRequest) -> Rollout:
        if rollout.state not in ACTIVE_ROLLOUT_STATES:
            raise RolloutOver(f"rollout {rollout.id} is {rollout.state}")
        if request is RolloutRequest.PROMOTE:
            return self.keep(rollout.model_copy(update={"promote_requested": True}))
        state = _BECOMES[request]
        is_over = state not in ACTIVE_ROLLOUT_STATES
        ended = {"percent": 0, "finished_at": datetime.now(UTC)} if is_over else {}
        return self.keep(rollout.model_copy(update={"state": state, "reason": RolloutReason.REQUESTED, **ended}))

    def _roll_back(self, deployment: Deployment, number: int) -> Deployment:
        release = next(one for one in self.releases[deployment.name] if one.number == number)
        changed = deployment.model_copy(update={"current_release": release, "active_rollout": None, "watched_rollout": None})
        self.deployments[self.deployments.index(deployment)] = changed
        return changed

    def _deployment(self, name: str) -> Deployment:
        for deployment in self.deployments:
            if deployment.name == name:
                return deployment
        raise UnknownDeployment(f"there is no deployment {name!r}")


def page_of(items: Sequence[ItemT], query: Mapping[str, str]) -> Page[ItemT]:
    """Returns the page of items that a query asks for, in the order in which they are given."""
    ids: list[str] = [getattr(item, "id") for item in items]  # noqa: B009  every item has one, which BaseModel does not know
    begin = 1 + ids.index(query["after"]) if "after" in query else 0
    end = begin + int(query.get("limit", DEFAULT_LIMIT))
    shown, shown_ids = list(items[begin:end]), ids[begin:end]
    return Page(
        data=shown, has_more=len(items) > end, first_id=shown_ids[0] if shown_ids else None, last_id=shown_ids[-1] if shown_ids else None
    )
