"""Fine-tune jobs. The words are those of OpenAI's fine-tuning API where they mean the same."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from quantry_core.jobs.specs.references import DatasetRef, DeploymentName, ModulePattern, Spec, Suffix, VersionRef
from quantry_core.jobs.states import JobType
from quantry_core.training import (
    ADAPTER_RATES,
    FULL_RATES,
    AdapterKind,
    BasePrecision,
    Overlong,
    Reward,
    Schedule,
    Strategy,
    TrainingMethod,
    reward_info,
)

ALL_LINEAR: Literal["all-linear"] = "all-linear"
"""Every linear module but the output layer."""

_COMPARES = "compares the model with its reference, and dropout would be noise in what is compared"
_SAMPLES = "learns from answers that the model gives itself, and dropout would have another model give them"
_WITHOUT_DROPOUT = {
    TrainingMethod.DPO: _COMPARES,
    TrainingMethod.KTO: _COMPARES,
    TrainingMethod.GRPO: _SAMPLES,
    TrainingMethod.RLOO: _SAMPLES,
}
"""Why a method trains without dropout."""


class SupervisedMethod(Spec):
    """Learns text, answers to prompts, or the assistant's turns of chats."""

    type: Literal[TrainingMethod.SUPERVISED] = TrainingMethod.SUPERVISED
    completion_only: bool = Field(
        default=True, description="Of prompts and chats only the answers are learned; plain text is learned whole."
    )
    packing: bool = Field(default=False, description="Short samples share a sequence; they do not see each other.")


class DpoMethod(Spec):
    """Prefers the chosen answer to the rejected one, relative to the base."""

    type: Literal[TrainingMethod.DPO] = TrainingMethod.DPO
    beta: float = Field(default=0.1, gt=0, le=10, description="How closely the base is kept to: larger is closer.")


class KtoMethod(Spec):
    """Learns from answers that are each labelled good or bad."""

    type: Literal[TrainingMethod.KTO] = TrainingMethod.KTO
    beta: float = Field(default=0.1, gt=0, le=10)
    desirable_weight: float = Field(default=1.0, gt=0, le=100)
    undesirable_weight: float = Field(default=1.0, gt=0, le=100)


class OrpoMethod(Spec):
    """Supervised learning of the chosen answer with an odds-ratio penalty on the rejected one; no reference model."""

    type: Literal[TrainingMethod.ORPO] = TrainingMethod.ORPO
    beta: float = Field(default=0.1, gt=0, le=10, description="Weight of the odds-ratio term; lambda in the paper.")


class RewardSpec(Spec):
    """A row of the table of rewards, and what it counts for."""

    name: Reward
    weight: float = Field(default=1.0, gt=0, le=100)
    target: float | None = Field(default=None, gt=0, le=1e6, description="Of target_length: characters.")

    @model_validator(mode="after")
    def _has_target(self) -> Self:
        if reward_info(self.name).needs_target is not (self.target is not None):
            raise ValueError(f"reward {self.name} {'needs a' if self.target is None else 'takes no'} target")
        return self


class _Sampling(Spec):
    rewards: list[RewardSpec] = Field(min_length=1, max_length=8)
    num_generations: int = Field(default=4, ge=2, le=64, description="Answers to one prompt that are compared with each other.")
    max_completion_tokens: int = Field(default=128, ge=1, le=32768)
    temperature: float = Field(default=1.0, gt=0, le=10)
    beta: float = Field(default=0.04, ge=0, le=10, description="Weight of the KL divergence from the base.")


class GrpoMethod(_Sampling):
    """Generates answers and learns from how each compares with the group's mean reward."""

    type: Literal[TrainingMethod.GRPO] = TrainingMethod.GRPO


class RlooMethod(_Sampling):
    """As grpo, each answer compared with the mean of the others (REINFORCE leave-one-out)."""

    type: Literal[TrainingMethod.RLOO] = TrainingMethod.RLOO


MethodSpec = Annotated[
    SupervisedMethod | DpoMethod | KtoMethod | OrpoMethod | GrpoMethod | RlooMethod,
    Field(discriminator="type"),
]


class AdapterSpec(Spec):
    """What is trained beside the frozen weights."""

    kind: AdapterKind = AdapterKind.LORA
    rank: int = Field(default=16, ge=1, le=512)
    alpha: float = Field(default=32.0, gt=0, le=4096, description="The update is scaled by alpha / rank; rslora: alpha / sqrt(rank).")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Of the adapter's inputs; of supervised and orpo alone.")
    target_modules: Literal["all-linear"] | Annotated[list[ModulePattern], Field(min_length=1, max_length=64)] = Field(
        default=ALL_LINEAR,
        description="all-linear, or names: the last part of a module's (q_proj), its whole one, or a glob over it. "
        "On quantized bases begin with q_proj and v_proj.",
    )


class Hyperparameters(Spec):
    """Of the optimizer, AdamW, and of what it sees."""

    n_epochs: int = Field(default=1, ge=1, le=1000, description="Passes over the training file.")
    max_steps: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Ends after so many optimizer steps, whatever n_epochs says."
    )
    batch_size: int = Field(default=8, ge=1, le=4096, description="Sequences of one forward pass, of each process.")
    accumulation_steps: int = Field(default=1, ge=1, le=4096, description="Forward passes of one optimizer step.")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="The highest, after the warm-up. Not given it is 2e-4 of supervised and 1e-5 of the others; where all weights are "
        "trained, a tenth of that.",
    )
    schedule: Schedule = Field(default=Schedule.LINEAR, description="How the learning rate goes on after its warm-up.")
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1, description="Share of the steps that the learning rate rises in.")
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0, le=1000, description="Longer gradients are scaled down to it.")
    sequence_tokens: int = Field(default=512, ge=16, le=131_072, description="Longest sequence, prompt and answer together.")
    gradient_checkpointing: bool = Field(
        default=False, description="Activations are computed again in the backward pass: slower, less memory."
    )


