"""Estimates of fine-tune and merge jobs: against peaks that were measured, against what PEFT wrote, and against closed forms."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.errors import InvalidInput
from quantry_core.estimates import (
    CheckpointFacts,
    Given,
    StoredTensor,
    estimate_figures,
    estimate_key,
    facts_of,
    finetune_peak_bytes,
    fitting_changes,
    is_packed,
    memory,
    quantized_facts,
    safetensors_bytes,
)
from quantry_core.estimates.training import merge_ram_bytes
from quantry_core.estimates.training_minutes import num_validations, tokens_text, trained_tokens
from quantry_core.jobs import FinetuneSpec, MergeSpec, QuantizationRecipe, QuantizeSpec, Resource
from quantry_core.training import Strategy, TrainingMethod

BARD = Path(__file__).parents[3] / "examples" / "bard-6m"
MIB = 1024**2
LEAST_RATIO, LARGEST_RATIO = 0.80, 1.25
"""Of an estimate over what was measured; docs/estimates.md says the same."""
REWARDED: dict[str, Any] = {"rewards": [{"name": "no_repetition"}], "num_generations": 4, "max_completion_tokens": 64}


def llama(hidden: int, layers: int, inner: int, vocabulary: int, *, is_tied: bool) -> CheckpointFacts:
    """Returns a Llama of random 16-bit weights with two key-value heads of 64."""
    shapes = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (128, hidden), "self_attn.v_proj": (128, hidden)}
    shapes |= {"self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden)}
    shapes |= {"mlp.down_proj": (hidden, inner)}
    tensors = {f"model.layers.{n}.{name}.weight": StoredTensor("BF16", shape) for n in range(layers) for name, shape in shapes.items()}
    tensors["model.embed_tokens.weight"] = StoredTensor("BF16", (vocabulary, hidden))
    if not is_tied:
        tensors["lm_head.weight"] = StoredTensor("BF16", (vocabulary, hidden))
    config = {"model_type": "llama", "hidden_size": hidden, "vocab_size": vocabulary, "num_attention_heads": hidden // 64}
    return CheckpointFacts(tensors, safetensors_bytes(tensors), 0, config | {"num_key_value_heads": 2, "num_hidden_layers": layers})


MODELS = {
    "bard": facts_of(inspect_checkpoint(DirectoryCheckpoint(BARD))),
    "72m": llama(640, 12, 1728, 16384, is_tied=False),
    "56m": llama(512, 8, 1408, 65536, is_tied=True),
}


def spec(**changes: Any) -> FinetuneSpec:
    return FinetuneSpec.model_validate({"model": "bard@1", "training_file": "rows"} | changes)


def step(method: str = "supervised", *, batch: int = 8, tokens: int = 512, again: bool = False, **changes: Any) -> FinetuneSpec:
    """Returns a job by what one step of it sees; ``again`` is gradient checkpointing."""
    settings = REWARDED if method in {"grpo", "rloo"} else {}
    given = {"batch_size": batch, "sequence_tokens": tokens, "gradient_checkpointing": again}
    return spec(method={"type": method, **settings}, hyperparameters=given, **changes)


class Measured(NamedTuple):
    """A run of bare TRL 1.16 and PEFT 0.21 on two cores, two steps long, and its peak resident memory."""

    model: str
    spec: FinetuneSpec
    peak_mib: int


ATTENTION = {"target_modules": ["q_proj", "v_proj"]}
MEASURED = (
    Measured("bard", step(batch=4, tokens=128), 905),
    Measured("bard", step(batch=8, tokens=256), 1506),
    Measured("bard", step(batch=8, tokens=512), 2156),
    Measured("bard", step(batch=8, tokens=1024), 2973),
    Measured("bard", step(batch=16, tokens=512), 3082),
    Measured("bard", step(batch=16, tokens=512, again=True), 2169),
    Measured("bard", step(batch=8, tokens=512, adapter=None), 1961),
    Measured("bard", step(batch=8, tokens=512, adapter=ATTENTION), 1862),
    Measured("bard", step(batch=8, tokens=512, adapter={"kind": "dora"}), 2669),
    Measured("bard", step(batch=8, tokens=512, base_precision="nf4"), 2028),
    Measured("bard", step("dpo", batch=8, tokens=256), 2198),
    Measured("bard", step("kto", batch=8, tokens=256), 1524),
    Measured("bard", step("orpo", batch=8, tokens=256), 1943),
    Measured("bard", step("grpo", batch=8, tokens=256), 1469),
    Measured("72m", step(batch=4, tokens=256), 2489),
    Measured("72m", step(batch=1, tokens=1024), 2481),
    Measured("72m", step(batch=16, tokens=128), 4102),
    Measured("72m", step(batch=8, tokens=512), 7153),
    Measured("72m", step(batch=4, tokens=256, again=True), 1960),
    Measured("72m", step(batch=8, tokens=512, again=True), 4792),
    Measured("72m", step(batch=4, tokens=256, adapter=None), 2859),
    Measured("72m", step(batch=4, tokens=256, adapter=ATTENTION), 2133),
    Measured("72m", step(batch=4, tokens=256, adapter={"kind": "dora"}), 3200),
    Measured("72m", step(batch=4, tokens=256, base_precision="nf4"), 2182),
    Measured("72m", step(batch=4, tokens=256, base_precision="int8"), 2154),
    Measured("72m", step("dpo", batch=4, tokens=256), 4225),
    Measured("72m", step("dpo", batch=4, tokens=256, adapter=None), 4582),
    Measured("72m", step("kto", batch=4, tokens=256), 2489),
    Measured("72m", step("grpo", batch=8, tokens=256), 3361),
    Measured("72m", step("grpo", batch=4, tokens=256, adapter=None), 3131),
    Measured("56m", step(batch=4, tokens=256), 2599),
    Measured("56m", step(batch=4, tokens=256, again=True), 2253),
    Measured("56m", step(batch=8, tokens=512), 7273),
    Measured("56m", step(batch=8, tokens=512, again=True), 6378),
    Measured("56m", step(batch=4, tokens=256, adapter=None), 2933),
    Measured("56m", step("orpo", batch=4, tokens=256), 3879),
    Measured("56m", step("rloo", batch=8, tokens=256), 4093),
)


def peak(base: CheckpointFacts, job: FinetuneSpec, resource: Resource = Resource.CPU) -> int:
    return finetune_peak_bytes(base, job, resource, of=resource)


@pytest.mark.parametrize("measured", MEASURED, ids=lambda one: f"{one.model}-{one.spec.method.type}-{one.peak_mib}")
def test_the_peak_is_near_what_was_measured(measured: Measured) -> None:
    ratio = peak(MODELS[measured.model], measured.spec) / MIB / measured.peak_mib
    assert LEAST_RATIO <= ratio <= LARGEST_RATIO


def test_every_method_was_measured() -> None:
    assert {measured.spec.method.type for measured in MEASURED} == set(TrainingMethod)


def test_an_adapter_is_told_to_the_byte() -> None:
    # As PEFT 0.21 wrote it: rank 16 on every linear module.
    figures = estimate_figures(spec(), Given(MODELS["bard"]), Resource.CPU)
    assert figures.result_bytes == 1_878_592
    dora = estimate_figures(spec(adapter={"kind": "dora"}), Given(MODELS["bard"]), Resource.CPU).result_bytes
    outputs = sum(shape[0] for name, shape in MODELS["bard"].linears.items() if not name.endswith("lm_head"))
    assert dora is not None
    assert 4 * outputs < dora - 1_878_592 < 4 * outputs + 160 * len(MODELS["bard"].linears)
    assert estimate_figures(spec(adapter=None), Given(MODELS["bard"]), Resource.CPU).result_bytes == MODELS["bard"].weights_bytes


def test_all_weights_take_gradient_and_two_moments_of_four_bytes_each() -> None:
    base = MODELS["72m"]
    adapted = step(adapter={"rank": 1, "target_modules": ["q_proj"]})
    more = peak(base, step(adapter=None)) - peak(base, adapted)
    assert more == pytest.approx(12 * base.num_parameters, rel=0.2)


def test_rounding_the_base_saves_what_it_rounds() -> None:
    base = MODELS["72m"]
    linear = sum(prod(shape) for name, shape in base.linears.items() if name != "lm_head")
    for precision, bits in (("nf4", 4.127), ("int8", 8.0)):
        saved = peak(base, step()) - peak(base, step(base_precision=precision))
        assert saved == pytest.approx((32 - bits) / 8 * linear, rel=1e-3)


def test_a_packed_base_stays_packed_and_another_is_dequantized() -> None:
    master = MODELS["72m"]
    nf4 = quantized_facts(master, QuantizeSpec(base="m", method="bitsandbytes", scheme="NF4", quality=None))
    w4a16 = quantized_facts(master, QuantizeSpec(base="m", method="rtn", scheme="W4A16", quality=None))
    assert is_packed(nf4)
    assert is_packed(w4a16)
    assert not is_packed(master)
    # But for the pages of the file that it is read from.
    assert peak(nf4, step()) - nf4.weights_bytes == pytest.approx(peak(master, step(base_precision="nf4")) - master.weights_bytes, rel=1e-6)
    assert peak(w4a16, step()) - w4a16.weights_bytes == peak(master, step()) - master.weights_bytes


def test_processes_have_the_whole_model_or_a_share() -> None:
    base = MODELS["72m"]

    def shared(**settings: Any) -> int:
        return peak(base, step(adapter=None, distributed={"num_processes": 2, **settings}), Resource.GPU) - memory.CUDA_CONTEXT_BYTES

    alone = peak(base, step(adapter=None), Resource.GPU) - memory.CUDA_CONTEXT_BYTES
    weights = 4 * base.num_parameters
    assert shared(strategy=Strategy.DDP) == alone
    assert alone - shared(strategy=Strategy.DEEPSPEED, zero_stage=1) == pytest.approx(weights, rel=1e-6)
    assert alone - shared(strategy=Strategy.DEEPSPEED) == pytest.approx(1.5 * weights, rel=1e-6)
    assert alone - shared(strategy=Strategy.FSDP) == pytest.approx(2 * weights, rel=1e-6)
    two = peak(base, step(distributed={"strategy": "ddp", "num_processes": 2}))
    assert two == pytest.approx(2 * peak(base, step()) - base.weights_bytes)


def test_what_the_first_process_gathers_to_write_it_is_in_the_hosts_memory() -> None:
    base = MODELS["72m"]

    def host(**changes: Any) -> int:
        num_processes = 1 if "distributed" not in changes else 2
        peak_bytes = finetune_peak_bytes(base, step(**changes), Resource.GPU, of=Resource.CPU)
        return peak_bytes - num_processes * 2000 * MIB - base.weights_bytes

    assert host(adapter=None) == 4 * base.num_parameters
    # As PEFT stores it, in float32: 8 bytes of length and the header are no numbers.
    written = estimate_figures(step(), Given(base), Resource.GPU).result_bytes
    assert written is not None
    assert host() == pytest.approx(written, rel=0.02)
    assert host(adapter=None, distributed={"strategy": "ddp", "num_processes": 2}) == 4 * base.num_parameters
    # Two moments besides.
    assert host(adapter=None, distributed={"strategy": "fsdp", "num_processes": 2}) == 12 * base.num_parameters


def test_weights_are_whole_before_they_are_sharded() -> None:
    base = MODELS["72m"]
    weights = 4 * base.num_parameters

    def peak_of(**changes: Any) -> int:
        job = step(batch=1, tokens=16, adapter=None, distributed={"strategy": "fsdp", "num_processes": 64}, **changes)
        return peak(base, job, Resource.GPU) - memory.CUDA_CONTEXT_BYTES

    assert peak_of() == weights
    # Beside its share of what was trained, while corpora are compared.
    assert peak_of(corpora=["text"]) == pytest.approx(weights * (1 + 1 / 64), rel=1e-6)


def test_what_a_base_does_not_have_is_named() -> None:
    with pytest.raises(InvalidInput, match="called 'query'"):
        peak(MODELS["bard"], step(adapter={"target_modules": ["query"]}))
    with pytest.raises(InvalidInput, match="rank 200 is more than the 128"):
        peak(MODELS["bard"], step(adapter={"rank": 200, "target_modules": ["k_proj"]}))
    # The output layer carries no adapter.
    with pytest.raises(InvalidInput, match="called 'lm_head'"):
        peak(MODELS["72m"], step(adapter={"target_modules": ["lm_head"]}))


def test_tokens_are_those_of_the_steps_or_of_the_file() -> None:
    assert trained_tokens(spec(hyperparameters={"n_epochs": 3}), 4000) == 3000
    assert trained_tokens(spec(), None) is None
    given = {"max_steps": 10, "batch_size": 2, "accumulation_steps": 3, "sequence_tokens": 64}
    assert trained_tokens(spec(hyperparameters=given), 4000) == 10 * 2 * 3 * 64
    assert trained_tokens(spec(hyperparameters=given, method={"type": "dpo"}), None) == 2 * 10 * 2 * 3 * 64
    assert trained_tokens(step("grpo"), 4000) == 4 * 1000


def test_what_tokens_were_assumed_is_said() -> None:
    assert tokens_text(spec(hyperparameters={"n_epochs": 3}), 4000) == (
        "The estimate assumes 3,000 tokens: 4,000 bytes of the training file, 4 to a token, n_epochs 3; "
        "the job counts them by the model's tokenizer when it begins."
    )
    assert "4,000 tokens: 4,000 bytes of the training file, 4 to a token, answered 4 times, n_epochs 1;" in tokens_text(step("grpo"), 4000)
    given = {"max_steps": 1000, "batch_size": 2, "sequence_tokens": 64}
    assert tokens_text(spec(hyperparameters=given), 4000) == "The estimate assumes 128,000 tokens: 1,000 steps of full sequences of 64."


def test_more_text_takes_longer_and_a_gpu_less() -> None:
    def minutes(training_bytes: int, resource: Resource = Resource.CPU, **changes: Any) -> float:
        figures = estimate_figures(spec(**changes), Given(MODELS["72m"], training_bytes=training_bytes), resource)
        assert figures.minutes is not None
        return figures.minutes

    few, many = minutes(10**6), minutes(2 * 10**6)
    base = MODELS["72m"]
    weights = base.num_linear_weights + base.vocabulary * base.hidden_size
    # 4 FLOP a weight and token to train; 2 of the twentieth that is held out, before, after, and at the epoch's end; 60 GFLOP/s.
    assert many - few == pytest.approx(250_000 * (4 + 3 * 2 / 20) * weights / 60e9 / 60, rel=1e-3)
    assert minutes(2 * 10**6, Resource.GPU) < many
    assert minutes(10**6, hyperparameters={"gradient_checkpointing": True}) > few
    assert minutes(10**6, method={"type": "dpo"}) > few
    assert minutes(10**6, method={"type": "grpo", **REWARDED}) > 4 * few


def minutes_of(job: FinetuneSpec, resource: Resource = Resource.CPU, **given: Any) -> float:
    minutes = estimate_figures(job, Given(MODELS["72m"], training_bytes=10**6, **given), resource).minutes
    assert minutes is not None
    return minutes


def test_answers_to_what_is_held_out_take_their_time() -> None:
    def minutes(num_rows: int) -> float:
        return minutes_of(step("grpo", validation={"max_rows": num_rows}))

    base = MODELS["72m"]
    weights = base.num_linear_weights + base.vocabulary * base.hidden_size
    # Of 8 rows of 512 tokens more, one batch: answered before, after, and 4 times at the epoch's end; 64 tokens, 12 layers, 2 ms each.
    generated_s = (2 + 4) * 64 * 12 * 2e-3
    scored_s = (2 + 4) * 2 * 8 * 512 * weights / 60e9
    assert (minutes(16) - minutes(8)) * 60 == pytest.approx(generated_s + scored_s, rel=1e-6)


@pytest.mark.parametrize(("resource", "flops_per_s"), [(Resource.CPU, 60e9), (Resource.GPU, 15e12)])
def test_of_corpora_the_windows_that_are_compared_are_counted(resource: Resource, flops_per_s: float) -> None:
    job, base = step(corpora=["text"]), MODELS["72m"]
    weights = base.num_linear_weights + base.vocabulary * base.hidden_size
    most = minutes_of(job, resource, text_bytes=[10**8])
    # 128 windows of 256 tokens are 131,072 bytes: 64 windows less with half of them, through two models.
    assert minutes_of(job, resource, text_bytes=[131_072]) == most
    half = minutes_of(job, resource, text_bytes=[65_536])
    assert (most - half) * 60 == pytest.approx(2 * 2 * 64 * 256 * weights / flops_per_s, rel=1e-6)


def test_what_is_held_out_is_the_file_that_is_named() -> None:
    job, base = step(validation_file="exam"), MODELS["72m"]
    weights = base.num_linear_weights + base.vocabulary * base.hidden_size
    few, many = (minutes_of(job, validation_bytes=size) for size in (40_000, 400_000))
    assert (many - few) * 60 == pytest.approx(3 * 2 * 90_000 * weights / 60e9, rel=1e-6)
    # The first 512 full sequences of it are measured.
    assert minutes_of(job, validation_bytes=10**9) == minutes_of(job, validation_bytes=4 * 512 * 512)


@pytest.mark.parametrize(
    ("asked", "validation", "expected"),
    [
        # A million bytes are 250,000 tokens; a step of 8 x 512 tokens sees 4,096.
        ({"n_epochs": 16}, {}, 16),
        # After the last step, the 123rd, too.
        ({"n_epochs": 2}, {"every_steps": 10}, 13),
        ({"max_steps": 7}, {"every_steps": 10}, 1),
        ({"max_steps": 200}, {"every_steps": 50}, 4),
        ({"max_steps": 200}, {}, 4),
    ],
)
def test_what_is_held_out_is_measured_as_often_as_the_spec_says(asked: dict[str, Any], validation: dict[str, Any], expected: int) -> None:
    job = spec(hyperparameters={"batch_size": 8, "sequence_tokens": 512} | asked, validation=validation)
    num_tokens = trained_tokens(job, 10**6)
    assert num_tokens is not None
    assert num_validations(job, num_tokens, 10**6) == expected


def test_a_merge_holds_the_model_and_with_measure_what_quantizing_does() -> None:
    base = MODELS["72m"]
    plain = MergeSpec.model_validate({"adapters": [{"adapter": "a@1"}]})
    assert merge_ram_bytes(base, plain, None) > 4 * base.num_parameters
    recipe = QuantizationRecipe(method="rtn", quality=None)
    measured = MergeSpec.model_validate(
        {"adapters": [{"adapter": "a@1"}], "measure": True, "validation_file": "rows", "quantize": recipe.model_dump()}
    )
    assert merge_ram_bytes(base, measured, recipe) >= memory.quantize_ram_bytes(base, QuantizeSpec(base="m", method="rtn", quality=None))
    figures = [estimate_figures(job, Given(base), Resource.CPU) for job in (plain, measured)]
    assert figures[0].result_bytes == figures[1].result_bytes == base.weights_bytes
    assert figures[0].minutes is not None
    assert figures[1].minutes is not None
    assert figures[1].minutes > figures[0].minutes


def test_keys_keep_alike_jobs_together() -> None:
    keys = [estimate_key(job, Resource.CPU) for job in (spec(), spec(adapter=None), step("dpo"))]
    assert keys == ["finetune/supervised/cpu", "finetune/supervised-full/cpu", "finetune/dpo/cpu"]


def changes_for(job: FinetuneSpec, max_mib: int, model: str = "72m", resource: Resource = Resource.CPU) -> list[str]:
    base = MODELS[model]
    return fitting_changes(job, lambda changed: peak(base, changed, resource) <= max_mib * MIB, is_packed=is_packed(base))


def test_what_would_fit_is_each_change_that_does_it_alone() -> None:
    job = step(batch=8, tokens=512)
    assert peak(MODELS["72m"], job) > 4500 * MIB
    assert changes_for(job, 4500) == ["batch_size 4", "sequence_tokens 256", "gradient_checkpointing"]
    full = step(batch=8, tokens=512, adapter=None)
    assert "batch_size 2" in changes_for(full, 3000)
    assert changes_for(step(batch=1, tokens=64, adapter=None), 1500) == ["an adapter instead of all weights"]


def test_a_rounded_base_is_proposed_where_it_is_16_bit_and_has_an_adapter() -> None:
    base = MODELS["72m"]
    job = step(batch=1, tokens=64)
    bound = peak(base, step(batch=1, tokens=64, base_precision="int8")) // MIB + 1
    assert changes_for(job, bound) == ["base_precision int8", "base_precision nf4"]
    packed = quantized_facts(base, QuantizeSpec(base="m", method="bitsandbytes", scheme="INT8", quality=None))
    assert not fitting_changes(job, lambda changed: peak(packed, changed) < peak(packed, job) * 0.9, is_packed=True)


def test_where_one_change_is_not_enough_the_fewest_together_are_told() -> None:
    job = step(batch=8, tokens=512)
    [together] = changes_for(job, 1300)
    assert " with " in together
    assert not changes_for(job, 100)


def test_a_batch_that_generations_do_not_divide_is_not_proposed() -> None:
    job = step("grpo", batch=8, tokens=256)
    told = changes_for(job, 2500)
    assert "batch_size 4" in told
    assert not [words for words in changes_for(job, 1900) if words in {"batch_size 2", "batch_size 1"}]
