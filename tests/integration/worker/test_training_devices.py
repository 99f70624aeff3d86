"""What training and merging hold of memory and disk, each told by a script in the ml environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from factories.backends import run_python
from factories.child_runs import MASTER

HERE = Path(__file__).parent


def test_strategies_are_taken_by_transformers(tmp_path: Path) -> None:
    assert run_python(HERE / "strategy_arguments.py", tmp_path) == {
        "ddp_find_unused_parameters": False,
        "fsdp_version": 2,
        "fsdp_offloads": True,
        "fsdp_reshards": True,
        "fsdp_loads_on_one": False,
        "fsdp_recomputes": True,
        "fsdp_state_dict": "FULL_STATE_DICT",
        "deepspeed_unknown": [],
    }


def test_what_was_trained_is_measured_as_it_was_trained_and_without_its_optimizer() -> None:
    said = run_python(HERE / "measured_as_trained.py", MASTER)
    assert said.pop("num_states") > 0
    assert said == {
        "num_states_left": 0,
        "num_gradients_left": 0,
        "is_as_trained": True,
        "dtypes": ["torch.bfloat16", "torch.float32"],
        "is_evaluating": True,
        "is_alike": True,
    }


def test_ways_are_scored_in_rounds_where_references_would_take_too_much(tmp_path: Path) -> None:
    said = run_python(HERE / "measured_in_rounds.py", tmp_path)
    # Windows of 10 tokens, 9 of them scored: 7 of the first text, 2 and 4 of the others. Two references, three ways.
    # Each model goes over 13 windows, each way over one row too: 5 * 13 + 3 * 1 in all.
    assert said["at_once"].pop("first_fractions") == pytest.approx([done / 68 for done in (0, 13, 26, 40, 54)])
    assert all(said[name].pop("grows") for name in ("at_once", "in_rounds", "one_by_one"))
    assert [said[name].pop("first_fractions") for name in ("in_rounds", "one_by_one")] == [
        pytest.approx([done / 68 for done in (0, windows, 2 * windows, 3 * windows + 1, 4 * windows + 2)]) for windows in (3, 1)
    ]
    assert said == {
        "at_once": {"num_loads": 5, "kept_tokens": [13 * 9], "left": False},
        "in_rounds": {"num_loads": 25, "kept_tokens": [3 * 9, 3 * 9, 3 * 9, 3 * 9, 9], "left": False},
        "one_by_one": {"num_loads": 13 * 5, "kept_tokens": [9] * 13, "left": False},
        "is_alike": True,
        "num_tokens": {"long": 63.0, "short": 18.0, "other": 36.0},
    }
