"""The measured choice on the example model: an adapter that learned the Jargon File on 3 bits, and text that nothing has seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.merge.case import HELD_OUT, VALIDATION, ways


@pytest.mark.long
def test_the_choice_by_validation_is_the_best_on_text_that_was_held_out_too(tmp_path: Path) -> None:
    found = ways(tmp_path, "W3A16")
    assert found["ways"].keys() == {"master", "dequantized-base", "unmerged"}
    by_rule = {way: figures["nll_mean"] for way, figures in found["ways"].items()}
    held_out = {way: figures["corpora"][f"{HELD_OUT}@1"]["nll_mean"] for way, figures in found["ways"].items()}
    assert {figures["validation_file"] for figures in found["ways"].values()} == {f"{VALIDATION}@1"}
    assert found["choice"] == min(by_rule, key=lambda way: by_rule[way]) == min(held_out, key=lambda way: held_out[way]), found["ways"]
