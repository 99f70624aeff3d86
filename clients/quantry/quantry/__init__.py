"""SDK and command line of Quantry."""

from quantry.client import Client
from quantry.errors import (
    ApiError,
    ClientError,
    ConfigurationError,
    DownloadDamaged,
    ExportRefused,
    InvalidReference,
    ServerUnreachable,
    UnexpectedAnswer,
    WaitTimedOut,
)

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "ConfigurationError",
    "DownloadDamaged",
    "ExportRefused",
    "InvalidReference",
    "ServerUnreachable",
    "UnexpectedAnswer",
    "WaitTimedOut",
]
