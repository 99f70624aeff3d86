"""Commands about what is kept: models, aliases, versions, lineage, datasets, the vault."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from factories.client import (
    DATASET_ID,
    MASTER_ID,
    NOW,
    QUANTIZED_ID,
    FakeServer,
    Pieces,
    answer,
    dataset,
    lineage,
    page,
    version,
)
from factories.command import check_both_ways, run
from factories.described import described_adapter, described_master, described_merged, described_quantized
from quantry.cli import lineage as lineage_command
from quantry_core.aliases import Alias, AliasChange
from quantry_core.cards import CARD_MARK
from quantry_core.comparisons import Relation, compare
from quantry_core.model_notes import ModelNotes
from quantry_core.vault import CollectReport, VaultRun, VaultRunKind, VaultRunStatus, VaultStore, VerifyReport
from quantry_core.vault_usage import ModelUsage, VaultUsage
from quantry_core.version_notes import ListedVersion, VersionNotes
from quantry_core.versions import Model, Version

MODEL = Model(id="mod_1", project_id="prj_1", name="bard", created_at=NOW, num_versions=2, latest_version_id=QUANTIZED_ID)

VERSION = version({"config.json": b"{}"})

TEXTS = {"about": "Reads verse."}
NOTES = VersionNotes(version_id=MASTER_ID, tags={"stage": "test", "golden": ""}, texts=TEXTS, notes="to be shown", updated_at=NOW)

USAGE = VaultUsage(
    num_versions=2,
    logical_bytes=2000,
    stored_bytes=1500,
    saved_bytes=500,
    models=[ModelUsage(model_name="bard", num_versions=2, logical_bytes=2000, stored_bytes=1500, saved_bytes=500)],
)

VERIFIED = VaultRun(
    id="vrn_" + "1" * 32,
    project_id="prj_1",
    kind=VaultRunKind.VERIFY,
    status=VaultRunStatus.SUCCEEDED,
    request={},
    report=VerifyReport(num_blobs=3, num_bytes=6000).model_dump(mode="json"),
    message="nothing is damaged",
    created_at=NOW,
    finished_at=NOW,
)

COLLECTED = VaultRun(
    id="vrn_" + "2" * 32,
    project_id="prj_1",
    kind=VaultRunKind.COLLECT,
    status=VaultRunStatus.SUCCEEDED,
    request={},
    report=CollectReport(num_blobs=2, num_bytes=1500).model_dump(mode="json"),
    message="1500 bytes would be freed",
    created_at=NOW,
    finished_at=NOW,
)

ALIAS = Alias(model_name="bard", alias="live", version_id=MASTER_ID, updated_at=NOW)
MOVE = AliasChange(alias="live", version_id=MASTER_ID, previous_version_id=None, key_id="key_1", created_at=NOW)
DELETION = AliasChange(alias="live", version_id=None, previous_version_id=MASTER_ID, key_id=None, created_at=NOW)


def test_an_alias_is_moved_to_the_version_that_a_ref_names(server: FakeServer) -> None:
    server.on("GET", "/api/v1/versions/bard@1", answer(VERSION))
    server.on("PUT", "/api/v1/models/bard/aliases/live", answer(ALIAS))
    assert server.client().models.move_alias("bard", "live", MASTER_ID) == ALIAS
    assert run("models", "set-alias", "bard", "live", "bard@1") == 0
    assert [json.loads(request.content) for request in server.requests if request.method == "PUT"] == [{"version_id": MASTER_ID}] * 2


MODEL_NOTES = ModelNotes(model_id="mod_1", tags={"about": "Reads \x1b[2Jverse."}, notes="for the search team", updated_at=NOW)


def prepare(server: FakeServer) -> None:
    server.on("GET", "/api/v1/models", page(MODEL))
    server.on("GET", "/api/v1/models/bard", answer(MODEL))
    server.on("GET", "/api/v1/models/bard/notes", answer(MODEL_NOTES))
    server.on("GET", "/api/v1/versions", page(VERSION))
    server.on("GET", "/api/v1/versions/bard@1", answer(VERSION))
    server.on("GET", f"/api/v1/versions/{MASTER_ID}", answer(VERSION))
    server.on("GET", f"/api/v1/versions/{MASTER_ID}/files/config.json", lambda _request: httpx.Response(200, stream=Pieces(b"{}")))
    server.on("GET", f"/api/v1/versions/{MASTER_ID}/card", lambda _request: httpx.Response(200, text=f"# The card\n{CARD_MARK}\n"))
    server.on("GET", "/api/v1/versions/bard@1/card", lambda _request: httpx.Response(200, text=f"# The card\n{CARD_MARK}\n"))
    server.on("GET", "/api/v1/versions/compare", answer(compare(described_master(), described_quantized(), Relation.ANCESTOR)))
    server.on("GET", "/api/v1/vault/usage", answer(USAGE))
    server.on("GET", "/api/v1/models/bard/aliases/live", answer(ALIAS))
    server.on("PUT", "/api/v1/models/bard/aliases/live", answer(ALIAS))
    server.on("DELETE", "/api/v1/models/bard/aliases/live", lambda _request: httpx.Response(204))
    server.on("GET", "/api/v1/models/bard/aliases", answer({"data": [ALIAS.model_dump(mode="json")]}))
    server.on(
        "GET", "/api/v1/models/bard/aliases/live/history", answer({"data": [change.model_dump(mode="json") for change in (DELETION, MOVE)]})
    )
    server.on("GET", "/api/v1/vault/store", answer(VaultStore(keeps_versions=True, locks_objects=True, retention_s=3600)))
    server.on("GET", "/api/v1/vault/runs", page(VERIFIED, COLLECTED))
    server.on("GET", f"/api/v1/vault/runs/{COLLECTED.id}", answer(COLLECTED))
    server.on("POST", "/api/v1/vault/verify", answer(VERIFIED, 202))
    server.on("POST", "/api/v1/vault/collect", answer(COLLECTED, 202))
    server.on("DELETE", f"/api/v1/versions/{MASTER_ID}", lambda _request: httpx.Response(204))
    server.on("GET", f"/api/v1/versions/{MASTER_ID}/lineage", answer(lineage()))
    server.on("POST", f"/api/v1/versions/{MASTER_ID}/restore", answer(Version.model_validate(VERSION.model_dump())))
    server.on("GET", "/api/v1/datasets", page())
    server.on("GET", "/api/v1/datasets/plays@1", answer(dataset(deleted_at=NOW)))
    server.on("GET", f"/api/v1/datasets/{DATASET_ID}", answer(dataset()))
    server.on("DELETE", f"/api/v1/datasets/{DATASET_ID}", lambda _request: httpx.Response(204))
    server.on("POST", f"/api/v1/datasets/{DATASET_ID}/restore", answer(dataset()))
    for ref in (MASTER_ID, "bard@1"):
        server.on("GET", f"/api/v1/versions/{ref}/notes", answer(NOTES))
        server.on("PATCH", f"/api/v1/versions/{ref}/notes", answer(NOTES))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("models list", ["bard", "2", QUANTIZED_ID]),
        ("models show bard", ["bard", MASTER_ID, "1.5 kB; 500 B saved", "about: Reads [2Jverse.", "for the search team"]),
        ("models alias bard live --at 2026-11-22T12:00Z", [MASTER_ID]),
        ("models set-alias bard live bard@1", [f"bard@live: {MASTER_ID}"]),
        ("models aliases bard", ["live", MASTER_ID]),
        ("models alias-history bard live", ["deleted", MASTER_ID, "key_1", "the platform"]),
        ("models delete-alias bard live", ["bard@live is deleted"]),
        ("vault store", ["keeps versions  yes", "for 3600 s"]),
        ("vault list", [VERIFIED.id, "verify", "succeeded", "nothing is damaged", COLLECTED.id]),
        (f"vault show {COLLECTED.id}", ["would be freed", "blobs", "2", "1.5 kB"]),
        ("vault verify --version bard@1", [VERIFIED.id, "3 blobs", "6.0 kB"]),
        ("vault collect", [COLLECTED.id, "collect"]),
        ("versions list --model bard", ["bard@1", "master", MASTER_ID]),
        ("versions show bard@1", ["bard@1", "config.json", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]),
        ("versions export bard@1 {out}", ["2 files", "digests checked"]),
        ("versions lineage bard@1", ["bard@1", "bard@2", "calibration: plays@1"]),
        ("versions compare bard@1 bard@2", ["left is ancestor", "recipe.yaml", "options.damping", "perplexity", "W4A16"]),
        ("versions tag bard@1 stage=test --remove old", ["golden,stage=test"]),
        ("versions note bard@1", ["to be shown"]),
        ("versions delete bard@1", ["bard@1 is deleted", f"quantry versions restore {MASTER_ID}"]),
        (f"versions restore {MASTER_ID}", [f"bard@1 ({MASTER_ID}) is restored"]),
        ("lineage bard@1", ["bard@1", "bard@2", "calibration: plays@1"]),
        ("datasets list", ["There are no datasets"]),
        ("datasets show plays@1", ["plays@1", "deleted"]),
        ("datasets delete plays@1", ["plays@1 is deleted", f"quantry datasets restore {DATASET_ID}"]),
        (f"datasets restore {DATASET_ID}", [f"plays@1 ({DATASET_ID}) is restored"]),
    ],
)
def test_every_command_speaks_to_people_and_to_programs(
    server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, words: list[str]
) -> None:
    prepare(server)
    check_both_ways(capsys, line.format(out=tmp_path / "out"), words)


def test_the_lineage_tree_has_the_master_at_its_root() -> None:
    [tree] = lineage_command.lineage_trees(lineage())
    assert str(tree.label).startswith("bard@1  master")
    [quantized] = tree.children
    assert "bard@2" in str(quantized.label)
    assert "<- this one" in str(quantized.label)
    assert [str(leaf.label) for leaf in quantized.children] == ["calibration: plays@1"]


def test_an_adapter_is_shown_with_its_rank_and_its_base(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(server)
    adapter = described_adapter()
    server.on("GET", "/api/v1/versions/bard@3", answer(adapter))
    server.on("GET", f"/api/v1/versions/{adapter.id}/notes", answer(NOTES))
    server.on("GET", f"/api/v1/versions/{MASTER_ID}", answer(described_master()))
    check_both_ways(capsys, "versions show bard@3", ["adapter", "lora r16, of bard@1", "What was held out", "nll_increase_nats"])
    listed = ListedVersion.model_validate(adapter.model_dump() | {"tags": {}, "shared_bytes": 0})
    server.on("GET", "/api/v1/versions", page(listed))
    check_both_ways(capsys, "versions list --kind adapter", ["bard@3", "adapter", "lora r16"])


def test_an_adapter_is_compared_with_what_was_merged_of_it(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/api/v1/versions/compare", answer(compare(described_adapter(), described_merged(), Relation.ANCESTOR)))
    words = ["left is ancestor", "adapter_model.safetensors", "adapter.rank", "merged_into", "nll_mean", "way-master: plays@1"]
    check_both_ways(capsys, "versions compare bard@3 bard@4", words)
