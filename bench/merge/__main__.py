"""``python -m bench.merge``: adapters trained on quantized bases, and where they do best. Takes about ten minutes on two idle cores.

For each scheme: the example master is quantized by GPTQ, an adapter learns the Jargon File on it, and a measured merge tries the ways
there are. The rule looks at jargon.calibration; jargon.test, which nothing has seen, says whether it chose well. Prints the table and
writes bench/results/merge.json and .md. Arguments name schemes: only their rows are made, and take the place of the last ones.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.merge.case import HELD_OUT, HYPERPARAMETERS, TRAINING, UNTOUCHED, VALIDATION, ways
from bench.report import RESULTS, machine

SCHEMES = ("W4A16", "W3A16", "W2A16")


@dataclass(frozen=True)
class Way:
    """One row: a way that an adapter of one base was taken."""

    scheme: str
    way: str
    is_choice: bool
    validation_nll: float
    held_out_nll: float
    """Of text that neither training nor the choice has seen."""
    untouched_perplexity: float
    kl_from_trained_nats: float
    kl_from_master_nats: float
    """On the untouched text: what was forgotten, and what was lost."""
    weights_bytes: int


def main(arguments: list[str]) -> int:
    """Makes the rows, prints and writes them; returns 1 where the rule's choice was not the best on text that was held out."""
    rows, details = _written() if arguments else ([], {})
    rows = [row for row in rows if row.scheme not in arguments]
    with tempfile.TemporaryDirectory(prefix="quantry-bench-") as folder:
        for scheme in arguments or SCHEMES:
            found = ways(Path(folder) / scheme, scheme)
            rows += _rows(scheme, found)
            details[scheme] = found["decision"]
    rows.sort(key=lambda row: SCHEMES.index(row.scheme))
    _write(rows, details)
    print(_table(rows))
    return 0 if all(_is_best(row, rows) for row in rows if row.is_choice) else 1


def _rows(scheme: str, found: dict[str, Any]) -> list[Way]:
    rows = []
    for way, figures in found["ways"].items():
        held_out, untouched = (figures["corpora"][f"{name}@1"] for name in (HELD_OUT, UNTOUCHED))
        rows.append(
            Way(
                scheme,
                way,
                way == found["choice"],
                figures["nll_mean"],
                held_out["nll_mean"],
                untouched["perplexity"],
                held_out["kl_from_trained_nats"],
                untouched["kl_from_master_nats"],
                figures["weights_bytes"],
            )
        )
    return rows


def _is_best(row: Way, rows: list[Way]) -> bool:
    return row.held_out_nll == min(other.held_out_nll for other in rows if other.scheme == row.scheme)


def _written() -> tuple[list[Way], dict[str, Any]]:
    """Returns what the last run wrote: its rows, and what was decided of each scheme."""
    path = RESULTS / "merge.json"
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": [], "details": {}}
    return [Way(**row) for row in document["rows"]], document["details"]


def _table(rows: list[Way]) -> str:
    host = machine()
    lines = [
        "# Where an adapter of a quantized base does best",
        "",
        f"{datetime.now(UTC).isoformat(timespec='seconds')}, {host['cpu']}, {host['num_cores']} cores, Python {host['python']}. bard-6m by "
        f"GPTQ, groups of 64; LoRA of rank 16 on all linear modules, {HYPERPARAMETERS['max_steps']} steps of 8 x 256 tokens of "
        f"{TRAINING}. Log-losses in nats a token: the rule looks at {VALIDATION}, {HELD_OUT} was seen by nothing.",
        "",
        f"| base | way | chosen | {VALIDATION} | {HELD_OUT} | {UNTOUCHED}: perplexity | KL from the trained function | "
        f"{UNTOUCHED}: KL from the master | MB |",
        "| --- " * 9 + "|",
    ]
    for row in rows:
        best = ", best" if _is_best(row, rows) else ""
        lines.append(
            f"| {row.scheme} | {row.way} | {'yes' if row.is_choice else ''} | {row.validation_nll:.4f} | {row.held_out_nll:.4f}{best} "
            f"| {row.untouched_perplexity:.2f} | {row.kl_from_trained_nats:.4f} | {row.kl_from_master_nats:.4f} "
            f"| {row.weights_bytes / 1e6:.2f} |"
        )
    return "\n".join([*lines, ""])


def _write(rows: list[Way], details: dict[str, Any]) -> None:
    document = {
        "name": "merge",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
        "details": details,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "merge.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "merge.md").write_text(_table(rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
