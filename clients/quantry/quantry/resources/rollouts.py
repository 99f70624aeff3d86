# Made from quantry/aio/resources/rollouts.py by make_sync.py: change that file, and run this again.
"""Rollouts: begin, look at, follow, and what people ask of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Unpack

from pydantic import RootModel

from quantry.errors import ApiError, ServerUnreachable, WaitTimedOut
from quantry.filters import RolloutFilter
from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.jobs import DeploySpec, Job
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, Rollout, RolloutAction, RolloutRequest, RolloutState
from quantry_core.traffic import RolloutTraffic
from quantry_core.traffic_spans import RolloutSpans

_PATH = "/api/v1/rollouts"
_MAX_BREAKS = 10
_LONGEST_PAUSE_S = 5.0


class _Begun(RootModel[Rollout | Job]):
    """A rollout, or a job that waits."""


class Rollouts:
    """``client.rollouts``. What is asked of a rollout may be asked again: asking for what is already so changes nothing."""

    def __init__(self, transport: Transport, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._clock_s = clock_s

    def create(self, spec: DeploySpec, *, idempotency_key: str | None = None) -> Rollout | Job:
        """Begins to serve a version under a deployment's name and returns the rollout; its ``job_id`` is the deploy job that ends with it.

        Returns the job alone where that has to wait for what makes its version; raises ApiError (409) where another rollout of the
        deployment is under way. The same as ``client.jobs.submit`` of the spec, whose key works the same way.
        """
        return self._transport.post_once(_Begun, _PATH, spec, idempotency_key=idempotency_key).root

    def list(
        self, *, deployment: str | None = None, state: RolloutState | None = None, after: str | None = None, limit: int = DEFAULT_LIMIT
    ) -> Page[Rollout]:
        """Returns one page of rollouts, newest first; of all deployments where none is named."""
        wanted = {"deployment": deployment, "state": state, "after": after, "limit": limit}
        return self._transport.get(Page[Rollout], _PATH, wanted)

    def iterate(self, *, max_items: int | None = None, **wanted: Unpack[RolloutFilter]) -> Generator[Rollout, None, None]:
        """Yields every rollout that fits, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit, **wanted), max_items)

    def get(self, rollout_id: str) -> Rollout:
        """Returns a rollout with its stage, its shares and the last judgement of the candidate."""
        return self._transport.get(Rollout, f"{_PATH}/{path_part(rollout_id)}")

    def traffic(self, rollout_id: str) -> RolloutTraffic:
        """Returns what was measured of both releases since the candidate first got traffic."""
        return self._transport.get(RolloutTraffic, f"{_PATH}/{path_part(rollout_id)}/traffic")

    def spans(self, rollout_id: str) -> RolloutSpans:
        """Returns what was measured of both releases span by span, with 95% intervals; of a long rollout the last hour."""
        return self._transport.get(RolloutSpans, f"{_PATH}/{path_part(rollout_id)}/traffic/spans")

    def pause(self, rollout_id: str, *, note: str | None = None) -> Rollout:
        """Holds a rollout at its share until it is resumed, and returns it. ``note``: why, for the history."""
        return self._ask(rollout_id, RolloutRequest.PAUSE, note)

    def resume(self, rollout_id: str, *, note: str | None = None) -> Rollout:
        """Lets a paused rollout go on, and returns it."""
        return self._ask(rollout_id, RolloutRequest.RESUME, note)

    def promote(self, rollout_id: str, *, note: str | None = None) -> Rollout:
        """Skips what is left of the strategy: the candidate serves all as soon as its replicas are ready. Returns the rollout."""
        return self._ask(rollout_id, RolloutRequest.PROMOTE, note)

    def abort(self, rollout_id: str, *, note: str | None = None) -> Rollout:
        """Ends a rollout and returns it; the release before serves all at once."""
        return self._ask(rollout_id, RolloutRequest.ABORT, note)

    def rollback(self, rollout_id: str, *, note: str | None = None) -> Rollout:
        """Ends a rollout as rolled back and returns it. A promoted one is undone by ``client.deployments.rollback``."""
        return self._ask(rollout_id, RolloutRequest.ROLL_BACK, note)

    def follow(self, rollout_id: str, *, poll_s: float = 1.0) -> Generator[Rollout, None, None]:
        """Yields the rollout now, and again after each change, until it has ended; the last one is how it ended.

        A server that is away for a moment is asked again for about half a minute; raises ServerUnreachable if it stays away, and at
        once if it was not there to begin with.
        """
        last: Rollout | None = None
        num_breaks = 0
        while True:
            try:
                rollout = self.get(rollout_id)
            except (ServerUnreachable, ApiError) as error:
                is_passing = isinstance(error, ServerUnreachable) or error.status == 503
                num_breaks += 1
                if last is None or not is_passing or num_breaks > _MAX_BREAKS:
                    raise
                self._transport.sleep(min(0.25 * 2.0**num_breaks, _LONGEST_PAUSE_S))
                continue
            num_breaks = 0
            if rollout != last:
                yield rollout
                last = rollout
            if rollout.state not in ACTIVE_ROLLOUT_STATES:
                return
            self._transport.sleep(poll_s)

    def wait(self, rollout_id: str, timeout_s: float | None = None, *, poll_s: float = 1.0) -> Rollout:
        """Returns the rollout once it has ended, however it did; raises WaitTimedOut after ``timeout_s`` (None: never)."""
        deadline_s = None if timeout_s is None else self._clock_s() + timeout_s
        while True:
            rollout = self.get(rollout_id)
            if rollout.state not in ACTIVE_ROLLOUT_STATES:
                return rollout
            left_s = poll_s if deadline_s is None else deadline_s - self._clock_s()
            if timeout_s is not None and left_s <= 0:
                raise WaitTimedOut(rollout, timeout_s)
            self._transport.sleep(min(poll_s, left_s))

    def _ask(self, rollout_id: str, request: RolloutRequest, note: str | None) -> Rollout:
        return self._transport.post_again(Rollout, f"{_PATH}/{path_part(rollout_id)}/{request}", RolloutAction(note=note))
