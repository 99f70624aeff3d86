"""What is looked at before an import is queued."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from factories.checkpoints import master_contents, write_checkpoint
from quantry_api.jobs.service import check_spec, log_lines
from quantry_api.jobs.sources import ImportPlaces, check_source
from quantry_core.errors import InvalidInput, SourceRefused, UnknownMethod, UnknownScheme
from quantry_core.jobs import CalibrationSpec, DeploySpec, EventKind, ImportSpec, JobEvent, QuantizeSpec
from quantry_core.sources import allowing_root


async def test_a_good_master_below_a_root_passes(tmp_path: pathlib.Path) -> None:
    good = write_checkpoint(tmp_path / "models" / "good", master_contents())
    await check_source(str(good), ImportPlaces([tmp_path / "other", tmp_path / "models"]))


async def test_a_root_may_be_a_link(tmp_path: pathlib.Path) -> None:
    good = write_checkpoint(tmp_path / "real" / "good", master_contents())
    (tmp_path / "models").symlink_to(tmp_path / "real")
    await check_source(str(tmp_path / "models" / "good"), ImportPlaces([tmp_path / "models"]))
    await check_source(str(good), ImportPlaces([tmp_path / "models"]))


async def test_a_path_below_a_root_of_another_host_is_left_to_the_worker(tmp_path: pathlib.Path) -> None:
    away = tmp_path / "only-on-the-worker"
    await check_source(str(away / "model"), ImportPlaces([away]))


async def test_a_path_that_climbs_out_is_refused(tmp_path: pathlib.Path) -> None:
    write_checkpoint(tmp_path / "outside", master_contents())
    (tmp_path / "models").mkdir()
    with pytest.raises(SourceRefused, match="outside the folders"):
        await check_source(f"{tmp_path}/models/../outside", ImportPlaces([tmp_path / "models"]))


async def test_a_refusal_does_not_tell_where_links_lead(tmp_path: pathlib.Path) -> None:
    (tmp_path / "hidden-place").mkdir()
    (tmp_path / "hidden-disk").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "hidden-disk")
    (tmp_path / "models" / "link").symlink_to(tmp_path / "hidden-place")
    with pytest.raises(SourceRefused, match=r"models/link lies outside the folders .*/models$") as refusal:
        await check_source(str(tmp_path / "models" / "link"), ImportPlaces([tmp_path / "models"]))
    assert "hidden" not in str(refusal.value)


async def test_a_folder_replaced_by_a_link_after_the_check_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_checkpoint(tmp_path / "models" / "good", master_contents())
    outside = write_checkpoint(tmp_path / "outside", master_contents())

    def swap_after_check(*arguments: Any) -> pathlib.Path:
        root = allowing_root(*arguments)
        good.rename(tmp_path / "aside")
        good.symlink_to(outside)
        return root

    monkeypatch.setattr("quantry_api.jobs.sources.allowing_root", swap_after_check)
    with pytest.raises(SourceRefused, match="changed while it was looked at"):
        await check_source(str(good), ImportPlaces([tmp_path / "models"]))


async def test_without_roots_no_path_is_taken(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SourceRefused, match="QUANTRY_IMPORT_ROOTS"):
        await check_source(str(tmp_path), ImportPlaces([]))


async def test_a_bucket_that_is_not_allowed_is_refused() -> None:
    await check_source("s3:models/bard", ImportPlaces(buckets=["models"]))
    with pytest.raises(SourceRefused, match="may not read the bucket secrets; they may read: models"):
        await check_source("s3:secrets/bard", ImportPlaces(buckets=["models"]))
    with pytest.raises(SourceRefused, match="QUANTRY_IMPORT_BUCKETS"):
        await check_source("s3:models/bard", ImportPlaces())


async def test_a_file_of_a_checkpoint_that_leads_out_is_refused(tmp_path: pathlib.Path) -> None:
    good = write_checkpoint(tmp_path / "models" / "good", master_contents())
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (good / "extra.json").symlink_to(secret)
    with pytest.raises(SourceRefused, match=r"extra\.json"):
        await check_source(str(good), ImportPlaces([tmp_path / "models"]))


async def test_methods_and_schemes_are_checked_before_the_database_is_asked() -> None:
    calibration = CalibrationSpec(datasets=["a"])
    with pytest.raises(UnknownMethod, match="gptq"):
        await check_spec(QuantizeSpec(base="a", method="magic", calibration=calibration), ImportPlaces())
    with pytest.raises(UnknownScheme, match="W4A16"):
        await check_spec(QuantizeSpec(base="a", scheme="W2A2", calibration=calibration), ImportPlaces())
    with pytest.raises(InvalidInput, match="is a regular expression"):
        await check_spec(QuantizeSpec(base="a", ignore=["lm_head", "re:.*"], calibration=calibration), ImportPlaces())
    with pytest.raises(SourceRefused):
        await check_spec(ImportSpec(model="a", source="nowhere"), ImportPlaces())
    await check_spec(QuantizeSpec(base="a", calibration=calibration), ImportPlaces())
    await check_spec(DeploySpec(deployment="a", version="a"), ImportPlaces())


def test_a_log_names_its_attempts() -> None:
    def line(seq: int, attempt: int, text: str) -> JobEvent:
        return JobEvent.model_validate(
            {"seq": seq, "job_id": "job", "attempt": attempt, "kind": EventKind.LOG, "data": {"text": text}, "created_at": 0}
        )

    assert "".join(log_lines([line(1, 1, "a"), line(2, 1, "b"), line(5, 3, "c")])) == "--- attempt 1 ---\na\nb\n--- attempt 3 ---\nc\n"
    assert list(log_lines([])) == []
