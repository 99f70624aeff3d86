"""The declarative base: naming of constraints, and how Python types become columns."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from math import isfinite
from typing import Annotated, Any, ClassVar

from sqlalchemy import ColumnElement, DateTime, Dialect, Enum, ForeignKey, Integer, MetaData, Text, TypeDecorator, func, literal_column
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column
from typing_extensions import override

from quantry_core.datasets import DatasetKind, DatasetOrigin, FilePurpose
from quantry_core.jobs import EventKind, JobReason, JobStatus, JobType, WaitingOn
from quantry_core.keys import Role
from quantry_core.methods import Environment, Format
from quantry_core.retention import RetentionKind, RetentionPart
from quantry_core.rollouts import PeriodCause, ReplicaState, RolloutCause, RolloutReason, RolloutState
from quantry_core.schedules import MissedPolicy, OverlapPolicy, RunOutcome
from quantry_core.vault import VaultRunKind, VaultRunStatus
from quantry_core.versions import EdgeRole, EvidenceKind, Verdict, VersionKind, VersionState
from quantry_core.webhooks import DeliveryState, WebhookEvent, WebhookFormat

ENUM_LENGTH_CHARS = 32


def storable_text(text: str) -> str:
    """Returns ``text`` as Postgres can hold it: NUL and lone surrogates replaced. Log lines of a child may contain either."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def storable_json(value: Any) -> Any:
    """Returns a JSON value as JSONB can hold it: strings as storable_text makes them, numbers that are not finite as None."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, dict):
        return {storable_text(str(key)): storable_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable_json(item) for item in value]
    return value


class CleanText(TypeDecorator[str]):
    """Text that never fails to be written or compared, whatever characters came in."""

    impl = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable_text(value)


class CleanJson(TypeDecorator[Any]):
    """JSONB that never fails to be written, whatever a worker reports."""

    impl = JSONB(none_as_null=True)
    cache_ok = True

    @override
    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return storable_json(value)


def enum_column(values: type[StrEnum]) -> Enum:
    """Returns a text column that holds an enum's values. Not a Postgres enum: those cannot lose a value in a downgrade."""
    return Enum(
        values,
        native_enum=False,
        create_constraint=False,
        length=ENUM_LENGTH_CHARS,
        values_callable=lambda members: [member.value for member in members],
    )


def stored_size(row: type[Base]) -> ColumnElement[int]:
    """Returns the expression for how many bytes a row of this table takes, as it is stored; without indexes."""
    return func.pg_column_size(literal_column(row.__tablename__), type_=Integer)


ENUMS: tuple[type[StrEnum], ...] = (
    DatasetKind,
    DatasetOrigin,
    DeliveryState,
    EdgeRole,
    Environment,
    EventKind,
    EvidenceKind,
    FilePurpose,
    Format,
    JobReason,
    JobStatus,
    JobType,
    MissedPolicy,
    OverlapPolicy,
    PeriodCause,
    ReplicaState,
    RetentionKind,
    RetentionPart,
    Role,
    RolloutCause,
    RolloutReason,
    RolloutState,
    RunOutcome,
    VaultRunKind,
    VaultRunStatus,
    Verdict,
    VersionKind,
    VersionState,
    WaitingOn,
    WebhookEvent,
    WebhookFormat,
)


class Base(DeclarativeBase):
    """Base of every table."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: CleanText(),
        datetime: DateTime(timezone=True),
        dict[str, Any]: CleanJson(),
        dict[str, str]: CleanJson(),
        list[dict[str, Any]]: CleanJson(),
        list[str]: CleanJson(),
        **{values: enum_column(values) for values in ENUMS},
    }


Id = Annotated[str, mapped_column(primary_key=True)]
"""The primary key of a noun: made in Python, sorts by time of creation."""

ProjectId = Annotated[str, mapped_column(ForeignKey("projects.id"))]
"""The tenant a row belongs to."""

CreatedAt = Annotated[datetime, mapped_column(server_default=func.now())]
"""The database's clock, never a service's."""
