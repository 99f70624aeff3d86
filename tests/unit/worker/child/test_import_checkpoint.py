"""The import recipe on real folders; it needs no machine learning library."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from factories.checkpoints import master_contents, write_checkpoint
from quantry_core.errors import SourceRefused
from quantry_core.jobs import ImportSpec, InputRole
from quantry_core.versions import VersionCard, VersionKind
from quantry_worker.child.recipes.import_checkpoint import COPIED, allowed_directory, run
from quantry_worker.child.reporter import Reporter
from quantry_worker.protocol import ChildInput, ChildProgress, ChildResult, ChildTask, parse_event


def import_from(
    source: str, tmp_path: Path, root: Path, write: Callable[[bytes], object] = len, fetched: Path | None = None
) -> ChildResult:
    output = tmp_path / "attempt" / "output"
    output.mkdir(parents=True)
    task = ChildTask(
        job_id="job_1",
        attempt=1,
        spec=ImportSpec(model="tiny", source=source),
        inputs=[] if fetched is None else [ChildInput(role=InputRole.SOURCE, id="upl_1", ref=source, path=fetched)],
        output_dir=output,
        artifacts_dir=output.parent / "artifacts",
        checkpoints_dir=output.parent / "checkpoints",
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
        ("models/tiny", "a source is an absolute path, hf:"),
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


UPLOAD = "upload:upl_" + "0" * 32


def with_number(bits: bytes) -> dict[str, bytes]:
    """Returns a master whose last 16-bit weight has these bits, little-endian."""
    weights = master_contents()["model.safetensors"]
    # The norm, 4 float32, comes last; the matrix of 16-bit weights is before it.
    end = len(weights) - 16
    return master_contents(model__safetensors=weights[: end - 2] + bits + weights[end:])


@pytest.mark.parametrize("bits", [b"\x00\x7e", b"\x00\x7c", b"\x00\xfc"])
def test_a_master_with_nan_or_infinity_is_refused_by_the_tensors_name(tmp_path: Path, bits: bytes) -> None:
    source = write_checkpoint(tmp_path / "models" / "tiny", with_number(bits))
    with pytest.raises(SourceRefused, match=r"infinities or NaN: a\.weight"):
        import_from(str(source), tmp_path, tmp_path / "models")


def test_the_largest_finite_weight_is_none_of_those(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "models" / "tiny", with_number(b"\xff\x7b"))
    assert import_from(str(source), tmp_path, tmp_path / "models").version is not None


def test_the_model_card_is_read(tmp_path: Path) -> None:
    readme = b"---\nlicense: mit\nbase_model: owner/name\n---\n# Tiny\n"
    source = write_checkpoint(tmp_path / "models" / "tiny", master_contents() | {"README.md": readme})
    version = import_from(str(source), tmp_path, tmp_path / "models").version
    assert version is not None
    assert version.card == VersionCard(license="mit", base_model=["owner/name"])


@pytest.mark.parametrize("source", [UPLOAD, "s3:models/tiny"])
def test_what_the_supervisor_fetched_becomes_a_master_by_the_same_rules(tmp_path: Path, source: str) -> None:
    fetched = write_checkpoint(tmp_path / "inputs" / "source", master_contents())
    version = import_from(source, tmp_path, tmp_path / "models", fetched=fetched).version
    assert version is not None
    assert version.recipe == {"source": source}
    assert [copy.name for copy in output_files(tmp_path)] == ["config.json", "model.safetensors", "tokenizer.json"]


def test_bad_files_that_were_fetched_are_refused_too(tmp_path: Path) -> None:
    fetched = write_checkpoint(tmp_path / "inputs" / "source", master_contents(tokenizer__json=None))
    with pytest.raises(SourceRefused, match="no tokenizer"):
        import_from(UPLOAD, tmp_path, tmp_path / "models", fetched=fetched)
    assert output_files(tmp_path) == []


@pytest.mark.parametrize("is_made", [True, False])
def test_an_upload_that_is_gone_is_said(tmp_path: Path, is_made: bool) -> None:
    fetched = tmp_path / "inputs" / "source"
    if is_made:
        fetched.mkdir(parents=True)
    with pytest.raises(SourceRefused, match="expired"):
        import_from(UPLOAD, tmp_path, tmp_path / "models", fetched=fetched if is_made else None)
