"""What can go wrong when the SDK talks to a Quantry server, each as its own exception."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from quantry_core.errors import PROBLEM_TYPE_PREFIX, FieldProblem, Problem
from quantry_core.jobs import Job
from quantry_core.pipelines import PipelineDetail
from quantry_core.rollouts import Rollout


class ClientError(Exception):
    """Base of everything the SDK raises on purpose."""


class ConfigurationError(ClientError):
    """The server's address or the API key is missing or malformed; the message says where they are looked for."""


class InvalidReference(ClientError):
    """What was given cannot be an id or a name, so it was not sent."""


class ServerUnreachable(ClientError):
    """Nothing answers at the address, or it stopped answering and did not come back."""

    def __init__(self, url: str, reason: str, *, may_have_arrived: bool = False) -> None:
        super().__init__(f"cannot reach a Quantry server at {url}: {reason}")
        self.url = url
        self.reason = reason
        self.may_have_arrived = may_have_arrived
        """The request was sent, and only its answer is not known."""
        self.idempotency_key: str | None = None
        """Of a submission that may have arrived although no answer came: the same one with this key is made only once."""


class UnexpectedAnswer(ClientError):
    """The server answered something this SDK does not understand: another version of Quantry, or not Quantry at all."""


class ApiError(ClientError):
    """The server refused a request and said why in a problem document."""

    def __init__(self, problem: Problem, *, retry_after_s: float | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after_s = retry_after_s
        """When to ask again, where the server said it."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def type(self) -> str:
        """The stable problem type, ``urn:quantry:problem:<slug>``."""
        return self.problem.type

    @property
    def slug(self) -> str:
        """The last part of the type, such as ``unknown-version``."""
        return self.problem.type.removeprefix(PROBLEM_TYPE_PREFIX)

    @property
    def detail(self) -> str:
        """What happened this time and what to do about it."""
        return self.problem.detail

    @property
    def errors(self) -> list[FieldProblem]:
        """What is wrong with each bad field, where that is known."""
        return self.problem.errors


class WaitTimedOut(ClientError):
    """A job, pipeline or rollout did not end in time. It goes on; ``last_seen`` is how it was then."""

    def __init__(self, last_seen: Job | PipelineDetail | Rollout, timeout_s: float) -> None:
        noun, where = ("rollout", last_seen.state) if isinstance(last_seen, Rollout) else (last_seen.object, last_seen.status)
        super().__init__(f"{noun} {last_seen.id} is still {where} after {timeout_s:g} s; it goes on")
        self.last_seen = last_seen


class FileProblem(NamedTuple):
    """What is wrong with one place of a file."""

    line: int
    field: str
    """Dotted path, such as ``steps.evaluate.spec.corpora``; empty for the file as a whole."""
    message: str


class FileRefused(ClientError):
    """A YAML file cannot be read, or says something that cannot be; nothing was sent."""

    def __init__(self, path: Path, problems: Sequence[FileProblem]) -> None:
        super().__init__("\n".join(f"{path}:{at.line}: {at.field + ': ' if at.field else ''}{at.message}" for at in problems))
        self.problems = list(problems)


class ExportRefused(ClientError):
    """A version cannot be written to that directory; nothing in it was changed by this file."""


class UnknownFile(ClientError):
    """A version has no file of that path."""


class UploadRefused(ClientError):
    """A folder cannot become a master; nothing was sent."""


class UploadDamaged(ClientError):
    """The server received other bytes than were read here: the file changed meanwhile, or the way is broken."""


class DownloadDamaged(ClientError):
    """A file's bytes are not what its manifest promises; it was removed."""
