"""What is held out of a training file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.jobs import InputRole
from quantry_core.training import TrainingMethod
from quantry_worker.child.training.held_out import MIN_PASSAGES, Data, draw, joined, passages, read_data
from quantry_worker.protocol import ChildInput


def given(directory: Path, kind: DatasetKind, content: str, name: str = "train") -> ChildInput:
    path = directory / name
    path.mkdir()
    (path / DATASET_FILES[kind]).write_text(content)
    return ChildInput(role=InputRole.TRAINING, id="dat_1", ref=f"{name}@1", dataset_kind=kind, path=path)


def read(
    training: ChildInput, validation: ChildInput | None = None, method: TrainingMethod = TrainingMethod.SUPERVISED, seed: int = 0
) -> Data:
    return read_data(training, validation, method=method, share=0.1, seed=seed, sequence_tokens=16)


def rows(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def test_a_share_of_the_rows_is_held_out_by_seed(tmp_path: Path) -> None:
    training = given(tmp_path, DatasetKind.ROWS, rows(*(f"row {number}" for number in range(1, 31))))
    data = read(training)
    assert len(data.validation) == 3
    assert {number for number, _ in data.train} | {number for number, _ in data.validation} == set(range(1, 31))
    assert not {number for number, _ in data.train} & {number for number, _ in data.validation}
    assert all(row.text == f"row {number}" for number, row in data.train)
    assert data.held_out_share == pytest.approx(0.1)
    assert read(training) == data
    assert read(training, seed=1).validation != data.validation


def test_text_is_held_out_in_passages_of_whole_lines_and_none_is_lost(tmp_path: Path) -> None:
    text = "".join(f"line {number} of a text\n" for number in range(400))
    data = read(given(tmp_path, DatasetKind.TEXT, text))
    held = "".join(row.text for _, row in data.validation)
    left = [row.text for _, row in data.train]
    assert len(held) == pytest.approx(0.1 * len(text), rel=0.2)
    assert sorted((held + "".join(left)).splitlines()) == sorted(text.splitlines())
    # What was not taken out stays together.
    assert all(part in text for part in left)
    assert len(left) <= len(data.validation) + 1


def test_passages_are_all_of_a_text() -> None:
    text = "first\nsecond\nthird without an end"
    assert "".join(row.text for _, row in passages(text, 8)) == text
    assert [row.text for _, row in joined(passages(text, 8))] == [text]


@pytest.mark.parametrize("num_lines", [1, 2])
def test_lines_that_are_long_are_cut_between_words_and_nothing_is_lost(tmp_path: Path, num_lines: int) -> None:
    lines = [" ".join(f"word-{number}-{line}" for number in range(300)) + "\n" for line in range(num_lines)]
    text = "".join(lines).rstrip("\n")
    data = read(given(tmp_path, DatasetKind.TEXT, text))
    held = [row.text for _, row in data.validation]
    left = [row.text for _, row in data.train]
    assert len("".join(held)) == pytest.approx(0.1 * len(text), rel=0.2)
    assert all(part in text for part in held + left)
    assert sum(len(part) for part in held + left) == len(text)
    assert sorted(word for part in held + left for word in part.split()) == sorted(text.split())


@pytest.mark.parametrize("text", ["x" * 1000, "x" * 1000 + "\n", "a " + "x" * 500 + " b\r\n" + "y" * 300])
def test_lines_without_spaces_are_cut_where_they_are_too_long(text: str) -> None:
    found = [row.text for _, row in passages(text, 10_000)]
    assert "".join(found) == text
    assert len(found) >= MIN_PASSAGES / 2
    assert all(part.strip() for part in found)


@pytest.mark.parametrize(("num_rows", "share", "num_drawn"), [(2, 0.01, 1), (2, 0.99, 1), (100, 0.05, 5)])
def test_something_is_held_out_and_something_is_left(num_rows: int, share: float, num_drawn: int) -> None:
    assert len(draw(num_rows, share, 0)) == num_drawn


def test_a_validation_file_leaves_the_training_file_whole(tmp_path: Path) -> None:
    training = given(tmp_path, DatasetKind.ROWS, rows("a", "b"))
    data = read(training, given(tmp_path, DatasetKind.ROWS, rows("c"), "test"))
    assert ([row.text for _, row in data.train], [row.text for _, row in data.validation]) == (["a", "b"], ["c"])
    assert (data.validation_ref, data.held_out_share) == ("test@1", None)


def test_what_cannot_be_learned_from_is_refused_with_its_lines(tmp_path: Path) -> None:
    user, assistant = {"role": "user", "content": "Well?"}, {"role": "assistant", "content": "Yes."}
    good, silent, open_end = (json.dumps({"messages": said}) + "\n" for said in ([user, assistant], [user], [user, assistant, user]))
    # A line of white space is passed over, and counts.
    training = given(tmp_path, DatasetKind.CHAT, good + " \n" + silent + open_end + silent)
    with pytest.raises(InvalidInput) as refused:
        read(training)
    assert refused.value.detail == (
        "dataset train@1: line 3, 5 has no assistant turn: there is no answer to learn; "
        "line 4 ends with message 3 of the user: the last turn must be the assistant's"
    )
    with pytest.raises(InvalidInput, match=r"line 1, 2, 3, .*, 100 has no assistant turn.*; and 3 more such lines$"):
        read(given(tmp_path, DatasetKind.CHAT, silent * 103, "many"))
    # A method that lets the model answer itself needs no answer.
    taken = read(training, method=TrainingMethod.GRPO)
    assert sorted(line for line, _ in taken.train + taken.validation) == [1, 3, 4, 5]
    with pytest.raises(InvalidInput, match="too small to hold a part of it out"):
        read(given(tmp_path, DatasetKind.ROWS, rows("alone"), "one"))