class ValidationSpec(Spec):
    """When what was held out is measured, and what follows from it."""

    share: float = Field(default=0.05, gt=0, lt=1, description="Of the training file, held out where no validation_file is named.")
    every_steps: int | None = Field(
        default=None, ge=1, description="Optimizer steps from one measurement to the next; once an epoch where not given."
    )
    max_rows: int = Field(default=512, ge=1, le=100_000, description="Measures only the first so many samples.")
    early_stopping_patience: int | None = Field(
        default=None, ge=1, le=1000, description="Stops after so many measurements in a row that did not become better."
    )


class DistributedSpec(Spec):
    """Several processes for one job, on one host."""

    strategy: Strategy = Strategy.DDP
    num_processes: int = Field(default=2, ge=2, le=64, description="One for each GPU; on the CPU they share the cores.")
    zero_stage: Literal[1, 2] | None = Field(
        default=None, description="Of deepspeed: optimizer states are sharded (1), gradients too (2); 2 where not given."
    )
    offload_to_cpu: bool = Field(
        default=False,
        description="The optimizer's states rest in the host's memory, of fsdp and deepspeed; of fsdp parameters, too.",
    )

    @field_validator("zero_stage", mode="before")
    @classmethod
    def _shards_no_weights(cls, stage: object) -> object:
        if stage == 3:
            raise ValueError("stage 3 leaves no process a whole weight to keep or to measure, and nothing here gathers them; take fsdp")
        return stage

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.zero_stage is not None and self.strategy is not Strategy.DEEPSPEED:
            raise ValueError(f"zero_stage is deepspeed's; strategy {self.strategy} has none")
        if self.offload_to_cpu and self.strategy is Strategy.DDP:
            raise ValueError("ddp keeps the whole model in each process and offloads nothing; take fsdp or deepspeed")
        return self


class FinetuneSpec(Spec):
    """Trains an adapter on a master or on a quantized version, or all weights of a master."""

    type: Literal[JobType.FINETUNE] = JobType.FINETUNE
    model: VersionRef = Field(description="What is trained: 16-bit, or quantized weights, which stay as they are under an adapter.")
    training_file: DatasetRef
    validation_file: DatasetRef | None = Field(
        default=None, description="Never trained on; a share of training_file is held out where not given."
    )
    suffix: Suffix | None = Field(
        default=None, description="The new version is of model <base>-<suffix>; of the base's own where not given."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    method: MethodSpec = SupervisedMethod()
    adapter: AdapterSpec | None = Field(default=AdapterSpec(), description="null trains every weight, of a 16-bit base only.")
    base_precision: BasePrecision | None = Field(default=None, description="Rounds a 16-bit base while the adapter is trained: QLoRA.")
    hyperparameters: Hyperparameters = Hyperparameters()
    overlong: Overlong = Field(
        default=Overlong.TRUNCATE, description="Of rows of more than sequence_tokens; plain text is cut into sequences, none of it is lost."
    )
    validation: ValidationSpec = ValidationSpec()
    checkpoint_every_steps: int = Field(default=100, ge=1, description="A lost attempt goes on from the last checkpoint.")
    corpora: list[DatasetRef] = Field(
        default_factory=list, max_length=16, description="Untouched text that before and after are compared on: what was forgotten."
    )
    distributed: DistributedSpec | None = None
    deployment: DeploymentName | None = Field(
        default=None, description="Attaches the adapter to this deployment of the base, when it is ready."
    )

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if self.adapter is None and self.base_precision is not None:
            raise ValueError("rounded weights cannot be trained: give an adapter, or leave base_precision out")
        if self.adapter is None and self.deployment is not None:
            raise ValueError("only an adapter can be attached to a deployment; deploy the version itself instead")
        reason = _WITHOUT_DROPOUT.get(self.method.type)
        if reason is not None and self.adapter is not None and self.adapter.dropout > 0:
            raise ValueError(f"{self.method.type} {reason}: leave adapter.dropout out")
        if isinstance(self.method, KtoMethod) and self.hyperparameters.batch_size < 2:
            raise ValueError("kto takes the other answers of a batch as what is compared with: batch_size must be 2 or more")
        if isinstance(self.method, _Sampling):
            self._check_sampling(self.method)
        return self

    @property
    def default_learning_rate(self) -> float:
        """The learning rate where none is given."""
        return (FULL_RATES if self.adapter is None else ADAPTER_RATES)[self.method.type]

    @property
    def learning_rate(self) -> float:
        """The highest learning rate: the one given, or the method's own."""
        given = self.hyperparameters.learning_rate
        return self.default_learning_rate if given is None else given

    @property
    def num_processes(self) -> int:
        """How many processes share the work."""
        return 1 if self.distributed is None else self.distributed.num_processes

    def _check_sampling(self, method: _Sampling) -> None:
        size = self.hyperparameters.batch_size * self.num_processes
        if size % method.num_generations:
            raise ValueError(f"num_generations {method.num_generations} does not divide a batch of {size} answers")
        if method.max_completion_tokens >= self.hyperparameters.sequence_tokens:
            raise ValueError(
                f"max_completion_tokens {method.max_completion_tokens} leaves no room for a prompt in sequence_tokens "
                f"{self.hyperparameters.sequence_tokens}"
            )
