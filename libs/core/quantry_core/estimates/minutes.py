"""Wall clock of one attempt: start-up, transfers, and arithmetic over the rate at which it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quantry_core.estimates.facts import CheckpointFacts
from quantry_core.jobs import EvaluateSpec, JobType, QuantizeSpec, Resource, chosen
from quantry_core.linears import is_named
from quantry_core.methods import CostClass, Method

START_S: dict[JobType, float] = {
    JobType.IMPORT: 1.0,
    JobType.QUANTIZE: 11.0,
    JobType.EVALUATE: 7.0,
    JobType.RECALIBRATE: 15.0,
    JobType.FINETUNE: 12.0,
    JobType.MERGE: 9.0,
    JobType.DEPLOY: 25.0,
}
"""Until the work begins: the child's interpreter and what it imports, or an engine up to its first token."""

TRANSFER_BYTES_PER_S = 150e6
"""Between the vault and a worker on one host, every byte hashed on the way."""
CHECK_BYTES_PER_S = 400e6
"""Reading weights once, to look for numbers that are not finite, or to compare rows with the master's."""
BYTES_PER_TOKEN = 4.0
"""Of English text, with the tokenizers that are common today."""


DATA_FREE_OPERATIONS = 16
"""Looks at each weight: scale, round, clamp, pack, and reading it all again in the gate."""
TUNED_STEPS = {"light": 50, "default": 200, "best": 1000}
TUNED_BATCH = 8
"""Samples of one step of AutoRound."""


class Rates(NamedTuple):
    """How fast a worker of a resource does the two kinds of work there are. Corrections learn what these get wrong."""

    flops_per_s: float
    """Of large float32 products."""
    column_s: float
    """One step of GPTQ's loop over columns: a dozen small operations, whatever the size."""


RATES: dict[Resource, Rates] = {
    Resource.CPU: Rates(flops_per_s=60e9, column_s=150e-6),
    Resource.GPU: Rates(flops_per_s=15e12, column_s=20e-6),
}


def import_minutes(source: CheckpointFacts) -> float:
    """Returns the minutes of an import: the copy, and the upload into the vault."""
    return attempt_minutes(START_S[JobType.IMPORT], transferred=2 * _bytes(source), checked=0)


def quantize_minutes(base: CheckpointFacts, result: CheckpointFacts, spec: QuantizeSpec, resource: Resource) -> float:
    """Returns the minutes of a quantize job: making the version, and the gate that compares it with its master."""
    start_s = START_S[JobType.QUANTIZE]
    work_s = _method_s(base, spec, RATES[resource]) + _quality_s(base, spec)
    transferred, checked = _bytes(base) + _bytes(result), 2 * base.weights_bytes + result.weights_bytes
    return attempt_minutes(start_s + work_s, transferred=transferred, checked=checked)


def _method_s(base: CheckpointFacts, spec: QuantizeSpec, rates: Rates) -> float:
    """The seconds of a method's arithmetic.

    A data-free method looks at each weight some dozen times. Otherwise each calibration token goes twice through every layer,
    2 FLOP a weight, and once into a Hessian of each Linear, 2 in^2. Solving a module: two Cholesky factorisations and an
    inverse, 4/3 in^3 together, and its columns' errors carried to the rest, out x in^2; a step for each column besides
    (arXiv:2210.17323, algorithm 1). A method that trains goes forward and back, 6 FLOP a weight, for each step of 8 samples.
    """
    if spec.calibration is None:
        return 2 * DATA_FREE_OPERATIONS * base.num_linear_weights / rates.flops_per_s
    choice = chosen(spec)
    num_tokens = spec.calibration.num_samples * spec.calibration.length_tokens
    if choice.cost is CostClass.TUNED:
        num_steps = TUNED_STEPS.get(str(choice.options.get("preset")), TUNED_STEPS["default"])
        return 6.0 * num_steps * TUNED_BATCH * spec.calibration.length_tokens * base.num_linear_weights / rates.flops_per_s
    if choice.info.method is Method.AWQ:
        # Every strength that is tried is one more pass through what it scales.
        num_tries = float(choice.options.get("num_grid", 20))
        return (4.0 + 2.0 * num_tries) * num_tokens * base.num_linear_weights / rates.flops_per_s
    flops = 4.0 * num_tokens * base.num_linear_weights
    num_columns = 0
    for layer in base.layers.values():
        for name, (num_rows, width) in layer.items():
            if is_named(name, spec.kept_patterns):
                continue
            flops += 2.0 * num_tokens * width**2 + 4 / 3 * width**3 + float(num_rows) * width**2
            num_columns += width
    return flops / rates.flops_per_s + num_columns * rates.column_s


def _quality_s(base: CheckpointFacts, spec: QuantizeSpec) -> float:
    """The seconds of scoring the quality corpora with both models, on the CPU whatever the resource."""
    if spec.quality is None:
        return 0.0
    num_tokens = len(spec.quality_corpora) * spec.quality.max_windows * spec.quality.window_tokens
    return 4.0 * num_tokens * (base.num_linear_weights + base.vocabulary * base.hidden_size) / RATES[Resource.CPU].flops_per_s


def evaluate_minutes(
    subject: CheckpointFacts, reference: CheckpointFacts | None, spec: EvaluateSpec, text_bytes: Sequence[int], resource: Resource
) -> float:
    """Returns the minutes of an evaluate job: every token of every window through each model, its logits included, 2 FLOP a weight."""
    num_tokens = sum(_seen_tokens(size, spec) for size in text_bytes)
    models = [subject] if reference is None else [subject, reference]
    flops = sum(2.0 * num_tokens * (model.num_linear_weights + model.vocabulary * model.hidden_size) for model in models)
    work_s = flops / RATES[resource].flops_per_s
    checked = sum(model.num_parameters * 4 for model in models)
    return attempt_minutes(START_S[JobType.EVALUATE] + work_s, transferred=sum(map(_bytes, models)), checked=checked)


def deploy_minutes(subject: CheckpointFacts) -> float:
    """Returns the minutes until the replicas, which start side by side, have answered a token."""
    return attempt_minutes(START_S[JobType.DEPLOY], transferred=_bytes(subject), checked=subject.weights_bytes)


def _seen_tokens(text_bytes: int, spec: EvaluateSpec) -> int:
    """Returns the tokens of all windows: where windows overlap, what lies in several is computed in each."""
    stride = spec.stride_tokens or spec.window_tokens
    past_the_first = max(0, int(text_bytes / BYTES_PER_TOKEN) - spec.window_tokens)
    # With a stride shorter than the window a last, shorter one takes in the rest; otherwise the rest is left out.
    num_windows = 1 + (past_the_first // stride if stride == spec.window_tokens else -(-past_the_first // stride))
    return spec.window_tokens * (num_windows if spec.max_windows is None else min(num_windows, spec.max_windows))


def _bytes(facts: CheckpointFacts) -> int:
    return facts.weights_bytes + facts.other_bytes


def attempt_minutes(seconds: float, *, transferred: float, checked: float) -> float:
    """Returns the minutes of an attempt: work in seconds, bytes moved, bytes looked at."""
    return (seconds + transferred / TRANSFER_BYTES_PER_S + checked / CHECK_BYTES_PER_S) / 60
