"""How a child's threads wait for each other."""

from __future__ import annotations

import pytest

from quantry_worker.child.waiting import SPIN_COUNT, wait_politely


def test_threads_look_for_a_moment_and_then_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"OMP_NUM_THREADS": "2"}
    monkeypatch.setattr("os.environ", environment)
    wait_politely()
    assert environment == {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": str(SPIN_COUNT)}


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "7"}
    monkeypatch.setattr("os.environ", environment)
    wait_politely()
    assert environment == {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "7"}
