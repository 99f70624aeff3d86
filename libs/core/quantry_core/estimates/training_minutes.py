"""Wall clock of fine-tune and merge jobs: tokens through the model and back, over the rate of the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from quantry_core.estimates.facts import CheckpointFacts
from quantry_core.estimates.minutes import BYTES_PER_TOKEN, RATES, START_S, attempt_minutes, evaluate_minutes, quantize_minutes
from quantry_core.estimates.sizes import quantized_facts
from quantry_core.estimates.training import NUM_SEQUENCES, REFERENCE_METHODS, compared_spec, merged_spec
from quantry_core.jobs import (
    EvaluateSpec,
    FinetuneSpec,
    GrpoMethod,
    JobType,
    MergeSpec,
    QuantizationRecipe,
    Resource,
    RlooMethod,
)
from quantry_core.training import CORPUS_WINDOW_TOKENS, CORPUS_WINDOWS

DECODE_LAYER_S: dict[Resource, float] = {Resource.CPU: 2e-3, Resource.GPU: 5e-4}
"""Of one token of each answer of a batch, for each layer: small operations, whatever their size."""
NUM_MERGED_COMPARED = 4
"""Versions that a measured merge scores: the three ways, and the 16-bit version they are compared with."""


def finetune_minutes(
    base: CheckpointFacts,
    spec: FinetuneSpec,
    resource: Resource,
    *,
    training_bytes: int | None,
    validation_bytes: int | None,
    text_bytes: Sequence[int],
) -> float | None:
    """Returns the minutes of a fine-tune job; None where it ends after epochs of a training file that is not known.

    A token costs 2 FLOP a weight forward and 2 back, 2 more where weights are trained themselves (Kaplan et al. 2020,
    arXiv:2001.08361, section 2.1) and 2 more where activations are computed again; a reference costs 2 for each it scores.
    ``text_bytes`` are the corpora that before and after are compared on, ``validation_bytes`` the file that is named for validation.
    """
    num_tokens = trained_tokens(spec, training_bytes)
    if num_tokens is None:
        return None
    weights = base.num_linear_weights + base.vocabulary * base.hidden_size
    given = spec.hyperparameters
    passes = 4.0 + (2.0 if spec.adapter is None else 0.0) + (2.0 if given.gradient_checkpointing else 0.0)
    passes += 2.0 if spec.method.type in REFERENCE_METHODS else 0.0
    work_s = passes * num_tokens * weights / RATES[resource].flops_per_s + _generation_s(base, spec, num_tokens, resource)
    if spec.distributed is not None and resource is Resource.GPU:
        work_s /= spec.distributed.num_processes
    # Before and after each prompt is answered once, in between as often as while it is learned from.
    num_measurements = 2 + num_validations(spec, num_tokens, training_bytes) * _num_answers(spec)
    num_measured = num_measurements * _held_out_tokens(spec, training_bytes, validation_bytes)
    measured_s = 2.0 * num_measured * weights / RATES[resource].flops_per_s + _generation_s(base, spec, num_measured, resource)
    compared = 0.0
    if spec.corpora:
        pair = EvaluateSpec(
            version=spec.model,
            against=spec.model,
            corpora=spec.corpora,
            window_tokens=CORPUS_WINDOW_TOKENS,
            max_windows=CORPUS_WINDOWS,
        )
        compared = evaluate_minutes(base, base, pair, text_bytes, resource)
    start = attempt_minutes(START_S[JobType.FINETUNE], transferred=base.weights_bytes + base.other_bytes, checked=base.weights_bytes)
    return start + (work_s + measured_s) / 60 + compared


def _held_out_tokens(spec: FinetuneSpec, training_bytes: int | None, validation_bytes: int | None) -> int:
    """Returns the tokens of what is measured on: as many full sequences as are asked for, and no more than there is text."""
    most = spec.validation.max_rows * spec.hyperparameters.sequence_tokens * NUM_SEQUENCES[spec.method.type]
    held_out_bytes = validation_bytes
    if spec.validation_file is None and training_bytes is not None:
        held_out_bytes = ceil(spec.validation.share * training_bytes)
    return most if held_out_bytes is None else min(most, ceil(held_out_bytes / BYTES_PER_TOKEN))


def _num_answers(spec: FinetuneSpec) -> int:
    """Returns how often each prompt is answered where answers are generated; 1 elsewhere."""
    return spec.method.num_generations if isinstance(spec.method, GrpoMethod | RlooMethod) else 1


def num_validations(spec: FinetuneSpec, num_tokens: int, training_bytes: int | None) -> int:
    """Returns how often what is held out is measured while ``num_tokens`` are trained on: each ``every_steps`` and after the last step,
    else at each epoch's end.

    A step is taken to be of full sequences; of a file that is not known, all steps are one epoch.
    """
    given = spec.hyperparameters
    if spec.validation.every_steps is not None:
        return ceil(ceil(num_tokens / _step_tokens(spec)) / spec.validation.every_steps)
    if given.max_steps is None:
        return given.n_epochs
    if training_bytes is None:
        return 1
    return ceil(num_tokens * BYTES_PER_TOKEN / (training_bytes * _num_answers(spec)))


def trained_tokens(spec: FinetuneSpec, training_bytes: int | None) -> int | None:
    """Returns the tokens of all steps: ``max_steps`` of full sequences, else the file's bytes / 4 in each epoch; None where unknown."""
    given = spec.hyperparameters
    if given.max_steps is not None:
        return given.max_steps * _step_tokens(spec)
    if training_bytes is None:
        return None
    return ceil(given.n_epochs * training_bytes * _num_answers(spec) / BYTES_PER_TOKEN)


