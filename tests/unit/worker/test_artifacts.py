from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import stamina

from factories.fake_control import FakeControl
from quantry_blobs.errors import DigestMismatch, StoreUnavailable
from quantry_core.errors import QuantryError, SealRefused, SourceRefused, StaleAttempt, Unavailable
from quantry_core.execution import LeasedInput
from quantry_core.jobs import InputRole
from quantry_core.methods import Format
from quantry_core.versions import ManifestFile, SealRequest, SealResult, VersionKind
from quantry_worker.artifacts import Artifacts
from quantry_worker.cache import BlobCache
from quantry_worker.disk import SPARE_BYTES, DiskFull
from quantry_worker.guard import Guard, Stopped, StopReason


class Store:
    """Vault and staging in one: bytes in dictionaries, errors on demand."""

    def __init__(self) -> None:
        self.vault: dict[str, bytes] = {}
        self.staged: dict[tuple[str, int, str], bytes] = {}
        self.troubles: list[QuantryError] = []

    def add(self, path: str, content: bytes) -> ManifestFile:
        digest = hashlib.sha256(content).hexdigest()
        self.vault[digest] = content
        return ManifestFile(path=path, size_bytes=len(content), sha256=digest)

    def fetch(self, file: ManifestFile, to: Path) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
        to.write_bytes(self.vault[file.sha256])

    def put(self, job_id: str, attempt: int, path: str, file: Path) -> ManifestFile:
        if self.troubles:
            raise self.troubles.pop(0)
        content = file.read_bytes()
        self.staged[job_id, attempt, path] = content
        return ManifestFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    def put_artifact(self, job_id: str, attempt: int, path: str, file: Path) -> ManifestFile:
        content = file.read_bytes()
        self.staged[job_id, attempt, f".artifacts/{path}"] = content
        return ManifestFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    def put_checkpoint(self, job_id: str, attempt: int, step: int, path: str, file: Path) -> ManifestFile:
        stored = self.put(job_id, attempt, path, file)
        self.staged[job_id, attempt, f"step-{step}/{path}"] = self.staged.pop((job_id, attempt, path))
        return stored


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def artifacts(store: Store, control: FakeControl, tmp_path: Path) -> Iterator[Artifacts]:
    with stamina.set_testing(True, attempts=3):
        yield Artifacts(store, store, BlobCache(tmp_path / "cache", 10**6), control)


class DiskUsage(NamedTuple):
    free: int


@pytest.fixture
def guard() -> Guard:
    return Guard(lease_s=60, since=0, is_draining=lambda: False, clock=lambda: 0)


@pytest.fixture
def inputs(store: Store) -> list[LeasedInput]:
    base = [store.add("config.json", b"{}"), store.add("model.safetensors", b"weights")]
    return [
        LeasedInput(role=InputRole.BASE, id="ver_1", ref="bard@1", files=base, kind=VersionKind.MASTER, format=Format.SAFETENSORS),
        LeasedInput(role=InputRole.CALIBRATION, id="dat_1", ref="text@1", files=[store.add("text.txt", b"one")]),
        LeasedInput(role=InputRole.CALIBRATION, id="dat_2", ref="text@2", files=[store.add("text.txt", b"two")]),
    ]


def test_every_input_gets_a_folder_of_its_own(artifacts: Artifacts, inputs: list[LeasedInput], tmp_path: Path, guard: Guard) -> None:
    pulled = artifacts.pull(inputs, tmp_path / "inputs", guard)
    assert [child.path.name for child in pulled.inputs] == ["base-0", "calibration-1", "calibration-2"]
    assert (pulled.inputs[0].path / "model.safetensors").read_bytes() == b"weights"
    assert (pulled.inputs[2].path / "text.txt").read_bytes() == b"two"
    assert (pulled.fetched_bytes, pulled.cached_bytes) == (15, 0)
    again = artifacts.pull(inputs, tmp_path / "again", guard)
    assert (again.fetched_bytes, again.cached_bytes) == (0, 15)


def test_there_must_be_room_for_what_is_not_here_yet(
    artifacts: Artifacts, inputs: list[LeasedInput], tmp_path: Path, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.pull(inputs[:2], tmp_path / "before", guard)
    free_bytes = SPARE_BYTES + 2
    monkeypatch.setattr("shutil.disk_usage", lambda _path: DiskUsage(free=free_bytes))
    with pytest.raises(DiskFull, match=f"3 bytes and {SPARE_BYTES} to spare are needed, {free_bytes} are free"):
        artifacts.pull(inputs, tmp_path / "inputs", guard)
    assert not (tmp_path / "inputs").exists()
    free_bytes += 1
    assert artifacts.pull(inputs, tmp_path / "inputs", guard).fetched_bytes == 3


def test_a_path_that_leads_out_is_refused_at_use(artifacts: Artifacts, inputs: list[LeasedInput], tmp_path: Path, guard: Guard) -> None:
    crooked = inputs[1].files[0].model_copy(update={"path": "../text.txt"})
    with pytest.raises(ValueError, match="safe"):
        artifacts.pull([inputs[1].model_copy(update={"files": [crooked]})], tmp_path / "inputs", guard)
    assert not (tmp_path / "inputs" / "text.txt").exists()


def test_a_store_that_is_away_for_a_moment_is_asked_again(
    artifacts: Artifacts, store: Store, inputs: list[LeasedInput], tmp_path: Path, guard: Guard
) -> None:
    store.troubles = [StoreUnavailable("away"), StoreUnavailable("away")]
    assert artifacts.pull(inputs, tmp_path / "inputs", guard).fetched_bytes == 15


def test_a_store_that_stays_away_is_told(
    artifacts: Artifacts, store: Store, inputs: list[LeasedInput], tmp_path: Path, guard: Guard
) -> None:
    store.troubles = [StoreUnavailable("away")] * 99
    with pytest.raises(Unavailable):
        artifacts.pull(inputs, tmp_path / "inputs", guard)


def test_wrong_bytes_are_not_asked_for_again(
    artifacts: Artifacts, store: Store, inputs: list[LeasedInput], tmp_path: Path, guard: Guard
) -> None:
    store.troubles = [DigestMismatch("damaged")]
    with pytest.raises(DigestMismatch):
        artifacts.pull(inputs, tmp_path / "inputs", guard)


def test_a_stop_is_heard_between_files(artifacts: Artifacts, inputs: list[LeasedInput], tmp_path: Path, guard: Guard) -> None:
    guard.mark(StopReason.CANCELLED)
    with pytest.raises(Stopped):
        artifacts.pull(inputs, tmp_path / "inputs", guard)


def test_results_are_staged_and_sealed(artifacts: Artifacts, store: Store, control: FakeControl, tmp_path: Path, guard: Guard) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "model.safetensors").write_bytes(b"small")
    (output / "config.json").write_bytes(b"{}")
    files = artifacts.push("job_1", 2, output, guard)
    assert [file.path for file in files] == ["config.json", "model.safetensors"]
    assert store.staged == {("job_1", 2, "config.json"): b"{}", ("job_1", 2, "model.safetensors"): b"small"}
    assert control.seals == [SealRequest(job_id="job_1", attempt=2, files=files)]


