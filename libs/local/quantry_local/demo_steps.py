"""The demo's steps, top to bottom: a 16-bit master goes in, a quantized and served checkpoint comes out, each step checked."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from quantry.client import Client
from quantry_core.gate import lets_pass
from quantry_core.jobs import (
    FINAL_STATUSES,
    CalibrationSpec,
    DeploySpec,
    EvaluateSpec,
    ImportSpec,
    Job,
    JobSpec,
    JobStatus,
    QuantizeSpec,
)
from quantry_core.versions import EvidenceKind, VersionDetail, VersionState
from quantry_local.errors import StackError
from quantry_local.stack import Stack

CALIBRATION_CORPORA = ("kjv", "shakespeare", "speeches")
TEST_CORPORA = ("kjv", "shakespeare", "speeches", "jargon")
MODEL = "bard-6m"
DEPLOYMENT = "bard"
NUM_CALIBRATION_SAMPLES = 66
MAX_WEIGHTS_SHARE = 0.45
"""W4A16 weights may have at most this share of the master's bytes."""

JOB_TIMEOUT_S = 900.0
ROUTE_TIMEOUT_S = 20.0
POLL_S = 0.3
PROMPT = "In the beginning"
QUESTION = "Speak to me of the sea."
NUM_TOKENS = 24

Report = Callable[[str, float | None], None]
"""Says where a step is: words, and the share that is done where that is known."""


