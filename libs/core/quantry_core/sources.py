"""Where a checkpoint may be imported from: how a source is written, and which folders are allowed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.errors import SourceRefused
from quantry_core.ids import IdPrefix, is_id

HUB_PREFIX = "hf:"
BUCKET_PREFIX = "s3:"
UPLOAD_PREFIX = "upload:"
SOURCE_PREFIXES = (HUB_PREFIX, BUCKET_PREFIX, UPLOAD_PREFIX)
"""What begins with none of these is a path."""

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_HUB = re.compile(rf"hf:(?P<owner>{_PART})/(?P<name>{_PART})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]{{0,127}}))?")
_BUCKET = re.compile(r"s3:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9._+=@/-]{0,512}))?")

_KINDS = {HUB_PREFIX: "hub", BUCKET_PREFIX: "bucket", UPLOAD_PREFIX: "upload"}


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


class BucketSource(BaseModel):
    """A folder of a bucket: what lies under its prefix."""

    model_config = ConfigDict(frozen=True)

    bucket: str
    prefix: str = Field(description="Ends with a slash; empty for the whole bucket.")


class UploadSource(BaseModel):
    """Files that a client sent before."""

    model_config = ConfigDict(frozen=True)

    upload_id: str


Source = HubSource | BucketSource | UploadSource | Path


def parse_source(source: str) -> Source:
    """Returns what an import's source names, a path being absolute; raises SourceRefused if it is no source."""
    if source.startswith(HUB_PREFIX):
        match = _HUB.fullmatch(source)
        if match is None or ".." in source or "--" in source:
            raise SourceRefused(f"a source on the hub is written hf:<owner>/<name> or hf:<owner>/<name>@<revision>, not {source!r}")
        return HubSource(**match.groupdict())
    if source.startswith(BUCKET_PREFIX):
        return _bucket_source(source)
    if source.startswith(UPLOAD_PREFIX):
        upload_id = source.removeprefix(UPLOAD_PREFIX)
        if not is_id(upload_id, IdPrefix.UPLOAD):
            raise SourceRefused(f"an upload is written upload:upl_..., with the id that POST /api/v1/uploads gave, not {source!r}")
        return UploadSource(upload_id=upload_id)
    if "\0" in source:
        raise SourceRefused(f"a path cannot contain a NUL character: {source!r}")
    path = Path(source)
    if not path.is_absolute():
        raise SourceRefused(f"a source is an absolute path, hf:<owner>/<name>, s3:<bucket>/<prefix> or upload:upl_..., not {source!r}")
    return path


def source_kind(source: str) -> str:
    """Returns where a source lies, in a word: hub, bucket, upload or folder."""
    return next((kind for prefix, kind in _KINDS.items() if source.startswith(prefix)), "folder")


def check_bucket(bucket: str, allowed: Collection[str]) -> None:
    """Raises SourceRefused, naming the buckets that there are, for one that imports may not read."""
    if not allowed:
        raise SourceRefused("this platform imports from no bucket: none is set in QUANTRY_IMPORT_BUCKETS")
    if bucket not in allowed:
        raise SourceRefused(f"imports may not read the bucket {bucket}; they may read: {', '.join(sorted(allowed))}")


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


def is_local(source: str) -> bool:
    """Tells whether a source is written as a path, absolute or not, and not as a place elsewhere."""
    return not source.startswith(SOURCE_PREFIXES)


def _bucket_source(source: str) -> BucketSource:
    match = _BUCKET.fullmatch(source)
    prefix = "" if match is None else (match["prefix"] or "").removesuffix("/")
    parts = prefix.split("/") if prefix else []
    if match is None or ".." in match["bucket"] or any(part in {"", ".", ".."} for part in parts):
        raise SourceRefused(f"a source in a bucket is written s3:<bucket>/<prefix>, not {source!r}")
    return BucketSource(bucket=match["bucket"], prefix=f"{prefix}/" if prefix else "")
