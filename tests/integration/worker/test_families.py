"""Families of models against methods, through the whole recipe: each combination passes the gate, or is refused before work starts
with another way named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factories.families import GPTQMODEL_PYTHON, Outcome, family_master, quantize_family
from quantry_core.jobs import CalibrationSpec, QuantizeSpec
from quantry_core.methods import Method, method_info

TEXT = CalibrationSpec(datasets=["text"], num_samples=32, length_tokens=64)
METHODS: dict[str, dict[str, Any]] = {
    "rtn": {"group_size": 32},
    "gptq": {"group_size": 32},
    "awq": {"group_size": 32, "options": {"num_grid": 4}},
    "autoround": {"group_size": 32, "options": {"preset": "light"}},
    "gptqmodel": {"group_size": 32},
    "hqq": {"group_size": 32},
    "smoothquant": {},
    "fp8": {},
    "nvfp4": {},
    "mxfp4": {},
    "kv-cache": {},
    "bitsandbytes": {},
    "gguf": {"scheme": "Q8_0"},
}
"""EETQ needs a GPU."""
FAMILIES = ("llama", "qwen3", "mistral", "gemma", "gpt2", "qwen3_moe", "mixtral")
EXPERTS_LOST = ("hqq", "autoround", "smoothquant", "bitsandbytes", "gptqmodel", "nvfp4", "gguf", "kv-cache")
REFUSED = {
    **{family: {"gguf": f"GGUF files of {family} models"} for family in ("qwen3", "mistral", "gemma")},
    "gpt2": {method: "take gptqmodel or bitsandbytes" for method in METHODS if method not in {"gptqmodel", "bitsandbytes"}},
    "qwen3_moe": dict.fromkeys(EXPERTS_LOST, "the experts of a qwen3_moe model"),
    "mixtral": dict.fromkeys((*EXPERTS_LOST, "gptq", "awq"), "the experts of a mixtral model"),
}
"""By family and method: words of the sentence."""


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def spec(method: str) -> QuantizeSpec:
    info = method_info(method)
    text = TEXT if info.needs_calibration(info.schemes[0]) else None
    return QuantizeSpec.model_validate({"base": "tiny", "method": method, "calibration": text, "quality": None, **METHODS[method]})


def check(family: str, outcomes: dict[str, Outcome]) -> None:
    """Fails unless each method's version is ready, or was refused in the words that are expected, with nothing written."""
    expected = REFUSED.get(family, {})
    for method, one in outcomes.items():
        if method in expected:
            assert expected[method] in (one.refused or ""), (method, one)
            assert "take " in (one.refused or "") and not any(one.output_dir.iterdir()), (method, one)
        else:
            assert (one.refused, one.problems, one.state) == (None, {}, "ready"), (method, one)


def test_experts_are_quantized_by_what_reaches_them_and_refused_to_the_rest(masters: Path, tmp_path: Path) -> None:
    master = family_master("qwen3_moe", masters)
    check("qwen3_moe", quantize_family(tmp_path, master, {method: spec(method) for method in ("rtn", *EXPERTS_LOST)}))


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_quantized_or_refused(masters: Path, tmp_path: Path, family: str) -> None:
    master = family_master(family, masters)
    check(family, quantize_family(tmp_path, master, {method: spec(method) for method in METHODS if method != Method.GPTQMODEL}))


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_quantized_by_gptqmodel_or_refused(masters: Path, tmp_path: Path, family: str) -> None:
    master = family_master(family, masters)
    check(family, quantize_family(tmp_path, master, {"gptqmodel": spec("gptqmodel")}, python=GPTQMODEL_PYTHON))
