"""Tags: short texts by key, kept with a model or a version. They may say more than labels, which selectors must be able to write."""

from __future__ import annotations

MAX_TAGS = 64
MAX_TAG_KEY_CHARS = 250
MAX_TAG_VALUE_CHARS = 2000


def check_tags(tags: dict[str, str]) -> dict[str, str]:
    """Returns ``tags`` unchanged; raises ValueError naming the key or value that is not kept."""
    if len(tags) > MAX_TAGS:
        raise ValueError(f"there are {len(tags)} tags, at most {MAX_TAGS} are kept")
    for key, value in tags.items():
        if not 1 <= len(key) <= MAX_TAG_KEY_CHARS or not key.isprintable() or key != key.strip():
            raise ValueError(
                f"{key[:80]!r} cannot be the key of a tag: 1 to {MAX_TAG_KEY_CHARS} printable characters, none of them a space at an end"
            )
        if len(value) > MAX_TAG_VALUE_CHARS:
            raise ValueError(f"the value of tag {key!r} has {len(value)} characters, at most {MAX_TAG_VALUE_CHARS} are kept")
        if "\0" in value:
            raise ValueError(f"the value of tag {key!r} contains a NUL character, which cannot be kept")
    return tags
