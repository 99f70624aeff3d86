"""Objects of OpenAI's files API."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.datasets import Dataset, FilePurpose
from quantry_core.pages import Page
from quantry_registry.files.names import filename_of


class FileObject(BaseModel):
    """A dataset as OpenAI's clients know a file."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="dat_...")
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="Seconds since 1970.")
    filename: str
    purpose: FilePurpose
    status: Literal["processed"] = Field(default="processed", description="A file that could not be read was refused.")

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Returns a dataset as a file. One that was not uploaded as such may be used for anything, which is what user_data means."""
        return cls(
            id=dataset.id,
            bytes=dataset.size_bytes,
            created_at=int(dataset.created_at.timestamp()),
            filename=filename_of(dataset),
            purpose=dataset.purpose or FilePurpose.USER_DATA,
        )


class FileList(BaseModel):
    """A page of files, newest first."""

    model_config = ConfigDict(frozen=True)

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None = Field(description="The next page begins ``after`` it.")
    has_more: bool

    @classmethod
    def of(cls, page: Page[Dataset]) -> Self:
        """Returns a page of datasets as files."""
        files = [FileObject.of(dataset) for dataset in page.data]
        return cls(data=files, first_id=page.first_id, last_id=page.last_id, has_more=page.has_more)


class FileDeleted(BaseModel):
    """A file that is gone."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
