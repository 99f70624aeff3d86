"""One run of schemathesis against one service, and what it found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz.services import Services

LEFT_OUT = {
    # Whether a dataset, a version or a name is there is not in a schema: what fits the schema may still be refused.
    "positive_data_acceptance",
}
PHASES = ("examples", "coverage", "fuzzing", "stateful")
TIMEOUT_S = 1800.0
_CASES = re.compile(r"(\d+) generated")


@dataclass(frozen=True)
class Found:
    """What one run came to."""

    service: str
    seed: int
    num_cases: int
    failures: tuple[str, ...]
    """One line for each: the check, then what was asked."""
    not_tried: tuple[str, ...]
    """What schemathesis itself gave up on, in one phase or another."""
    num_server_errors: int
    """Lines of the service's log that tell of an error nobody expected."""
    output: str

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.failures and self.num_server_errors == 0


def run(
    services: Services,
    service: str,
    *,
    seed: int,
    phases: Sequence[str] = PHASES,
    max_examples: int,
    folder: Path,
    max_time_s: int | None = None,
) -> Found:
    """Returns what one run found; raises RuntimeError if schemathesis itself came to no end."""
    report = folder / f"{service}-{seed}.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", services.document(service)),
        *("--header", f"Authorization: Bearer {services.admin_key}"),
        *("--phases", ",".join(phases), "--max-examples", str(max_examples), "--seed", str(seed)),
        *("--exclude-checks", ",".join(sorted(LEFT_OUT)), "--suppress-health-check", "all"),
        *("--continue-on-failure", "--no-shrink", "--request-timeout", "30", "--warnings", "off", "--no-color"),
        *("--report", "json", "--report-json-path", str(report)),
        *(() if max_time_s is None else ("--max-time", str(max_time_s))),
    ]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=TIMEOUT_S)
    output = finished.stdout + finished.stderr
    cases = _CASES.search(output)
    if finished.returncode not in {0, 1} or cases is None or not report.exists():
        raise RuntimeError(f"schemathesis came to no end (status {finished.returncode}):\n{output[-4000:]}")
    found = json.loads(report.read_text())
    return Found(
        service=service,
        seed=seed,
        num_cases=int(cases[1]),
        failures=_failures(found),
        not_tried=tuple(f"{one['title']} ({one['count']})" for one in found["errors"]),
        num_server_errors=_num_unexpected(services.logs[service]),
        output=output,
    )


def _failures(report: dict[str, Any]) -> tuple[str, ...]:
    """Returns a line for each failure of a report."""
    return tuple(f"{one['title']}: {operation_name(operation)}" for one in report["failures"] for operation in one["operations"])


def operation_name(operation: str | dict[str, Any]) -> str:
    """Returns the method and path of an operation in a report."""
    return operation if isinstance(operation, str) else str(operation.get("label", operation))


def _num_unexpected(log: Path) -> int:
    """Returns how many answers of a service were a 500."""
    return sum('"status": 500' in line or "Traceback" in line for line in log.read_text(errors="replace").splitlines())
