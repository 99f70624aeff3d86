"""Sizes of a model's versions beside what was measured of their quality, read in a few statements however many versions there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.gate import GateCheck
from quantry_core.measurements import Reference
from quantry_core.model_views import MAX_FIGURES, QUALITY_METRICS, EvidenceExcerpt, ModelFigures, VersionFigures, figures_of
from quantry_core.thresholds import Part
from quantry_core.versions import EdgeRole, EvidenceKind
from quantry_store.repositories.models import ModelRepository
from quantry_store.tables import EvidenceRow, LineageEdgeRow, ModelRow, VersionRow

_OF_NO_CORPUS = ("validation", "recalibration:%")
"""Names of evaluations that compare on what was trained for or captured, or with what serves: not with one another's versions."""
_TAKEN = ("corpora", "against_version_id", "against", "bits_per_weight", "bits_per_parameter", "memory_peak_bytes", *QUALITY_METRICS)
"""Of the metrics; the rest, results by layer among it, stays in the database."""


class FigureRepository:
    def __init__(self, session: AsyncSession, *, models: ModelRepository) -> None:
        self._session = session
        self._models = models

    async def of_model(self, project_id: str, name: str) -> ModelFigures:
        """Returns the newest MAX_FIGURES living versions of a model with their figures; raises InvalidName, UnknownModel."""
        model = await self._models.get(project_id, name)
        statement = select(VersionRow).where(VersionRow.model_id == model.id, VersionRow.deleted_at.is_(None))
        rows = (await self._session.scalars(statement.order_by(VersionRow.number.desc()).limit(MAX_FIGURES + 1))).all()
        shown = rows[:MAX_FIGURES]
        ids = [row.id for row in shown]
        evidence, bases = await self._evidence(ids), await self._bases(ids)
        data = [
            VersionFigures(
                id=row.id,
                number=row.number,
                kind=row.kind,
                state=row.state,
                format=row.format,
                scheme=row.scheme,
                dtype=row.dtype,
                size_bytes=row.size_bytes,
                weights_bytes=row.weights_bytes,
                **figures_of(evidence.get(row.id, ()), bases.get(row.id))._asdict(),
            )
            for row in shown
        ]
        return ModelFigures(model_name=model.name, data=data, has_more=len(rows) > MAX_FIGURES)

    async def _evidence(self, version_ids: Collection[str]) -> dict[str, list[EvidenceExcerpt]]:
        taken = [part for name in _TAKEN for part in (name, EvidenceRow.metrics[name])]
        metrics = func.jsonb_strip_nulls(func.jsonb_build_object(*taken), type_=EvidenceRow.metrics.type)
        is_of_gate = and_(EvidenceRow.kind == EvidenceKind.GATE, EvidenceRow.name.in_([GateCheck.QUALITY, GateCheck.PRECISION]))
        is_measured = and_(
            EvidenceRow.kind == EvidenceKind.EVALUATION,
            or_(EvidenceRow.name == Part.SPEED, func.jsonb_exists(EvidenceRow.metrics, "against_version_id")),
            *(EvidenceRow.name.not_like(pattern) for pattern in _OF_NO_CORPUS),
        )
        rows = await self._session.execute(
            select(EvidenceRow.version_id, EvidenceRow.kind, EvidenceRow.name, metrics, EvidenceRow.created_at)
            .where(EvidenceRow.version_id.in_(version_ids), or_(is_of_gate, is_measured))
            .order_by(EvidenceRow.created_at, EvidenceRow.job_id, EvidenceRow.position)
        )
        found: dict[str, list[EvidenceExcerpt]] = defaultdict(list)
        for version_id, *excerpt in rows:
            found[version_id].append(EvidenceExcerpt(*excerpt))
        return found

    async def _bases(self, version_ids: Collection[str]) -> dict[str, Reference]:
        """Returns what each version was made from."""
        rows = await self._session.execute(
            select(LineageEdgeRow.child_version_id, VersionRow.id, ModelRow.name, VersionRow.number)
            .join(VersionRow, VersionRow.id == LineageEdgeRow.parent_version_id)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(LineageEdgeRow.child_version_id.in_(version_ids), LineageEdgeRow.role == EdgeRole.BASE)
        )
        return {child: Reference(id_, f"{name}@{number}") for child, id_, name, number in rows}
