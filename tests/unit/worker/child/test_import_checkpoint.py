"""The import recipe on real folders; it needs no machine learning library."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from factories.checkpoints import master_contents, write_checkpoint
from quantry_core.errors import SourceRefused
from quantry_core.jobs import ImportSpec
from quantry_core.versions import VersionKind
from quantry_worker.child.recipes.import_checkpoint import COPIED, allowed_directory, run
from quantry_worker.child.reporter import Reporter
from quantry_worker.protocol import ChildProgress, ChildResult, ChildTask, parse_event


def import_from(source: str, tmp_path: Path, root: Path, write: Callable[[bytes], object] = len) -> ChildResult:
    output = tmp_path / "attempt" / "output"
    output.mkdir(parents=True)
    task = ChildTask(
        job_id="job_1",
        attempt=1,
        spec=ImportSpec(model="tiny", source=source),
        inputs=[],
        output_dir=output,
        import_roots=[root],
        num_threads=1,
    )
    return run(task, Reporter(write))


def test_the_bytes_are_counted_as_they_are_copied(tmp_path: Path) -> None:
    lines: list[bytes] = []
    source = write_checkpoint(tmp_path / "models" / "tiny", master_contents())
    import_from(str(source), tmp_path, tmp_path / "models", lines.append)
    size_bytes = sum(path.stat().st_size for path in source.iterdir())
    progress = [event for event in map(parse_event, lines) if isinstance(event, ChildProgress) and event.unit == "bytes"]
    assert (progress[-1].done, progress[-1].total) == (size_bytes, size_bytes)
    assert progress[0].done is not None
    assert 0 < progress[0].done < size_bytes
    assert progress[-1].fraction == COPIED


def output_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "attempt" / "output").rglob("*"))


def test_a_folder_becomes_a_master(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "models" / "tiny", master_contents())
    (source / "model.safetensors").chmod(0o600)
    result = import_from(str(source), tmp_path, tmp_path / "models")

    assert result.version is not None
    assert (result.version.kind, result.version.dtype) == (VersionKind.MASTER, "float16")
    assert result.version.recipe == {"source": str(source)}
    assert "python" in result.version.toolchain
    copies = output_files(tmp_path)
    assert [copy.name for copy in copies] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert all((source / copy.name).read_bytes() == copy.read_bytes() for copy in copies)
    assert {stat.S_IMODE(copy.stat().st_mode) for copy in copies} == {0o644}
    # A copy, no link: later writes to the source do not reach it, and the source keeps its mode.
    assert copies[1].stat().st_ino != (source / "model.safetensors").stat().st_ino
    assert stat.S_IMODE((source / "model.safetensors").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config__json": None}, "there is no config.json"),
        ({"pytorch_model__bin": b"x"}, "pickled weights"),
        ({"modeling_tiny__py": b"x"}, "code inside a checkpoint"),
        ({"config__json": b'{"model_type": "llama", "auto_map": {}}'}, "auto_map"),
        ({"model__safetensors": b"\x10"}, "model.safetensors"),
        ({"tokenizer__json": None}, "no tokenizer"),
    ],
)
def test_what_is_no_inert_16_bit_master_is_refused_and_nothing_is_copied(
    tmp_path: Path, changes: dict[str, bytes | None], words: str
) -> None:
    source = write_checkpoint(tmp_path / "models" / "tiny", master_contents(**changes))
    with pytest.raises(SourceRefused, match=words):
        import_from(str(source), tmp_path, tmp_path / "models")
    assert output_files(tmp_path) == []


def test_a_link_out_of_the_allowed_root_is_followed_before_it_is_judged(tmp_path: Path) -> None:
    outside = write_checkpoint(tmp_path / "outside", master_contents())
    root = tmp_path / "models"
    root.mkdir()
    (root / "link").symlink_to(outside)
    for source in (root / "link", root / ".." / "outside", outside, outside / "nothing"):
        with pytest.raises(SourceRefused, match="outside the folders"):
            allowed_directory(source, [root])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("models/tiny", "a source is an absolute path or hf:"),
        ("/nowhere/at/all", "outside the folders"),
        ("/a\0b", "NUL"),
        ("hf:owner", "a source on the hub is written"),
        ("hf:-owner/name", "a source on the hub is written"),
        ("hf:owner/name..", "a source on the hub is written"),
        ("hf:owner/name@../main", "a source on the hub is written"),
    ],
)
def test_a_source_that_is_none_is_refused_in_the_words_of_the_api(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        import_from(source, tmp_path, tmp_path / "models")


def test_a_folder_that_is_not_there_is_refused_and_links_in_a_circle_are_too(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name, words in (("nothing", "there is no directory"), ("circle", "cannot be read on this worker")):
        with pytest.raises(SourceRefused, match=words):
            allowed_directory(tmp_path / name, [tmp_path])


def test_without_roots_no_path_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="none is set"):
        allowed_directory(tmp_path, [])
