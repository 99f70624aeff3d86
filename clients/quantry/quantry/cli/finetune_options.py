"""Options of fine-tune jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from quantry.cli.spec_fields import SpecFields, taking
from quantry.cli.specs import build, build_named, default, words
from quantry_core.jobs import (
    ALL_LINEAR,
    AdapterSpec,
    DistributedSpec,
    DpoMethod,
    FinetuneSpec,
    GrpoMethod,
    Hyperparameters,
    KtoMethod,
    OrpoMethod,
    RewardSpec,
    RlooMethod,
    SupervisedMethod,
    ValidationSpec,
)
from quantry_core.training import REWARDS, AdapterKind, BasePrecision, Overlong, Strategy, TrainingMethod

METHODS: dict[TrainingMethod, type[BaseModel]] = {
    TrainingMethod.SUPERVISED: SupervisedMethod,
    TrainingMethod.DPO: DpoMethod,
    TrainingMethod.KTO: KtoMethod,
    TrainingMethod.ORPO: OrpoMethod,
    TrainingMethod.GRPO: GrpoMethod,
    TrainingMethod.RLOO: RlooMethod,
}
NO_ADAPTER = "none"
"""In place of a kind of adapter: every weight is trained."""

_OPTION_NAMES = {"rewards": "reward", "target_modules": "target_module"}
"""Fields that are called otherwise than their option."""
_HYPERPARAMETERS = SpecFields(Hyperparameters)
_VALIDATION = SpecFields(
    ValidationSpec, {"share": "validation_share", "every_steps": "validate_every_steps", "max_rows": "validation_max_rows"}
)
_OVERLONG: Overlong = default(FinetuneSpec, "overlong")
_SEED, _EVERY_STEPS = default(FinetuneSpec, "seed"), default(FinetuneSpec, "checkpoint_every_steps")
_REWARDS = f"Of grpo and rloo: NAME[:TARGET][=WEIGHT], as in target_length:200=0.5; one of {', '.join(REWARDS)}. May be given again."
_TARGETS = (
    f"A module to change, by the last part of its name or a glob; may be given again. {ALL_LINEAR} where not given: every linear one."
)


@taking(_HYPERPARAMETERS, _VALIDATION)
def finetune_spec(
    *,
    model: Annotated[str, typer.Option(help=words(FinetuneSpec, "model"))],
    training_file: Annotated[str, typer.Option(help="The dataset that is learned from.")],
    validation_file: Annotated[str | None, typer.Option(help=words(FinetuneSpec, "validation_file"))] = None,
    suffix: Annotated[str | None, typer.Option(help=words(FinetuneSpec, "suffix"))] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn: order, dropout, answers.")] = _SEED,
    method: Annotated[TrainingMethod, typer.Option(help="What is learned from.")] = TrainingMethod.SUPERVISED,
    completion_only: Annotated[bool | None, typer.Option(help=words(SupervisedMethod, "completion_only") + " Of supervised.")] = None,
    packing: Annotated[bool | None, typer.Option(help=words(SupervisedMethod, "packing") + " Of supervised.")] = None,
    beta: Annotated[float | None, typer.Option(help="Of every method but supervised: how closely the base is kept to.")] = None,
    desirable_weight: Annotated[float | None, typer.Option(help="Of kto: what a good answer counts for.")] = None,
    undesirable_weight: Annotated[float | None, typer.Option(help="Of kto: what a bad answer counts for.")] = None,
    reward: Annotated[list[str] | None, typer.Option(metavar="NAME[:TARGET][=WEIGHT]", help=_REWARDS)] = None,
    num_generations: Annotated[int | None, typer.Option(help=words(GrpoMethod, "num_generations") + " Of grpo and rloo.")] = None,
    max_completion_tokens: Annotated[int | None, typer.Option(help="Of grpo and rloo: longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of grpo and rloo: what answers are drawn at.")] = None,
    adapter: Annotated[str, typer.Option(metavar="lora|dora|rslora|none", help="none trains every weight.")] = AdapterKind.LORA,
    rank: Annotated[int | None, typer.Option(help="Of the adapter.")] = None,
    alpha: Annotated[float | None, typer.Option(help=words(AdapterSpec, "alpha"))] = None,
    dropout: Annotated[float | None, typer.Option(help="Of the adapter's inputs.")] = None,
    target_module: Annotated[list[str] | None, typer.Option(help=_TARGETS)] = None,
    base_precision: Annotated[BasePrecision | None, typer.Option(help=words(FinetuneSpec, "base_precision"))] = None,
    overlong: Annotated[Overlong, typer.Option(help="What becomes of samples of more than sequence_tokens.")] = _OVERLONG,
    checkpoint_every_steps: Annotated[int, typer.Option(help=words(FinetuneSpec, "checkpoint_every_steps"))] = _EVERY_STEPS,
    corpus: Annotated[list[str] | None, typer.Option(help=words(FinetuneSpec, "corpora") + " May be given again.")] = None,
    strategy: Annotated[Strategy | None, typer.Option(help="Several processes: how they share the work.")] = None,
    num_processes: Annotated[int | None, typer.Option(help=words(DistributedSpec, "num_processes"))] = None,
    zero_stage: Annotated[int | None, typer.Option(help=words(DistributedSpec, "zero_stage"))] = None,
    offload_to_cpu: Annotated[bool | None, typer.Option(help=words(DistributedSpec, "offload_to_cpu"))] = None,
    deployment: Annotated[str | None, typer.Option(help=words(FinetuneSpec, "deployment"))] = None,
    **values: Any,
) -> FinetuneSpec:
    """Train an adapter on a version, or all weights of a 16-bit one."""
    of_method = {
        "completion_only": completion_only,
        "packing": packing,
        "beta": beta,
        "desirable_weight": desirable_weight,
        "undesirable_weight": undesirable_weight,
        "rewards": [reward_of(item) for item in reward] if reward else None,
        "num_generations": num_generations,
        "max_completion_tokens": max_completion_tokens,
        "temperature": temperature,
    }
    of_adapter = {"rank": rank, "alpha": alpha, "dropout": dropout, "target_modules": target_module}
    processes = _given({"strategy": strategy, "num_processes": num_processes, "zero_stage": zero_stage, "offload_to_cpu": offload_to_cpu})
    return build(
        FinetuneSpec,
        model=model,
        training_file=training_file,
        validation_file=validation_file,
        suffix=suffix,
        seed=seed,
        method=method_of(method, of_method),
        adapter=adapter_of(adapter, of_adapter),
        base_precision=base_precision,
        hyperparameters=build(Hyperparameters, **_HYPERPARAMETERS.taken(values)),
        overlong=overlong,
        validation=build_named(ValidationSpec, _VALIDATION.taken(values), _VALIDATION.names),
        checkpoint_every_steps=checkpoint_every_steps,
        corpora=corpus or [],
        distributed=build(DistributedSpec, **processes) if processes else None,
        deployment=deployment,
    )


def method_of(method: TrainingMethod, values: Mapping[str, Any]) -> BaseModel:
    """Returns a method with what was given of it; a usage error names an option that another method has."""
    spec, given = METHODS[method], _given(values)
    for name in given:
        if name not in spec.model_fields:
            takers = ", ".join(other for other, known in METHODS.items() if name in known.model_fields)
            raise typer.BadParameter(f"--{_option(name)} is of {takers}; method {method} has none")
    return build_named(spec, given, _OPTION_NAMES)


def adapter_of(kind: str, values: Mapping[str, Any]) -> AdapterSpec | None:
    """Returns an adapter with what was given of it, None where every weight is trained; a usage error for both at once."""
    given = _given(values)
    if kind != NO_ADAPTER:
        if given.get("target_modules") == [ALL_LINEAR]:
            given["target_modules"] = ALL_LINEAR
        return build_named(AdapterSpec, {"kind": kind, **given}, _OPTION_NAMES | {"kind": "adapter"})
    if given:
        raise typer.BadParameter(f"--{_option(next(iter(given)))} is of an adapter, and --adapter is {NO_ADAPTER}")
    return None


def reward_of(item: str) -> RewardSpec:
    """Returns a reward from ``NAME[:TARGET][=WEIGHT]``; a usage error for another form and a reward that there is not."""
    head, has_weight, weight = item.partition("=")
    name, has_target, target = head.partition(":")
    given = {"name": name} | ({"weight": weight} if has_weight else {}) | ({"target": target} if has_target else {})
    return build_named(RewardSpec, given, dict.fromkeys(RewardSpec.model_fields, "reward"))


def _option(name: str) -> str:
    return _OPTION_NAMES.get(name, name).replace("_", "-")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
