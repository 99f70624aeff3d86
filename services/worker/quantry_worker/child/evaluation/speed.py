"""How fast a server answers: streamed completions at a given number at once, timed where they arrive.

TTFT is the time from sending a request to its first token; TPOT the mean time between its tokens after the first, (last token -
first token) / (tokens - 1); latency the time to the last token; throughput all tokens of a measurement over its wall time.
Names as vLLM's own benchmark has them. Prompts are random token ids, each request another: no cache of prefixes helps.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from quantry_core.jobs import SpeedSpec

REQUEST_TIMEOUT_S = 600.0
MS_PER_S = 1000.0
SERVER_SENT = b"data: "
DONE = b"[DONE]"


class EngineFailed(Exception):
    """An engine that had answered broke off, or answered what was not asked for."""


@dataclass(frozen=True)
class Timing:
    """One request. Seconds from the start of its measurement."""

    sent_s: float
    first_token_s: float
    last_token_s: float
    num_tokens: int
    """As the server counts them."""


@dataclass(frozen=True)
class Server:
    host: str
    port: int
    served_name: str
    vocabulary: int


@dataclass(frozen=True)
class Measured:
    levels: list[dict[str, Any]]
    """The figures of each concurrency."""
    requests: list[dict[str, Any]]
    """Every request that was counted."""


def measure(server: Server, spec: SpeedSpec, *, seed: int, on_level: Callable[[int], None]) -> Measured:
    """Returns what was measured at each concurrency, one after the other.

    Before each there is one request that is not. Raises EngineFailed if a request is not answered as asked.
    """
    generator = np.random.default_rng(seed)
    levels: list[dict[str, Any]] = []
    requests: list[dict[str, Any]] = []
    for index, concurrency in enumerate(spec.concurrency):
        on_level(index)
        prompts = generator.integers(0, server.vocabulary, size=(spec.num_requests + 1, spec.prompt_tokens)).tolist()
        _complete(server, prompts[0], spec.output_tokens, time.monotonic())
        began = time.monotonic()
        with ThreadPoolExecutor(max_workers=concurrency) as pool:
            timings = list(pool.map(lambda prompt, at=began: _complete(server, prompt, spec.output_tokens, at), prompts[1:]))
        levels.append({"concurrency": concurrency} | level_figures(timings))
        requests += [{"concurrency": concurrency} | asdict(timing) for timing in timings]
    return Measured(levels, requests)


def level_figures(timings: list[Timing]) -> dict[str, float | int]:
    """Returns the figures of one measurement; percentiles interpolate linearly."""
    ttft = np.array([one.first_token_s - one.sent_s for one in timings]) * MS_PER_S
    latency = np.array([one.last_token_s - one.sent_s for one in timings]) * MS_PER_S
    tpot = np.array([(one.last_token_s - one.first_token_s) / (one.num_tokens - 1) for one in timings]) * MS_PER_S
    wall_s = max(one.last_token_s for one in timings) - min(one.sent_s for one in timings)
    num_tokens = sum(one.num_tokens for one in timings)
    figures: dict[str, float | int] = {"num_requests": len(timings), "num_output_tokens": num_tokens, "wall_s": wall_s}
    for name, values in (("ttft_ms", ttft), ("tpot_ms", tpot), ("latency_ms", latency)):
        figures[f"{name}_p50"] = float(np.percentile(values, 50))
        figures[f"{name}_p95"] = float(np.percentile(values, 95))
    return figures | {"output_tokens_per_s": num_tokens / wall_s, "requests_per_s": len(timings) / wall_s}


def _complete(server: Server, prompt: list[int], output_tokens: int, began: float) -> Timing:
    """Sends one request and reads its stream to the end."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=REQUEST_TIMEOUT_S)
    body = {
        "model": server.served_name,
        "prompt": prompt,
        "max_tokens": output_tokens,
        "min_tokens": output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    try:
        sent_s = time.monotonic() - began
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise EngineFailed(f"the engine answered {response.status}: {response.read(500).decode(errors='replace')}")
        arrivals_s, num_tokens = list[float](), 0
        for event in _events(response):
            num_tokens = (event.get("usage") or {}).get("completion_tokens", num_tokens)
            if event.get("choices"):
                arrivals_s.append(time.monotonic() - began)
    except (OSError, http.client.HTTPException) as error:
        raise EngineFailed(f"the engine broke off: {error}") from error
    finally:
        connection.close()
    if num_tokens != output_tokens or not arrivals_s:
        raise EngineFailed(f"the engine made {num_tokens} tokens, asked for were {output_tokens}")
    return Timing(sent_s, arrivals_s[0], arrivals_s[-1], num_tokens)


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yields the JSON of each event of a stream, as it comes; raises EngineFailed if the stream ends without its mark."""
    for line in response:
        if line.startswith(SERVER_SENT):
            data = line.removeprefix(SERVER_SENT).strip()
            if data == DONE:
                return
            yield json.loads(data)
    raise EngineFailed("the engine's stream ended early")
