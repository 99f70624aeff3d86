"""Parts of a training by themselves, in the ml environment: orders of epochs, clocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factories.child_runs import MASTER
from factories.forked import run_script

SCRIPT = Path(__file__).with_name("check_training_parts.py")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run_script(SCRIPT, MASTER).splitlines()[-1])
    return answer


def test_prompts_come_in_an_order_of_the_epochs_number_alone(found: dict[str, Any]) -> None:
    epochs = found["prompts"]["epochs"]
    assert found["prompts"]["late"] == epochs[2]
    assert len({tuple(one) for one in epochs}) == 3
    assert all(sorted(one) == sorted([*range(12)] * 2) for one in epochs)
    assert found["prompts"]["length"] == 24


def test_a_share_of_batches_goes_on_in_its_epoch(found: dict[str, Any]) -> None:
    share = found["share"]
    assert share["passed_over"] == share["all"][1:]
    assert share["all"] != share["first_epoch"]


def test_text_and_rows_begin_as_an_engine_begins_what_it_completes(found: dict[str, Any]) -> None:
    text = found["text"]
    assert len(text["begins"]) > 1
    assert all(text["begins"])
    assert not any(text["is_begin_learned"])
    assert max(text["lengths"]) <= 8
    assert text["text"] is True
    assert text["row"] == ["<s>", "</s>"]


def test_a_pair_that_is_cut_to_equal_answers_is_left_out(found: dict[str, Any]) -> None:
    assert found["pairs"] == {"kept": [1], "num_truncated": 1, "num_dropped": 1}


def test_orpo_learns_the_chosen_answer_and_not_its_prompt(found: dict[str, Any]) -> None:
    orpo = found["orpo"]
    assert orpo["found"] == pytest.approx(orpo["of_answers"], rel=1e-5)
    assert orpo["found"] != pytest.approx(orpo["of_all"], rel=1e-3)


def test_the_rate_of_a_step_waits_for_the_device(found: dict[str, Any]) -> None:
    assert found["tokens_per_s"] <= 10 / 0.2
