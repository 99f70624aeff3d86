"""Models, versions, lineage, aliases and datasets."""

from __future__ import annotations

import asyncio

import pytest

from factories.statements import loaded_rows
from factories.store import UPLOADED, Platform, blob, import_spec, quantize_spec
from quantry_core.datasets import (
    Dataset,
    DatasetKind,
    DatasetOrigin,
    DatasetRecipe,
    DatasetStatistics,
    Derivation,
    DerivedFrom,
    Parent,
)
from quantry_core.errors import (
    Conflict,
    InvalidName,
    NotFound,
    UnknownDataset,
    UnknownModel,
    UnknownVersion,
    VersionProtected,
)
from quantry_core.jobs import EvaluateSpec
from quantry_core.versions import EdgeRole, ManifestFile, Version, VersionKind
from quantry_store.repositories.datasets import DatasetDraft
from quantry_store.repositories.version_search import VersionQuery
from quantry_store.tables import JobArtifactRow, LineageEdgeRow, VersionFileRow
from quantry_store.transactions import cancel_job, delete_version


async def delete(platform: Platform, version_id: str) -> None:
    async with platform.database.begin() as uow:
        await delete_version(uow, version_id, who=platform.admin)


async def test_references_to_versions(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    quantized = await platform.quantized(master, tales)
    await platform.quarantined(master, tales)
    async with platform.database.begin() as uow:
        await uow.aliases.move(platform.project_id, "bard", "production", master.id, platform.admin)
        for ref, kinds, wanted in (
            (master.id, None, master),
            ("bard@2", None, quantized),
            ("bard@production", None, master),
            ("bard", None, quantized),
            ("bard", {VersionKind.MASTER}, master),
            ("bard", {VersionKind.QUANTIZED, VersionKind.MASTER}, quantized),
            ("bard@2", {VersionKind.MASTER}, quantized),
        ):
            assert await uow.versions.resolve(platform.project_id, ref, kinds=kinds) == wanted
        both = {VersionKind.QUANTIZED, VersionKind.MASTER}
        assert await uow.versions.resolve(platform.project_id, "bard", kinds=both, first=VersionKind.MASTER) == master
        assert await uow.versions.resolve(platform.project_id, "bard", kinds=both, first=VersionKind.MERGED) == quantized
        with pytest.raises(UnknownVersion, match="no ready version of kind adapter or merged"):
            await uow.versions.resolve(platform.project_id, "bard", kinds={VersionKind.MERGED, VersionKind.ADAPTER})


async def test_versions_and_models_are_listed(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    quantized = await platform.quantized(master, tales)
    other = await platform.master("other")
    async with platform.database.begin() as uow:
        everything = await uow.version_search.page(platform.project_id)
        of_bard = await uow.version_search.page(platform.project_id, VersionQuery(model="bard"), limit=1)
        models = await uow.models.list(platform.project_id)
        with pytest.raises(UnknownModel):
            await uow.version_search.page(platform.project_id, VersionQuery(model="bart"))
    assert [version.id for version in everything.data] == [other.id, quantized.id, master.id]
    assert ([version.id for version in of_bard.data], of_bard.has_more) == ([quantized.id], True)
    assert [(model.name, model.num_versions, model.latest_version_id) for model in models.data] == [
        ("other", 1, other.id),
        ("bard", 2, quantized.id),
    ]


async def test_files_are_found_by_path(platform: Platform) -> None:
    master = await platform.master()
    async with platform.database.begin() as uow:
        file = await uow.versions.file(platform.project_id, master.id, "model.safetensors")
        assert (file.sha256, file.size_bytes) == (blob("master").sha256, 6)
        for path in ("missing.json", "../model.safetensors", "model\x00"):
            with pytest.raises(NotFound):
                await uow.versions.file(platform.project_id, master.id, path)


async def test_one_file_is_found_without_the_others(platform: Platform) -> None:
    master = await platform.master()
    job = await platform.running(import_spec("other"))
    artifacts = [ManifestFile(path=f"{n}.json", size_bytes=1, sha256=blob(str(n)).sha256) for n in range(3)]
    async with platform.database.begin() as uow:
        await uow.blobs.add({file.sha256: file.size_bytes for file in artifacts})
        await uow.artifacts.add(job, artifacts)
    async with platform.database.begin() as uow:
        with loaded_rows(VersionFileRow) as of_version, loaded_rows(JobArtifactRow) as of_job:
            await uow.versions.file(platform.project_id, master.id, "config.json")
            await uow.artifacts.file(platform.project_id, job.id, "1.json")
    assert (len(of_version), len(of_job)) == (1, 1)


async def test_a_lineage_has_the_nearest_and_newest_descendants_and_says_that_there_are_more(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, tales = await platform.master(), await platform.dataset()
    made = [await platform.quantized(master, tales, f"number {number}") for number in range(4)]

    async def shown(of: Version) -> tuple[list[str], bool]:
        async with platform.database.begin() as uow:
            lineage = await uow.versions.lineage(platform.project_id, of.id)
        assert {link.child_id for link in lineage.links} <= {node.id for node in lineage.nodes}
        return [node.id for node in lineage.nodes if node.noun == "version"], lineage.has_more

    assert await shown(master) == ([master.id, *(version.id for version in made)], False)
    monkeypatch.setattr("quantry_store.repositories.lineage.MAX_DESCENDANTS", 4)
    assert await shown(master) == ([master.id, *(version.id for version in made)], False)
    monkeypatch.setattr("quantry_store.repositories.lineage.MAX_DESCENDANTS", 2)
    assert await shown(master) == ([master.id, made[2].id, made[3].id], True)
    assert await shown(made[0]) == ([master.id, made[0].id], False)


async def test_ancestors_are_found_without_what_was_made_from_them(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    first, second = [await platform.quantized(master, tales, content) for content in ("one", "two")]
    async with platform.database.begin() as uow:
        with loaded_rows(LineageEdgeRow) as loaded:
            assert await uow.versions.ancestors(platform.project_id, master.id) == set()
            assert await uow.versions.ancestors(platform.project_id, first.id) == {master.id}
            assert await uow.versions.ancestors(platform.project_id, second.id) == {master.id}
        with pytest.raises(UnknownVersion):
            await uow.versions.ancestors("prj_other", first.id)
    assert loaded == []


async def test_lineage_shows_ancestors_and_descendants(platform: Platform) -> None:
    master, tales, plays = await platform.master(), await platform.dataset(), await platform.dataset("plays", "enter a ghost")
    one = await platform.quantized(master, tales, "one")
    two = await platform.quantized(master, plays, "two")
    await platform.master("unrelated")
    async with platform.database.begin() as uow:
        of_one = await uow.versions.lineage(platform.project_id, one.id)
        of_master = await uow.versions.lineage(platform.project_id, master.id)
    assert of_one.version_id == one.id
    assert {(node.id, node.noun, node.label, node.kind, node.state) for node in of_one.nodes} == {
        (master.id, "version", "bard@1", "master", "ready"),
        (one.id, "version", "bard@2", "quantized", "ready"),
        (tales.id, "dataset", "tales@1", "text", "ready"),
    }
    assert {(link.child_id, link.parent_id, link.role) for link in of_one.links} == {
        (one.id, master.id, EdgeRole.BASE),
        (one.id, tales.id, EdgeRole.CALIBRATION),
    }
    assert {node.id for node in of_master.nodes} == {master.id, one.id, two.id}
    assert {(link.child_id, link.parent_id) for link in of_master.links} == {(one.id, master.id), (two.id, master.id)}


async def test_lineage_shows_what_a_dataset_was_derived_from(platform: Platform) -> None:
    master, tales, plays = await platform.master(), await platform.dataset(), await platform.dataset("plays", "enter a ghost")

    async def derive(name: str, *parents: Dataset) -> Dataset:
        derivation = Derivation(
            parents=[DerivedFrom(id=parent.id, ref=parent.ref, sha256=parent.sha256) for parent in parents],
            recipe=DatasetRecipe(parents=[Parent(ref=parent.ref) for parent in parents]),
        )
        draft = DatasetDraft(DatasetKind.TEXT, DatasetOrigin.DERIVED, DatasetStatistics(), derivation.model_dump(mode="json"))
        async with platform.database.begin() as uow:
            return (await uow.datasets.add(platform.project_id, name, blob(name), draft))[0]

    mixed = await derive("mixed", tales, plays)
    few = await derive("few", mixed, tales)
    version = await platform.quantized(master, few)
    async with platform.database.begin() as uow:
        lineage = await uow.versions.lineage(platform.project_id, version.id)
    assert [node.label for node in lineage.nodes if node.noun == "dataset"] == ["few@1", "tales@1", "mixed@1", "plays@1"]
    assert {(link.child_id, link.parent_id) for link in lineage.links if link.role is EdgeRole.SOURCE} == {
        (few.id, mixed.id),
        (few.id, tales.id),
        (mixed.id, tales.id),
        (mixed.id, plays.id),
    }


async def test_unused_version_is_deleted_and_its_number_never_used_again(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    quantized = await platform.quantized(master, tales)
    await delete(platform, quantized.id)
    assert (await platform.actions())[-1] == "version.delete"
    async with platform.database.begin() as uow:
        assert (await uow.versions.get(platform.project_id, quantized.id)).deleted_at is not None
        with pytest.raises(UnknownVersion):
            await uow.versions.resolve(platform.project_id, quantized.ref)
    assert (await platform.quantized(master, tales, "another")).number == 3
    assert await platform.sql("select count(*) from blobs where sha256 = %s", blob("quantized").sha256) == [(1,)]


async def test_used_versions_are_protected_with_the_reason(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    served = await platform.quantized(master, tales)
    named = await platform.quantized(master, tales, "named")
    measured = await platform.quantized(master, tales, "measured")
    await platform.promoted(served)
    async with platform.database.begin() as uow:
        await uow.aliases.move(platform.project_id, "bard", "candidate", named.id, platform.admin)
    job = await platform.submit(EvaluateSpec(version=measured.id, corpora=["tales"]))
    for version, words in (
        (master, "other versions were made from it"),
        (served, "a release serves it"),
        (named, "alias 'candidate' points at bard@3"),
        (measured, f"job {job.id} still uses bard@4"),
    ):
        with pytest.raises(VersionProtected, match=words):
            await delete(platform, version.id)
    async with platform.database.begin() as uow:
        await cancel_job(uow, platform.admin, job.id)
    await delete(platform, measured.id)
    assert await platform.sql("select id from versions where deleted_at is not null") == [(measured.id,)]


async def test_submission_and_deletion_at_once_agree(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    for round_ in range(6):
        version = await platform.quantized(master, tales, f"round {round_}")
        submitted, deleted = await asyncio.gather(
            platform.submit(EvaluateSpec(version=version.id, corpora=["tales"])), delete(platform, version.id), return_exceptions=True
        )
        if isinstance(submitted, BaseException):
            assert isinstance(submitted, UnknownVersion)
            assert deleted is None
        else:
            assert isinstance(deleted, VersionProtected)
            async with platform.database.begin() as uow:
                await cancel_job(uow, platform.admin, submitted.id)


async def test_alias_moves_and_remembers(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    quantized = await platform.quantized(master, tales)
    async with platform.database.begin() as uow:
        first = await uow.aliases.move(platform.project_id, "bard", "production", master.id, platform.admin)
    async with platform.database.begin() as uow:
        await uow.aliases.move(platform.project_id, "bard", "production", quantized.id, platform.admin)
        again = await uow.aliases.move(platform.project_id, "bard", "production", quantized.id, platform.admin)
        history = await uow.aliases.history(platform.project_id, "bard", "production")
        assert await uow.aliases.get(platform.project_id, "bard", "production") == again
        assert [item.alias for item in await uow.aliases.list(platform.project_id, "bard")] == ["production"]
    assert (first.version_id, again.version_id, again.updated_at > first.updated_at) == (master.id, quantized.id, True)
    assert [(change.version_id, change.previous_version_id, change.key_id) for change in history] == [
        (quantized.id, master.id, platform.admin.key_id),
        (master.id, None, platform.admin.key_id),
    ]
    assert [action for action in await platform.actions() if action == "alias.move"] == ["alias.move"] * 2


async def test_a_deleted_alias_protects_nothing_and_its_past_stays_known(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    quantized = await platform.quantized(master, tales)
    names = (platform.project_id, "bard", "production")
    async with platform.database.begin() as uow:
        moved = await uow.aliases.move(*names, quantized.id, platform.admin)
    with pytest.raises(VersionProtected, match="alias 'production' points at"):
        await delete(platform, quantized.id)
    async with platform.database.begin() as uow:
        await uow.aliases.delete(*names, platform.admin)
    await delete(platform, quantized.id)
    async with platform.database.begin() as uow:
        assert await uow.aliases.list(platform.project_id, "bard") == []
        deletion, move = await uow.aliases.history(*names)
        assert (deletion.version_id, deletion.previous_version_id, deletion.key_id) == (None, quantized.id, platform.admin.key_id)
        assert (move.version_id, await uow.aliases.at(*names, moved.updated_at)) == (quantized.id, moved)
        with pytest.raises(NotFound, match="it was deleted at"):
            await uow.aliases.at(*names, deletion.created_at)
        with pytest.raises(NotFound, match="there are no aliases yet"):
            await uow.aliases.delete(*names, platform.admin)
        again = await uow.aliases.move(*names, master.id, platform.admin)
        assert await uow.aliases.get(*names) == again
        assert [change.previous_version_id for change in await uow.aliases.history(*names)] == [None, quantized.id, None]
    assert [action for action in await platform.actions() if action.startswith("alias.")] == ["alias.move", "alias.delete", "alias.move"]


async def test_alias_refusals(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    other, broken = await platform.master("other"), await platform.quarantined(master, tales)
    async with platform.database.begin() as uow:
        for alias in ("a/b", "..", "", "x" * 300, "42", "a\x00"):
            with pytest.raises(InvalidName):
                await uow.aliases.move(platform.project_id, "bard", alias, master.id, platform.admin)
        with pytest.raises(UnknownVersion):
            await uow.aliases.move(platform.project_id, "bard", "production", other.id, platform.admin)
        with pytest.raises(Conflict, match="quarantined"):
            await uow.aliases.move(platform.project_id, "bard", "production", broken.id, platform.admin)
        with pytest.raises(UnknownModel):
            await uow.aliases.move(platform.project_id, "bart", "production", master.id, platform.admin)
        with pytest.raises(NotFound, match="there are no aliases yet"):
            await uow.aliases.get(platform.project_id, "bard", "production")


async def test_datasets_are_numbered_by_content(platform: Platform) -> None:
    first = await platform.dataset("tales", "one")
    again = await platform.dataset("tales", "one")
    second = await platform.dataset("tales", "two")
    same_bytes = await platform.dataset("plays", "one")
    assert again == first
    assert [(item.ref, item.sha256) for item in (first, second, same_bytes)] == [
        ("tales@1", blob("one").sha256),
        ("tales@2", blob("two").sha256),
        ("plays@1", blob("one").sha256),
    ]
    async with platform.database.begin() as uow:
        assert await uow.datasets.resolve(platform.project_id, "tales") == second
        assert await uow.datasets.resolve(platform.project_id, "tales@1") == first
        assert await uow.datasets.resolve(platform.project_id, first.id) == first
        assert (await uow.datasets.list(platform.project_id, limit=3)).data == [same_bytes, second, first]
        with pytest.raises(InvalidName):
            await uow.datasets.add(platform.project_id, "no/name", blob("x"), UPLOADED)
        with pytest.raises(UnknownDataset):
            await uow.datasets.get(platform.project_id, "dat_\x00")


async def test_uploads_at_once_get_numbers_of_their_own(platform: Platform) -> None:
    added = await asyncio.gather(*(platform.dataset("tales", f"text {n % 4}") for n in range(8)))
    assert {dataset.number for dataset in added} == {1, 2, 3, 4}
    assert len({dataset.id for dataset in added}) == 4


async def test_projects_do_not_see_each_other(platform: Platform, stranger: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    rollout = await platform.promoted(master)
    job = await platform.running(import_spec())
    theirs = stranger.project_id
    async with platform.database.begin() as uow:
        for lookup in (
            uow.jobs.get(theirs, job.id),
            uow.jobs.lock(theirs, job.id),
            uow.models.get(theirs, "bard"),
            uow.versions.get(theirs, master.id),
            uow.versions.detail(theirs, master.id),
            uow.versions.resolve(theirs, master.id),
            uow.versions.resolve(theirs, "bard@1"),
            uow.versions.file(theirs, master.id, "config.json"),
            uow.versions.lineage(theirs, master.id),
            delete_version(uow, master.id, who=stranger.admin),
            uow.datasets.get(theirs, tales.id),
            uow.datasets.resolve(theirs, "tales"),
            uow.deployments.get(theirs, "chat"),
            uow.aliases.move(theirs, "bard", "production", master.id, stranger.admin),
            uow.keys.revoke(theirs, platform.admin.key_id, who=stranger.admin),
            cancel_job(uow, stranger.admin, job.id),
        ):
            with pytest.raises(NotFound):
                await lookup
        with pytest.raises(UnknownModel, match="there are no models yet"):
            await uow.models.get(theirs, "bard")
        assert await uow.events.after(theirs, job.id, 0) == []
        assert await uow.events.logs(theirs, job.id) == []
        for page in (
            await uow.jobs.list(theirs),
            await uow.models.list(theirs),
            await uow.version_search.page(theirs),
            await uow.deployments.list(theirs),
            await uow.rollouts.list(theirs, await uow.deployments.get(platform.project_id, "chat")),
        ):
            assert page.data == []
        assert [dataset.origin for dataset in (await uow.datasets.list(theirs)).data] == [DatasetOrigin.BUILT_IN]
        assert len((await uow.keys.list(theirs)).data) == 2
    with pytest.raises(NotFound):
        await stranger.submit(quantize_spec(master.id, tales.id))
    same_names = await stranger.master()
    assert (same_names.ref, same_names.model_id != master.model_id) == ("bard@1", True)
    assert (await platform.deployment()).current_release is not None
    assert rollout.deployment_id == (await platform.deployment()).id
