"""12. A fine-tune job whose processes are killed at ten random steps ends with the curve of one that nobody disturbed."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from chaos.platform import Chaos, wait_until
from chaos.processes import Family, family_of, send, wait_for_part
from chaos.result import Result
from quantry_core.jobs import AdapterSpec, FinetuneSpec, Hyperparameters, ImportSpec, JobStatus, JobSubmission, ValidationSpec

NAME = "killed training"
ROOT = Path(__file__).resolve().parents[2]
ML_PYTHON = ROOT / ".venvs" / "ml" / "bin" / "python"
MODEL, TEXT = "bard-6m", "jargon.calibration"
JOB_TIMEOUT_S = 900.0
STEP_TIMEOUT_S = 120.0
CHECKPOINT_EVERY_STEPS = 4
TOLERANCE = 1e-6
"""Largest difference of a step's loss, nats a token: what is computed again is computed from the same numbers in the same order."""

CURVE = "select data from job_events where job_id = %s and kind = 'metrics' and data ? 'loss' order by seq"
NEWEST_STEP = "select max((data->>'step')::int) from job_events where job_id = %s and kind = 'metrics'"
NUM_SUCCESSES = "select count(*) from job_events where job_id = %s and kind = 'state' and data->>'status' = 'succeeded'"


class Counts(NamedTuple):
    kills: int
    steps: int


FULL = Counts(kills=10, steps=90)
SHORT = Counts(kills=1, steps=12)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Trains twice with the real recipe, the second time under fire, and compares the two curves step by step."""
    result = Result(12, NAME, seed)
    with _real_recipes(chaos):
        _fill(chaos)
        undisturbed = _submit(chaos, counts.steps)
        result.expect(chaos.wait_until_ended([undisturbed], JOB_TIMEOUT_S), "the undisturbed job did not end")
        killed = _submit(chaos, counts.steps)
        drawn = random.Random(seed)
        steps = sorted(drawn.sample(range(2, counts.steps - 2), counts.kills))
        victims = [_strike(chaos, killed, step, drawn) for step in steps]
        result.expect(chaos.wait_until_ended([killed], JOB_TIMEOUT_S), "the killed job did not end")
    expected, found = _curve(chaos, undisturbed), _curve(chaos, killed)
    difference = max((abs(expected[step] - found[step]) for step in expected.keys() & found.keys()), default=float("nan"))
    [(status, message, attempt)] = chaos.rows("select status, message, attempt from jobs where id = %s", killed)
    [(num_successes,)] = chaos.rows(NUM_SUCCESSES, killed)
    num_kills = sum(victim is not None for victim in victims)
    result.done = f"SIGKILL at {num_kills} random steps of one job: {_counted(victims)}"
    result.figures = {
        "kills": num_kills,
        "attempts": attempt,
        "steps": len(found),
        "last_loss": found.get(counts.steps, float("nan")),
        "largest_difference": f"{difference:.1e}",
    }
    result.expect(num_kills == counts.kills, f"only {num_kills} of {counts.kills} kills met a process")
    result.expect((status, num_successes) == (JobStatus.SUCCEEDED, 1), f"the killed job is {status} ({num_successes} successes): {message}")
    result.expect(set(expected) == set(found) == set(range(1, counts.steps + 1)), f"curves of {len(expected)} and {len(found)} steps")
    result.expect(difference <= TOLERANCE, f"losses differ by up to {difference:.2e} nats, more than {TOLERANCE:.0e}")
    return result


def _submit(chaos: Chaos, num_steps: int) -> str:
    spec = FinetuneSpec(
        model=f"{MODEL}@1",
        training_file=TEXT,
        # Dropout draws in every step, so that lost random numbers are seen in the curve.
        adapter=AdapterSpec(dropout=0.1),
        hyperparameters=Hyperparameters(max_steps=num_steps, n_epochs=10, batch_size=4, sequence_tokens=128, learning_rate=1e-3),
        validation=ValidationSpec(max_rows=8),
        checkpoint_every_steps=CHECKPOINT_EVERY_STEPS,
    )
    submission = JobSubmission(spec=spec, force=True).model_dump(mode="json", exclude_none=True)
    with chaos.http() as http:
        answer = http.post("/api/v1/jobs", json=submission)
    if answer.status_code != 201:
        raise RuntimeError(f"the submission was answered {answer.status_code}: {answer.text[:500]}")
    return str(answer.json()["id"])


def _strike(chaos: Chaos, job_id: str, step: int, drawn: random.Random) -> str | None:
    """Kills one process of the job's attempt once it says that it got to a step; returns which kind it was, None where it had ended."""
    if not wait_until(lambda: (chaos.rows(NEWEST_STEP, job_id)[0][0] or 0) >= step, STEP_TIMEOUT_S):
        raise TimeoutError(f"the job did not get to step {step}")
    if not wait_until(lambda: bool(_family(chaos).children), STEP_TIMEOUT_S):
        return None
    family, what = _family(chaos), drawn.choice(["child", "child", "supervisor", "worker"])
    pid = {"child": family.children, "supervisor": family.pool, "worker": [family.main]}[what][-1]
    if not send(pid, signal.SIGKILL):
        return None
    if what == "worker":
        wait_for_part(chaos, "worker", pid)
    return what


def _family(chaos: Chaos) -> Family:
    return family_of(chaos.program("worker").pid)


def _curve(chaos: Chaos, job_id: str) -> dict[int, float]:
    """Returns the loss by step; of a step that was done again, as it was told last."""
    return {int(data["step"]): float(data["loss"]) for (data,) in chaos.rows(CURVE, job_id)}


def _counted(victims: Sequence[str | None]) -> str:
    kinds = sorted({victim for victim in victims if victim is not None})
    return ", ".join(f"{victims.count(kind)} of the {kind}" for kind in kinds)


def _fill(chaos: Chaos) -> None:
    chaos.client.datasets.upload(TEXT, ROOT / "examples" / "corpora" / f"{TEXT}.txt")
    source = chaos.scratch / MODEL
    source.mkdir()
    for file in (ROOT / "examples" / MODEL).iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    job_id = chaos.client.jobs.submit(ImportSpec(model=MODEL, source=str(source))).id
    if not chaos.wait_until_ended([job_id], STEP_TIMEOUT_S):
        raise TimeoutError("the example model was not imported")


@contextmanager
def _real_recipes(chaos: Chaos) -> Iterator[None]:
    """Has the worker run the product's recipes, one job at a time, while the block runs."""
    original = chaos.launch_file("worker")
    variables = {**original.environment, "QUANTRY_ML_PYTHON": str(ML_PYTHON), "QUANTRY_WORKER_SLOTS": "1"}
    _restart(chaos, original.model_copy(update={"environment": variables}).model_dump_json())
    try:
        yield
    finally:
        _restart(chaos, original.model_dump_json())


def _restart(chaos: Chaos, launch: str) -> None:
    chaos.files.launch_file("worker").write_text(launch)
    pid = chaos.program("worker").pid
    send(pid, signal.SIGKILL)
    wait_for_part(chaos, "worker", pid)
