"""A lineage that does not show everything says so, however it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factories.client import MASTER_ID, FakeServer, answer, lineage, version
from factories.command import run
from quantry_core.lineage_pictures import MORE


@pytest.mark.parametrize("options", [[], ["--svg", "{folder}/lineage.svg"], ["--mermaid"]])
def test_what_is_left_out_is_told(server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str]) -> None:
    arguments = [option.format(folder=tmp_path) for option in options]
    server.on("GET", "/api/v1/versions/bard@1", answer(version({"config.json": b"{}"})))
    for has_more in (False, True):
        server.on("GET", f"/api/v1/versions/{MASTER_ID}/lineage", answer(lineage().model_copy(update={"has_more": has_more})))
        assert run("lineage", "bard@1", *arguments) == 0
        assert (MORE in capsys.readouterr().out) is has_more
        assert run("lineage", "bard@1", "--json") == 0
        assert json.loads(capsys.readouterr().out)["has_more"] is has_more
