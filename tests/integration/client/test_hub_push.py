"""Versions pushed to a small hub on this machine that speaks the hub's protocol: whole, in parts, again, and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from factories.client import MASTER_ID, FakeServer, Pieces, answer, version
from factories.writable_hub import TOKEN, WritableHub, serving
from quantry import DownloadDamaged, ExportRefused
from quantry import hub_push as pushing
from quantry.errors import ConfigurationError
from quantry.hub import HubRefused, HubRepository, HubUnreachable, endpoint_of, token_of
from quantry.hub_push import Pushed, push_version
from quantry_core.versions import VersionState

WEIGHTS = bytes(range(256)) * 40
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "empty.txt": b""}
CARD = "---\nbase_model:\n- owner/bard\nbase_model_relation: quantized\n---\n# bard\n"
REPOSITORY = "ours/bard-w4a16"


def quantry_of(files: dict[str, bytes], *, arriving: dict[str, bytes] | None = None, **changes: Any) -> FakeServer:
    """Returns a platform with one version of these files; ``arriving`` are those that come with other bytes."""
    server = FakeServer()
    told = version(files).model_copy(update=changes)
    for ref in ("bard@1", MASTER_ID):
        server.on("GET", f"/api/v1/versions/{ref}", answer(told))
    for path, content in (files | (arriving or {})).items():

        def send(_request: httpx.Request, content: bytes = content) -> httpx.Response:
            return httpx.Response(200, stream=Pieces(content[:1000], content[1000:]))

        server.on("GET", f"/api/v1/versions/{MASTER_ID}/files/{path}", send)
    server.on("GET", f"/api/v1/versions/{MASTER_ID}/card", lambda _request: httpx.Response(200, text=CARD))
    return server


def push(hub: WritableHub, server: FakeServer, *, is_private: bool = False, token: str = TOKEN, **options: Any) -> Pushed:
    with serving(hub) as url, HubRepository(options.pop("repository", REPOSITORY), token, endpoint=url, **options) as repository:
        return push_version(server.client(), "bard@1", repository, is_private=is_private)


@pytest.fixture(params=[None, 1_000_000, 3000], ids=["kept", "whole", "parts"])
def hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WritableHub:
    """A hub that takes weights in one piece or in parts; weights are small enough to be kept in memory, or streamed."""
    if request.param is not None:
        monkeypatch.setattr(pushing, "MAX_SMALL_BYTES", 100)
    return WritableHub(part_bytes=request.param)


def test_every_byte_and_the_card_are_there_in_one_commit(hub: WritableHub) -> None:
    moved: list[int] = []
    with serving(hub) as url, HubRepository(REPOSITORY, TOKEN, endpoint=url) as repository:
        pushed = push_version(quantry_of(FILES).client(), "bard@1", repository, is_private=True, progress=moved.append)
    stored = hub.repositories[REPOSITORY]
    assert stored.revisions["main"] == FILES | {"README.md": CARD.encode()}
    assert (stored.is_private, len(stored.commits), sum(moved)) == (True, 1, len(WEIGHTS) + 2)
    assert (pushed.is_new, pushed.num_reused, pushed.removed) == (True, 0, [])
    assert pushed.files == ["README.md", "config.json", "empty.txt", "model.safetensors"]
    assert pushed.commit in stored.revisions
    # What goes to the place where bytes are kept goes without the token.
    assert {token for _, path, token in hub.requests if path.startswith("/store/")} == {None}


def test_again_sends_no_weights_and_removes_those_of_before(hub: WritableHub) -> None:
    push(hub, quantry_of({"model-00001-of-00001.safetensors": b"older", "notes.txt": b"kept", "config.json": b"{1}"}))
    push(hub, quantry_of(FILES))
    num_stored = sum(path.startswith("/store/") for _, path, _ in hub.requests)
    pushed = push(hub, quantry_of(FILES))
    assert (pushed.is_new, pushed.num_reused) == (False, 1)
    assert sum(path.startswith("/store/") for _, path, _ in hub.requests) == num_stored
    assert hub.repositories[REPOSITORY].revisions["main"] == FILES | {"README.md": CARD.encode(), "notes.txt": b"kept"}


def test_a_branch_of_its_own() -> None:
    hub = WritableHub()
    push(hub, quantry_of(FILES), revision="w4a16")
    assert hub.repositories[REPOSITORY].revisions["main"] == {}
    assert set(hub.repositories[REPOSITORY].revisions["w4a16"]) == {*FILES, "README.md"}


def test_damage_on_the_way_never_becomes_a_commit(hub: WritableHub) -> None:
    damaged = WEIGHTS[:-1] + b"\0"
    with pytest.raises((DownloadDamaged, HubRefused)):
        push(hub, quantry_of(FILES, arriving={"model.safetensors": damaged}))
    assert hub.repositories[REPOSITORY].commits == []


def test_what_the_hub_holds_is_looked_at() -> None:
    for path in ("model.safetensors", "config.json"):
        hub = WritableHub()
        hub.lies = {path}
        with pytest.raises(HubRefused, match=f"{path} on the hub is not what was pushed"):
            push(hub, quantry_of(FILES))


def test_refusals_say_what_to_do() -> None:
    hub = WritableHub()
    with pytest.raises(ExportRefused, match="quarantined; only a ready version is pushed"):
        push(hub, quantry_of(FILES, state=VersionState.QUARANTINED))
    assert hub.requests == []
    with pytest.raises(HubRefused, match="does it have write access"):
        push(hub, quantry_of(FILES), token="hf_another")
    with pytest.raises(HubRefused, match="a token with write access to others/bard is needed"):
        push(hub, quantry_of(FILES), repository="others/bard")
    push(hub, quantry_of(FILES))
    with pytest.raises(HubRefused, match="is there already and is public; nothing was sent"):
        push(hub, quantry_of(FILES), is_private=True)


def test_what_cannot_be_a_repository_a_branch_or_a_hub() -> None:
    for bad in ("bard", "ours/bard/x", "../bard", "ours/ba..rd", "ours/b--d", "ours/"):
        with pytest.raises(ConfigurationError, match="written owner/name"):
            HubRepository(bad, TOKEN)
    with pytest.raises(ConfigurationError, match="cannot be the name of a branch"):
        HubRepository(REPOSITORY, TOKEN, revision="a b")
    with pytest.raises(ConfigurationError, match="address is written like"):
        endpoint_of({"HF_ENDPOINT": "huggingface"})
    with HubRepository(REPOSITORY, TOKEN, endpoint="http://127.0.0.1:9") as nobody, pytest.raises(HubUnreachable, match="does not answer"):
        nobody.create(is_private=False)


def test_the_callers_own_token(tmp_path: Path) -> None:
    assert token_of({"HF_TOKEN": " hf_a \n"}) == "hf_a"
    (tmp_path / "token").write_text("hf_b\n")
    assert token_of({"HF_HOME": str(tmp_path)}) == "hf_b"
    with pytest.raises(ConfigurationError, match="set HF_TOKEN, or run 'hf auth login'"):
        token_of({"HF_HOME": str(tmp_path / "nowhere")})
