"""Rounds of loops are counted by how they ended."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from quantry_telemetry.loops import LoopMetrics


def test_rounds_are_counted_and_the_last_success_is_kept() -> None:
    registry = CollectorRegistry()
    loops = LoopMetrics(registry)
    with loops.round("sweeps"):
        pass
    at = registry.get_sample_value("quantry_loop_last_success_timestamp_seconds", {"loop": "sweeps"})
    assert at is not None and at > 1_700_000_000
    with pytest.raises(ValueError, match="no"), loops.round("sweeps"):
        raise ValueError("no")
    count = {
        outcome: registry.get_sample_value("quantry_loop_rounds_total", {"loop": "sweeps", "outcome": outcome})
        for outcome in ("succeeded", "failed")
    }
    assert count == {"succeeded": 1, "failed": 1}
    assert registry.get_sample_value("quantry_loop_last_success_timestamp_seconds", {"loop": "sweeps"}) == at
    assert registry.get_sample_value("quantry_loop_round_duration_seconds_count", {"loop": "sweeps"}) == 2
