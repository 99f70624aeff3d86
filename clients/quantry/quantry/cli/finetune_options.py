"""Options of fine-tune jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from quantry.cli.completion import dataset_refs, version_refs
from quantry.cli.spec_fields import Option, OptionGroup, SpecFields, taking
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
_TARGETS = words(AdapterSpec, "target_modules") + " May be given again."


_OF_METHOD = OptionGroup(
    {
        "completion_only": Option(
            Annotated[bool | None, typer.Option(help=words(SupervisedMethod, "completion_only") + " Of supervised.")]
        ),
        "packing": Option(Annotated[bool | None, typer.Option(help=words(SupervisedMethod, "packing") + " Of supervised.")]),
        "beta": Option(Annotated[float | None, typer.Option(help="Of every method but supervised: how closely the base is kept to.")]),
        "desirable_weight": Option(Annotated[float | None, typer.Option(help="Of kto: what a good answer counts for.")]),
        "undesirable_weight": Option(Annotated[float | None, typer.Option(help="Of kto: what a bad answer counts for.")]),
        "reward": Option(Annotated[list[str] | None, typer.Option(metavar="NAME[:TARGET][=WEIGHT]", help=_REWARDS)]),
        "num_generations": Option(Annotated[int | None, typer.Option(help=words(GrpoMethod, "num_generations") + " Of grpo and rloo.")]),
        "max_completion_tokens": Option(Annotated[int | None, typer.Option(help="Of grpo and rloo: longest answer.")]),
        "temperature": Option(Annotated[float | None, typer.Option(help="Of grpo and rloo: what answers are drawn at.")]),
    }
)
_OF_ADAPTER = OptionGroup(
    {
        "rank": Option(Annotated[int | None, typer.Option(help="Of the adapter.")]),
        "alpha": Option(Annotated[float | None, typer.Option(help=words(AdapterSpec, "alpha"))]),
        "dropout": Option(Annotated[float | None, typer.Option(help=words(AdapterSpec, "dropout"))]),
        "target_module": Option(Annotated[list[str] | None, typer.Option(help=_TARGETS)]),
    }
)
_OF_PROCESSES = OptionGroup(
    {
        "strategy": Option(Annotated[Strategy | None, typer.Option(help="Several processes: how they share the work.")]),
        "num_processes": Option(Annotated[int | None, typer.Option(help=words(DistributedSpec, "num_processes"))]),
        "zero_stage": Option(Annotated[int | None, typer.Option(help=words(DistributedSpec, "zero_stage"))]),
        "offload_to_cpu": Option(Annotated[bool | None, typer.Option(help=words(DistributedSpec, "offload_to_cpu"))]),
    }
)


@taking(_OF_METHOD, _OF_ADAPTER, _HYPERPARAMETERS, _VALIDATION, _OF_PROCESSES)
def finetune_spec(
    *,
    model: Annotated[str, typer.Option(help=words(FinetuneSpec, "model"), autocompletion=version_refs)],
    training_file: Annotated[str, typer.Option(help="The dataset that is learned from.", autocompletion=dataset_refs)],
    validation_file: Annotated[str | None, typer.Option(help=words(FinetuneSpec, "validation_file"))] = None,
    suffix: Annotated[str | None, typer.Option(help=words(FinetuneSpec, "suffix"))] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn: order, dropout, answers.")] = _SEED,
    method: Annotated[TrainingMethod, typer.Option(help="What is learned from.")] = TrainingMethod.SUPERVISED,
    adapter: Annotated[str, typer.Option(metavar="lora|dora|rslora|none", help="none trains every weight.")] = AdapterKind.LORA,
    base_precision: Annotated[BasePrecision | None, typer.Option(help=words(FinetuneSpec, "base_precision"))] = None,
    overlong: Annotated[Overlong, typer.Option(help=words(FinetuneSpec, "overlong"))] = _OVERLONG,
    checkpoint_every_steps: Annotated[int, typer.Option(help=words(FinetuneSpec, "checkpoint_every_steps"))] = _EVERY_STEPS,
    corpus: Annotated[list[str] | None, typer.Option(help=words(FinetuneSpec, "corpora") + " May be given again.")] = None,
    deployment: Annotated[str | None, typer.Option(help=words(FinetuneSpec, "deployment"))] = None,
    **values: Any,
) -> FinetuneSpec:
    """Train an adapter on a version, or all weights of a 16-bit one."""
    processes = _given(_OF_PROCESSES.taken(values))
    return build(
        FinetuneSpec,
        model=model,
        training_file=training_file,
        validation_file=validation_file,
        suffix=suffix,
        seed=seed,
        method=method_of(method, _method_fields(values)),
        adapter=adapter_of(adapter, _adapter_fields(values)),
        base_precision=base_precision,
        hyperparameters=build(Hyperparameters, **_HYPERPARAMETERS.taken(values)),
        overlong=overlong,
        validation=build_named(ValidationSpec, _VALIDATION.taken(values), _VALIDATION.names),
        checkpoint_every_steps=checkpoint_every_steps,
        corpora=corpus or [],
        distributed=build(DistributedSpec, **processes) if processes else None,
        deployment=deployment,
    )


def _method_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    fields = _OF_METHOD.taken(values)
    rewards = fields.pop("reward")
    return fields | {"rewards": [reward_of(item) for item in rewards] if rewards else None}


def _adapter_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    fields = _OF_ADAPTER.taken(values)
    return fields | {"target_modules": fields.pop("target_module")}


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
