"""``python -m bench.canary``: prints the table and writes bench/results/canary.json and .md. Takes about half an hour.

One stack, one deployment, at most two engines at once. Clients ask at a fixed rate all the time, whatever becomes of the candidates.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from bench.canary.cases import CASES, Case
from bench.child import ml_versions
from bench.embedded import Measured, embedded_stack
from bench.report import Row, publish, row, versions
from bench.serving.checkpoints import pairs_of_words, prompts, words_of
from bench.serving.clients import Clients, Load, asking
from bench.serving.engine import HERE, Where
from bench.serving.platform import DEPLOYMENT, POLL_S, Versions, deploy, make_versions, only_current, promoted
from quantry_core.rollouts import Rollout
from quantry_core.verdicts import Verdict

REQUESTS_PER_S = 8.0
NUM_PROMPTS = 240
SPREAD = 1.0
"""Of the spoilt scales' factors, as a power of two."""

ALONE_S = 30.0
"""How long the stable release is measured without a rollout, for the latencies to compare with."""

ANALYSIS: dict[str, Any] = {
    "rules": [
        {"rule": "error_rate_compared", "max_increase": 0.1},
        {"rule": "latency_compared", "metric": "e2e", "quantile": 0.9, "max_ratio": 2.0},
        {"rule": "feedback_compared", "max_decrease": 0.25},
    ],
    "min_requests": 50,
}
"""Everything that is asked of a candidate is asked relative to the stable release."""

STRATEGY: dict[str, Any] = {
    "name": "canary",
    "steps": [{"percent": 25}, {"percent": 50}, {"percent": 100, "analysis": False}],
    "analysis": ANALYSIS,
    "step_timeout_s": 900.0,
}
BY_EVIDENCE = "observations of the candidate: its share of the rate"
BOUNDS = {"crash_loop": "starts of a real engine", "not_ready": "a candidate has 30 s (lost_after_s) without a ready replica"}
"""What keeps a rollout from ending sooner, by its reason; BY_EVIDENCE for the others."""

MIN_KNOWN_SHARE = 0.5
"""Of the pairs of words that follow one another in an answer: so many must occur in the texts for a reader to approve of it."""


class Told(NamedTuple):
    """How one candidate's rollout ended, and what its clients saw of it."""

    name: str
    state: str
    reason: str
    message: str
    is_as_expected: bool
    is_streamed: bool
    """Whether half of the clients streamed."""

    exposed_s: float
    """From the candidate's first share of traffic to the end of its rollout."""

    num_requests: int
    num_candidate: int
    num_failed: int
    failures: list[str]
    p95_s: float


