"""Where a checkpoint may be imported from: how a source is written, and which folders are allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.errors import SourceRefused

HUB_PREFIX = "hf:"

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_HUB = re.compile(rf"hf:(?P<owner>{_PART})/(?P<name>{_PART})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]{{0,127}}))?")


class HubSource(BaseModel):
    """A repository of the Hugging Face hub."""

    model_config = ConfigDict(frozen=True)

    owner: str
    name: str
    revision: str | None = Field(description="Branch, tag or commit; the default branch where None.")

    @property
    def repository(self) -> str:
        """``owner/name``: how the hub writes it."""
        return f"{self.owner}/{self.name}"


def parse_source(source: str) -> HubSource | Path:
    """Returns the hub repository or the absolute path that an import's source names; raises SourceRefused if it is neither."""
    if source.startswith(HUB_PREFIX):
        match = _HUB.fullmatch(source)
        if match is None or ".." in source or "--" in source:
            raise SourceRefused(f"a source on the hub is written hf:<owner>/<name> or hf:<owner>/<name>@<revision>, not {source!r}")
        return HubSource(**match.groupdict())
    if "\0" in source:
        raise SourceRefused(f"a path cannot contain a NUL character: {source!r}")
    path = Path(source)
    if not path.is_absolute():
        raise SourceRefused(f"a source is an absolute path or hf:<owner>/<name>, not {source!r}")
    return path


def allowing_root(resolved: Path, roots: Sequence[Path]) -> Path:
    """Returns the root below which ``resolved`` lies; raises SourceRefused naming the allowed ones if there is none.

    Both must have their links resolved: the rule is about where files really lie.
    """
    for root in roots:
        if resolved.is_relative_to(root):
            return root
    if not roots:
        raise SourceRefused("this platform imports from no local folder: none is set in QUANTRY_IMPORT_ROOTS")
    raise SourceRefused(f"{resolved} lies outside the folders that imports may read: {', '.join(map(str, roots))}")
