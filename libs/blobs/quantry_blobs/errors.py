"""What can go wrong between this process and the object store."""

from __future__ import annotations

from quantry_blobs.stores import Stored
from quantry_core.errors import NotFound, QuantryError, Unavailable


class StoreUnavailable(Unavailable):
    """The object store does not answer, or answers that it cannot serve now. Trying again later is right."""

    slug = "store-unavailable"
    title = "The object store is away; try again"


class StoreRefused(QuantryError):
    """The object store answers, but not to this key or bucket: a setting is wrong, trying again changes nothing."""

    slug = "store-refused"
    title = "The object store refuses this platform's request"


class UnknownBlob(NotFound):
    """There is no object under that key."""

    slug = "unknown-blob"
    title = "There are no such bytes in the object store"


class DigestMismatch(QuantryError):
    """The bytes are not those that were promised. They were not kept."""

    slug = "digest-mismatch"
    title = "The bytes differ from their digest"


class OtherBytes(DigestMismatch):
    """An object was read to its end, and is ``found``, not ``expected``."""

    slug = "other-bytes"
    title = "An object is not what was expected"

    def __init__(self, found: Stored, expected: Stored) -> None:
        super().__init__(
            f"{found.size_bytes} bytes with SHA-256 {found.sha256} were read, not the {expected.size_bytes} with {expected.sha256}"
        )
        self.found = found
