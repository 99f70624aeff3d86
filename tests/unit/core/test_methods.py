"""The method table, what a spec chooses from it, and the sentences of refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.errors import InvalidInput, UnknownMethod, UnknownScheme
from quantry_core.jobs import CalibrationSpec, JobType, QualitySpec, QuantizeSpec, chosen, overridden, written_out
from quantry_core.methods import CHANNEL, METHODS, SCHEMES, DeviceKind, Format, Granularity, Method, MethodInfo, Scheme, choose
from quantry_core.schedules import JobTemplate, ScheduleSubmission
from quantry_core.servability import SUPPORT, EngineName, loaders, not_served

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs" / "methods.md").read_text()
TEXT = CalibrationSpec(datasets=["text"])


def spec(method: str, scheme: str | None = None, **also: Any) -> QuantizeSpec:
    info = METHODS[Method(method)]
    needs = info.needs_calibration(Scheme(scheme) if scheme else info.schemes[0]) or also.get("kv_cache") is not None
    return QuantizeSpec.model_validate({"base": "bard", "method": method, "scheme": scheme, "calibration": TEXT if needs else None, **also})


def test_the_tables_hold_every_name_once() -> None:
    assert set(METHODS) == set(Method)
    assert set(SCHEMES) == set(Scheme)
    assert {scheme for info in METHODS.values() for scheme in info.schemes} == set(Scheme)
    for method, info in METHODS.items():
        assert info.method is method
        assert info.calibrated_schemes <= set(info.schemes)
        assert all(SCHEMES[scheme].scheme is scheme for scheme in info.schemes)


@pytest.mark.parametrize("info", METHODS.values(), ids=lambda info: info.method)
def test_every_default_of_a_method_is_one_it_takes(info: MethodInfo) -> None:
    for scheme in info.schemes:
        choice = chosen(spec(info.method, scheme))
        assert choice.scheme is scheme
        assert choice.weights.bits == SCHEMES[scheme].weight_bits
        assert dict(choice.options) == {option.name: option.default for option in info.options}
    if info.default_group_size is not None:
        assert info.default_group_size in info.group_sizes


@pytest.mark.parametrize("info", METHODS.values(), ids=lambda info: info.method)
def test_something_loads_what_every_method_makes(info: MethodInfo) -> None:
    for scheme in info.schemes:
        assert loaders(info.format, scheme), f"nothing loads {scheme} of {info.method}"


def test_what_vllm_cannot_load_is_told_with_what_it_can() -> None:
    assert not_served(Format.COMPRESSED_TENSORS, {Scheme.W4A16}, EngineName.VLLM, DeviceKind.CPU) is None
    sentence = not_served(Format.GGUF, {Scheme.Q4_K_M}, EngineName.VLLM, DeviceKind.CPU)
    assert sentence is not None
    assert "llama.cpp on cpu" in sentence and "W4A16 (compressed-tensors)" in sentence
    assert not_served(Format.COMPRESSED_TENSORS, {Scheme.W2A16}, EngineName.VLLM, DeviceKind.CPU) is not None
    assert not_served(Format.BITSANDBYTES, {Scheme.NF4}, EngineName.VLLM, DeviceKind.CUDA) is not None
    assert {row.engine for row in SUPPORT} == set(EngineName)


@pytest.mark.parametrize(
    ("method", "scheme", "error", "words"),
    [
        ("awq2", None, UnknownMethod, "known: rtn, gptq"),
        ("gptq", "W5A16", UnknownScheme, "known: W4A16"),
        ("smoothquant", "W4A16", UnknownScheme, "known: W8A8"),
    ],
)
def test_an_unknown_method_or_scheme_is_told_what_there_is(method: str, scheme: str | None, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        choose(method, scheme, None, {})


@pytest.mark.parametrize(
    ("group_size", "granularity", "size"),
    [(None, Granularity.GROUP, 128), (64, Granularity.GROUP, 64), (CHANNEL, Granularity.CHANNEL, None)],
)
def test_a_group_size_decides_the_granularity(group_size: Any, granularity: Granularity, size: int | None) -> None:
    weights = choose("gptq", None, group_size, {}).weights
    assert (weights.granularity, weights.group_size, weights.symmetric) == (granularity, size, True)


@pytest.mark.parametrize(
    ("method", "group_size", "words"),
    [
        ("gptq", 7, "32, 64, 128, channel, not 7"),
        ("fp8", 128, "no choice of group size"),
        ("gptqmodel", CHANNEL, "32, 64, 128, not channel"),
    ],
)
def test_a_group_size_that_a_method_cannot_take_is_refused(method: str, group_size: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        choose(method, None, group_size, {})


def test_hqq_is_never_symmetric_and_floats_always_are() -> None:
    assert not choose("hqq", None, None, {}).weights.symmetric
    assert choose("fp8", None, None, {}).weights.symmetric
    assert not choose("gptq", None, None, {"symmetric": False}).weights.symmetric


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dampening": 0.1}, "no option 'dampening'; it has: symmetric, damping, activation_order"),
        ({"damping": 0.0}, "it lies from 1e-06 to 1.0"),
        ({"damping": float("nan")}, "it lies from"),
        ({"damping": "much"}, "is a number, not 'much'"),
        ({"symmetric": 1}, "is a boolean, not 1"),
        ({"activation_order": "dynamic"}, "is one of static, none"),
    ],
)
def test_options_are_typed_and_bounded(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        choose("gptq", None, None, options)


@given(damping=st.floats(1e-6, 1.0))
def test_an_option_within_its_bounds_is_taken(damping: float) -> None:
    assert choose("gptq", None, None, {"damping": damping}).options["damping"] == damping


def test_regular_expressions_are_refused() -> None:
    for field in ("ignore", "keep_16bit"):
        with pytest.raises(InvalidInput, match=f"{field}: 're:.*' is a regular expression; write a glob"):
            chosen(spec("gptq", None, **{field: ["lm_head", "re:.*down_proj"]}))
    with pytest.raises(InvalidInput, match=r"overrides: 're:.*is a regular expression"):
        chosen(spec("gptq", overrides=[{"modules": ["re:.*down_proj"], "scheme": "W8A16"}]))


def test_patterns_of_one_job_are_counted_together() -> None:
    overrides = [{"modules": [f"*.{index}.mlp.*" for index in range(64)], "group_size": 64}] * 3
    chosen(spec("gptq", ignore=["lm_head"] * 64, overrides=overrides))
    with pytest.raises(InvalidInput, match="have 257 patterns together, more than the 256 of one job"):
        chosen(spec("gptq", ignore=["lm_head"] * 64, keep_16bit=["lm_head"], overrides=overrides))


def test_cost_and_devices_are_those_of_a_scheme() -> None:
    said = {
        f"{method} {scheme}": (info.cost(scheme).value, *info.devices(scheme))
        for method, info in METHODS.items()
        for scheme in info.schemes
    }
    assert said["fp8 FP8"] == said["nvfp4 NVFP4"] == said["gptqmodel W4A16"] == ("calibrated", "cpu", "cuda")
    assert said["fp8 FP8_DYNAMIC"] == said["nvfp4 NVFP4A16"] == said["mxfp4 MXFP4"] == ("data-free", "cpu")
    assert said["rtn W4A16"] == said["hqq W4A16"] == said["gguf Q8_0"] == ("data-free", "cpu")
    assert said["autoround W2A16"] == ("tuned", "cpu", "cuda")
    assert said["bitsandbytes NF4"] == ("data-free", "cpu", "cuda")
    assert said["eetq W8A16"] == ("data-free", "cuda")


def test_text_is_asked_for_where_it_is_needed_and_refused_where_not() -> None:
    with pytest.raises(InvalidInput, match=r"name calibration\.datasets"):
        chosen(QuantizeSpec(base="bard", method="gptq"))
    with pytest.raises(InvalidInput, match="looks at weights alone"):
        chosen(QuantizeSpec(base="bard", method="rtn", calibration=TEXT))
    with pytest.raises(InvalidInput, match="KV cache scales are fitted to text"):
        chosen(QuantizeSpec(base="bard", method="fp8", kv_cache="fp8"))
    chosen(spec("fp8", kv_cache="fp8"))
    with pytest.raises(InvalidInput, match="method kv-cache"):
        chosen(QuantizeSpec(base="bard", method="rtn", kv_cache="fp8", calibration=TEXT))


@pytest.mark.parametrize(
    ("job_size", "override", "scheme", "size"),
    [
        (64, {"scheme": "W8A16"}, Scheme.W8A16, 64),
        ("channel", {"scheme": "W8A16"}, Scheme.W8A16, None),
        (None, {"scheme": "W8A16"}, Scheme.W8A16, 128),
        (64, {"group_size": 32}, Scheme.W4A16, 32),
        (64, {"scheme": "W3A16", "group_size": "channel"}, Scheme.W3A16, None),
    ],
)
def test_an_override_says_what_differs_from_the_job(job_size: Any, override: dict[str, Any], scheme: Scheme, size: int | None) -> None:
    job = spec("gptq", group_size=job_size, overrides=[{"modules": ["*.o_proj"], **override}])
    weights = overridden(chosen(job), job, job.overrides[0])
    assert (weights.scheme, weights.group_size) == (scheme, size)


def test_a_scheme_that_fixes_its_groups_takes_none_of_the_jobs() -> None:
    job = spec("nvfp4", "NVFP4A16", group_size=16, overrides=[{"modules": ["*.o_proj"], "scheme": "NVFP4"}])
    assert overridden(chosen(job), job, job.overrides[0]).group_size == 16
    channels = spec("fp8", "FP8_DYNAMIC", group_size="channel", overrides=[{"modules": ["*.o_proj"], "scheme": "FP8"}])
    assert overridden(chosen(channels), channels, channels.overrides[0]).group_size is None


def test_overrides_take_the_methods_own_schemes() -> None:
    with pytest.raises(UnknownScheme):
        chosen(spec("gptq", overrides=[{"modules": ["a"], "scheme": "FP8"}]))
    with pytest.raises(InvalidInput, match="gives every module the same scheme"):
        chosen(spec("bitsandbytes", overrides=[{"modules": ["a"], "scheme": "NF4"}]))


def test_a_threshold_is_on_a_metric_that_there_is() -> None:
    with pytest.raises(ValueError, match="there is no metric 'speed'"):
        spec("gptq", quality={"thresholds": {"speed": 1.0}})
    with pytest.raises(ValueError, match="finite"):
        spec("gptq", quality={"thresholds": {"perplexity_ratio": float("inf")}})


def test_a_threshold_is_on_what_the_gate_measures() -> None:
    whole = {"thresholds": {"task:piqa.acc": 0.5, "extremes.num_failed": 0}, "tasks": {"names": ["piqa"]}, "extremes": True}
    assert spec("gptq", quality=whole).quality == QualitySpec.model_validate(whole)
    for without, words in (("tasks", "needs its task"), ("extremes", "needs the odd inputs")):
        with pytest.raises(ValueError, match=words):
            spec("gptq", quality={name: value for name, value in whole.items() if name != without})
    with pytest.raises(ValueError, match="ask an evaluate job for speed"):
        spec("gptq", quality={"thresholds": {"speed.requests_per_s": 1}})


def test_tasks_are_refused_where_their_harness_is_not() -> None:
    with pytest.raises(InvalidInput, match=r"leave quality\.tasks out"):
        chosen(spec("gptqmodel", calibration={"datasets": ["text"]}, quality={"tasks": {"names": ["piqa"]}}))


@pytest.mark.parametrize("info", METHODS.values(), ids=lambda info: info.method)
def test_what_is_written_out_makes_the_same(info: MethodInfo) -> None:
    for scheme in info.schemes:
        for size in (None, *info.group_sizes):
            asked = spec(info.method, scheme, group_size=None if SCHEMES[scheme].granularity is not None else size)
            whole = written_out(asked)
            assert chosen(QuantizeSpec.model_validate(whole.model_dump(mode="json"))) == chosen(asked)
            assert whole.scheme == scheme


@pytest.mark.parametrize("name", [*Method, *Scheme])
def test_the_document_names_every_method_and_scheme(name: str) -> None:
    assert f"`{name}`" in DOCUMENT


def test_a_schedule_that_recalibrates_is_one_that_can_be() -> None:
    schedule = ScheduleSubmission.model_validate(yaml.safe_load((ROOT / "examples" / "schedules" / "recalibrate.yaml").read_text()))
    assert isinstance(schedule.template, JobTemplate)
    assert schedule.template.submission.spec.type is JobType.RECALIBRATE
