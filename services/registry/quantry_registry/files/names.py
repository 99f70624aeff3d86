"""Filenames and the names of datasets that are made of them."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from quantry_core.datasets import DATASET_FILES, Dataset
from quantry_core.errors import FieldProblem, InvalidName
from quantry_core.names import BadName, check_name

_SUFFIXES = (".jsonl", ".ndjson", ".json", ".txt", ".md")
_ILLEGAL = re.compile(r"[^a-z0-9._-]+")
_DOTS = re.compile(r"\.{2,}")
_SHOWN_CHARS = 80


def dataset_name_of(filename: str) -> str:
    """Returns the name of the dataset that a file becomes: its last part in lower case, without the suffix of a text, every other
    character a hyphen. Raises InvalidName where that is no name.
    """
    whole = filename.replace("\\", "/").rpartition("/")[2].lower()
    stem = next((whole.removesuffix(suffix) for suffix in _SUFFIXES if whole.endswith(suffix)), whole)
    # Letters with accents become plain ones.
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    name = _DOTS.sub(".", _ILLEGAL.sub("-", plain)).strip("._-")
    try:
        return check_name(name)
    except BadName as error:
        detail = f"the file name {filename[:_SHOWN_CHARS]!r} cannot be made the name of a dataset: {error}; send it under another"
        raise InvalidName(detail, errors=[FieldProblem(field="file", message=str(error))]) from error


def filename_of(dataset: Dataset) -> str:
    """Returns what a dataset is called as a file."""
    return dataset.name + PurePosixPath(DATASET_FILES[dataset.kind]).suffix