def main(arguments: Sequence[str] | None = None, where: Where = HERE) -> int:
    """Tries every candidate in turn; returns 1 if one ended otherwise than it must, or a client's request failed."""
    parser = argparse.ArgumentParser(prog="bench.canary", description=__doc__)
    parser.add_argument("--only", help="names of candidates, separated by commas; writes nothing")
    parser.add_argument("--rate", type=float, default=REQUESTS_PER_S, help="requests a second")
    options = parser.parse_args(arguments)
    cases = [case for case in CASES if options.only is None or case.name in options.only.split(",")]
    with embedded_stack(where.settings) as measured:
        made = make_versions(measured, spread=SPREAD)
        promoted(measured, made.stable)
        alone_s = _alone(measured, options.rate)
        told = [_tried(measured, made, case, options.rate, where) for case in cases]
    details = {
        "requests_per_s": options.rate,
        "strategy": STRATEGY,
        "alone_p95_s": alone_s,
        "told": [one._asdict() for one in told],
    }
    rows = _rows(told, alone_s)
    if options.only is None and where.is_written:
        libraries = versions("aiohttp", "fastapi") | ml_versions("torch", "llmcompressor")
        title = f"Canaries of real engines at {options.rate:g} requests a second"
        publish(f"{where.folder}canary", title, rows, libraries=libraries, details=details)
    wrong = [one.name for one in told if not one.is_as_expected or one.num_failed]
    print(f"otherwise than they must: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


def reads_well(known: frozenset[tuple[str, str]], text: str) -> bool:
    """Tells whether a reader approves of an answer: most of its words follow one another as words do."""
    # The last one may be half said.
    words = words_of(text)[:-1]
    pairs = list(pairwise(words))
    return bool(pairs) and sum(pair in known for pair in pairs) >= MIN_KNOWN_SHARE * len(pairs)


def _load(measured: Measured, rate: float, *, is_streamed: bool = True) -> Load:
    known = pairs_of_words()
    return Load(
        measured.url,
        measured.api_key,
        DEPLOYMENT,
        rate,
        prompts(NUM_PROMPTS),
        stream_every=2 if is_streamed else 0,
        judge=lambda text: reads_well(known, text),
    )


def _alone(measured: Measured, rate: float) -> float:
    """Returns the p95 of the stable release's latency under the same load."""
    with asking(_load(measured, rate)) as clients:
        time.sleep(ALONE_S)
    return clients.latency_s(0.95)


def _tried(measured: Measured, made: Versions, case: Case, rate: float, where: Where) -> Told:
    """Returns how a candidate's rollout ended. Afterwards the stable release serves alone again."""
    print(f"{case.name} ...", flush=True)
    with case.begin(measured, made, where) as order, asking(_load(measured, rate, is_streamed=case.is_streamed)) as clients:
        rollout, passed = _followed(measured, deploy(measured, order.version, strategy=STRATEGY, **order.options))
        time.sleep(3)
        if rollout.state == "promoted":
            measured.client.deployments.rollback(DEPLOYMENT)
            time.sleep(3)
    only_current(measured)
    told = _told(measured, case, rollout, passed, clients)
    print(f"{case.name}: {told.state} ({told.reason}) after {told.exposed_s:.0f} s: {told.message}; {told.num_failed} failed", flush=True)
    return told


def _followed(measured: Measured, rollout: Rollout) -> tuple[Rollout, list[str]]:
    """Returns a rollout once it has ended, and what each verdict that led on said."""
    passed: list[str] = []
    last = rollout
    for last in measured.client.rollouts.follow(rollout.id, poll_s=POLL_S):
        if last.judgement is not None and last.judgement.verdict is Verdict.PASS and last.judgement.reason() not in passed:
            passed.append(last.judgement.reason())
    return last, passed


def _told(measured: Measured, case: Case, rollout: Rollout, passed: Sequence[str], clients: Clients) -> Told:
    # A message ends with the engine's last log lines where it has any.
    message = (rollout.message or "").split("\n", 1)[0].removesuffix(" Its last log lines:") or " | ".join(passed)
    numbers = {release.id: str(release.number) for release in measured.client.deployments.releases(DEPLOYMENT).data}
    number = numbers[rollout.to_release_id]
    exposed_s = (rollout.finished_at - rollout.exposed_at).total_seconds() if rollout.exposed_at and rollout.finished_at else float("nan")
    failed = clients.failed()
    as_expected = rollout.state is case.state and rollout.reason in case.reasons and case.named in message
    return Told(
        case.name,
        rollout.state.value,
        str(rollout.reason),
        message,
        as_expected,
        case.is_streamed,
        exposed_s,
        len(clients.ended()),
        sum(one.release == number for one in clients.ended()),
        len(failed),
        [one.failure[:200] for one in failed[:5]],
        clients.latency_s(0.95),
    )


def _rows(told: Sequence[Told], alone_s: float) -> list[Row]:
    rows = []
    first_s = told[0].exposed_s
    for one in told:
        title = f"{one.name}: seconds of traffic until it was {one.state} ({one.reason})"
        bound = BOUNDS.get(one.reason, BY_EVIDENCE)
        rows.append(row(title, one.exposed_s, first_s, "s", floor="the sound candidate", bound=bound))
    for one in told:
        title = f"{one.name}: failed client requests"
        floor = "all requests meanwhile, half of them streamed" if one.is_streamed else "all requests meanwhile, none of them streamed"
        rows.append(row(title, one.num_failed, one.num_requests, "", goal="0", floor=floor, bound="-"))
    for one in told:
        title = f"{one.name}: p95 of all clients' latency meanwhile"
        rows.append(row(title, one.p95_s, alone_s, "s", floor="the stable release alone", bound="two engines and a start on two cores"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
