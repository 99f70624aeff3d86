"""Takes files of OpenAI's API in as datasets. The form lies on disk while it comes; what is in it is checked as every dataset is."""

from __future__ import annotations

from quantry_blobs.vault import Vault
from quantry_core.datasets import Dataset, FilePurpose
from quantry_core.errors import DatasetDeleted, FieldProblem, InvalidInput
from quantry_core.keys import Identity
from quantry_core.rows import why_not_trainable
from quantry_registry.datasets.intake import Intake
from quantry_registry.datasets.row_check import takes_every_row
from quantry_registry.datasets.service import add_dataset
from quantry_registry.files.form import FileForm
from quantry_registry.files.names import dataset_name_of
from quantry_store.database import Database
from quantry_store.transactions.dataset_deletion import delete_dataset, restore_dataset
from quantry_store.unit_of_work import UnitOfWork

_RULES = {FilePurpose.FINE_TUNE: why_not_trainable, FilePurpose.USER_DATA: takes_every_row}


async def add_file(database: Database, vault: Vault, caller: Identity, form: FileForm) -> Dataset:
    """Returns the dataset that a form's file now is: the next version of its name, or the one with the same bytes, which comes back
    where it was deleted: OpenAI's clients know no other way.

    Raises InvalidInput for a form without a file or with an unknown purpose, and what ``add_dataset`` raises.
    """
    filename = form.filename
    if filename is None:
        raise _bad_field("file", "a form with a file in the field 'file' is needed")
    purpose = _purpose_of(form.fields.get("purpose"))
    if any(name.partition("[")[0] == "expires_after" for name in form.fields):
        raise _bad_field("expires_after", "files here do not expire: leave it out, and delete the file when it is not needed any more")
    name = dataset_name_of(filename)

    async def add() -> Dataset:
        intake = Intake(filename.lower(), None, form.content_type, rule=_RULES[purpose])
        return (await add_dataset(database, vault, caller, name, form.pieces(), intake=intake, purpose=purpose))[0]

    try:
        return await add()
    except DatasetDeleted as error:
        async with database.begin() as uow:
            await restore_dataset(uow, error.dataset_id, who=caller)
        return await add()


async def delete_file(uow: UnitOfWork, file_id: str, *, who: Identity) -> None:
    """Deletes a dataset by its id; raises UnknownDataset also where it is deleted already, DatasetProtected where it is needed."""
    await uow.datasets.resolve(who.project_id, file_id)
    await delete_dataset(uow, file_id, who=who)


def _purpose_of(given: str | None) -> FilePurpose:
    if given is None:
        raise _bad_field("purpose", f"a purpose is needed: {' or '.join(FilePurpose)}")
    if given not in set(FilePurpose):
        raise _bad_field("purpose", f"the purpose {given[:40]!r} is not known here; take {' or '.join(FilePurpose)}")
    return FilePurpose(given)


def _bad_field(name: str, why: str) -> InvalidInput:
    return InvalidInput(f"{name}: {why}", errors=[FieldProblem(field=name, message=why)])
