"""Where a checkpoint may be imported from: how a source is written, and which folders are allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
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


def allowing_root(given: Path, resolved: Path, roots: Mapping[Path, Path]) -> Path:
    """Returns the root below which a source lies, as it is set; raises SourceRefused naming the allowed ones if there is none.

    ``resolved`` is the source's ``given`` path with its links resolved, and ``roots`` each root as it is set by itself with
    its links resolved: the rule is about where files really lie. The refusal quotes what was given and set, for where
    links on a host lead is nothing to tell.
    """
    for resolved_root, root in roots.items():
        if resolved.is_relative_to(resolved_root):
            return root
    if not roots:
        raise SourceRefused("this platform imports from no local folder: none is set in QUANTRY_IMPORT_ROOTS")
    raise SourceRefused(f"{given} lies outside the folders that imports may read: {', '.join(map(str, roots.values()))}")
