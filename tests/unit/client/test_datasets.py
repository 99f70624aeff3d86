"""``quantry datasets``: what is sent, what is shown, and what docs/datasets.md says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from factories.client import DATASET_BYTES as CONTENT
from factories.client import DATASET_ID, FakeServer, Pieces, answer, dataset, failing, page, problem
from quantry.cli.main import main
from quantry_core.datasets import (
    BUILT_IN_PREFIX,
    MIN_CHARACTERS,
    DatasetKind,
    DatasetOrigin,
    DatasetPreview,
    DatasetRecipe,
)

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "datasets.md").read_text()


@pytest.mark.parametrize(
    ("file", "options", "query", "content_type"),
    [
        ("plays.txt", "", "", "text/plain; charset=utf-8"),
        ("plays.JSONL", "", "", "application/jsonl"),
        ("plays", "", "", "application/octet-stream"),
        ("plays.json", "--kind prompt-response", "kind=prompt-response", "application/octet-stream"),
    ],
)
def test_an_upload_says_what_it_is(server: FakeServer, tmp_path: Path, *, file: str, options: str, query: str, content_type: str) -> None:
    (tmp_path / file).write_bytes(CONTENT)
    server.on("PUT", "/api/v1/datasets/plays", answer(dataset(), 201))
    assert main(["datasets", "upload", "plays", str(tmp_path / file), *options.split()]) == 0
    [request] = server.requests
    assert (request.url.query.decode(), request.headers["content-type"]) == (query, content_type)
    assert request.headers["content-length"] == str(len(CONTENT))
    assert request.read() == CONTENT


def test_an_upload_may_be_repeated(tmp_path: Path) -> None:
    text = "thé text\n".encode() * 50_000
    path = tmp_path / "plays.txt"
    path.write_bytes(text)
    server = FakeServer()
    received: list[bytes] = []

    def take(request: httpx.Request) -> httpx.Response:
        received.append(request.read())
        return answer(dataset(), 201)(request)

    server.on("PUT", "/api/v1/datasets/plays", failing(httpx.WriteError), take)
    moved: list[int] = []
    assert server.client().datasets.upload("plays", path, progress=moved.append) == dataset()
    assert received == [text]
    assert sum(moved) == len(text)


def test_lines_that_are_bad_are_shown(server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plays.jsonl").write_bytes(CONTENT)
    errors = [{"field": "line 2", "message": "line 2 is not JSON"}]
    server.on("PUT", "/api/v1/datasets/plays", problem(422, "invalid-input", "line 2 is not JSON", errors=errors))
    assert main(["datasets", "upload", "plays", str(tmp_path / "plays.jsonl")]) == 1
    assert "line 2" in capsys.readouterr().err


def prepare(server: FakeServer, **changes: Any) -> None:
    server.on("GET", "/api/v1/datasets", page(dataset(**changes)))
    for ref in ("plays", DATASET_ID):
        server.on("GET", f"/api/v1/datasets/{ref}", answer(dataset(**changes)))
    shown = DatasetPreview(dataset_id=DATASET_ID, ref="plays@1", kind=DatasetKind.ROWS, items=[{"text": "größer"}], has_more=True)
    server.on("GET", "/api/v1/datasets/plays/preview", answer(shown))
    server.on(
        "GET", f"/api/v1/datasets/{DATASET_ID}/content", lambda _request: httpx.Response(200, stream=Pieces(CONTENT[:5], CONTENT[5:]))
    )
    server.on("POST", "/api/v1/datasets/few/derive", answer(dataset(name="few"), 201))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("list", ["plays@1", "rows", "3", "uploaded", DATASET_ID]),
        ("show plays", ["12,345", "1.25%", "1 to 9,999 characters", "95 % up to 9,990", "duplicates", "2"]),
        ("preview plays", ['{"text": "größer"}']),
        ("download plays {out}", ["plays@1", "digest checked"]),
        ("derive few plays", ["few@1", "3 rows"]),
    ],
)
def test_every_command_speaks_to_people_and_to_programs(
    server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, words: list[str]
) -> None:
    prepare(server)
    arguments = ["datasets", *line.format(out=tmp_path / "plays.jsonl").split()]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert [word for word in words if word not in out] == []
    assert main([*arguments, "--json"]) == 0
    json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        ({"num_chosen_characters": 12345, "num_rejected_characters": 678}, "12,345 characters chosen, 678 rejected"),
        ({"num_labels": {"true": 1200, "false": 3}}, "1,200 true, 3 false"),
        (
            {"num_untrainable_rows": 1203, "untrainable_rows": [{"line": line, "reason": "has no end"} for line in (7, 9, 11, 12)]},
            "1,203 rows, by methods that learn answers: line 7 has no end; line 9 has no end; line 11 has no end; 1,200 more",
        ),
    ],
)
def test_answers_and_labels_are_shown(server: FakeServer, capsys: pytest.CaptureFixture[str], counted: dict[str, Any], words: str) -> None:
    prepare(server, statistics=counted)
    assert main(["datasets", "show", "plays"]) == 0
    assert words in " ".join(capsys.readouterr().out.split())


def test_a_derived_dataset_shows_what_it_was_made_from(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    parents = [{"id": DATASET_ID, "ref": "kjv@2", "sha256": "0" * 64}]
    prepare(server, derivation={"parents": parents, "recipe": {"seed": 7}}, origin=DatasetOrigin.DERIVED)
    assert main(["datasets", "show", "plays"]) == 0
    out = capsys.readouterr().out
    assert "kjv@2" in out
    assert '{"seed": 7}' in out


def test_a_download_is_checked_and_never_overwrites(server: FakeServer, tmp_path: Path) -> None:
    target = tmp_path / "plays.jsonl"
    prepare(server)
    assert main(["datasets", "download", "plays", str(target)]) == 0
    assert target.read_bytes() == CONTENT
    target.write_bytes(b"mine")
    assert main(["datasets", "download", "plays", str(target)]) == 1
    assert target.read_bytes() == b"mine"
    prepare(server, sha256="0" * 64)
    assert main(["datasets", "download", "plays", str(tmp_path / "damaged")]) == 1
    assert not (tmp_path / "damaged").exists()


def test_a_derivation_is_waited_for_longer_than_other_answers(server: FakeServer) -> None:
    prepare(server)
    client = server.client()
    client.datasets.derive("few", DatasetRecipe.model_validate({"parents": [{"ref": "plays"}]}))
    client.datasets.get("plays")
    derived, got = (request.extensions["timeout"]["read"] for request in server.requests[-2:])
    assert derived == 600
    assert got < 60


def test_a_recipe_is_what_the_options_say(server: FakeServer) -> None:
    prepare(server)
    line = (
        "datasets derive few kjv:3 speeches@2:1.5 --sample 100 --shuffle --min-characters 5 --max-characters 50 --deduplicate "
        "--split test --test-share 0.2 --block-items 4 --passage-characters 500 --seed 9"
    )
    assert main(line.split()) == 0
    assert DatasetRecipe.model_validate_json(server.requests[-1].content) == DatasetRecipe.model_validate(
        {
            "parents": [{"ref": "kjv", "weight": 3}, {"ref": "speeches@2", "weight": 1.5}],
            "num_items": 100,
            "shuffle": True,
            "min_characters": 5,
            "max_characters": 50,
            "deduplicate": True,
            "split": {"part": "test", "test_share": 0.2, "block_items": 4},
            "passage_characters": 500,
            "seed": 9,
        }
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("kjv:many", "REF:WEIGHT"),
        ("kjv:1", "name it, or leave weights out"),
        ("kjv --test-share 0.2", "--split train or"),
        ("kjv --split test --test-share 2", "less than 1"),
        ("kjv --min-characters 9 --max-characters 8", "no item could stay"),
        ("", "Missing argument"),
    ],
)
def test_a_recipe_that_cannot_be_reaches_no_server(
    server: FakeServer, capsys: pytest.CaptureFixture[str], options: str, words: str
) -> None:
    assert main(["datasets", "derive", "few", *options.split()]) == 2
    assert server.requests == []
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("word", sorted([*DatasetKind, *DatasetRecipe.model_fields.keys() - {"seed"}, BUILT_IN_PREFIX]))
def test_every_kind_and_every_field_of_a_recipe_is_explained(word: str) -> None:
    assert f"`{word}`" in DOCUMENT


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["datasets", "derive", "--help"]) == 0
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help", "--json"}
    assert {option for option in options if option not in DOCUMENT} == set()


def test_bounds_in_the_document_are_those_of_the_code() -> None:
    assert f"less than {MIN_CHARACTERS} characters" in DOCUMENT
