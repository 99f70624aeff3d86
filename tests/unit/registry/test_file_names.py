"""What a file is called as a dataset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.errors import InvalidName
from quantry_core.names import check_name
from quantry_registry.files.names import dataset_name_of


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("train.jsonl", "train"),
        ("Training Data (final).JSONL", "training-data-final"),
        ("C:\\data\\réponses.ndjson", "reponses"),
        ("/home/me/chats.v2.txt", "chats.v2"),
        ("a..b__.md", "a.b"),
        ("upload", "upload"),
        (".hidden.json", "hidden"),
    ],
)
def test_a_filename_becomes_a_name(filename: str, name: str) -> None:
    assert dataset_name_of(filename) == name


@pytest.mark.parametrize(
    ("filename", "words"),
    [
        ("", "cannot be empty"),
        ("???.jsonl", "cannot be empty"),
        ("データ.jsonl", "cannot be empty"),
        ("x" * 65, "at most 64 characters"),
        ("dat_" + "0" * 32 + ".jsonl", "cannot look like an id"),
    ],
)
def test_a_filename_that_is_no_name_is_refused(filename: str, words: str) -> None:
    with pytest.raises(InvalidName, match=words) as refused:
        dataset_name_of(filename)
    assert refused.value.errors[0].field == "file"
    assert "send it under another" in refused.value.detail


@given(st.text(max_size=80))
def test_whatever_a_file_is_called_its_name_is_one_or_refused(filename: str) -> None:
    try:
        name = dataset_name_of(filename)
    except InvalidName:
        return
    assert check_name(name) == name
