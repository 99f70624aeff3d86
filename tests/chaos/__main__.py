"""``python -m chaos``: runs scenarios on an embedded stack of its own and says for each what was done and what became of it."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench.report import machine, versions
from chaos.platform import LEASE_S, NUM_SLOTS, SWEEP_S, chaos_stack, wait_until
from chaos.result import Result
from chaos.scenarios import SCENARIOS, Scale, play

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results" / "chaos.json"
DISTRIBUTIONS = ("celery", "kombu", "redis", "psycopg", "fastapi", "uvicorn")
IDLE_TIMEOUT_S = 60.0


def main() -> int:
    """Returns the exit status: 1 if a scenario failed."""
    options = _options()
    numbers = sorted(SCENARIOS) if options.only is None else options.only
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"chaos: {options.scale} counts, seed {seed}, lease {LEASE_S:.0f} s, sweep {SWEEP_S:.0f} s, {NUM_SLOTS} slots", flush=True)
    # So that the stack is stopped too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    results: list[Result] = []
    with chaos_stack() as chaos:
        for number in numbers:
            # A seed for each, so that one scenario alone can be run again as it was.
            result = play(chaos, number, seed + number, options.scale)
            results.append(result)
            print(result.line(), flush=True)
            if not wait_until(chaos.is_idle, IDLE_TIMEOUT_S):
                print("      (jobs are left over; the next scenario runs beside them)", flush=True)
    if options.scale is Scale.FULL and options.only is None:
        _write(results, seed)
    num_failed = sum(not result.passed and result.not_run is None for result in results)
    num_not_run = sum(result.not_run is not None for result in results)
    print(f"chaos: {len(results) - num_failed - num_not_run} passed, {num_failed} failed, {num_not_run} not run", flush=True)
    return 1 if num_failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--only", type=_numbers, help="numbers of scenarios, separated by commas")
    parser.add_argument("--seed", type=int, help="what is random is drawn from it; one is made up and printed where it is not given")
    parser.add_argument("--scale", type=Scale, choices=list(Scale), default=Scale.FULL, help="how much of everything")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    unknown = set(numbers) - set(SCENARIOS)
    if unknown:
        raise argparse.ArgumentTypeError(f"there are scenarios 1 to {max(SCENARIOS)}, not {sorted(unknown)}")
    return numbers


def _write(results: Sequence[Result], seed: int) -> None:
    document = {
        "name": "chaos",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(*DISTRIBUTIONS),
        "seed": seed,
        "lease_s": LEASE_S,
        "sweep_s": SWEEP_S,
        "scenarios": [{**asdict(result), "passed": result.passed} for result in results],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
