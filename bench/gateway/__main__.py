"""``python -m bench.gateway``: prints the table and writes bench/results/gateway.json and .md. Takes about five minutes."""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.embedded import ROOT, free_port
from bench.gateway.control import MODEL
from bench.gateway.figures import DIRECT, Added, Amounts, Memory, Round, added, as_document, idle_memory, measure, warm_up
from bench.gateway.load import Target
from bench.gateway.peers import NotHere
from bench.gateway.processes import on_cores, running, two_cores
from bench.gateway.proxies import LITELLM, NGINX, PROXIES, QUANTRY, Proxy, Site
from bench.report import Row, publish, row, versions

FULL = Amounts(num_latencies=400, num_connections=32, rate_for_s=3.0, num_streams=10, events_per_stream=300)
QUICK = Amounts(num_latencies=60, num_connections=16, rate_for_s=0.5, num_streams=10, events_per_stream=30)
NUM_FILES = 8192
"""Open ones: each idle stream is two in a proxy."""

GOAL_ADDED_MS = 0.5
LIBRARIES = ("aiohttp", "starlette", "uvicorn", "uvloop")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures every proxy that is here, in turns; returns 0, and 1 without writing anything where Quantry's own could not be started."""
    options = _options(arguments)
    amounts = QUICK if options.quick else FULL
    _allow_files()
    cores = two_cores()
    scratch = Path(tempfile.mkdtemp(prefix="quantry-bench-", dir="/tmp"))
    engine_port = free_port()
    engine = [sys.executable, "-m", "bench.gateway.upstream", str(engine_port)]
    try:
        with ExitStack() as stack:
            log = scratch / "engine.log"
            stack.enter_context(running(engine, engine_port, cores.around, log, environment={"PYTHONPATH": str(ROOT)}))
            site = Site(engine_port, scratch, cores, options.nginx, options.production_stack)
            wanted = None if options.only is None else {QUANTRY, *options.only.split(",")}
            proxies, missing = _start(stack, site, wanted)
            stack.enter_context(on_cores(cores.around))
            found = _rounds(proxies, Target(engine_port, "none", MODEL), amounts, options.rounds)
            held = {
                proxy.name: asyncio.run(idle_memory(proxy.target, proxy.process, options.streams, options.hold_s))
                for proxy in proxies
                if proxy.name in {QUANTRY, NGINX}
            }
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for name, why in missing.items():
        print(f"Not compared: {name}: {why}")
    figures = {name: added(rounds, found[DIRECT]) for name, rounds in found.items() if name != DIRECT}
    details = {
        "amounts": asdict(amounts),
        "rounds": as_document(found),
        "added": {name: one._asdict() for name, one in figures.items()},
        "memory": {name: one._asdict() for name, one in held.items()},
        "idle_streams": options.streams,
        "versions": {proxy.name: proxy.version for proxy in proxies},
        "not_compared": missing,
        "cores": {"client, engine, control plane": sorted(cores.around), "proxy": sorted(cores.proxy)},
    }
    own = {proxy.name: proxy.version for proxy in proxies if proxy.name != QUANTRY}
    rows = [*_rows(figures), *_memory_rows(held, options.streams)]
    if options.quick or wanted is not None:
        print("\n".join(f"{one.name}: {one.value:.4g} {one.unit}, {one.ratio:.3g} of {one.floor}" for one in rows))
        print("Not a whole run: nothing was written.")
        return 0
    publish("gateway", "What the gateway adds to a request", rows, libraries=versions(*LIBRARIES) | own, details=details)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.gateway", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="each measures every proxy once")
    parser.add_argument("--streams", type=int, default=1000, help="idle ones, of which the memory is measured")
    parser.add_argument("--hold-s", type=float, default=20.0, help="seconds that they are held")
    parser.add_argument("--nginx", help="path of its executable, where it is not installed")
    parser.add_argument("--production-stack", type=Path, help="a checkout of vllm-project/production-stack; the router is on no index")
    parser.add_argument("--only", help="names of peers, separated by commas; writes nothing")
    parser.add_argument("--quick", action="store_true", help="a little of everything; writes nothing")
    return parser.parse_args(arguments)


