"""What OpenAI's fine-tuning API takes and shows. Source: https://platform.openai.com/docs/api-reference/fine-tuning"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from quantry_core.jobs.specs.finetune import DpoMethod, Hyperparameters, SupervisedMethod
from quantry_core.jobs.specs.references import DatasetRef, Suffix, VersionRef
from quantry_core.training import ADAPTER_RATES

Auto = Literal["auto"]
AUTO: Auto = "auto"
MAX_METADATA_PAIRS = 16
MAX_PAGE = 100
MIN_MULTIPLIER = 1e-6
"""Far below what teaches anything; a rate that is 0 in floating point could be no spec's."""
MAX_MULTIPLIER = 5000
"""Makes the default learning rate of supervised training the highest that a spec takes, 1."""

MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OpenAIHyperparameters(_Closed):
    """``auto`` is the platform's default."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] = AUTO
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] = AUTO
    learning_rate_multiplier: Auto | Annotated[float, Field(ge=MIN_MULTIPLIER, le=MAX_MULTIPLIER)] = Field(
        default=AUTO, description="Times the method's default learning rate."
    )


class DpoHyperparameters(OpenAIHyperparameters):
    beta: Auto | Annotated[float, Field(gt=0, le=10)] = AUTO


class SupervisedSettings(_Closed):
    hyperparameters: OpenAIHyperparameters = OpenAIHyperparameters()


class DpoSettings(_Closed):
    hyperparameters: DpoHyperparameters = DpoHyperparameters()


class OpenAIMethod(_Closed):
    """How is learned. Other methods than these two are submitted at /api/v1/jobs."""

    type: Literal["supervised", "dpo"]
    supervised: SupervisedSettings | None = None
    dpo: DpoSettings | None = None

    @model_validator(mode="after")
    def _has_settings_of_its_type(self) -> Self:
        other = "dpo" if self.type == "supervised" else "supervised"
        if getattr(self, other) is not None:
            raise ValueError(f"method.{other} is given, and the type is {self.type}")
        return self


class FineTuningJobRequest(_Closed):
    """Body of ``POST /v1/fine_tuning/jobs``."""

    model: VersionRef = Field(description="A deployment's name, or a version: name@3, name@alias, ver_...")
    training_file: DatasetRef = Field(description="The id of a file.")
    validation_file: DatasetRef | None = None
    hyperparameters: OpenAIHyperparameters | None = Field(default=None, description="Of supervised learning, where method is not given.")
    method: OpenAIMethod | None = None
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    suffix: Suffix | None = None
    metadata: dict[MetadataKey, MetadataValue] | None = Field(default=None, max_length=MAX_METADATA_PAIRS)
    integrations: list[Any] | None = Field(default=None, description="None or empty: there are none here.")

    @field_validator("integrations")
    @classmethod
    def _has_no_integrations(cls, given: list[Any] | None) -> list[Any] | None:
        if given:
            raise ValueError("integrations are not permitted: there are none here")
        return given

    @model_validator(mode="after")
    def _says_hyperparameters_once(self) -> Self:
        if self.method is not None and self.hyperparameters is not None:
            raise ValueError(f"hyperparameters are given beside method: write them as method.{self.method.type}.hyperparameters")
        return self

    @property
    def given(self) -> OpenAIHyperparameters:
        """The hyperparameters, wherever they stand."""
        if self.method is None:
            return self.hyperparameters or OpenAIHyperparameters()
        settings = self.method.supervised or self.method.dpo
        return OpenAIHyperparameters() if settings is None else settings.hyperparameters


def spec_method(request: FineTuningJobRequest) -> SupervisedMethod | DpoMethod:
    """Returns the method of the spec that a request means."""
    if request.method is None or request.method.type == "supervised":
        return SupervisedMethod()
    beta = AUTO if request.method.dpo is None else request.method.dpo.hyperparameters.beta
    return DpoMethod() if isinstance(beta, str) else DpoMethod(beta=beta)


def spec_hyperparameters(request: FineTuningJobRequest) -> Hyperparameters:
    """Returns the hyperparameters of the spec that a request means; the multiplier is of the method's own learning rate."""
    given = request.given
    fields: dict[str, Any] = {name: value for name in ("n_epochs", "batch_size") if (value := getattr(given, name)) != AUTO}
    if not isinstance(given.learning_rate_multiplier, str):
        fields["learning_rate"] = ADAPTER_RATES[spec_method(request).type] * given.learning_rate_multiplier
    return Hyperparameters(**fields)


class FineTuningError(BaseModel):
    """Why a job failed."""

    code: str = Field(description="The job's reason.")
    message: str
    param: str | None = None


class FineTuningJob(BaseModel):
    """A fine-tune job in OpenAI's words."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int = Field(description="Seconds since 1970, as all times here.")
    finished_at: int | None
    estimated_finish: int | None = Field(description="Of a running job, by what it still has to do.")
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    error: FineTuningError | None
    model: str = Field(description="The deployment, or the version, that the job named.")
    fine_tuned_model: str | None = Field(
        description="Of a job that succeeded: the adapter's name at the gateway while it is attached, else the version until it is deleted."
    )
    organization_id: str = Field(description="The project.")
    training_file: str
    validation_file: str | None
    result_files: list[str] = Field(description="Always empty: a job's results are its artifacts, below /api/v1/jobs.")
    hyperparameters: dict[str, int | float]
    method: dict[str, Any]
    trained_tokens: int | None
    seed: int
    suffix: str | None
    metadata: dict[str, str]
    integrations: list[str] = Field(description="Always empty.")


class FineTuningEvent(BaseModel):
    """What happened to a job: a move, a note, or numbers of a training step."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class FineTuningCheckpoint(BaseModel):
    """Where a job got to. Its files are downloaded below /api/v1/jobs; it is not served."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: dict[str, float]


class FineTuningJobs(BaseModel):
    """A page, newest first; the next one begins after ``last_id``."""

    object: Literal["list"] = "list"
    data: list[FineTuningJob]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FineTuningEvents(BaseModel):
    """A page, newest first; the next one begins after ``last_id``."""

    object: Literal["list"] = "list"
    data: list[FineTuningEvent]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FineTuningCheckpoints(BaseModel):
    """A page, newest first; the next one begins after ``last_id``."""

    object: Literal["list"] = "list"
    data: list[FineTuningCheckpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool
