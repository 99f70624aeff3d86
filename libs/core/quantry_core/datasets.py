"""Datasets: versioned, digested rows of text for calibration, evaluation and training."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from quantry_core.names import Name
from quantry_core.versions import Sha256


class DatasetKind(StrEnum):
    """What a dataset's one file is. Text is plain UTF-8; the others are JSON Lines with one object a row."""

    TEXT = "text"
    """Plain UTF-8, one stream of text."""
    ROWS = "rows"
    """``{"text": ...}``"""
    PROMPTS = "prompt-response"
    """``{"prompt": ..., "response": ...}``; ``completion`` may stand for ``response``"""
    CHAT = "chat"
    """``{"messages": [{"role": ..., "content": ...}, ...]}``"""
    PREFERENCES = "preferences"
    """``{"prompt": ..., "chosen": ..., "rejected": ...}``, or OpenAI's ``input``, ``preferred_output``, ``non_preferred_output``"""
    LABELLED = "labelled"
    """``{"prompt": ..., "completion": ..., "label": true or false}``"""


class DatasetOrigin(StrEnum):
    UPLOADED = "uploaded"
    BUILT_IN = "built-in"
    DERIVED = "derived"
    CAPTURED = "captured"
    """Made of prompts that a deployment was asked, scrubbed."""


class FilePurpose(StrEnum):
    """What a file of OpenAI's API was uploaded for, of the purposes there that are known here."""

    FINE_TUNE = "fine-tune"
    """Every row of it can be trained on."""
    USER_DATA = "user_data"


DATASET_FILES: dict[DatasetKind, str] = {
    DatasetKind.TEXT: "text.txt",
    DatasetKind.ROWS: "rows.jsonl",
    DatasetKind.PROMPTS: "rows.jsonl",
    DatasetKind.CHAT: "rows.jsonl",
    DatasetKind.PREFERENCES: "rows.jsonl",
    DatasetKind.LABELLED: "rows.jsonl",
}
"""The name of a dataset's one file, where it lies in a folder."""

MIN_CHARACTERS = 64
"""Less text is refused: it would not fill one window."""

BUILT_IN_PREFIX = "builtin."
"""Names that begin so are the platform's own; nobody else may add to them."""


class UntrainableRow(BaseModel):
    """A row that a model cannot learn to answer from: a chat without an answer at its end."""

    model_config = ConfigDict(frozen=True)

    line: int = Field(ge=1, description="Of the file, from 1; lines of white space count.")
    reason: str


class CapturedFrom(BaseModel):
    """What a dataset of captured prompts was made of, and what was taken out of it."""

    model_config = ConfigDict(frozen=True)

    deployment: Name
    num_prompts: int = Field(description="That it is made of.")
    num_left_out: int = Field(description="Of another kind than most, or of no form that a row can have.")
    num_unreadable: int = Field(default=0, description="Encrypted by a key that is not here any more.")
    oldest_at: datetime
    newest_at: datetime
    num_scrubbed: dict[str, int] = Field(description="Finds that were replaced by a tag, by their kind: email, phone, card, ip, secret.")


class DatasetStatistics(BaseModel):
    """What was counted while a dataset was taken in. Characters, not tokens: those depend on a model.

    Of rows only their text counts, not the JSON around it.
    """

    model_config = ConfigDict(frozen=True)

    num_characters: int = 0
    num_lines: int = 0
    non_ascii_share: float | None = Field(default=None, description="Characters beyond ASCII, as a share of all.")
    num_rows: int | None = Field(default=None, description="None for plain text.")
    row_characters_min: int | None = None
    row_characters_mean: float | None = None
    row_characters_max: int | None = None
    row_characters_p50: int | None = Field(default=None, description="Half of the rows are this long or shorter; within 1 %.")
    row_characters_p95: int | None = Field(default=None, description="Within 1 %.")
    num_duplicate_rows: int | None = Field(default=None, description="Rows that say what an earlier one does.")
    is_duplicates_estimated: bool = Field(default=False, description="So many different rows that duplicates were counted in a sample.")
    num_messages: dict[str, int] | None = Field(default=None, description="Messages of a chat by their role.")
    num_chosen_characters: int | None = Field(default=None, description="Of preferences: characters of the chosen answers.")
    num_rejected_characters: int | None = Field(default=None, description="Of preferences: characters of the rejected answers.")
    num_labels: dict[str, int] | None = Field(default=None, description="Labelled rows by their label, true and false.")
    num_untrainable_rows: int | None = Field(
        default=None, description="Rows that a model cannot learn to answer from. None for plain text, and where it was not counted."
    )
    untrainable_rows: list[UntrainableRow] = Field(
        default_factory=list, description="The first 100 of them; left out of lists of datasets."
    )
    captured: CapturedFrom | None = Field(default=None, description="Of captured prompts: where they come from.")


class Dataset(BaseModel):
    """A version of a dataset: one file, known by its digest."""

    model_config = ConfigDict(frozen=True)

    id: str
    project_id: str
    name: Name
    number: int
    kind: DatasetKind
    origin: DatasetOrigin
    sha256: Sha256
    size_bytes: int
    statistics: DatasetStatistics = DatasetStatistics()
    derivation: dict[str, Any] | None = Field(default=None, description="What a derived dataset was made from, and how.")
    purpose: FilePurpose | None = Field(default=None, description="Said by whoever uploaded it as a file of OpenAI's API.")
    created_at: datetime
    deleted_at: datetime | None = Field(default=None, description="Since then only its id finds it, and its bytes are given to nobody.")
    removed_at: datetime | None = Field(default=None, description="Since then it cannot be restored: the vault may have freed its bytes.")

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.number}"

    @property
    def listed(self) -> Dataset:
        """It as one of many: with the number of its untrainable rows, without the rows."""
        return self.model_copy(update={"statistics": self.statistics.model_copy(update={"untrainable_rows": []})})


class DatasetPreview(BaseModel):
    """The beginning of a dataset."""

    model_config = ConfigDict(frozen=True)

    dataset_id: str
    ref: str
    kind: DatasetKind
    items: list[dict[str, Any] | str] = Field(description="Lines of plain text, or rows. A long string is cut, and ends in an ellipsis.")
    has_more: bool


class Parent(BaseModel):
    """A dataset that another is derived from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: str = Field(min_length=1, max_length=128, description="dat_..., name@3, or name for the latest.")
    weight: float | None = Field(default=None, gt=0, le=1e6, description="Its share of num_items; for all parents or for none.")


class SplitPart(StrEnum):
    TRAIN = "train"
    TEST = "test"


class Split(BaseModel):
    """One of the two parts of a dataset that is cut into blocks of neighbours: what is near in the text stays on one side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: SplitPart
    test_share: float = Field(default=0.1, gt=0, lt=1, description="Of the blocks.")
    block_items: int = Field(default=16, ge=1, le=1_000_000, description="Items of one block.")


class DatasetRecipe(BaseModel):
    """How a dataset is derived. An item is a row; of plain text it is a passage: whole lines, passage_characters or a little more.

    The steps in their order: parents one after another, length, duplicates, split, sample, order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parents: list[Parent] = Field(min_length=1, max_length=16, description="All of one kind.")
    min_characters: int | None = Field(default=None, ge=1, description="Shorter items are left out.")
    max_characters: int | None = Field(default=None, ge=1, description="Longer items are left out.")
    deduplicate: bool = Field(default=False, description="Keeps the first of items that say the same.")
    split: Split | None = None
    num_items: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Draws so many items without repetition; all where not given."
    )
    shuffle: bool = Field(default=False, description="Mixes the order; otherwise items stay as they stood.")
    passage_characters: int = Field(default=2000, ge=100, le=100_000, description="Of plain text.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        weighted = [parent for parent in self.parents if parent.weight is not None]
        if weighted and len(weighted) != len(self.parents):
            raise ValueError("weight is for all parents or for none")
        if weighted and self.num_items is None:
            raise ValueError("weights share out num_items: name it, or leave weights out")
        if self.min_characters is not None and self.max_characters is not None and self.min_characters > self.max_characters:
            raise ValueError("min_characters is more than max_characters: no item could stay")
        return self


class DerivedFrom(BaseModel):
    """A parent as it was: its number and digest."""

    model_config = ConfigDict(frozen=True)

    id: str
    ref: str
    sha256: Sha256


class Derivation(BaseModel):
    """What a derived dataset was made from, and how. Kept with it."""

    model_config = ConfigDict(frozen=True)

    parents: list[DerivedFrom]
    recipe: DatasetRecipe