def _start(stack: ExitStack, site: Site, wanted: set[str] | None) -> tuple[list[Proxy], dict[str, str]]:
    """Returns the proxies that run of those that are wanted (None: all), and why the others do not."""
    proxies, missing = [], {}
    for name, start in PROXIES.items():
        if wanted is not None and name not in wanted:
            continue
        try:
            proxy = stack.enter_context(start(site))
        except NotHere as error:
            missing[name] = str(error)
            continue
        warm_up(proxy.target, num_requests=100)
        proxies.append(proxy)
    return proxies, missing


def _rounds(proxies: Sequence[Proxy], engine: Target, amounts: Amounts, num_rounds: int) -> dict[str, list[Round]]:
    """Returns every round of the direct call and of each proxy, measured in turns so that all meet the same machine."""
    found: dict[str, list[Round]] = {name: [] for name in (DIRECT, *(proxy.name for proxy in proxies))}
    for number in range(num_rounds):
        found[DIRECT].append(measure(engine, None, amounts))
        for proxy in proxies:
            found[proxy.name].append(measure(proxy.target, proxy.process, amounts))
            print(f"round {number + 1} of {num_rounds}: {proxy.name}", flush=True)
    return found


def _rows(figures: Mapping[str, Added]) -> list[Row]:
    own = figures[QUANTRY]
    bound = "Python's loop: two parses of HTTP, the key, the model's name, the choice of a replica, what is told of the request"
    rows = [
        row("added p50, 1 KB", own.p50_small_ms, GOAL_ADDED_MS, "ms", goal="<= 1", floor="the goal of 0.5 ms", bound=bound),
        row(
            "added p50, 200 KB",
            own.p50_large_ms,
            own.p50_small_ms,
            "ms",
            goal="<= 2",
            floor="the same with 1 KB",
            bound="200 KB through two more sockets, and the search for the model's name in it",
        ),
    ]
    for name, peer in figures.items():
        if name == QUANTRY:
            continue
        what = f"{name}{' (floor)' if name == NGINX else ''}"
        goal = "<= 0.1" if name == LITELLM else ""
        rows += [
            row("added p50, 1 KB", own.p50_small_ms, peer.p50_small_ms, "ms", goal=goal, floor=what, bound=bound),
            row(
                "added p99, 1 KB",
                own.p99_small_ms,
                peer.p99_small_ms,
                "ms",
                floor=what,
                bound="the loop's other work, and the kernel's turns",
            ),
            row("added p50, 200 KB", own.p50_large_ms, peer.p50_large_ms, "ms", floor=what, bound="as above, and the body"),
            row("added p99, 200 KB", own.p99_large_ms, peer.p99_large_ms, "ms", floor=what, bound="as above, and the body"),
            row("requests for each second of CPU", own.requests_per_core_s, peer.requests_per_core_s, "/s", floor=what, bound=bound),
            row("CPU of a request", own.cpu_ms_per_request, peer.cpu_ms_per_request, "ms", floor=what, bound=bound),
            row(
                "CPU of an SSE event",
                own.cpu_us_per_event,
                peer.cpu_us_per_event,
                "us",
                floor=what,
                bound="one read, the search for the end of an event, one write",
            ),
        ]
    return rows


def _memory_rows(held: Mapping[str, Memory], num_streams: int) -> list[Row]:
    own = held[QUANTRY]
    streams = f"{num_streams:,} idle streams"
    grown_kb = {name: (one.opened_mb - one.before_mb) / num_streams * 1e3 for name, one in held.items()}
    rows = [
        row(
            f"memory after {streams} were held",
            own.held_mb,
            own.opened_mb,
            "MB",
            goal="<= 1.05",
            floor="when they had opened",
            bound="flat",
        ),
        row(
            f"memory with {num_streams:,} others after them",
            own.again_mb,
            own.opened_mb,
            "MB",
            goal="<= 1.05",
            floor="with the first ones",
            bound="what Python's allocator keeps of the first",
        ),
    ]
    if NGINX in held:
        rows.append(
            row(
                "memory of one idle stream",
                grown_kb[QUANTRY],
                grown_kb[NGINX],
                "KB",
                floor="nginx (floor)",
                bound="two connections with their parsers and buffers, and three tasks",
            )
        )
    return rows


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < NUM_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(NUM_FILES, hard), hard))


if __name__ == "__main__":
    sys.exit(main())
