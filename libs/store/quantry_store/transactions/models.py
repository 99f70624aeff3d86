"""Models are made empty, and taken away again while they never had a version."""

from __future__ import annotations

from quantry_core.keys import Identity
from quantry_core.versions import Model
from quantry_store.unit_of_work import UnitOfWork


async def create_model(uow: UnitOfWork, name: str, *, who: Identity) -> Model:
    """Returns a new model without versions; raises InvalidName, or ModelExists."""
    model = await uow.models.add(who.project_id, name)
    await uow.audit.record(who, "model.create", "model", model.id, {"name": name})
    return model


async def delete_model(uow: UnitOfWork, name: str, *, who: Identity) -> None:
    """Removes a model that never had a version; raises InvalidName, UnknownModel, or Conflict for any other."""
    model = await uow.models.get(who.project_id, name)
    await uow.models.remove_unused(model)
    await uow.audit.record(who, "model.delete", "model", model.id, {"name": name})
