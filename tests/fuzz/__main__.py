"""``python -m fuzz``: schemathesis with all its phases against api and registry, once for each seed, with a table at the end."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from bench.report import machine, versions
from fuzz.runs import LEFT_OUT, PHASES, Found, run
from fuzz.servers import running_servers
from fuzz.services import DOCUMENTS, running_services

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results" / "fuzz.json"
DISTRIBUTIONS = ("schemathesis", "hypothesis", "fastapi", "starlette", "pydantic", "uvicorn")


def main() -> int:
    """Returns the exit status: 1 if something was found."""
    options = _options()
    found: list[Found] = []
    folder = Path(tempfile.mkdtemp(prefix="quantry-fuzz-"))
    try:
        with running_servers() as environment:
            for seed in options.seeds:
                # Anew for each: what one run made and removed must not decide what the next one sees.
                with environment() as variables, running_services(variables, folder) as services:
                    for service in DOCUMENTS:
                        one = run(services, service, seed=seed, max_examples=options.max_examples, folder=folder)
                        found.append(one)
                        print(_line(one), flush=True)
                        if options.verbose:
                            print(one.output, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _write(found, options.max_examples)
    return 0 if all(one.is_clean for one in found) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 3], help="separated by commas")
    parser.add_argument(
        "--max-examples", type=int, default=20, help="requests that are made up for each operation, and twice as many of steps"
    )
    parser.add_argument("--verbose", action="store_true", help="print what schemathesis says")
    return parser.parse_args()


def _line(found: Found) -> str:
    head = f"{found.service:<9} seed {found.seed}: {found.num_cases} requests, {len(found.failures)} failures, "
    lines = [*found.failures, *(f"not tried in some phase: {why}" for why in found.not_tried)]
    return "\n".join([f"{head}{found.num_server_errors} server errors", *(f"    {line}" for line in lines)])


def _write(found: list[Found], max_examples: int) -> None:
    rows = [
        {
            "service": one.service,
            "seed": one.seed,
            "num_requests": one.num_cases,
            "failures": list(one.failures),
            "not_tried": list(one.not_tried),
            "num_server_errors": one.num_server_errors,
        }
        for one in found
    ]
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(*DISTRIBUTIONS),
        "phases": list(PHASES),
        "max_examples": max_examples,
        "checks_left_out": sorted(LEFT_OUT),
        "runs": rows,
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
