"""How a source is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantry_core.errors import SourceRefused
from quantry_core.sources import HubSource, allowing_root, parse_source


@pytest.mark.parametrize(
    ("source", "owner", "name", "revision"),
    [
        ("hf:owner/name", "owner", "name", None),
        ("hf:HuggingFaceTB/SmolLM2-135M@main", "HuggingFaceTB", "SmolLM2-135M", "main"),
        ("hf:a/b@refs/pr/1", "a", "b", "refs/pr/1"),
        ("hf:a-b/c.d_e@v1.0", "a-b", "c.d_e", "v1.0"),
    ],
)
def test_a_repository_of_the_hub(source: str, owner: str, name: str, revision: str | None) -> None:
    parsed = parse_source(source)
    assert parsed == HubSource(owner=owner, name=name, revision=revision)
    assert isinstance(parsed, HubSource)
    assert parsed.repository == f"{owner}/{name}"


BAD_HUB = ["hf:", "hf:a", "hf:a/", "hf:/b", "hf:a/b/c", "hf:a/b@", "hf:../b", "hf:a/..", "hf:a/b@../x", "hf:a/b c", "hf:a/b\n"]
BAD_PATHS = ["HF:a/b", "a/b", "", ".", "/a\0b", "~/a", "file:///a"]


@pytest.mark.parametrize("source", [*BAD_HUB, *BAD_PATHS, "hf:" + "a" * 200 + "/b"])
def test_neither_a_repository_nor_an_absolute_path(source: str) -> None:
    with pytest.raises(SourceRefused):
        parse_source(source)


def test_a_path_is_allowed_by_the_root_it_lies_below() -> None:
    assert parse_source("/models/a") == Path("/models/a")
    roots = {Path("/data"): Path("/data"), Path("/disk/models"): Path("/models")}
    assert allowing_root(Path("/models/a"), Path("/disk/models/a"), roots) == Path("/models")
    assert allowing_root(Path("/models"), Path("/disk/models"), roots) == Path("/models")
    for outside in ("/disk/models-and-more/a", "/", "/disk/model", "/models/a"):
        with pytest.raises(SourceRefused, match=r"^/given lies outside .*: /data, /models$"):
            allowing_root(Path("/given"), Path(outside), roots)
    with pytest.raises(SourceRefused, match="QUANTRY_IMPORT_ROOTS"):
        allowing_root(Path("/models"), Path("/models"), {})
