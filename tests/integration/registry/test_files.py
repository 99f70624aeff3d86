"""Downloads: whole files, ranges, conditions."""

from __future__ import annotations

import asyncio
import hashlib
from itertools import pairwise
from pathlib import Path

from factories.checkpoints import master_contents, safetensors_bytes
from factories.registry import Registry
from quantry_core.keys import Role
from quantry_core.versions import blob_key

WEIGHTS = safetensors_bytes({"a.weight": ("F16", (1024, 1500))})
CONTENTS = master_contents(model__safetensors=WEIGHTS) | {"README.md": b"0123456789", "notes.txt": b""}
README = "/api/v1/versions/bard@1/files/README.md"
README_ETAG = f'"{hashlib.sha256(b"0123456789").hexdigest()}"'


async def test_every_file_comes_back_under_every_name_of_its_version(registry: Registry, tmp_path: Path) -> None:
    version = await registry.import_master(tmp_path, CONTENTS)
    async with registry.client(Role.VIEWER) as client:
        for ref in ("bard", "bard@1", version.id):
            for path, content in CONTENTS.items():
                answer = await client.get(f"/api/v1/versions/{ref}/files/{path}")
                assert (answer.status_code, answer.content) == (200, content)
                assert answer.headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
                assert answer.headers["Content-Length"] == str(len(content))
                assert answer.headers["Accept-Ranges"] == "bytes"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"


CONDITIONS: list[tuple[dict[str, str], tuple[int, bytes, str | None]]] = [
    ({"Range": "bytes=2-4"}, (206, b"234", "bytes 2-4/10")),
    ({"Range": "bytes=7-"}, (206, b"789", "bytes 7-9/10")),
    ({"Range": "bytes=-2"}, (206, b"89", "bytes 8-9/10")),
    ({"Range": "bytes=0-99"}, (206, b"0123456789", "bytes 0-9/10")),
    ({"Range": "bytes=0-1,4-5"}, (200, b"0123456789", None)),
    ({"Range": "lines=1-2"}, (200, b"0123456789", None)),
    ({"Range": "bytes=2-4", "If-Range": README_ETAG}, (206, b"234", "bytes 2-4/10")),
    ({"Range": "bytes=2-4", "If-Range": '"older"'}, (200, b"0123456789", None)),
    ({"If-None-Match": '"older"'}, (200, b"0123456789", None)),
    ({"If-None-Match": README_ETAG}, (304, b"", None)),
    ({"If-None-Match": README_ETAG, "Range": "bytes=2-4"}, (304, b"", None)),
]


async def test_ranges_and_conditions(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    async with registry.client(Role.VIEWER) as client:
        for headers, expected in CONDITIONS:
            answer = await client.get(README, headers=headers)
            assert (answer.status_code, answer.content, answer.headers.get("Content-Range")) == expected, headers
            assert answer.headers["ETag"] == README_ETAG


async def test_a_range_past_the_end(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    async with registry.client(Role.VIEWER) as client:
        answer = await client.get(README, headers={"Range": "bytes=10-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */10")
    assert answer.json()["type"] == "urn:quantry:problem:range-not-satisfiable"
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_head_says_what_get_would_send(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    async with registry.client(Role.VIEWER) as client:
        answer = await client.head(README)
    assert (answer.status_code, answer.content, answer.headers["Content-Length"], answer.headers["ETag"]) == (200, b"", "10", README_ETAG)


async def test_a_file_is_assembled_from_ranges(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    cuts = [0, 1, 1024**2, 2 * 1024**2 + 7, len(WEIGHTS)]
    async with registry.client(Role.VIEWER) as client:
        answers = await asyncio.gather(
            *(
                client.get("/api/v1/versions/bard/files/model.safetensors", headers={"Range": f"bytes={start}-{end - 1}"})
                for start, end in pairwise(cuts)
            )
        )
    assert b"".join(answer.content for answer in answers) == WEIGHTS


async def test_clients_that_leave_early_cost_nothing(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    async with registry.client(Role.VIEWER) as client:
        for _ in range(40):
            async with client.stream("GET", "/api/v1/versions/bard/files/model.safetensors") as answer:
                assert answer.status_code == 200
        assert (await client.get("/api/v1/versions/bard/files/model.safetensors")).content == WEIGHTS


BAD_PATHS = [
    ("bard@1/files/other.json", 404, "not-found"),
    ("bard@2/files/config.json", 404, "unknown-version"),
    ("other/files/config.json", 404, "unknown-model"),
    ("ver_00000000000000000000000000000000/files/config.json", 404, "unknown-version"),
    ("bard@1/files/..%2F..%2Fetc%2Fpasswd", 422, "invalid-input"),
    ("bard@1/files/%2Fetc%2Fpasswd", 422, "invalid-input"),
    ("bard@1/files/a%00b", 422, "invalid-input"),
    ("bard@1/files/" + "a" * 300, 422, "invalid-input"),
    ("Bard/files/config.json", 422, "invalid-name"),
    ("a%00b/files/config.json", 422, "invalid-name"),
    ("a..b/files/config.json", 422, "invalid-name"),
    ("a" * 70 + "/files/config.json", 422, "invalid-name"),
    ("a" * 300 + "/files/config.json", 422, "invalid-input"),
]


async def test_what_is_not_there_or_no_name(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    async with registry.client(Role.VIEWER) as client:
        for path, status, slug in BAD_PATHS:
            answer = await client.get(f"/api/v1/versions/{path}")
            assert (answer.status_code, answer.json()["type"]) == (status, f"urn:quantry:problem:{slug}"), answer.text
            assert answer.headers["Content-Type"] == "application/problem+json"


async def test_bytes_that_the_vault_lost_are_an_error_of_ours(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    registry.parts.store.delete(registry.parts.vault.bucket, blob_key(hashlib.sha256(b"0123456789").hexdigest()))
    async with registry.client(Role.VIEWER) as client:
        answer = await client.get(README)
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:quantry:problem:internal")


async def test_a_key_is_needed(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    async with registry.client(Role.VIEWER) as client:
        assert (await client.get(README, headers={"Authorization": ""})).status_code == 401
    async with registry.client(Role.WORKER) as client:
        assert (await client.get(README)).status_code == 403
