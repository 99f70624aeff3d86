"""Models and versions as MLflow's clients search them: by conditions on names, numbers and tags, in an order of their choice."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, and_, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.model_notes import ModelRecord, VersionRecord
from quantry_core.registry_filters import Comparator, Condition, Field, Order
from quantry_core.versions import VersionState
from quantry_store.repositories.version_rows import to_version
from quantry_store.tables import AliasRow, ModelNotesRow, ModelRow, VersionNotesRow, VersionRow
from quantry_store.tables.base import storable_text

Expression = SQLColumnExpression[Any]
"""A column, or what is computed of some."""
RecordT = TypeVar("RecordT", ModelRecord, VersionRecord)

PROMPT_TAG = "mlflow.prompt.is_prompt"
"""MLflow keeps prompts among the models, and its clients leave them out of every search by this tag. There are none here."""
FACTS: Mapping[str, Expression] = {
    "quantry.version_id": VersionRow.id,
    "quantry.kind": VersionRow.kind,
    "quantry.state": VersionRow.state,
    "quantry.format": VersionRow.format,
    "quantry.scheme": VersionRow.scheme,
    "quantry.job_id": VersionRow.job_id,
    "quantry.manifest_digest": VersionRow.manifest_digest,
}
"""What a version is, found as tags that nobody can set."""


class Found(NamedTuple, Generic[RecordT]):
    """One page, and the token of the next; None after the last."""

    records: Sequence[RecordT]
    next_token: str | None


class RegistrySearchRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def models(
        self, project_id: str, conditions: Sequence[Condition], orders: Sequence[Order], *, token: str | None, limit: int
    ) -> Found[ModelRecord]:
        """Returns a page of a project's models for which all conditions hold, by name where no order says otherwise.

        Raises InvalidInput for a token that another search was given.
        """
        updated = func.coalesce(ModelNotesRow.updated_at, ModelRow.created_at)
        columns: dict[Field, Expression] = {Field.NAME: ModelRow.name, Field.CREATED: ModelRow.created_at, Field.UPDATED: updated}
        wanted = [_model_condition(condition) for condition in conditions]
        statement = _models(project_id).where(*wanted)
        keyed = _Keyed(columns, orders or [Order(Field.NAME, is_descending=False)], ModelRow.id, _print_of(conditions, orders))
        rows = (await self._session.execute(keyed.page(statement, token, limit))).all()
        ids = [row[0].id for row in rows[:limit]]
        return Found(await self._model_records(project_id, ids), keyed.next_token(rows, limit))

    async def model(self, project_id: str, model_id: str) -> ModelRecord:
        """Returns one model, which there is."""
        return (await self._model_records(project_id, [model_id]))[0]

    async def versions(
        self, project_id: str, conditions: Sequence[Condition], orders: Sequence[Order], *, token: str | None, limit: int
    ) -> Found[VersionRecord]:
        """Returns a page of a project's versions for which all conditions hold, the last changed first where no order says otherwise.

        Raises InvalidInput for a token that another search was given.
        """
        updated = func.coalesce(VersionNotesRow.updated_at, VersionRow.created_at)
        columns: dict[Field, Expression] = {
            Field.NAME: ModelRow.name,
            Field.VERSION_NUMBER: VersionRow.number,
            Field.CREATED: VersionRow.created_at,
            Field.UPDATED: updated,
        }
        wanted = [_version_condition(condition) for condition in conditions]
        statement = _versions(project_id).where(VersionRow.deleted_at.is_(None), *wanted)
        keyed = _Keyed(columns, orders or [Order(Field.UPDATED, is_descending=True)], VersionRow.id, _print_of(conditions, orders))
        rows = (await self._session.execute(keyed.page(statement, token, limit))).all()
        ids = [row[0].id for row in rows[:limit]]
        return Found(await self.version_records(project_id, ids), keyed.next_token(rows, limit))

    async def version_records(self, project_id: str, version_ids: Sequence[str]) -> list[VersionRecord]:
        """Returns these versions in their order, with what is written about them; those that there are not are left out."""
        rows = await self._session.execute(_versions(project_id).where(VersionRow.id.in_(version_ids)))
        aliases = await self._aliases(AliasRow.version_id.in_(version_ids))
        found: dict[str, VersionRecord] = {}
        for row, model_name, notes in rows:
            names = [alias.alias for alias in aliases if alias.version_id == row.id]
            tags = {} if notes is None else {**notes.tags, **notes.texts}
            written = "" if notes is None else notes.notes
            found[row.id] = VersionRecord(to_version(row, model_name), tags, written, _updated_at(row, notes), names)
        return [found[version_id] for version_id in version_ids if version_id in found]

    async def latest(self, project_id: str, model_ids: Sequence[str]) -> dict[str, list[VersionRecord]]:
        """Returns of each model its latest version that is not put aside, and the latest that is."""
        is_archived = (VersionRow.state == VersionState.ARCHIVED).label("is_archived")
        rank = func.row_number().over(partition_by=(VersionRow.model_id, is_archived), order_by=VersionRow.number.desc()).label("rank")
        ranked = (
            select(VersionRow.id, is_archived, rank)
            .where(VersionRow.project_id == project_id, VersionRow.model_id.in_(model_ids), VersionRow.deleted_at.is_(None))
            .subquery()
        )
        ids = (await self._session.scalars(select(ranked.c.id).where(ranked.c.rank == 1).order_by(ranked.c.is_archived))).all()
        by_model: defaultdict[str, list[VersionRecord]] = defaultdict(list)
        for record in await self.version_records(project_id, ids):
            by_model[record.version.model_id].append(record)
        return by_model

    async def _model_records(self, project_id: str, model_ids: Sequence[str]) -> list[ModelRecord]:
        rows = await self._session.execute(_models(project_id).where(ModelRow.id.in_(model_ids)))
        aliases = await self._aliases(AliasRow.model_id.in_(model_ids))
        latest = await self.latest(project_id, model_ids)
        found: dict[str, ModelRecord] = {}
        for row, notes in rows:
            targets = {alias.alias: alias.number for alias in aliases if alias.model_id == row.id}
            tags, written = ({}, "") if notes is None else (notes.tags, notes.notes)
            found[row.id] = ModelRecord(
                row.id, row.name, row.created_at, _updated_at(row, notes), tags, written, targets, latest.get(row.id, [])
            )
        return [found[model_id] for model_id in model_ids]

    async def _aliases(self, condition: Expression) -> Sequence[Any]:
        columns = (AliasRow.alias, AliasRow.model_id, AliasRow.version_id, VersionRow.number)
        statement = select(*columns).join(VersionRow, VersionRow.id == AliasRow.version_id).where(condition)
        return (await self._session.execute(statement.order_by(AliasRow.alias))).all()


class _Keyed:
    """Pages of a statement by the values of the last row: nothing is told twice or left out, whatever came or went meanwhile."""

    def __init__(self, columns: Mapping[Field, Expression], orders: Sequence[Order], id_column: Expression, fingerprint: str) -> None:
        self._keys = [(columns[order.field], order.is_descending) for order in orders] + [(id_column, False)]
        self._types: list[type] = [*(_TYPES[order.field] for order in orders), str]
        self._fingerprint = fingerprint

    def page(self, statement: Select[*tuple[Any, ...]], token: str | None, limit: int) -> Select[*tuple[Any, ...]]:
        """Returns the statement of one page and one row more, which tells whether another follows. Its last columns are the keys."""
        if token is not None:
            statement = statement.where(self._after(self._values_of(token)))
        ordered = statement.order_by(*(key.desc() if is_descending else key.asc() for key, is_descending in self._keys))
        return ordered.add_columns(*(key for key, _ in self._keys)).limit(limit + 1)

    def next_token(self, rows: Sequence[Any], limit: int) -> str | None:
        if len(rows) <= limit:
            return None
        values = [_written(value) for value in rows[limit - 1][-len(self._keys) :]]
        return base64.urlsafe_b64encode(json.dumps([self._fingerprint, *values]).encode()).decode()

    def _after(self, values: Sequence[Any]) -> ColumnElement[bool]:
        cases: list[ColumnElement[bool]] = []
        for index, (key, is_descending) in enumerate(self._keys):
            same = [earlier == value for (earlier, _), value in zip(self._keys[:index], values, strict=False)]
            cases.append(and_(*same, key < values[index] if is_descending else key > values[index]))
        return or_(*cases)

    def _values_of(self, token: str) -> list[Any]:
        try:
            fingerprint, *values = json.loads(base64.urlsafe_b64decode(token.encode()))
            if fingerprint != self._fingerprint or len(values) != len(self._keys):
                raise ValueError
            return [_read(value, wanted) for value, wanted in zip(values, self._types, strict=True)]
        except (ValueError, TypeError, RecursionError, binascii.Error) as error:
            why = "it is not the next_page_token of this very search; begin anew without one"
            raise InvalidInput(f"page_token: {why}", errors=[FieldProblem(field="page_token", message=why)]) from error


_TYPES: Mapping[Field, type] = {Field.NAME: str, Field.VERSION_NUMBER: int, Field.CREATED: datetime, Field.UPDATED: datetime}


def _written(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _read(value: Any, wanted: type) -> Any:
    if wanted is datetime:
        return datetime.fromisoformat(value)
    if wanted is int and not (isinstance(value, int) and 0 <= value < 2**31):
        raise ValueError
    if wanted is str and not isinstance(value, str):
        raise ValueError
    return storable_text(value) if isinstance(value, str) else value


def _print_of(conditions: Sequence[Condition], orders: Sequence[Order]) -> str:
    return hashlib.sha256(json.dumps([conditions, orders]).encode()).hexdigest()[:16]


def _updated_at(row: ModelRow | VersionRow, notes: ModelNotesRow | VersionNotesRow | None) -> datetime:
    return row.created_at if notes is None else notes.updated_at


def _models(project_id: str) -> Select[ModelRow, ModelNotesRow | None]:
    joined = select(ModelRow, ModelNotesRow).outerjoin(ModelNotesRow, ModelNotesRow.model_id == ModelRow.id)
    return joined.where(ModelRow.project_id == project_id).execution_options(populate_existing=True)


def _versions(project_id: str) -> Select[VersionRow, str, VersionNotesRow | None]:
    joined = (
        select(VersionRow, ModelRow.name, VersionNotesRow)
        .join(ModelRow, ModelRow.id == VersionRow.model_id)
        .outerjoin(VersionNotesRow, VersionNotesRow.version_id == VersionRow.id)
    )
    return joined.where(VersionRow.project_id == project_id).execution_options(populate_existing=True)


def _model_condition(condition: Condition) -> ColumnElement[bool]:
    if condition.field is Field.NAME:
        return _compared(ModelRow.name, condition)
    if condition.tag == PROMPT_TAG:
        return _compared(literal("false"), condition)
    return _compared(_text_of(ModelNotesRow.tags, condition.tag), condition)


def _version_condition(condition: Condition) -> ColumnElement[bool]:
    match condition.field:
        case Field.NAME:
            return _compared(ModelRow.name, condition)
        case Field.VERSION_NUMBER:
            return _compared(VersionRow.number, condition, int(condition.value))
    if condition.tag == PROMPT_TAG:
        return _compared(literal("false"), condition)
    if condition.tag in FACTS:
        return _compared(func.concat(FACTS[condition.tag]), condition)
    kept = (_text_of(column, condition.tag) for column in (VersionNotesRow.tags, VersionNotesRow.texts))
    return _compared(func.coalesce(*kept), condition)


def _text_of(column: InstrumentedAttribute[dict[str, str]], key: str) -> Expression:
    return func.jsonb_extract_path_text(column, storable_text(key))


def _compared(left: Expression, condition: Condition, number: int | None = None) -> ColumnElement[bool]:
    right: Any = storable_text(condition.value) if number is None else number
    return _COMPARISONS[condition.comparator](left, right)


# Without an escape character: a backslash at the end of a pattern would be an error.
_COMPARISONS: Mapping[Comparator, Callable[[Expression, Any], ColumnElement[bool]]] = {
    Comparator.EQUAL: operator.eq,
    Comparator.NOT_EQUAL: operator.ne,
    Comparator.LESS: operator.lt,
    Comparator.AT_MOST: operator.le,
    Comparator.MORE: operator.gt,
    Comparator.AT_LEAST: operator.ge,
    Comparator.LIKE: lambda left, right: left.like(right, escape=""),
    Comparator.ILIKE: lambda left, right: left.ilike(right, escape=""),
}
