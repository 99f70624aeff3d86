"""Checkpoints of an attempt: stored while its child trains, reported, removed, and gone on from."""

from __future__ import annotations

import threading
import time

import pytest

from factories.supervised import World
from quantry_core.errors import SealRefused, StaleAttempt, Unavailable
from quantry_core.execution import LeasedInput, Outcome
from quantry_core.jobs import (
    EventKind,
    InputRole,
    JobReason,
)

TRAINS = """
task = json.load(open(sys.argv[1]))

def checkpoint(step):
    folder = os.path.join(task["checkpoints_dir"], f"step-{step}")
    os.mkdir(folder)
    open(os.path.join(folder, "state.json"), "w").write(str(step))
    say(event="metrics", step=step, values={"loss": 10.0 / step})
    say(event="checkpoint", step=step, folder=f"step-{step}", metrics={"loss": 10.0 / step})
    return folder

def until_gone(folder):
    while os.path.exists(folder):
        time.sleep(0.01)
"""
FAILS = 'say(event="failure", reason="internal", message="the loss became nan at step 9")\n'
STORES_TWO = TRAINS + "until_gone(checkpoint(2))\nuntil_gone(checkpoint(4))\n"


def metrics_of(world: World) -> list[dict[str, object]]:
    return [event.data for request in world.control.posted for event in request.events if event.kind is EventKind.METRICS]


def test_checkpoints_are_stored_while_the_child_works_and_then_removed(world: World) -> None:
    finish = world.run(STORES_TWO + 'say(event="result")')
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
    reports = world.control.checkpoints
    assert [(report.attempt, report.step, report.metrics) for report in reports] == [(2, 2, {"loss": 5.0}), (2, 4, {"loss": 2.5})]
    assert [seal.step for seal in world.control.checkpoint_seals] == [2, 4]
    assert [[file.path for file in report.files] for report in reports] == [["state.json"], ["state.json"]]
    assert metrics_of(world) == [{"step": 2, "loss": 5.0}, {"step": 4, "loss": 2.5}]


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        (FAILS, Outcome.FAILED),
        ("os.kill(os.getpid(), signal.SIGKILL)\n", Outcome.LOST),
    ],
)
def test_the_last_checkpoint_of_an_attempt_that_did_not_succeed_is_waited_for(world: World, ends: str, outcome: Outcome) -> None:
    world.while_storing = lambda _step: time.sleep(0.3)
    finish = world.run(TRAINS + "checkpoint(2)\n" + ends)
    assert finish is not None
    assert finish.outcome is outcome
    assert [report.step for report in world.control.checkpoints] == [2]


def test_a_job_past_its_time_limit_keeps_its_last_checkpoint(world: World) -> None:
    # Longer than the limit: it is on its way when the child is stopped.
    world.while_storing = lambda _step: time.sleep(3.2)
    finish = world.run(TRAINS + "checkpoint(2)\ntime.sleep(60)", world.lease(time_s=3))
    assert finish is not None
    assert finish.reason is JobReason.TIMED_OUT
    assert [report.step for report in world.control.checkpoints] == [2]


def test_an_attempt_that_succeeded_waits_for_no_checkpoint(world: World) -> None:
    release = threading.Event()
    world.while_storing = lambda _step: release.wait(30)
    finish = world.run(TRAINS + 'checkpoint(2)\nsay(event="result")')
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
    assert world.control.checkpoints == []
    release.set()


def test_a_newer_checkpoint_takes_the_place_of_one_that_waits(world: World) -> None:
    release, under_way = threading.Event(), world.directory / "under-way"

    def hold(step: int) -> None:
        if step == 2:
            under_way.touch()
            assert release.wait(30)

    world.while_storing = hold
    world.when_running(lambda _pid: release.set())
    first = f'checkpoint(2)\nwhile not os.path.exists("{under_way}"):\n    time.sleep(0.01)\n'
    others = "folder = checkpoint(4)\ncheckpoint(6)\nuntil_gone(folder)\nprint('pid', os.getpid(), flush=True)\ntime.sleep(0.5)\n"
    finish = world.run(TRAINS + first + others + FAILS, world.lease(heartbeat_s=0.1))
    assert finish is not None
    assert [report.step for report in world.control.checkpoints] == [2, 6]


@pytest.mark.parametrize("where", ["seal_checkpoint", "report_checkpoint"])
def test_a_checkpoint_that_cannot_be_stored_costs_a_note(world: World, where: str) -> None:
    world.control.troubles[where] = [SealRefused("it is not what was declared")]
    finish = world.run(STORES_TWO + 'say(event="result")')
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
    assert [report.step for report in world.control.checkpoints] == [4]
    assert "the checkpoint of step 2 could not be stored: it is not what was declared" in world.control.said(EventKind.NOTE)


def test_a_report_is_tried_again_while_the_control_plane_is_away(world: World) -> None:
    world.control.troubles["report_checkpoint"] = [Unavailable("restarting")]
    world.run(STORES_TWO + 'say(event="result")')
    assert [report.step for report in world.control.checkpoints] == [2, 4]


def test_an_attempt_that_lost_its_job_stores_no_checkpoint(world: World) -> None:
    lost = threading.Event()

    def lose(_step: int) -> None:
        world.control.troubles["heartbeat"] = [StaleAttempt("not yours")] * 100
        assert lost.wait(10)

    def on_heartbeat() -> None:
        if len(world.control.troubles.get("heartbeat", ())) in range(1, 99):
            lost.set()

    world.while_storing, world.control.on_heartbeat = lose, on_heartbeat
    assert world.run(TRAINS + "checkpoint(2)\ntime.sleep(60)", world.lease(heartbeat_s=0.1)) is None
    assert (world.control.checkpoint_seals, world.control.checkpoints) == ([], [])


def test_a_link_in_place_of_a_checkpoint_is_not_followed(world: World) -> None:
    script = 'link = os.path.join(task["checkpoints_dir"], "step-2")\nos.symlink(os.path.dirname(sys.argv[1]), link)\n'
    finish = world.run(TRAINS + script + 'say(event="checkpoint", step=2, folder="step-2")\nuntil_gone(link)\n' + FAILS)
    assert finish is not None
    assert world.control.checkpoint_seals == []
    assert any("step-2 is a link" in note for note in world.control.said(EventKind.NOTE))


def test_an_attempt_that_goes_on_from_a_checkpoint_says_so(world: World) -> None:
    lease = world.lease()
    checkpoint = LeasedInput(role=InputRole.CHECKPOINT, id=lease.job.id, ref="step 40", files=[world.config])
    finish = world.run(
        'task = json.load(open(sys.argv[1]))\nassert task["inputs"][-1]["role"] == "checkpoint"\nsay(event="result")',
        lease.model_copy(update={"inputs": [*lease.inputs, checkpoint]}),
    )
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
    assert "this attempt goes on from the checkpoint of step 40" in world.control.said(EventKind.NOTE)