class StepFailed(Exception):
    """A step did not do what it should; ``log`` is the file to read."""

    def __init__(self, reason: str, log: Path | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.log = log


@dataclass
class Demo:
    """What the steps hand to each other."""

    stack: Stack
    examples: Path
    url: str = ""
    api_key: str = ""
    master: VersionDetail | None = None
    quantized: VersionDetail | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    """The job of each step that has one."""

    def client(self) -> Client:
        return Client(self.url, self.api_key)


@dataclass(frozen=True)
class Step:
    """``run`` returns a line that says what came out, or raises StepFailed or StackError."""

    title: str
    run: Callable[[Demo, Report], str]


def start_platform(demo: Demo, report: Report) -> str:
    up = demo.stack.up()
    report("", 1.0)
    if up.was_up or up.new_admin_key is None:
        raise StackError(f"{demo.stack.folders.state_dir} holds a stack already; the demo wants a fresh one")
    demo.url, demo.api_key = up.url, up.new_admin_key
    return up.url


def upload_datasets(demo: Demo, report: Report) -> str:
    names = [f"{corpus}.calibration" for corpus in CALIBRATION_CORPORA] + [f"{corpus}.test" for corpus in TEST_CORPORA]
    size_bytes = 0
    with demo.client() as client:
        for number, name in enumerate(names):
            report(name, number / len(names))
            size_bytes += client.datasets.upload(name, demo.examples / "corpora" / f"{name}.txt").size_bytes
    return f"{len(names)} datasets, {size_bytes / 1e6:.1f} MB"


def import_master(demo: Demo, report: Report) -> str:
    job = run_job(demo, "import", ImportSpec(model=MODEL, source=str(demo.examples / MODEL)), report)
    demo.master = _version_of(demo, job)
    return f"{demo.master.ref}, {demo.master.dtype}, {demo.master.weights_bytes / 1e6:.2f} MB of weights"


def quantize(demo: Demo, report: Report) -> str:
    master = _known(demo.master)
    calibration = CalibrationSpec(
        datasets=[f"{corpus}.calibration" for corpus in CALIBRATION_CORPORA], num_samples=NUM_CALIBRATION_SAMPLES, length_tokens=256
    )
    job = run_job(demo, "quantize", QuantizeSpec(base=master.id, method="gptq", scheme="W4A16", calibration=calibration), report)
    demo.quantized = version = _version_of(demo, job)
    gates = [one for one in version.evidence if one.kind is EvidenceKind.GATE]
    failed = [one.name for one in gates if not lets_pass(one.name, one.verdict, version.format)]
    if not gates or failed or version.state is not VersionState.READY:
        raise StepFailed(f"{version.ref} is {version.state}; gate checks not passed: {', '.join(failed) or 'none were made'}")
    share = version.weights_bytes / master.weights_bytes
    if share > MAX_WEIGHTS_SHARE:
        raise StepFailed(f"{version.ref} has {share:.0%} of the master's bytes, more than {MAX_WEIGHTS_SHARE:.0%}")
    return f"{version.ref}, {version.scheme}, {version.weights_bytes / 1e6:.2f} MB ({share:.0%}), {len(gates)} gate checks passed"


def evaluate_master(demo: Demo, report: Report) -> str:
    version = _known(demo.master)
    run_job(demo, "evaluate master", EvaluateSpec(version=version.id, corpora=_test_datasets()), report)
    demo.master = _evaluated(demo, version)
    return _perplexities(demo.master)


def evaluate_quantized(demo: Demo, report: Report) -> str:
    version = _known(demo.quantized)
    spec = EvaluateSpec(version=version.id, against=_known(demo.master).id, corpora=_test_datasets())
    run_job(demo, "evaluate quantized", spec, report)
    demo.quantized = _evaluated(demo, version)
    return _perplexities(demo.quantized)


def deploy(demo: Demo, report: Report) -> str:
    version = _known(demo.quantized)
    run_job(demo, "deploy", DeploySpec(deployment=DEPLOYMENT, version=version.id), report)
    with demo.client() as client:
        deployment = client.deployments.get(DEPLOYMENT)
    if deployment.num_ready < 1 or deployment.current_release is None or deployment.current_release.version_id != version.id:
        raise StepFailed(f"deployment {DEPLOYMENT} has {deployment.num_ready} ready replicas", demo.stack.log_of("deploy"))
    return f"{deployment.num_ready} vLLM replica serves {version.ref} as {DEPLOYMENT!r}"


def complete(demo: Demo, report: Report) -> str:
    report(PROMPT, None)
    request = {"model": DEPLOYMENT, "prompt": PROMPT, "max_tokens": NUM_TOKENS, "temperature": 0}
    deadline = time.monotonic() + ROUTE_TIMEOUT_S
    while True:
        response = httpx.post(f"{demo.url}/v1/completions", json=request, headers=_headers(demo), timeout=120, trust_env=False)
        # The gateway hears of a new deployment a moment after the rollout has ended.
        if response.status_code not in {404, 503} or time.monotonic() > deadline:
            break
        time.sleep(float(response.headers.get("Retry-After", "0.5")))
    if response.status_code != 200:
        raise StepFailed(f"the gateway answered {response.status_code}: {response.text[:300]}", demo.stack.log_of("gateway"))
    text = response.json()["choices"][0]["text"]
    if not text.strip():
        raise StepFailed("the completion is empty", demo.stack.log_of("gateway"))
    return _one_line(PROMPT + text)


def chat(demo: Demo, report: Report) -> str:
    request = {
        "model": DEPLOYMENT,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
        "stream": True,
    }
    pieces: list[str] = []
    has_ended = False
    url = f"{demo.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=request, headers=_headers(demo), timeout=120, trust_env=False) as response:
        if response.status_code != 200:
            raise StepFailed(f"the gateway answered {response.status_code}: {response.read().decode()[:300]}", demo.stack.log_of("gateway"))
        for line in response.iter_lines():
            has_ended = has_ended or line == "data: [DONE]"
            pieces += _chat_pieces(line)
            report(_one_line("".join(pieces)), min(1.0, len(pieces) / NUM_TOKENS))
    if not has_ended or len(pieces) < 2:
        raise StepFailed(f"the stream broke off after {len(pieces)} pieces", demo.stack.log_of("gateway"))
    return _one_line("".join(pieces))


STEPS = (
    Step("start the platform", start_platform),
    Step("upload the texts", upload_datasets),
    Step("import the master", import_master),
    Step("quantize to W4A16 (GPTQ)", quantize),
    Step("evaluate the master", evaluate_master),
    Step("evaluate the quantized", evaluate_quantized),
    Step("deploy to vLLM", deploy),
    Step("ask for a completion", complete),
    Step("stream a chat answer", chat),
)


def run_job(demo: Demo, step: str, spec: JobSpec, report: Report) -> Job:
    """Returns the job once it has succeeded; raises StepFailed with its reason and its log, saved to a file, if it did not."""
    deadline = time.monotonic() + JOB_TIMEOUT_S
    with demo.client() as client:
        job = client.jobs.submit(spec)
        while job.status not in FINAL_STATUSES:
            if time.monotonic() > deadline:
                raise StepFailed(f"{job.id} is still {job.status} after {JOB_TIMEOUT_S:.0f} s", _save_log(demo, client, job))
            report(*_place(client, job))
            time.sleep(POLL_S)
            job = client.jobs.get(job.id)
        if job.status is not JobStatus.SUCCEEDED:
            raise StepFailed(f"{job.id} {job.status} ({job.reason}): {job.message}", _save_log(demo, client, job))
    demo.jobs[step] = job
    return job


def _place(client: Client, job: Job) -> tuple[str, float | None]:
    if isinstance(job.spec, DeploySpec):
        return ", ".join(replica.state for replica in client.deployments.get(DEPLOYMENT).replicas) or job.status, None
    if job.progress is None:
        return job.status, None
    return f"{job.progress.phase} {job.progress.detail}".strip(), job.progress.fraction


def _save_log(demo: Demo, client: Client, job: Job) -> Path:
    """Returns the file to read: the job's own log, or for a deploy job that of its replica."""
    if isinstance(job.spec, DeploySpec):
        logs = [replica.log_path for replica in client.deployments.get(DEPLOYMENT).replicas if replica.log_path]
        return Path(logs[-1]) if logs else demo.stack.log_of("deploy")
    path = demo.stack.log_of(job.id)
    path.write_text(client.jobs.log(job.id))
    return path if path.stat().st_size else demo.stack.log_of("worker")


def _version_of(demo: Demo, job: Job) -> VersionDetail:
    if job.result is None or job.result.version_id is None:
        raise StepFailed(f"{job.id} succeeded but made no version", demo.stack.log_of("api"))
    with demo.client() as client:
        return client.versions.get(job.result.version_id)


def _evaluated(demo: Demo, version: VersionDetail) -> VersionDetail:
    """Returns the version with its new evidence; raises StepFailed unless every corpus has a finite perplexity."""
    with demo.client() as client:
        detail = client.versions.get(version.id)
    figures = corpus_metrics(detail)
    bad = [corpus for corpus in TEST_CORPORA if not math.isfinite(figures.get(corpus, {}).get("perplexity", math.nan))]
    if bad:
        raise StepFailed(f"there is no perplexity of {version.ref} on {', '.join(bad)}", demo.stack.log_of("worker"))
    return detail


def corpus_metrics(version: VersionDetail) -> dict[str, dict[str, Any]]:
    """Returns the latest evaluation's metrics by corpus."""
    evaluations = [one for one in version.evidence if one.kind is EvidenceKind.EVALUATION]
    latest = sorted(evaluations, key=lambda one: one.created_at)
    return {one.name.split("@")[0].removesuffix(".test"): one.metrics for one in latest}


def _perplexities(version: VersionDetail) -> str:
    figures = corpus_metrics(version)
    return "perplexity " + ", ".join(f"{corpus} {figures[corpus]['perplexity']:.2f}" for corpus in TEST_CORPORA)


def _test_datasets() -> list[str]:
    return [f"{corpus}.test" for corpus in TEST_CORPORA]


def _known(version: VersionDetail | None) -> VersionDetail:
    if version is None:
        raise StepFailed("the step before it left no version")
    return version


def _headers(demo: Demo) -> dict[str, str]:
    return {"Authorization": f"Bearer {demo.api_key}"}


def _chat_pieces(line: str) -> list[str]:
    if not line.startswith("data: {"):
        return []
    choices = json.loads(line.removeprefix("data: ")).get("choices", [])
    return [choice["delta"]["content"] for choice in choices if choice.get("delta", {}).get("content")]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:100]
