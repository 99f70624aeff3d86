"""SDK and command line of Quantry."""

from quantry.aio.client import AsyncClient
from quantry.client import Client
from quantry.errors import (
    ApiError,
    ClientError,
    ConfigurationError,
    DownloadDamaged,
    ExportRefused,
    FileProblem,
    FileRefused,
    InvalidReference,
    ServerUnreachable,
    UnexpectedAnswer,
    WaitTimedOut,
)
from quantry.retries import Retries
from quantry.schedule_files import read_job, read_schedule
from quantry.strategy_files import read_strategy
from quantry.submissions import JobKeywords, job_submission
from quantry.yaml_files import read_pipeline

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "ConfigurationError",
    "DownloadDamaged",
    "ExportRefused",
    "FileProblem",
    "FileRefused",
    "InvalidReference",
    "JobKeywords",
    "Retries",
    "ServerUnreachable",
    "UnexpectedAnswer",
    "WaitTimedOut",
    "job_submission",
    "read_job",
    "read_pipeline",
    "read_schedule",
    "read_strategy",
]
