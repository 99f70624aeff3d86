"""Errors with an HTTP status and a stable type, and the problem document (RFC 9457) they become."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_CONTENT_TYPE = "application/problem+json"
PROBLEM_TYPE_PREFIX = "urn:quantry:problem:"


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    model_config = ConfigDict(frozen=True)

    field: str = Field(description="Dotted path of the field, e.g. spec.scheme.")
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem document. ``type`` is stable: programs may switch on it."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="urn:quantry:problem:<slug>")
    title: str = Field(description="The same for every occurrence of this type.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened this time and what to do about it.")
    instance: str | None = Field(default=None, description="The request's path.")
    errors: list[FieldProblem] = Field(default_factory=list, description="One entry per bad field, where that is known.")


class QuantryError(Exception):
    """Base of the expected errors. Each subclass fixes an HTTP status, a stable slug and a title."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong inside Quantry"

    def __init__(self, detail: str, *, errors: list[FieldProblem] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []

    def problem(self, instance: str | None = None) -> Problem:
        """Returns the problem document for this error."""
        return Problem(
            type=PROBLEM_TYPE_PREFIX + self.slug,
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=instance,
            errors=self.errors,
        )


class InvalidInput(QuantryError):
    """The request is well formed but asks for something that cannot be: names the field and why."""

    status = 422
    slug = "invalid-input"
    title = "The request is not valid"


class UnknownJobType(InvalidInput):
    slug = "unknown-job-type"
    title = "There is no such job type"


class UnknownMethod(InvalidInput):
    slug = "unknown-method"
    title = "There is no such quantization method"


class UnknownScheme(InvalidInput):
    slug = "unknown-scheme"
    title = "The method has no such scheme"


class InvalidName(InvalidInput):
    slug = "invalid-name"
    title = "That cannot be a name"


class SourceRefused(InvalidInput):
    """A checkpoint that may not be imported: outside the allowed roots, incomplete, executable, truncated or not 16-bit."""

    slug = "source-refused"
    title = "This source cannot be imported"


class BadCron(InvalidInput):
    """A cron expression that cannot be read, never fires, or fires too often for what it starts."""

    slug = "bad-cron"
    title = "This schedule cannot be"


class OutboundRefused(InvalidInput):
    """An address that the platform does not fetch from: what it looks like, or where it leads."""

    slug = "outbound-refused"
    title = "This address is not fetched from"


class IdempotencyKeyReused(InvalidInput):
    slug = "idempotency-key-reused"
    title = "This Idempotency-Key was used with another request"


class NotOffered(InvalidInput):
    """What another registry's client may ask for and Quantry does not do; the detail says what to do instead."""

    slug = "not-offered"
    title = "Quantry does not offer that"


class NotServable(InvalidInput):
    slug = "not-servable"
    title = "No engine here can serve this version"


class NotFound(QuantryError):
    status = 404
    slug = "not-found"
    title = "There is no such thing"


class UnknownProject(NotFound):
    slug = "unknown-project"
    title = "There is no such project"


class UnknownModel(NotFound):
    slug = "unknown-model"
    title = "There is no such model"


class UnknownVersion(NotFound):
    slug = "unknown-version"
    title = "There is no such version"


class UnknownDataset(NotFound):
    slug = "unknown-dataset"
    title = "There is no such dataset"


class UnknownJob(NotFound):
    slug = "unknown-job"
    title = "There is no such job"


class UnknownPipeline(NotFound):
    slug = "unknown-pipeline"
    title = "There is no such pipeline"


class UnknownSchedule(NotFound):
    slug = "unknown-schedule"
    title = "There is no such schedule"


class UnknownWebhook(NotFound):
    slug = "unknown-webhook"
    title = "There is no such webhook"


class UnknownDeployment(NotFound):
    slug = "unknown-deployment"
    title = "There is no such deployment"


class UnknownRelease(NotFound):
    slug = "unknown-release"
    title = "There is no such release"


class UnknownRollout(NotFound):
    slug = "unknown-rollout"
    title = "There is no such rollout"


class Unauthorized(QuantryError):
    status = 401
    slug = "unauthorized"
    title = "A valid API key is needed"


class KeyExpired(Unauthorized):
    slug = "key-expired"
    title = "This API key has expired"


class Forbidden(QuantryError):
    status = 403
    slug = "forbidden"
    title = "This key may not do that"


class Conflict(QuantryError):
    status = 409
    slug = "conflict"
    title = "The state of things does not allow that"


class ProjectArchived(Conflict):
    slug = "project-archived"
    title = "This project takes no new work"


class IllegalTransition(Conflict):
    slug = "illegal-transition"
    title = "That change of state is not allowed"


class IdempotencyKeyInFlight(Conflict):
    """Answered with Retry-After."""

    slug = "idempotency-key-in-flight"
    title = "A request with this Idempotency-Key is being worked on"


class ModelExists(Conflict):
    slug = "model-exists"
    title = "There is a model of that name already"


class VersionProtected(Conflict):
    slug = "version-protected"
    title = "This version cannot be deleted or changed"


class BytesReleased(Conflict):
    """A quarantined version whose bytes were given up when their time was over. What was found of it can be read."""

    slug = "bytes-released"
    title = "The bytes of this version are gone"


class DatasetProtected(Conflict):
    slug = "dataset-protected"
    title = "This dataset cannot be deleted or restored"


class DatasetDeleted(Conflict):
    """The name has these very bytes as a version that is deleted and can be restored."""

    slug = "dataset-deleted"
    title = "This dataset is deleted"

    def __init__(self, detail: str, *, errors: list[FieldProblem] | None = None, dataset_id: str = "") -> None:
        super().__init__(detail, errors=errors)
        self.dataset_id = dataset_id
        """Known where it is raised; a client of the API reads it in the detail."""


class UnreadableJob(Conflict):
    """A job whose stored record this release cannot read. It is not shown, and it ends as failed once it would be worked on."""

    slug = "unreadable-job"
    title = "This job cannot be read by this release"


class StaleAttempt(Conflict):
    """A write of an attempt that is no longer the job's current one. The writer must stop: nothing was written."""

    slug = "stale-attempt"
    title = "This attempt no longer holds the job"


class SealRefused(Conflict):
    slug = "seal-refused"
    title = "The staged files are not what was declared"


class RolloutInProgress(Conflict):
    slug = "rollout-in-progress"
    title = "Another rollout of this deployment is in progress"


class StaleRollout(Conflict):
    """A rollout is not any more what was decided by: nothing was written. Whoever asked looks again."""

    slug = "stale-rollout"
    title = "The rollout has moved on meanwhile"


class RolloutOver(Conflict):
    """A request about a rollout that has ended another way; the detail names its state."""

    slug = "rollout-over"
    title = "This rollout is over"


class TooLarge(QuantryError):
    status = 413
    slug = "too-large"
    title = "The request is too large"


class TooManyRequests(QuantryError):
    """Answered with Retry-After: ``retry_after_s`` is in seconds."""

    status = 429
    slug = "too-many-requests"
    title = "Too many requests"

    def __init__(self, detail: str, *, errors: list[FieldProblem] | None = None, retry_after_s: int = 1) -> None:
        super().__init__(detail, errors=errors)
        self.retry_after_s = retry_after_s


class BodyStalled(QuantryError):
    """The client kept its reader waiting for too long. Nothing of what it sent was kept."""

    status = 408
    slug = "body-stalled"
    title = "The request's body stopped coming"


class RangeNotSatisfiable(QuantryError):
    status = 416
    slug = "range-not-satisfiable"
    title = "That range lies outside the file"


class Unavailable(QuantryError):
    """A part this request needs is away for the moment; answered with Retry-After."""

    status = 503
    slug = "unavailable"
    title = "A part of the platform is away; try again"


def all_error_types() -> Iterator[type[QuantryError]]:
    """Yields every error type, for documentation and the test that slugs are unique."""
    pending: list[type[QuantryError]] = [QuantryError]
    while pending:
        error_type = pending.pop()
        yield error_type
        pending.extend(error_type.__subclasses__())
