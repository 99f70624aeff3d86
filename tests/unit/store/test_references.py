"""References by name, and the sentences about them."""

from __future__ import annotations

import pytest

from quantry_core.errors import InvalidName
from quantry_core.names import is_number
from quantry_store.references import MAX_INTEGER, NameRef, choices, fits_integer, parse_ref


@pytest.mark.parametrize(
    ("ref", "parts"),
    [
        ("bard", NameRef("bard", None, None)),
        ("bard@3", NameRef("bard", 3, None)),
        ("bard@007", NameRef("bard", 7, None)),
        ("7b", NameRef("7b", None, None)),
        ("7@7b", NameRef("7", None, "7b")),
        ("bard@production", NameRef("bard", None, "production")),
        ("bard@9999999999", NameRef("bard", None, "9999999999")),
    ],
)
def test_parse(ref: str, parts: NameRef) -> None:
    assert parse_ref(ref) == parts


@pytest.mark.parametrize(
    "ref", ["", "@", "@1", "bard@", "bard@1@2", "a/b", "../bard", "bard\x00", "Bard", "b" * 300, "bard@a/b", "bard@-1", "bard@\u0663"]
)
def test_refused(ref: str) -> None:
    with pytest.raises(InvalidName):
        parse_ref(ref)


def test_numbers_fit_their_column() -> None:
    assert is_number("9" * 9)
    assert int("9" * 9) <= MAX_INTEGER
    assert not is_number("9" * 10)
    assert [fits_integer(number) for number in (-1, 0, MAX_INTEGER, MAX_INTEGER + 1)] == [False, True, True, False]


def test_choices() -> None:
    assert choices([], of="models") == "there are no models yet"
    assert choices(["a", "b"], of="models") == "models here: a, b"
    assert choices(range(12), of="numbers") == "numbers here: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
