from __future__ import annotations

import os
from pathlib import Path

import pytest

from quantry_core.ids import IdPrefix, new_id
from quantry_worker.health import MAX_AGE_S, trouble, write_alive
from quantry_worker.work_dir import WorkDir, WorkDirTaken

JOB_ID = new_id(IdPrefix.JOB)


def test_an_attempt_leaves_nothing_even_when_it_raises(tmp_path: Path) -> None:
    work_dir = WorkDir(tmp_path)

    def fail_half_way() -> None:
        with work_dir.attempt(JOB_ID, 1) as dirs:
            (dirs.output / "model.safetensors").write_text("x")
            (dirs.root / "tmp" / "more").mkdir()
            raise KeyError("half way")

    with pytest.raises(KeyError, match="half way"):
        fail_half_way()
    assert list((tmp_path / "attempts").iterdir()) == []


def test_two_attempts_of_a_job_do_not_meet(tmp_path: Path) -> None:
    work_dir = WorkDir(tmp_path)
    with work_dir.attempt(JOB_ID, 1) as old:
        with work_dir.attempt(JOB_ID, 2) as new:
            assert old.root != new.root
        assert old.root.exists()


@pytest.mark.parametrize("job_id", ["../x", "job_", "ver_" + "0" * 32, "job_" + "0" * 31 + "/"])
def test_the_job_id_is_checked_before_it_becomes_a_path(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(ValueError, match="not the id"), WorkDir(tmp_path).attempt(job_id, 1):
        pass


def test_one_worker_per_folder_until_its_last_process_has_ended(tmp_path: Path) -> None:
    parent_reader, child_writer = os.pipe()
    child_reader, parent_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(parent_writer)
        WorkDir(tmp_path).take()
        os.write(child_writer, b"!")
        os.read(child_reader, 1)
        os._exit(0)
    os.read(parent_reader, 1)
    with pytest.raises(WorkDirTaken, match="another worker"):
        WorkDir(tmp_path).take(patience_s=0)
    os.write(parent_writer, b"!")
    os.waitpid(pid, 0)
    WorkDir(tmp_path).take(patience_s=0)
    for descriptor in (parent_reader, child_writer, child_reader, parent_writer):
        os.close(descriptor)


def test_a_start_removes_stale_attempts_and_keeps_the_cache(tmp_path: Path) -> None:
    (tmp_path / "attempts" / JOB_ID / "1").mkdir(parents=True)
    (tmp_path / "attempts" / JOB_ID / "1" / "half").write_text("x")
    (tmp_path / "cache").mkdir()
    (tmp_path / "worker.alive").write_text("{}")
    work_dir = WorkDir(tmp_path)
    work_dir.take()
    assert not (tmp_path / "attempts").exists()
    assert work_dir.cache.exists()
    assert not work_dir.alive_file.exists()


def test_a_worker_is_healthy_while_its_file_is_fresh(tmp_path: Path) -> None:
    file = tmp_path / "worker.alive"
    assert "does not take work yet" in (trouble(file, 100) or "")
    write_alive(file, pid=os.getpid(), now=100)
    assert trouble(file, 101) is None
    assert "has not answered" in (trouble(file, 100 + MAX_AGE_S + 1) or "")
    # Written before the machine's last boot.
    assert "has not answered" in (trouble(file, 50) or "")


def test_a_worker_whose_process_is_gone_is_not_healthy(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    write_alive(tmp_path / "worker.alive", pid=pid, now=100)
    assert "is gone" in (trouble(tmp_path / "worker.alive", 100) or "")


@pytest.mark.parametrize("text", ["", "[]", '{"pid": 1}', '{"pid": "x", "since_boot_s": 1}'])
def test_a_damaged_file_is_not_healthy(tmp_path: Path, text: str) -> None:
    (tmp_path / "worker.alive").write_text(text)
    assert "cannot be read" in (trouble(tmp_path / "worker.alive", 100) or "")