def test_raw_results_are_staged_apart_and_sealed_apart(
    artifacts: Artifacts, store: Store, control: FakeControl, tmp_path: Path, guard: Guard
) -> None:
    left = tmp_path / "artifacts"
    left.mkdir()
    assert artifacts.push_artifacts("job_1", 2, left, guard) == []
    assert control.artifact_seals == []
    (left / "results.json").write_bytes(b"[]")
    files = artifacts.push_artifacts("job_1", 2, left, guard)
    assert [file.path for file in files] == ["results.json"]
    assert store.staged == {("job_1", 2, ".artifacts/results.json"): b"[]"}
    assert (control.artifact_seals, control.seals) == ([SealRequest(job_id="job_1", attempt=2, files=files)], [])


def test_a_version_without_files_is_refused(artifacts: Artifacts, tmp_path: Path, guard: Guard) -> None:
    (tmp_path / "output").mkdir()
    with pytest.raises(QuantryError, match="no file"):
        artifacts.push("job_1", 1, tmp_path / "output", guard)


def test_a_link_out_of_the_output_is_refused(artifacts: Artifacts, store: Store, tmp_path: Path, guard: Guard) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "config.json").symlink_to("/etc/passwd")
    with pytest.raises(SourceRefused):
        artifacts.push("job_1", 1, tmp_path / "output", guard)
    assert store.staged == {}


def test_a_seal_whose_connection_broke_is_tried_again(artifacts: Artifacts, control: FakeControl, tmp_path: Path, guard: Guard) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "config.json").write_bytes(b"{}")
    control.troubles["seal"] = [Unavailable("cut")]
    artifacts.push("job_1", 1, tmp_path / "output", guard)
    assert len(control.seals) == 1


@pytest.mark.parametrize("error", [SealRefused("other bytes"), StaleAttempt("not yours")])
def test_a_refused_seal_is_not_tried_again(
    artifacts: Artifacts, control: FakeControl, tmp_path: Path, guard: Guard, error: QuantryError
) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "config.json").write_bytes(b"{}")
    control.troubles["seal"] = [error]
    with pytest.raises(type(error)):
        artifacts.push("job_1", 1, tmp_path / "output", guard)
    assert control.seals == []


def test_a_seal_of_something_else_is_noticed(
    artifacts: Artifacts, control: FakeControl, tmp_path: Path, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "config.json").write_bytes(b"{}")
    monkeypatch.setattr(control, "seal", lambda request: SealResult(manifest_digest="0" * 64, num_sealed=1, num_reused=0))
    with pytest.raises(SealRefused, match="digest"):
        artifacts.push("job_1", 1, tmp_path / "output", guard)


class Unhurried:
    """What may go on whatever becomes of the attempt."""

    def reason(self) -> str | None:
        return None

    def check(self) -> None:
        """Never raises."""


def test_a_checkpoint_is_staged_and_sealed_under_its_step(artifacts: Artifacts, store: Store, control: FakeControl, tmp_path: Path) -> None:
    folder = tmp_path / "step-20"
    (folder / "rank0").mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"moments")
    (folder / "rank0" / "rng.pt").write_bytes(b"seeds")
    store.troubles = [Unavailable("the store restarts")]
    files = artifacts.push_checkpoint("job_1", 2, 20, folder, Unhurried())
    assert [file.path for file in files] == ["optimizer.pt", "rank0/rng.pt"]
    assert store.staged == {("job_1", 2, "step-20/optimizer.pt"): b"moments", ("job_1", 2, "step-20/rank0/rng.pt"): b"seeds"}
    (seal,) = control.checkpoint_seals
    assert (seal.job_id, seal.attempt, seal.step, seal.files) == ("job_1", 2, 20, files)


def test_a_checkpoint_without_files_is_none(artifacts: Artifacts, control: FakeControl, tmp_path: Path) -> None:
    (tmp_path / "step-20").mkdir()
    with pytest.raises(QuantryError, match="step 20 has no files"):
        artifacts.push_checkpoint("job_1", 2, 20, tmp_path / "step-20", Unhurried())
    assert control.checkpoint_seals == []
