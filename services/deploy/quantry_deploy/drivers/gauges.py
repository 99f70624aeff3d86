"""How busy an engine is, out of the text of its /metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass

from quantry_core.engines import Gauges


@dataclass(frozen=True)
class Load:
    """What an engine says of its requests; None: it does not say."""

    num_running: float | None = None
    num_waiting: float | None = None
    kv_use: float | None = None
    """Share of the KV cache, 0 to 1."""


UNKNOWN_LOAD = Load()


def read_load(text: str, gauges: Gauges) -> Load:
    """Returns the load that metrics in Prometheus's text format tell. An engine of several ranks has one line each: requests are added
    up, of KV caches the fullest counts."""
    values: dict[str, list[float]] = {}
    wanted = {name for name in (gauges.running, gauges.waiting, gauges.kv_use) if name is not None}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in wanted and (value := _value(line)) is not None:
            values.setdefault(name, []).append(value)
    kv_use = values.get(gauges.kv_use) if gauges.kv_use is not None else None
    return Load(
        num_running=sum(values[gauges.running]) if gauges.running in values else None,
        num_waiting=sum(values[gauges.waiting]) if gauges.waiting in values else None,
        kv_use=min(1.0, max(0.0, *kv_use, 0.0)) if kv_use else None,
    )


def _value(line: str) -> float | None:
    """Returns the number of a line, which may have a timestamp behind it; None if it is none, or not finite."""
    words = line.rpartition("}")[2].split() if "}" in line else line.split()[1:]
    try:
        value = float(words[0])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) else None
