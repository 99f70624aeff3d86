"""Tags: what is kept and what is refused by name."""

from __future__ import annotations

import pytest

from quantry_core.tags import MAX_TAG_KEY_CHARS, MAX_TAG_VALUE_CHARS, MAX_TAGS, check_tags


def test_texts_of_any_kind_are_kept() -> None:
    tags = {
        "a key": "two words, and a comma\nand a line",
        "mlflow.note": "",
        "é/ü:1": "ü" * MAX_TAG_VALUE_CHARS,
        "k" * MAX_TAG_KEY_CHARS: "v",
    }
    assert check_tags(tags) is tags


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"": "x"}, "cannot be the key of a tag"),
        ({" a": "x"}, "cannot be the key of a tag"),
        ({"a\nb": "x"}, "cannot be the key of a tag"),
        ({"k" * (MAX_TAG_KEY_CHARS + 1): "x"}, "cannot be the key of a tag"),
        ({"a": "x" * (MAX_TAG_VALUE_CHARS + 1)}, f"at most {MAX_TAG_VALUE_CHARS} are kept"),
        ({"a": "x\0y"}, "NUL character"),
        ({f"k{n}": "" for n in range(MAX_TAGS + 1)}, f"at most {MAX_TAGS} are kept"),
    ],
)
def test_what_is_not_kept(tags: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_tags(tags)
