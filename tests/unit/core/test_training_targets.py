"""Which modules an adapter is put on, and what it is called where it is served."""

from __future__ import annotations

import pytest

from quantry_core.errors import InvalidInput
from quantry_core.ids import IdPrefix, new_id
from quantry_core.linears import Shape
from quantry_core.names import MAX_NAME_CHARS, check_name
from quantry_core.training import check_rank, served_name, targeted_modules

MODULES: dict[str, Shape] = {
    "model.layers.0.self_attn.q_proj": (64, 64),
    "model.layers.0.self_attn.v_proj": (16, 64),
    "model.layers.0.mlp.gate": (4, 64),
    "model.layers.1.self_attn.q_proj": (64, 64),
}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        # A router of experts is told by its name, and never among all of them.
        ("all-linear", {name for name in MODULES if not name.endswith(".gate")}),
        (["q_proj"], {"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"}),
        (["*.0.*_proj"], {"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"}),
        (["model.layers.1.self_attn.q_proj", "v_proj"], {"model.layers.1.self_attn.q_proj", "model.layers.0.self_attn.v_proj"}),
    ],
)
def test_targets_are_last_names_whole_names_or_globs(targets: str | list[str], expected: set[str]) -> None:
    assert targeted_modules(MODULES, targets) == sorted(expected)


def test_every_target_that_names_nothing_is_named_with_what_there_is() -> None:
    with pytest.raises(InvalidInput, match=r"called 'query' or '\*\.9\.\*'; there are gate, q_proj, v_proj") as refused:
        targeted_modules(MODULES, ["q_proj", "query", "*.9.*"])
    assert refused.value.errors[0].field == "spec.adapter.target_modules"


def test_a_rank_is_no_more_than_the_shorter_side() -> None:
    check_rank(MODULES, ["model.layers.0.self_attn.v_proj"], 16)
    with pytest.raises(InvalidInput, match=r"rank 17 is more than the 16 .* of model\.layers\.0\.self_attn\.v_proj"):
        check_rank(MODULES, list(MODULES)[:2], 17)


@pytest.mark.parametrize("deployment", ["chat", "c" * MAX_NAME_CHARS])
def test_a_served_name_is_a_name_of_its_job(deployment: str) -> None:
    first, second = new_id(IdPrefix.JOB), "job_" + "0" * 26 + "abcdef"
    assert check_name(served_name(deployment, None, second)).endswith("-ft-abcdef")
    assert check_name(served_name(deployment, "jargon", first)) != served_name(deployment, "jargon", second)
    assert served_name("chat", "jargon", second) == "chat-jargon-abcdef"
