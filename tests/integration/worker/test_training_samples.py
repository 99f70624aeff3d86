"""What is learned of a row, and that packed samples do not see each other: beside what transformers says, in the ml environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factories.child_runs import MASTER
from factories.forked import run_script

SCRIPT = Path(__file__).with_name("check_samples.py")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run_script(SCRIPT, MASTER).splitlines()[-1])
    return answer


def test_only_the_assistants_turns_are_learned(found: dict[str, Any]) -> None:
    masks = found["masks"]
    assert masks["ids"] == masks["their_ids"]
    # A template that is not marked ends a turn with its last character, the line break; the marks here leave that out.
    ours, theirs = masks["learned"], [bool(one) for one in masks["their_mask"]]
    more = [index for index, pair in enumerate(zip(ours, theirs, strict=True)) if pair == (True, False)]
    assert not any(pair == (False, True) for pair in zip(ours, theirs, strict=True))
    assert all(theirs[index - 1] and (index + 1 == len(theirs) or not theirs[index + 1]) for index in more)
    assert len(more) == 2
    assert masks["learned_text"].replace("\n", "") == (
        "Thou art more lovely and more temperate.</s>Rough winds do shake the darling buds of May</s>"
    )
    assert masks["num_learned_whole"] == len(masks["ids"])


def test_a_template_that_rewrites_earlier_turns_is_refused(found: dict[str, Any]) -> None:
    assert "line 1" in found["masks"]["refused"]
    assert "let completion_only be false" in found["masks"]["refused"]


def test_without_a_template_an_answer_follows_its_prompt_and_ends_the_sequence(found: dict[str, Any]) -> None:
    assert found["prompt"]["text"].replace("<s>", "") == "To be, or not to be</s>"
    assert found["prompt"]["learned_text"] == " or not to be</s>"
    assert found["prompt"]["ends_in_eos"] is True


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2"])
def test_packed_samples_do_not_see_each_other(found: dict[str, Any], family: str) -> None:
    one = found["isolation"][family]
    assert (one["num_samples"], one["num_sequences"]) == (5, 2)
    # Float32 sums in another order, and no more; with one mask for the sequence they are far apart.
    assert one["distance"] < 1e-5
    assert one["gradient_distance"] < 1e-5
    assert one["distance_without"] > 1e-3


def test_a_model_that_lets_samples_see_each_other_is_refused(found: dict[str, Any]) -> None:
    assert "lets samples of one sequence see each other" in found["crossing"]
