"""The real hub client in the ml environment against a small hub on this machine: pinned, checked, gated."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from factories.checkpoints import master_contents
from factories.fake_hub import COMMIT, REPOSITORY, FakeHub, serving
from factories.listeners import http_answer, listening
from quantry_core.jobs import ImportSpec, JobReason
from quantry_worker.environment import TOKEN_VARIABLE
from quantry_worker.protocol import EVENTS_FD_VARIABLE, ChildFailure, ChildResult, ChildTask, parse_event

ML_PYTHON = Path(__file__).resolve().parents[3] / ".venvs" / "ml" / "bin" / "python"
README = b"---\nlicense: mit\nbase_model: owner/older\n---\n"
FILES = master_contents() | {"README.md": README, "pytorch_model.bin": b"pickled", "onnx/config.json": b"{}", "model.gguf": b"x"}


def import_from(hub: FakeHub, directory: Path, **environment: str) -> ChildResult | ChildFailure:
    """Returns how the child of an import from a hub ended."""
    output = directory / "output"
    output.mkdir(parents=True)
    task = ChildTask(
        job_id="job_1",
        attempt=1,
        spec=ImportSpec(model="tiny", source=f"hf:{REPOSITORY}@main"),
        inputs=[],
        output_dir=output,
        artifacts_dir=directory / "artifacts",
        checkpoints_dir=directory / "checkpoints",
        import_roots=[],
        num_threads=1,
    )
    task_file = directory / "task.json"
    task_file.write_text(task.model_dump_json())
    reader, writer = os.pipe()
    with serving(hub) as url:
        base = {
            "PATH": os.defpath,
            "HOME": str(directory),
            "HF_HOME": str(directory / "hf"),
            "HF_ENDPOINT": url,
            EVENTS_FD_VARIABLE: str(writer),
        }
        child = subprocess.Popen(
            [ML_PYTHON, "-m", "quantry_worker.child", task_file], env=base | environment, pass_fds=[writer], cwd=directory
        )
        os.close(writer)
        with os.fdopen(reader, "rb") as events:
            parsed = [parse_event(line) for line in events]
        assert child.wait(timeout=30) == 0
    ending = parsed[-1]
    assert isinstance(ending, ChildResult | ChildFailure)
    return ending


def test_a_repository_is_pinned_checked_and_its_card_is_read(tmp_path: Path) -> None:
    ended = import_from(FakeHub(FILES), tmp_path)
    assert isinstance(ended, ChildResult), ended
    assert ended.version is not None
    assert ended.version.recipe == {"source": f"hf:{REPOSITORY}@main", "commit": COMMIT}
    assert (ended.version.card.license, ended.version.card.base_model) == ("mit", ["owner/older"])
    kept = {path.name: path.read_bytes() for path in (tmp_path / "output").iterdir()}
    assert kept == master_contents() | {"README.md": README}


def test_other_bytes_than_the_hub_lists_are_refused(tmp_path: Path) -> None:
    weights = bytearray(FILES["model.safetensors"])
    weights[-1] ^= 1
    for number, (name, lie) in enumerate({"model.safetensors": bytes(weights), "tokenizer.json": b"[]"}.items()):
        ended = import_from(FakeHub(FILES, lies={name: lie}), tmp_path / str(number))
        assert isinstance(ended, ChildFailure), ended
        assert ended.reason is JobReason.INVALID_INPUT
        assert f"{name} is not the file that the hub lists" in ended.message


def test_a_hub_leads_nowhere_inside(tmp_path: Path) -> None:
    with listening() as inside:
        hub = FakeHub(FILES, elsewhere={"model.safetensors": f"http://127.0.0.1:{inside.port}/x"})
        refused = import_from(hub, tmp_path / "not-named")
        assert isinstance(refused, ChildFailure), refused
        assert refused.reason is JobReason.INVALID_INPUT
        assert "the hub led somewhere that is not fetched from" in refused.message
        assert inside.num_connections == 0
        # Unless an administrator has named it.
        inside.answer = http_answer("200 OK", body=FILES["model.safetensors"])
        ended = import_from(hub, tmp_path / "named", QUANTRY_OUTBOUND_PRIVATE=f"127.0.0.1:{inside.port}")
        assert isinstance(ended, ChildResult), ended
        assert inside.num_connections == 1


def test_a_gated_repository_wants_a_token_and_shows_it_to_nobody(tmp_path: Path) -> None:
    refused = import_from(FakeHub(FILES, token="hf_secret"), tmp_path / "without")
    assert isinstance(refused, ChildFailure), refused
    assert "is gated" in refused.message and "QUANTRY_HF_TOKEN" in refused.message
    hub = FakeHub(FILES, token="hf_secret")
    ended = import_from(hub, tmp_path / "with", **{TOKEN_VARIABLE: "hf_secret"})
    assert isinstance(ended, ChildResult), ended
    assert "Bearer hf_secret" in hub.authorizations
    written = [path for path in (tmp_path / "with").rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()]
    assert written == []
