"""What the endpoints of this service share beside the database: its settings and the way to wake workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from quantry_api.settings import ApiSettings
from quantry_api.wake import Waker


@dataclass(frozen=True)
class ApiState:
    settings: ApiSettings
    waker: Waker


def state_of(request: Request) -> ApiState:
    """Returns the state of the app that answers this request."""
    state: ApiState = request.app.state.api
    return state


State = Annotated[ApiState, Depends(state_of)]
