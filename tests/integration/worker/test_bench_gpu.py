"""The benchmark for whoever has a GPU runs to its end, on a model that any machine can train."""

from __future__ import annotations

import pytest

from bench.gpu import finetune


@pytest.mark.long
def test_both_ways_are_trained_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    costs = []
    original = finetune.train

    def train(*arguments: object) -> finetune.Cost:
        costs.append(original(*arguments))  # type: ignore[arg-type]
        return costs[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "train", train)
        patch.setattr(finetune, "publish", lambda *_, **__: None)
        assert finetune.main(["--shape", "tiny"]) == 0
    assert len(costs) == 2
    assert all(cost.tokens_per_s > 0 for cost in costs)
    told = capsys.readouterr().out
    if costs[0].peak_vram_bytes is None:
        assert "QLoRA nf4: tokens a second" in told
        assert "nothing was written" in told
