"""What slots count lies in their files, and the main process shows the sum of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from factories.control_plane import running_job
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import JobReason
from quantry_core.workers import Device
from quantry_telemetry.gpu_metrics import Owner
from quantry_telemetry.gpus import GpuReading, Gpus
from quantry_worker.figures import SlotFigures, all_figures, clear_figures, figures_file, read_figures
from quantry_worker.metrics import Jobs, with_readings, worker_registry

JOB = running_job()


def done(outcome: Outcome = Outcome.SUCCEEDED, reason: JobReason = JobReason.COMPLETED, seconds: float | None = 4.0) -> FinishRequest:
    return FinishRequest(attempt=1, outcome=outcome, reason=reason, seconds=seconds)


def shown(directory: Path, num_slots: int = 2) -> dict[str, float]:
    registry = worker_registry(directory, directory / "cache", num_slots=num_slots, gpus=Gpus(lambda: None))
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("quantry_worker_")]
    return {name.removeprefix("quantry_worker_"): float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_what_runs_is_shown_while_it_runs(tmp_path: Path) -> None:
    now = [0.0]
    slot = SlotFigures(figures_file(tmp_path, 0), clock=lambda: now[0])
    assert shown(tmp_path)["slots_busy"] == 0
    slot.began(JOB, 1)
    slot.child_began(4711)
    now[0] += 5
    slot.saw_memory(3000)
    slot.saw_memory(2000)  # within the second: not written yet
    found = shown(tmp_path)
    assert (found["slots"], found["slots_busy"], found['jobs_running{type="import"}']) == (2, 1, 1)
    assert (found['child_memory_bytes{slot="0"}'], found['child_memory_bytes{slot="1"}']) == (3000, 0)
    slot.ended(JOB, done())
    found = shown(tmp_path)
    assert (found["slots_busy"], found['child_memory_bytes{slot="0"}'], found['child_memory_peak_bytes{slot="0"}']) == (0, 0, 3000)
    assert 'jobs_running{type="import"}' not in found


def test_ends_of_all_slots_are_added_up(tmp_path: Path) -> None:
    ends: list[list[FinishRequest | None]] = [
        [done(), done(), done(Outcome.FAILED, JobReason.DIVERGED, 7200.0)],
        [done(seconds=0.5), None],
    ]
    for number, requests in enumerate(ends):
        slot = SlotFigures(figures_file(tmp_path, number))
        for request in requests:
            slot.began(JOB, 1)
            slot.pulled(fetched_bytes=10, cached_bytes=5)
            slot.ended(JOB, request)
    found = shown(tmp_path)
    assert {name: value for name, value in found.items() if name.startswith("attempts_total")} == {
        'attempts_total{outcome="succeeded",reason="completed",type="import"}': 3,
        'attempts_total{outcome="failed",reason="diverged",type="import"}': 1,
        'attempts_total{outcome="dropped",reason="",type="import"}': 1,
    }
    buckets = {
        bound: found[f'attempt_duration_seconds_bucket{{le="{bound}",type="import"}}']
        for bound in ("1.0", "5.0", "3600.0", "14400.0", "+Inf")
    }
    assert buckets == {"1.0": 1, "5.0": 3, "3600.0": 3, "14400.0": 4, "+Inf": 4}
    assert found['attempt_duration_seconds_sum{type="import"}'] == 4 + 4 + 7200 + 0.5
    assert (found['input_bytes_total{source="vault"}'], found['input_bytes_total{source="cache"}']) == (50, 25)


def test_the_process_that_follows_a_dead_one_goes_on_with_its_figures(tmp_path: Path) -> None:
    file = figures_file(tmp_path, 0)
    first = SlotFigures(file)
    first.began(JOB, 1)
    first.ended(JOB, done())
    first.began(JOB, 2)
    second = SlotFigures(file)
    second.began(JOB, 3)
    second.ended(JOB, done())
    figures = read_figures(file)
    assert figures is not None
    assert ([one.number for one in figures.ended], figures.running) == ([2], None)


@pytest.mark.parametrize("content", ["", "{", '{"running": 7}'])
def test_a_file_that_cannot_be_read_is_a_slot_that_did_nothing(tmp_path: Path, content: str) -> None:
    figures_file(tmp_path, 0).write_text(content)
    assert read_figures(figures_file(tmp_path, 0)) is None
    assert shown(tmp_path)["slots_busy"] == 0
    assert SlotFigures(figures_file(tmp_path, 0)) is not None


def test_figures_of_a_worker_before_are_forgotten(tmp_path: Path) -> None:
    directory = tmp_path / "figures"
    clear_figures(directory)
    SlotFigures(figures_file(directory, 0)).began(JOB, 1)
    clear_figures(directory)
    assert [one.running for one in all_figures(directory, 1)] == [None]


def test_a_disk_that_is_full_costs_the_figures_and_no_job(tmp_path: Path) -> None:
    slot = SlotFigures(figures_file(tmp_path / "not there", 0))
    slot.began(JOB, 1)
    slot.ended(JOB, done())
    assert not (tmp_path / "not there").exists()


def test_processes_are_told_by_the_job_they_belong_to(tmp_path: Path) -> None:
    slot = SlotFigures(figures_file(tmp_path, 0))
    slot.began(JOB, 1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as child:
        slot.child_began(child.pid)
        jobs = Jobs(lambda: all_figures(tmp_path, 1))
        owners = (jobs.owner_of(child.pid), jobs.owner_of(os.getpid()))
        child.kill()
    assert owners == (Owner("job", JOB.id), None)


def test_devices_are_told_with_what_the_driver_says_of_them() -> None:
    reading = GpuReading(0, "GPU-1", "NVIDIA H200", 0.5, 20, 100, 61.0, 350.0, 2, 1)
    by_uuid, by_index, unknown = with_readings([Device(id="GPU-1", name="H200"), Device(id="0"), Device(id="7")], [reading])
    told = {"utilization": 0.5, "memory_used_bytes": 20, "temperature_c": 61.0, "power_w": 350.0, "num_ecc_errors": 3}
    assert by_uuid == Device(id="GPU-1", name="H200", **told)
    assert by_index == Device(id="0", **told)
    assert unknown == Device(id="7")