def tokens_text(spec: FinetuneSpec, training_bytes: int) -> str:
    """Returns how many tokens a fine-tune job is estimated by, and what that rests on."""
    given = spec.hyperparameters
    num_tokens = f"The estimate assumes {trained_tokens(spec, training_bytes) or 0:,} tokens"
    if given.max_steps is not None:
        return f"{num_tokens}: {given.max_steps:,} steps of full sequences of {given.sequence_tokens:,}."
    answers = f", answered {spec.method.num_generations} times" if isinstance(spec.method, GrpoMethod | RlooMethod) else ""
    return (
        f"{num_tokens}: {training_bytes:,} bytes of the training file, {BYTES_PER_TOKEN:g} to a token{answers}, n_epochs {given.n_epochs}; "
        "the job counts them by the model's tokenizer when it begins."
    )


def _step_tokens(spec: FinetuneSpec) -> int:
    """Returns the tokens of one optimizer step of full sequences."""
    given = spec.hyperparameters
    num_sequences = given.batch_size * NUM_SEQUENCES[spec.method.type] * given.accumulation_steps * spec.num_processes
    return num_sequences * given.sequence_tokens


def _generation_s(base: CheckpointFacts, spec: FinetuneSpec, num_tokens: int, resource: Resource) -> float:
    """The seconds of generating answers, one token of a whole batch after another."""
    if not isinstance(spec.method, GrpoMethod | RlooMethod):
        return 0.0
    given = spec.hyperparameters
    num_passes = num_tokens / (given.batch_size * given.sequence_tokens)
    return num_passes * spec.method.max_completion_tokens * base.num_layers * DECODE_LAYER_S[resource]


def merge_minutes(base: CheckpointFacts, spec: MergeSpec, recipe: QuantizationRecipe | None, text_bytes: Sequence[int]) -> float:
    """Returns the minutes of a merge job, on the CPU: reading and writing the weights; with ``measure`` one quantization by ``recipe`` and
    the scoring of what is compared."""
    merging = attempt_minutes(
        START_S[JobType.MERGE], transferred=2 * (base.weights_bytes + base.other_bytes), checked=2 * base.weights_bytes
    )
    if not spec.measure or recipe is None:
        return merging
    again = merged_spec(recipe)
    made = quantize_minutes(base, quantized_facts(base, again), again, Resource.CPU)
    return merging + made + NUM_MERGED_COMPARED * evaluate_minutes(base, None, compared_spec(spec), text_bytes, Resource.CPU)
