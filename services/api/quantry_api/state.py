"""What the endpoints of this service share beside the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from quantry_api.estimates.estimator import Estimator
from quantry_api.settings import ApiSettings
from quantry_api.wake import Waker


@dataclass(frozen=True)
class ApiState:
    settings: ApiSettings
    waker: Waker
    estimator: Estimator
    nudge: Callable[[], None]
    """Makes this process look at once for waiting jobs that may go on; call it after what may have set some free. Never blocks."""


async def state_of(request: Request) -> ApiState:
    """Returns the state of the app that answers this request."""
    state: ApiState = request.app.state.api
    return state


State = Annotated[ApiState, Depends(state_of)]
