"""A small company's week, done on a running stack: what the pictures of the dashboard show. All of it is real but the engines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from pydantic import TypeAdapter

from bench.serving.clients import Load, asking
from quantry import Client
from quantry_core.datasets import DatasetKind
from quantry_core.jobs import DeploySpec, Job, JobSpec, JobStatus
from quantry_core.keys import Role
from quantry_core.pipelines import PipelineSubmission
from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, Rollout, RolloutState
from quantry_core.schedules import ScheduleSubmission
from quantry_core.version_notes import VersionNotesChange

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODEL, DEPLOYMENT = "bard-6m", "bard"
CORPORA = ("kjv", "shakespeare", "speeches")
JOB_S = 900.0
ROLLOUT_S = 900.0
REQUESTS_PER_S = 12.0
PROMPTS = ("And God said unto Moses,", "My fellow citizens,", "KING RICHARD:")

CALIBRATION = {"datasets": [f"{corpus}.calibration" for corpus in CORPORA], "num_samples": 66, "length_tokens": 256}
QUALITY = {"corpora": [f"{corpus}.test" for corpus in CORPORA], "max_windows": 24}
QUANTIZED: tuple[dict[str, Any], ...] = (
    {"method": "gptq", "scheme": "W4A16", "calibration": CALIBRATION},
    {"method": "fp8", "scheme": "FP8_DYNAMIC"},
    {"method": "smoothquant", "scheme": "W8A8", "calibration": CALIBRATION},
    {"method": "rtn", "scheme": "W8A16"},
    {"method": "gptq", "scheme": "W3A16", "calibration": CALIBRATION, "quality": {**QUALITY, "thresholds": {"perplexity_ratio": 1.1}}},
)
TOO_COARSE = {"method": "rtn", "scheme": "W4A16", "group_size": 128}
"""It loses more than its gate allows, and is kept as quarantined."""

HYPERPARAMETERS = {"max_steps": 80, "batch_size": 8, "learning_rate": 2e-3, "sequence_tokens": 128}
FINETUNE = {
    "type": "finetune",
    "model": f"{MODEL}@1",
    "training_file": "jargon",
    "suffix": "jargon",
    "adapter": {"rank": 16, "alpha": 32},
    "hyperparameters": HYPERPARAMETERS,
    "validation": {"every_steps": 20, "max_rows": 64},
    "checkpoint_every_steps": 40,
}
RULES = {
    "rules": [
        {"rule": "error_rate_compared", "max_increase": 0.05},
        {"rule": "latency_compared", "metric": "e2e", "quantile": 0.95, "max_ratio": 1.5},
    ],
    "min_requests": 60,
}
_SPEC: TypeAdapter[Any] = TypeAdapter(JobSpec)


@dataclass(frozen=True)
class Places:
    """The ids that addresses of views name."""

    quantize: str
    finetune: str
    failed: str
    pipeline: str
    running: str
    held_back: str
    rollout: str
    promoted: str
    rolled_back: str
    schedule: str
    webhook: str


class History:
    """Fills a stack. Whoever serves the requests of its rollouts is whatever engine the stack has."""

    def __init__(
        self, client: Client, url: str, api_key: str, *, receiver_url: str, scratch: Path, say: Callable[[str], None] = lambda _line: None
    ) -> None:
        self._client = client
        self._url = url
        self._api_key = api_key
        self._receiver_url = receiver_url
        self._scratch = scratch
        self._say = say

    def fill(self) -> Places:
        """Does everything, and returns where it is; a rollout and a training job go on after that. Raises RuntimeError."""
        self._people()
        webhook = self._webhook()
        self._datasets()
        self._succeed({"type": "import", "model": MODEL, "source": str(EXAMPLES / MODEL)}, labels={"team": "search"})
        quantized = [self._submit({"type": "quantize", "base": f"{MODEL}@1", "quality": QUALITY, **one}) for one in QUANTIZED]
        coarse = self._submit({"type": "quantize", "base": f"{MODEL}@1", "quality": QUALITY, **TOO_COARSE}, labels={"try": "cheap"})
        finetune = self._submit(FINETUNE, labels={"team": "docs"})
        pipeline = self._pipeline()
        versions = [self._version_of(self._ended(one, JobStatus.SUCCEEDED)) for one in quantized]
        held_back = self._held_back(self._ended(coarse, JobStatus.FAILED))
        self._ended(finetune, JobStatus.SUCCEEDED)
        self._client.pipelines.wait(pipeline, JOB_S)
        self._curate(versions)
        schedule = self._schedules()
        promoted, rolled_back = self._rollouts(versions)
        rollout = self._canary(versions[1])
        # What runs while the pictures are taken.
        running = self._submit({**FINETUNE, "suffix": "long", "hyperparameters": {**HYPERPARAMETERS, "max_steps": 20000}})
        self._submit({"type": "evaluate", "version": f"{MODEL}@1", "corpora": ["kjv.test"], "max_windows": 8}, labels={"team": "docs"})
        return Places(
            quantize=quantized[0],
            finetune=finetune,
            failed=coarse,
            pipeline=pipeline,
            running=running,
            held_back=held_back,
            rollout=rollout.id,
            promoted=promoted.id,
            rolled_back=rolled_back.id,
            schedule=schedule,
            webhook=webhook,
        )

    def _people(self) -> None:
        soon = datetime.now(UTC) + timedelta(days=30)
        self._client.keys.create("ci", Role.OPERATOR, expires_at=soon)
        self._client.keys.create("grafana", Role.VIEWER)
        left = self._client.keys.create("intern", Role.OPERATOR)
        self._client.keys.revoke(left.key.id)
        self._client.projects.create("research")

    def _webhook(self) -> str:
        events = ["job.succeeded", "job.failed", "rollout.promoted", "rollout.rolled_back", "rollout.verdict"]
        made = self._client.webhooks.create("on-call", self._receiver_url, events)
        self._client.webhooks.create("chat-room", f"{self._receiver_url}/chat", ["job.gate_failed"], format="slack")
        self._client.webhooks.test(made.webhook.id)
        return made.webhook.id

    def _datasets(self) -> None:
        for corpus in CORPORA:
            for part in ("calibration", "test"):
                self._client.datasets.upload(f"{corpus}.{part}", EXAMPLES / "corpora" / f"{corpus}.{part}.txt")
        self._client.datasets.upload("jargon", EXAMPLES / "corpora" / "jargon.train.txt")
        rows = self._scratch / "answers.jsonl"
        lines = [
            {"prompt": prompt, "completion": f" the sea is {adjective}."} for prompt in PROMPTS for adjective in ("wide", "deep", "old")
        ]
        rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._client.datasets.upload("answers", rows, kind=DatasetKind.PROMPTS)

    def _pipeline(self) -> str:
        spec = {"type": "quantize", "base": f"{MODEL}@1", "scheme": "W4A16", "group_size": 64, "calibration": CALIBRATION}
        steps = {
            "quantize": {"spec": {**spec, "quality": QUALITY}},
            "evaluate": {"spec": {"type": "evaluate", "version": "output:quantize", "against": f"{MODEL}@1", "corpora": ["kjv.test"]}},
            "evaluate-speeches": {
                "spec": {"type": "evaluate", "version": "output:quantize", "against": f"{MODEL}@1", "corpora": ["speeches.test"]}
            },
        }
        submission = PipelineSubmission.model_validate({"name": "smaller-groups", "steps": steps, "labels": {"team": "search"}})
        return self._client.pipelines.submit(submission).id

    def _curate(self, versions: list[str]) -> None:
        for alias, place in (("production", 1), ("production", 0), ("next", 1)):
            self._client.models.move_alias(MODEL, alias, self._client.versions.get(versions[place]).id)
        note = "Half the size of the master; on the King James text within its interval."
        self._client.versions.annotate(versions[0], VersionNotesChange(tags={"golden": "", "team": "search"}, notes=note))

    def _schedules(self) -> str:
        for name, cron, spec in (
            (
                "nightly-evaluation",
                "0 2 * * *",
                {"type": "evaluate", "version": f"{MODEL}@production", "corpora": ["kjv.test"], "max_windows": 8},
            ),
            ("weekly-quantize", "30 4 * * 1", {"type": "quantize", "base": f"{MODEL}@1", "method": "rtn", "scheme": "W8A16"}),
        ):
            template = {"kind": "job", "submission": {"spec": spec}}
            submission = {"name": name, "cron": cron, "time_zone": "Europe/Berlin", "template": template}
            self._client.schedules.create(ScheduleSubmission.model_validate(submission))
        weekly, nightly = self._client.schedules.list().data
        self._client.schedules.pause(weekly.id)
        for _ in range(2):
            self._ended(self._client.schedules.run(nightly.id).job_id or "", JobStatus.SUCCEEDED)
        return nightly.id

    def _rollouts(self, versions: list[str]) -> tuple[Rollout, Rollout]:
        """The master first, then its four bits by a canary that passes, then another one that somebody takes back."""
        self._deploy(f"{MODEL}@1")
        steps = [{"percent": 25, "wait_s": 5}, {"percent": 50, "wait_s": 5}, {"percent": 100, "analysis": False}]
        with self._traffic():
            promoted = self._deploy(versions[0], {"name": "canary", "steps": steps, "analysis": RULES}, note="Half the memory.")
        rollout = self._begin(
            versions[2], {"name": "canary", "steps": [{"percent": 20, "pause": True}, {"percent": 100}], "analysis": RULES}
        )
        with self._traffic():
            self._until(rollout, lambda one: one.percent == 20)
            time.sleep(6)
            self._client.rollouts.rollback(rollout.id)
        return promoted, self._until(rollout, lambda one: one.state not in ACTIVE_ROLLOUT_STATES)

    def _canary(self, version: str) -> Rollout:
        steps = [{"percent": 10, "wait_s": 8}, {"percent": 50, "wait_s": 15, "pause": True}, {"percent": 100, "analysis": False}]
        rollout = self._begin(version, {"name": "canary", "steps": steps, "analysis": RULES}, note="fp8 is quicker to make.")
        with self._traffic():
            self._until(rollout, lambda one: one.state is RolloutState.PAUSED)
        return rollout

    def _traffic(self) -> Any:
        return asking(Load(self._url, self._api_key, DEPLOYMENT, REQUESTS_PER_S, PROMPTS))

    def _begin(self, version: str, strategy: dict[str, Any], *, note: str | None = None) -> Rollout:
        order = {"deployment": DEPLOYMENT, "version": version, "watch_s": 0, "strategy": strategy, "note": note}
        begun = self._client.rollouts.create(DeploySpec.model_validate(order))
        if not isinstance(begun, Rollout):
            raise RuntimeError(f"the deploy of {version} has to wait: {begun.message}")
        return begun

    def _deploy(self, version: str, strategy: dict[str, Any] | None = None, *, note: str | None = None) -> Rollout:
        rollout = self._begin(version, strategy or {"name": "immediate"}, note=note)
        ended = self._until(rollout, lambda one: one.state not in ACTIVE_ROLLOUT_STATES)
        if ended.state is not RolloutState.PROMOTED:
            raise RuntimeError(f"{version} was not promoted but {ended.state}: {ended.message}")
        self._wait_for_route()
        return ended

    def _until(self, rollout: Rollout, is_so: Callable[[Rollout], bool]) -> Rollout:
        deadline = time.monotonic() + ROLLOUT_S
        while not is_so(now := self._client.rollouts.get(rollout.id)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{rollout.id} is {now.state} at {now.percent} percent: {now.message}")
            time.sleep(0.3)
        return now

    def _wait_for_route(self) -> None:
        deadline = time.monotonic() + ROLLOUT_S
        body = {"model": DEPLOYMENT, "prompt": PROMPTS[0], "max_tokens": 1}
        headers = {"Authorization": f"Bearer {self._api_key}"}
        while httpx.post(f"{self._url}/v1/completions", json=body, headers=headers, timeout=60, trust_env=False).is_error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the gateway does not answer for {DEPLOYMENT}")
            time.sleep(0.3)

    def _submit(self, spec: dict[str, Any], *, labels: dict[str, str] | None = None) -> str:
        return self._client.jobs.submit(_SPEC.validate_python(spec), labels=labels or {}).id

    def _ended(self, job_id: str, status: JobStatus) -> Job:
        job = self._client.jobs.wait(job_id, JOB_S, poll_s=0.5)
        self._say(f"{job.type} {job.status} {job.reason or ''}")
        if job.status is not status:
            raise RuntimeError(f"the {job.type} job ended as {job.status}: {job.message}\n{self._client.jobs.log(job.id)[-2000:]}")
        return job

    def _succeed(self, spec: dict[str, Any], *, labels: dict[str, str]) -> Job:
        return self._ended(self._submit(spec, labels=labels), JobStatus.SUCCEEDED)

    def _version_of(self, job: Job) -> str:
        if job.result is None or job.result.version_id is None:
            raise RuntimeError(f"{job.id} made no version")
        return self._client.versions.get(job.result.version_id).ref

    def _held_back(self, job: Job) -> str:
        versions = self._client.versions.list(limit=100).data
        return next(version.id for version in versions if version.job_id == job.id)
