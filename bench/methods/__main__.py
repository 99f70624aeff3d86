"""``python -m bench.methods``: every method on the example master, through the whole platform. Takes about half an hour.

Prints the table and writes bench/results/methods.json and .md. Arguments name methods: only their rows are run, and take the place
of those that the last run wrote.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bench.embedded import ROOT, Measured, embedded_stack
from bench.methods.bare import Parity, compare
from bench.methods.cases import CALIBRATION, CASES, CORPORA, MAX_WINDOWS, Case
from bench.report import RESULTS, machine
from quantry import ApiError
from quantry_core.jobs import ImportSpec, Job, JobStatus

MODEL = "bard-6m"
JOB_TIMEOUT_S = 3600.0
POLL_S = 0.5
NAMES = [case.name for case in CASES]
LIBRARIES = {
    "ml": ("torch", "transformers", "compressed-tensors", "llmcompressor", "auto-round", "hqq", "bitsandbytes", "gguf", "xllamacpp"),
    "gptqmodel": ("gptqmodel",),
}
"""By the environment that has them."""


@dataclass(frozen=True)
class Made:
    """What one row came to."""

    name: str
    verdict: str
    message: str = ""
    weights_bytes: int | None = None
    bits_per_weight: float | None = None
    seconds: float | None = None
    quantize_s: float | None = None
    peak_memory_bytes: int | None = None
    estimated_memory_bytes: int | None = None
    perplexity: dict[str, float] | None = None
    kl_mean_nats: dict[str, float] | None = None
    parity: Parity | None = None


def main(arguments: list[str]) -> int:
    """Runs the rows, prints them as they come, and writes the results; returns 1 if a good checkpoint was refused."""
    cases = [case for case in CASES if not arguments or case.method in arguments]
    with embedded_stack({"QUANTRY_WORKER_SLOTS": "1"}) as measured:
        fill(measured)
        master = succeeded(measured, measured.client.jobs.submit(ImportSpec(model=MODEL, source=str(measured.scratch / MODEL))).id)
        base = (master.result.version_id if master.result is not None else None) or ""
        weights_bytes = measured.client.versions.get(base).weights_bytes
        rows = []
        for case in cases:
            rows.append(run(measured, case, base))
            print(line(rows[-1]), flush=True)
    rows = [*kept_rows(rows), *rows] if arguments else rows
    rows.sort(key=lambda row: NAMES.index(row.name))
    text = table(rows, weights_bytes)
    print(text)
    write(rows, weights_bytes, text)
    refused = [row.name for row in rows if row.verdict == "quarantined"]
    print(f"refused by the gate: {', '.join(refused) or 'none'}")
    return 1 if refused else 0


def kept_rows(rows: Iterable[Made]) -> list[Made]:
    """Returns the rows that the last run wrote and this one did not run again."""
    again = {row.name for row in rows}
    written = json.loads((RESULTS / "methods.json").read_text(encoding="utf-8"))["rows"]
    found = [Made(**{**row, "parity": None if row["parity"] is None else Parity(**row["parity"])}) for row in written]
    return [row for row in found if row.name not in again and row.name in NAMES]


def fill(measured: Measured) -> None:
    """Puts the texts into the registry and the master where an import may read it."""
    for name in (*CALIBRATION, *CORPORA):
        measured.client.datasets.upload(name, ROOT / "examples" / "corpora" / f"{name}.txt")
    (measured.scratch / MODEL).mkdir()
    for file in (ROOT / "examples" / MODEL).iterdir():
        (measured.scratch / MODEL / file.name).write_bytes(file.read_bytes())


def run(measured: Measured, case: Case, base: str) -> Made:
    """Returns what a quantize job of this row came to."""
    try:
        submitted = measured.client.jobs.submit(case.spec(base))
    except ApiError as error:
        return Made(case.name, "refused", "; ".join(one.message for one in error.errors) or error.detail)
    job = measured.client.jobs.wait(submitted.id, JOB_TIMEOUT_S, poll_s=POLL_S)
    version_id = job.result.version_id if job.result is not None else None
    if job.result is None or version_id is None:
        return Made(case.name, "refused" if job.reason == "invalid_input" else str(job.status), job.message or "")
    version = measured.client.versions.get(version_id)
    gate = {one.name: one.metrics for one in version.evidence}
    figures = gate.get("quality", {}).get("corpora", {})
    return Made(
        case.name,
        version.state,
        job.message or "",
        version.weights_bytes,
        gate.get("precision", {}).get("bits_per_weight"),
        job.result.seconds,
        job.result.metrics.get("quantize_s"),
        job.result.peak_memory_bytes,
        None if job.estimate is None else job.estimate.uncorrected.peak_ram_bytes,
        by_corpus(figures, "perplexity"),
        by_corpus(figures, "kl_mean_nats"),
        compare(measured, case, version) if case.has_bare else None,
    )


def by_corpus(figures: dict[str, dict[str, Any]], metric: str) -> dict[str, float]:
    """Returns one metric by corpus, in the order of the table's columns; the registry keeps none."""
    by_name = {ref.partition("@")[0]: found for ref, found in figures.items()}
    return {name.removesuffix(".test"): by_name[name][metric] for name in CORPORA if metric in by_name.get(name, {})}


