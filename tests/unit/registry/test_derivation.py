"""Derived datasets: each step against a plain reference, and the same bytes for the same recipe however chunks are cut."""

from __future__ import annotations

import io
import json
from collections.abc import Generator
from typing import Any

import pytest
from pydantic import ValidationError

from quantry_core.datasets import DatasetKind, DatasetRecipe, Parent, Split, SplitPart
from quantry_core.errors import InvalidInput
from quantry_registry.datasets.derivation import Source, derive
from quantry_registry.datasets.items import items_of


def source(content: bytes, ref: str = "a@1", kind: DatasetKind = DatasetKind.ROWS, chunk_bytes: int = 11) -> Source:
    def chunks() -> Generator[bytes, None, None]:
        for at in range(0, len(content), chunk_bytes):
            yield content[at : at + chunk_bytes]

    return Source(ref, kind, chunks)


def rows(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def derived(*sources: Source, weights: tuple[float, ...] | None = None, **recipe: Any) -> bytes:
    parents = [Parent(ref=one.ref, weight=weights[at] if weights else None) for at, one in enumerate(sources)]
    output = io.BytesIO()
    derive(list(sources), DatasetRecipe(parents=parents, **recipe), output)
    return output.getvalue()


def texts_of(data: bytes) -> list[str]:
    return [json.loads(line)["text"] for line in data.splitlines()]


NUMBERS = [f"row number {number:03}" for number in range(100)]


def test_parents_stand_one_after_another_with_a_newline_at_the_end_of_each() -> None:
    assert derived(source(rows("one", "two").rstrip()), source(b"\n\n" + rows("three"), "b@1")) == rows("one", "two", "three")


def test_length_and_duplicates() -> None:
    data = rows("aaaa", "b", "cccccc", "aaaa", "dd") + b'{"n": 1, "text":"dd"}\n'
    assert texts_of(derived(source(data), min_characters=2, max_characters=4)) == ["aaaa", "aaaa", "dd", "dd"]
    assert derived(source(data), deduplicate=True) == rows("aaaa", "b", "cccccc", "dd")
    assert texts_of(derived(source(rows("x")), source(rows("y", "x"), "b@1"), deduplicate=True)) == ["x", "y"]


def test_pairs_are_told_apart_by_all_they_say_and_split_like_any_rows() -> None:
    def pair(number: int, chosen: str = "yes", rejected: str = "no") -> bytes:
        return (json.dumps({"prompt": f"Is it {number}?", "chosen": chosen, "rejected": rejected}) + "\n").encode()

    data = pair(1) + pair(1, "no", "yes") + pair(1) + pair(2)
    assert derived(source(data, kind=DatasetKind.PREFERENCES), deduplicate=True) == pair(1) + pair(1, "no", "yes") + pair(2)
    many = [pair(number) for number in range(40)]
    parts = [
        derived(source(b"".join(many), kind=DatasetKind.PREFERENCES), split=Split(part=part, test_share=0.25, block_items=2)).splitlines(
            True
        )
        for part in SplitPart
    ]
    assert [len(part) for part in parts] == [30, 10]
    assert sorted(parts[0] + parts[1]) == sorted(many)


@pytest.mark.parametrize(("test_share", "num_test"), [(0.1, 2), (0.25, 5), (0.5, 10)])
def test_a_split_is_of_whole_blocks_and_its_parts_are_the_whole(test_share: float, num_test: int) -> None:
    split = {part: Split(part=part, test_share=test_share, block_items=5) for part in SplitPart}
    train, test = (texts_of(derived(source(rows(*NUMBERS)), split=split[part], seed=3)) for part in (SplitPart.TRAIN, SplitPart.TEST))
    assert sorted(train + test) == NUMBERS
    assert not set(train) & set(test)
    blocks = {NUMBERS.index(text) // 5 for text in test}
    assert len(test) == 5 * len(blocks)
    assert abs(len(blocks) - num_test) <= 1
    others = [texts_of(derived(source(rows(*NUMBERS)), split=split[SplitPart.TEST], seed=seed)) for seed in range(3, 9)]
    assert others[0] == test
    assert len(set(map(tuple, others))) > 1


def test_a_sample_is_drawn_without_repetition_and_keeps_the_order() -> None:
    first, again, other = (texts_of(derived(source(rows(*NUMBERS)), num_items=20, seed=seed)) for seed in (1, 1, 2))
    assert len(set(first)) == 20
    assert first == sorted(first) == again
    assert first != other
    shuffled = texts_of(derived(source(rows(*NUMBERS)), num_items=20, seed=1, shuffle=True))
    assert sorted(shuffled) == first
    assert shuffled != first


def test_every_item_is_as_likely_as_any_other() -> None:
    counts = dict.fromkeys(NUMBERS[:20], 0)
    for seed in range(600):
        for text in texts_of(derived(source(rows(*NUMBERS[:20]), chunk_bytes=4096), num_items=5, seed=seed)):
            counts[text] += 1
    # 150 expected with a standard deviation of 10.6: five of them.
    assert all(abs(count - 150) < 53 for count in counts.values()), counts


def test_weights_share_out_the_sample() -> None:
    sources = [source(rows(*(f"{name}{number}" for number in range(50))), f"{name}@1") for name in "abc"]
    drawn = texts_of(derived(*sources, weights=(1, 1, 3), num_items=21))
    assert [sum(text[0] == name for text in drawn) for name in "abc"] == [4, 4, 13]
    with pytest.raises(InvalidInput, match="57 items of c@1 are asked for, but only 50 are left"):
        derived(*sources, weights=(1, 1, 4), num_items=85)


def test_the_same_recipe_makes_the_same_bytes_however_chunks_are_cut() -> None:
    made = {
        derived(source(rows(*NUMBERS), chunk_bytes=size), shuffle=True, deduplicate=True, num_items=50, seed=7) for size in (1, 13, 9999)
    }
    assert len(made) == 1


def test_what_leaves_nothing_or_too_little_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no item is left"):
        derived(source(rows("a")), min_characters=5)
    with pytest.raises(InvalidInput, match="no item is left"):
        derived(source(rows("a")), min_characters=5, num_items=1)
    with pytest.raises(InvalidInput, match="3 items of a@1, b@1 are asked for, but only 2 are left"):
        derived(source(rows("a")), source(rows("b"), "b@1"), num_items=3)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"parents": [{"ref": "a", "weight": 1}, {"ref": "b"}]}, "all parents or for none"),
        ({"parents": [{"ref": "a", "weight": 1}]}, "name it, or leave weights out"),
        ({"parents": [{"ref": "a"}], "min_characters": 3, "max_characters": 2}, "no item could stay"),
        ({"parents": []}, "at least 1 item"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(recipe: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DatasetRecipe.model_validate(recipe)


TEXT = "".join(f"line {number} of some text, größer\n" for number in range(60)) + "x" * 500 + "\nend"


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 100_000])
def test_passages_are_whole_lines_and_together_the_text(chunk_bytes: int) -> None:
    passages = [item.raw.decode() for item in items_of(DatasetKind.TEXT, source(TEXT.encode(), chunk_bytes=chunk_bytes).open(), 100)]
    assert "".join(passages).replace("\n", "") == TEXT.replace("\n", "")
    whole_lines = [passage for passage in passages if "x" not in passage]
    assert all(100 <= len(passage) < 140 for passage in whole_lines[:-1])
    assert max(map(len, passages)) == 201
    assert passages == [item.raw.decode() for item in items_of(DatasetKind.TEXT, source(TEXT.encode(), chunk_bytes=50).open(), 100)]


def test_text_is_sampled_by_passages() -> None:
    drawn = derived(source(TEXT.encode(), kind=DatasetKind.TEXT), num_items=3, passage_characters=100).decode()
    assert all(line + "\n" in TEXT for line in drawn.splitlines() if "x" not in line)
    assert len(drawn) < 0.3 * len(TEXT)
