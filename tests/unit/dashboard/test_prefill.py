"""Addresses that fill a form in."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

from factories.work_api import openapi
from quantry_dashboard.prefill import MAX_ITEMS, document_of_query
from quantry_dashboard.shapes import submission_shape

SHAPE = submission_shape(openapi())


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("type=quantize&base=bard@1", {"spec": {"type": "quantize", "base": "bard@1"}}),
        ("base=bard@1&type=quantize", {"spec": {"type": "quantize", "base": "bard@1"}}),
        ("spec.type=quantize&spec.base=b", {"spec": {"type": "quantize", "base": "b"}}),
        (
            "type=quantize&calibration.datasets=a&calibration.datasets=b&calibration.num_samples=8",
            {"spec": {"type": "quantize", "calibration": {"datasets": ["a", "b"], "num_samples": 8}}},
        ),
        (
            "type=merge&adapters.0.adapter=x&adapters.0.weight=0.5&adapters.1.adapter=y",
            {"spec": {"type": "merge", "adapters": [{"adapter": "x", "weight": 0.5}, {"adapter": "y"}]}},
        ),
        (
            "type=deploy&strategy=canary&strategy.step_timeout_s=60",
            {"spec": {"type": "deploy", "strategy": {"name": "canary", "step_timeout_s": 60}}},
        ),
        ("type=quantize&group_size=channel", {"spec": {"type": "quantize", "group_size": "channel"}}),
        ("type=quantize&group_size=64", {"spec": {"type": "quantize", "group_size": 64}}),
        ("type=quantize&options.damping=0.1", {"spec": {"type": "quantize", "options": {"damping": 0.1}}}),
        ("labels.team=search&priority=2&force=true", {"labels": {"team": "search"}, "priority": 2, "force": True}),
        ("type=sleep&base=x", {"spec": {"type": "quantize", "base": "x"}}),
        ("type=quantize&nothing=x&calibration.nothing=y&base.deeper=z&needs.7=job", {"spec": {"type": "quantize"}, "needs": []}),
        ("", {}),
    ],
)
def test_an_address_fills_in_what_has_a_place(query: str, document: dict[str, Any]) -> None:
    assert document_of_query(SHAPE, parse_qsl(query)) == document


def test_an_address_cannot_ask_for_endless_lists() -> None:
    query = [("type", "quantize"), *(("ignore", str(number)) for number in range(3 * MAX_ITEMS)), ("ignore.99999999", "x")]
    assert len(document_of_query(SHAPE, query)["spec"]["ignore"]) == MAX_ITEMS
