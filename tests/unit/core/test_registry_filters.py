"""Filters and orders as MLflow's clients write them: what is read, and where what is wrong is said to be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.errors import InvalidInput
from quantry_core.registry_filters import (
    MAX_CONDITIONS,
    OF_MODELS,
    OF_VERSIONS,
    ORDERS_OF_MODELS,
    ORDERS_OF_VERSIONS,
    Comparator,
    Condition,
    Field,
    Order,
    parse_filter,
    parse_orders,
)


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("", []),
        ("  ", []),
        ("name = 'bard'", [Condition(Field.NAME, Comparator.EQUAL, "bard")]),
        ('name="bard"', [Condition(Field.NAME, Comparator.EQUAL, "bard")]),
        ("attribute.name LIKE 'ba%'", [Condition(Field.NAME, Comparator.LIKE, "ba%")]),
        ("NAME ilike '%A_d'", [Condition(Field.NAME, Comparator.ILIKE, "%A_d")]),
        ("name != 'o''brien'", [Condition(Field.NAME, Comparator.NOT_EQUAL, "o'brien")]),
        ("tags.stage <> 'it is'", [Condition(Field.TAG, Comparator.NOT_EQUAL, "it is", "stage")]),
        ("tag.`a key` = 'x'", [Condition(Field.TAG, Comparator.EQUAL, "x", "a key")]),
        ('tags."a.b/c" = "x AND y"', [Condition(Field.TAG, Comparator.EQUAL, "x AND y", "a.b/c")]),
        ("version_number >= 12", [Condition(Field.VERSION_NUMBER, Comparator.AT_LEAST, "12")]),
        ("version_number='3'", [Condition(Field.VERSION_NUMBER, Comparator.EQUAL, "3")]),
        (
            "name = 'a' and tags.k = 'v'",
            [Condition(Field.NAME, Comparator.EQUAL, "a"), Condition(Field.TAG, Comparator.EQUAL, "v", "k")],
        ),
    ],
)
def test_what_can_be_read(text: str, conditions: list[Condition]) -> None:
    assert parse_filter(text, OF_VERSIONS) == conditions


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name", "ends where a comparison should be"),
        ("name =", "ends where a value should be"),
        ("name = bard", "'bard' stands where a text in quotes should be"),
        ("name = 'bard", 'cannot be read from "\'bard" on'),
        ("name > 'bard'", "'>' does not compare name; known: !=, =, ILIKE, LIKE"),
        ("version_number LIKE '1%'", "'LIKE' does not compare version_number"),
        ("version_number = 'one'", "'one' is no version number"),
        ("version_number = 12345678901", "is no version number"),
        ("run_id = 'x'", "'run_id' is nothing to filter by; known: name, tags.`key`, version_number"),
        ("metrics.x = 'y'", "'metrics.x' is nothing to filter by"),
        ("name = 'a' OR name = 'b'", "OR is not taken here"),
        ("name = 'a' name = 'b'", "'name' stands where AND should be"),
        ("(name = 'a')", "'(' stands where a field should be"),
        ("name IN ('a', 'b')", "'IN' does not compare name"),
        ("tags.`` = 'x'", "the key of a tag is empty"),
        ("name = 'a' AND", "ends where a field should be"),
        ("name = 'a' ; drop table", "cannot be read from '; drop table' on"),
        (" AND ".join(["name = 'a'"] * (MAX_CONDITIONS + 1)), f"at most {MAX_CONDITIONS} are taken"),
        ("name = '" + "x" * 4000 + "'", "at most 4000 are read"),
    ],
)
def test_what_cannot_be_read_says_where(text: str, why: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_filter(text, OF_VERSIONS)
    assert why in refused.value.detail
    assert refused.value.errors[0].field == "filter"


def test_models_have_no_numbers() -> None:
    with pytest.raises(InvalidInput, match="known: name, tags"):
        parse_filter("version_number = 1", OF_MODELS)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_filter(text, OF_VERSIONS)
    except InvalidInput as error:
        assert error.detail.startswith("filter: ")


def test_orders() -> None:
    assert parse_orders(["name", "version_number DESC, timestamp asc"], ORDERS_OF_VERSIONS) == [
        Order(Field.NAME, False),
        Order(Field.VERSION_NUMBER, True),
        Order(Field.UPDATED, False),
    ]
    assert parse_orders(["name DESC", "name ASC"], ORDERS_OF_MODELS) == [Order(Field.NAME, True)]
    for bad in ("size", "name UP", "name DESC NULLS", "", "version_number", "tags.x"):
        with pytest.raises(InvalidInput, match="is no order"):
            parse_orders([bad], ORDERS_OF_MODELS)