def succeeded(measured: Measured, job_id: str) -> Job:
    job = measured.client.jobs.wait(job_id, JOB_TIMEOUT_S, poll_s=POLL_S)
    if job.status is not JobStatus.SUCCEEDED:
        raise RuntimeError(f"job {job_id} ended as {job.status}: {job.message}")
    return job


def line(row: Made) -> str:
    """Returns one row of the Markdown table."""
    if row.perplexity is None:
        return f"| {row.name} | {row.verdict}: {row.message} |" + " |" * 9
    mean_kl = sum((row.kl_mean_nats or {}).values()) / max(1, len(row.kl_mean_nats or {}))
    cells = [
        row.name,
        row.verdict,
        f"{(row.weights_bytes or 0) / 1e6:.2f}",
        "-" if row.bits_per_weight is None else f"{row.bits_per_weight:.2f}",
        f"{row.quantize_s or 0:.0f} / {row.seconds or 0:.0f}",
        f"{(row.peak_memory_bytes or 0) / 1e6:.0f} / {(row.estimated_memory_bytes or 0) / 1e6:.0f}",
        *(f"{row.perplexity[name]:.2f}" for name in row.perplexity),
        f"{mean_kl:.4f}",
        "-" if row.parity is None else row.parity.words,
    ]
    return f"| {' | '.join(cells)} |"


def table(rows: Iterable[Made], master_bytes: int) -> str:
    """Returns the whole table as Markdown."""
    host = machine()
    return "\n".join(
        [
            "# Every method on the example master",
            "",
            f"{datetime.now(UTC).isoformat(timespec='seconds')}, {host['cpu']}, {host['num_cores']} cores, Python {host['python']}. "
            f"The master: {master_bytes / 1e6:.2f} MB of float16 weights. Calibration: 66 samples of 256 tokens of kjv, shakespeare and "
            f"speeches. Perplexity and KL against the master on the first {MAX_WINDOWS} windows of 256 tokens of each of the four test "
            "texts, activations rounded as an engine would.",
            "",
            "| method | gate | MB | bits a weight | s making / all | peak MB / estimate | kjv | shakespeare | speeches | jargon "
            "| mean KL, nats | beside the bare library |",
            "| --- " * 12 + "|",
            *(line(row) for row in rows),
            "",
        ]
    )


def library_versions() -> dict[str, str]:
    """Returns the versions of what made the checkpoints."""
    script = "import importlib.metadata as m, json, sys; print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    found: dict[str, str] = {}
    for environment, names in LIBRARIES.items():
        python = ROOT / ".venvs" / environment / "bin" / "python"
        found |= json.loads(subprocess.run([str(python), "-c", script, *names], check=True, capture_output=True, text=True).stdout)
    return found


def write(rows: list[Made], master_bytes: int, text: str) -> None:
    """Writes bench/results/methods.json and .md."""
    document = {
        "name": "methods",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": library_versions(),
        "master_weights_bytes": master_bytes,
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "methods.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "methods.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
