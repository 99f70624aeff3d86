"""What is measured of one proxy in one round, and what becomes of all rounds: medians, and rows beside peers and floors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psutil

from bench.gateway.load import Target, held_streams, latencies_ms, num_events, rate, request_bytes
from bench.gateway.processes import cpu_s, resident_mb
from bench.gateway.upstream import HELD_TOKENS
from bench.report import middle, percentile

SMALL_BYTES, LARGE_BYTES = 1024, 200 * 1024
DIRECT = "direct"


@dataclass(frozen=True)
class Amounts:
    """How much of everything makes one round."""

    num_latencies: int
    num_connections: int
    rate_for_s: float
    num_streams: int
    events_per_stream: int


class Latency(NamedTuple):
    """Of one body size, in milliseconds."""

    p50_ms: float
    p99_ms: float


class Round(NamedTuple):
    """One proxy's figures of one round. CPU is the proxy's own; None of a direct call."""

    small: Latency
    large: Latency
    requests_per_s: float
    cpu_ms_per_request: float | None
    cpu_us_per_event: float | None


class Memory(NamedTuple):
    """A proxy's resident memory around idle streams, in MB."""

    before_mb: float
    opened_mb: float
    held_mb: float
    """After they were silent for a while."""

    again_mb: float
    """With as many new ones, after the first were closed."""


def measure(target: Target, process: psutil.Process | None, amounts: Amounts) -> Round:
    """Returns one round's figures."""
    small, large = (_latency(target, size, amounts.num_latencies) for size in (SMALL_BYTES, LARGE_BYTES))
    cpu_before_s = cpu_s(process) if process else 0.0
    done = asyncio.run(
        rate(
            target,
            request_bytes(target, body_bytes=SMALL_BYTES),
            num_connections=amounts.num_connections,
            for_s=amounts.rate_for_s,
        )
    )
    cpu_after_s = cpu_s(process) if process else 0.0
    streams = request_bytes(target, body_bytes=SMALL_BYTES, num_events=amounts.events_per_stream)
    num_told = asyncio.run(num_events(target, streams, num_streams=amounts.num_streams))
    streamed_s = (cpu_s(process) if process else 0.0) - cpu_after_s
    return Round(
        small,
        large,
        done.num_requests / done.seconds,
        (cpu_after_s - cpu_before_s) / done.num_requests * 1e3 if process else None,
        streamed_s / num_told * 1e6 if process else None,
    )


def warm_up(target: Target, *, num_requests: int) -> None:
    """Has a proxy open its connections and load what it loads late."""
    asyncio.run(latencies_ms(target, request_bytes(target, body_bytes=SMALL_BYTES), num_requests))
    asyncio.run(latencies_ms(target, request_bytes(target, body_bytes=LARGE_BYTES), 5))
    asyncio.run(num_events(target, request_bytes(target, body_bytes=SMALL_BYTES, num_events=3), num_streams=4))


async def idle_memory(target: Target, process: psutil.Process, num_streams: int, hold_s: float) -> Memory:
    """Returns a proxy's memory before, with, and again with so many streams that say nothing."""
    request = request_bytes(target, body_bytes=SMALL_BYTES, num_events=HELD_TOKENS)
    readings_mb = [resident_mb(process)]
    for turn in range(2):
        connections = await held_streams(target, request, num_streams)
        readings_mb.append(resident_mb(process))
        if turn == 0:
            await asyncio.sleep(hold_s)
            readings_mb.append(resident_mb(process))
        num_open = sum([await one.is_open() for one in connections])
        for one in connections:
            one.close()
        if num_open != num_streams:
            raise RuntimeError(f"only {num_open} of {num_streams} idle streams were still open")
        await asyncio.sleep(1)
    return Memory(*readings_mb)


def _latency(target: Target, body_bytes: int, num_requests: int) -> Latency:
    taken_ms = asyncio.run(latencies_ms(target, request_bytes(target, body_bytes=body_bytes), num_requests))
    return Latency(percentile(taken_ms, 0.5), percentile(taken_ms, 0.99))


class Added(NamedTuple):
    """What a proxy adds to a direct call of the same round, and what it costs: medians over the rounds."""

    p50_small_ms: float
    p99_small_ms: float
    p50_large_ms: float
    p99_large_ms: float
    requests_per_core_s: float
    """Requests for each second of its own CPU."""

    requests_per_s: float
    cpu_ms_per_request: float
    cpu_us_per_event: float


def added(rounds: Sequence[Round], direct: Sequence[Round]) -> Added:
    """Returns the medians of what each round of a proxy was above the direct call of the same round."""
    both = list(zip(rounds, direct, strict=True))
    return Added(
        middle([one.small.p50_ms - bare.small.p50_ms for one, bare in both]),
        middle([one.small.p99_ms - bare.small.p99_ms for one, bare in both]),
        middle([one.large.p50_ms - bare.large.p50_ms for one, bare in both]),
        middle([one.large.p99_ms - bare.large.p99_ms for one, bare in both]),
        middle([1e3 / (one.cpu_ms_per_request or float("nan")) for one in rounds]),
        middle([one.requests_per_s for one in rounds]),
        middle([one.cpu_ms_per_request or float("nan") for one in rounds]),
        middle([one.cpu_us_per_event or float("nan") for one in rounds]),
    )


def as_document(found: Mapping[str, Sequence[Round]]) -> dict[str, list[dict[str, object]]]:
    """Returns every round, for the JSON."""
    return {
        name: [one._asdict() | {"small": one.small._asdict(), "large": one.large._asdict()} for one in rounds]
        for name, rounds in found.items()
    }
