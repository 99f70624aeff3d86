"""What the pages of schedules say of each and of its runs, and how a text becomes a schedule."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, RootModel

from quantry.errors import FileRefused
from quantry.yaml_files import read_yaml
from quantry_core.jobs import Job
from quantry_core.schedules import MissedPolicy, OverlapPolicy, RunOutcome, Schedule, ScheduleRun, ScheduleSubmission, Template
from quantry_dashboard import words
from quantry_dashboard.administration import State, ahead_text
from quantry_dashboard.asking import NotDone
from quantry_dashboard.facts import Fact

ModelT = TypeVar("ModelT", bound=BaseModel)

PATH = "/schedules"
NEW = f"{PATH}/new"

OUTCOME_CLASSES = {
    RunOutcome.FIRED: "status succeeded",
    RunOutcome.HELD: "status waiting",
    RunOutcome.SKIPPED: "status",
    RunOutcome.MISSED: "status waiting",
    RunOutcome.REFUSED: "status failed",
}
OUTCOME_WORDS = {
    RunOutcome.FIRED: "submitted",
    RunOutcome.HELD: "waits for the run before",
    RunOutcome.SKIPPED: "skipped: the run before was not over",
    RunOutcome.MISSED: "missed",
    RunOutcome.REFUSED: "refused",
}
OVERLAP_WORDS = {
    OverlapPolicy.SKIP: "a run is skipped while the one before is not over",
    OverlapPolicy.QUEUE: "a run waits until the one before is over",
    OverlapPolicy.CANCEL_PREVIOUS: "a run cancels the one before",
}
MISSED_WORDS = {
    MissedPolicy.SKIP: "missed runs are left out",
    MissedPolicy.RUN_ONCE: "one run makes up for all that were missed",
    MissedPolicy.RUN_ALL: "every missed run is made up for",
}
EXAMPLE = """name: nightly
cron: "30 2 * * *"
time_zone: Europe/Berlin
overlap: skip
missed: run_once
template:
  kind: job
  submission:
    spec: {type: evaluate, version: bard@production, corpora: [kjv.test]}
"""
TEMPLATE_EXAMPLE = """kind: job
submission:
  spec: {type: evaluate, version: bard@production, corpora: [kjv.test]}
"""


def schedule_address(schedule_id: str) -> str:
    """Returns where a schedule's page is."""
    return f"{PATH}/{schedule_id}"


def schedule_state(schedule: Schedule) -> State:
    """Returns whether a schedule fires."""
    return State("paused", "status") if schedule.is_paused else State("active", "status succeeded")


def what_text(schedule: Schedule) -> str:
    """Returns what a schedule submits: ``evaluate job``, ``pipeline of 3 steps``."""
    submission = schedule.template.get("submission", {})
    if schedule.template.get("kind") == "pipeline":
        num_steps = len(submission.get("steps", {}))
        return f"pipeline of {num_steps} step{'' if num_steps == 1 else 's'}"
    return f"{submission.get('spec', {}).get('type', 'one')} job"


def when_text(schedule: Schedule) -> str:
    """Returns when a schedule fires, as it was written."""
    return f"{schedule.cron} · {schedule.time_zone}"


def next_text(schedule: Schedule, now: datetime) -> str:
    """Returns how far ahead the next run is."""
    return "–" if schedule.next_run_at is None else ahead_text(schedule.next_run_at, now)


def local_text(moment: datetime) -> str:
    """Returns a moment as its own zone has it: ``Tue 2026-11-24 02:30:00 +01:00``."""
    offset = f"{moment:%z}"
    return f"{moment:%a %Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:]}"


def schedule_facts(schedule: Schedule, now: datetime) -> list[Fact]:
    """Returns what is known of a schedule."""
    facts = [
        Fact("fires", when_text(schedule)),
        Fact("submits", what_text(schedule)),
        Fact("next run", next_text(schedule, now)),
        Fact("overlap", OVERLAP_WORDS[schedule.overlap]),
        Fact("missed", MISSED_WORDS[schedule.missed]),
        Fact("made", words.moment_text(schedule.created_at)),
        Fact("all its jobs", "every job it submitted", f"/jobs?schedule_id={schedule.id}"),
        Fact("all its pipelines", "every pipeline it submitted", f"/pipelines?schedule_id={schedule.id}")
        if schedule.template.get("kind") == "pipeline"
        else Fact("", ""),
    ]
    return [fact for fact in facts if fact.text]


def run_address(run: ScheduleRun) -> str | None:
    """Returns where the dashboard shows what a run submitted; None where it submitted nothing."""
    if run.pipeline_id is not None:
        return f"/pipelines/{run.pipeline_id}"
    return None if run.job_id is None else f"/jobs/{run.job_id}"


def template_yaml(template: Mapping[str, Any]) -> str:
    """Returns what a schedule submits, as YAML that can be given again; what is not given is left out."""
    return yaml.safe_dump(_given(template), sort_keys=False, allow_unicode=True, width=100)


def template_of_job(job: Job) -> str:
    """Returns a template that submits the same as a job, as YAML; its queue is chosen anew each time, of the same resource."""
    document = job.model_dump(mode="json", include={"spec", "priority", "limits", "labels", "metadata"}, exclude_none=True)
    submission = dict(document)
    if job.queue is not None:
        submission["resource"] = job.queue.partition("-")[0]
    return template_yaml({"kind": "job", "submission": submission})


def read_template(text: str) -> Template:
    """Returns what a YAML text has submitted; raises NotDone with every problem and its line."""
    return _read(RootModel[Template], text).root


def read_submission(text: str) -> ScheduleSubmission:
    """Returns the schedule that a YAML text describes; raises NotDone with every problem and its line."""
    return _read(ScheduleSubmission, text)


def _read(model: type[ModelT], text: str) -> ModelT:
    with tempfile.TemporaryDirectory(prefix="quantry-schedule-") as folder:
        path = Path(folder) / "schedule.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            return read_yaml(model, path)
        except FileRefused as refused:
            raise NotDone("; ".join(problem_text(one.line, one.field, one.message) for one in refused.problems)) from None


def _given(value: Any) -> Any:
    """Returns a document without what is null or empty."""
    if isinstance(value, Mapping):
        kept = {name: _given(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, {}, [])}
    return [_given(item) for item in value] if isinstance(value, list) else value


def problem_text(line: int, field: str, message: str) -> str:
    """Returns what is wrong in a text: ``line 3, cron: is missing``."""
    return f"line {line}, {field}: {message}" if field else f"line {line}: {message}"
