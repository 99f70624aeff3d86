"""Who waits for a deployment that has no replica."""

from __future__ import annotations

from quantry_core.traffic import Demand
from quantry_gateway.demands import WaitingRoom


def test_those_who_wait_are_counted_by_deployment_and_bounded() -> None:
    room = WaitingRoom(2)
    assert room.demands() == []
    with room.waiting("dep_1"):
        assert room.has_room("dep_1")
        with room.waiting("dep_1"), room.waiting("dep_2"):
            assert room.demands() == [Demand(deployment_id="dep_1", num_waiting=2), Demand(deployment_id="dep_2", num_waiting=1)]
            assert (room.has_room("dep_1"), room.has_room("dep_2")) == (False, True)
        assert room.demands() == [Demand(deployment_id="dep_1", num_waiting=1)]
    assert room.demands() == []
    assert room.has_room("dep_1")
