"""Derives a dataset from others: one pass over their bytes, in bounded memory, the same for the same recipe and parents."""

from __future__ import annotations

import random
import sqlite3
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from math import floor
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from quantry_core.datasets import DatasetKind, DatasetRecipe, Split, SplitPart
from quantry_core.errors import InvalidInput
from quantry_registry.datasets.items import Item, items_of

MAX_MEMORY_BYTES = 8 * 1024**2
"""Beyond it, items that are drawn from lie in a file of the temporary directory."""

MAX_SHUFFLED_ITEMS = 2_000_000
"""Their places are in memory."""

LENGTH_BITS = 21
"""Of a place: one number, the offset in the upper bits and the length, at most a row's, in the lower."""


@dataclass(frozen=True)
class Source:
    """A parent's bytes."""

    ref: str
    kind: DatasetKind
    open: Callable[[], Generator[bytes, None, None]]


def derive(sources: list[Source], recipe: DatasetRecipe, output: BinaryIO) -> None:
    """Writes the dataset that a recipe makes of its parents, which are of one kind, to ``output``.

    Raises InvalidInput where nothing is left, or less than is to be drawn.
    """
    with closing(_Seen()) as seen:
        items = _kept(_all_items(sources, recipe), recipe, seen)
        if recipe.num_items is None and not recipe.shuffle:
            num_items = 0
            for _, item in items:
                output.write(item.raw)
                num_items += 1
            _check_some(num_items)
            return
        with SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES) as spool:
            pool = cast(BinaryIO, spool)
            for place in _ordered(_drawn(items, sources, recipe, pool), recipe):
                pool.seek(place >> LENGTH_BITS)
                output.write(pool.read(place & ((1 << LENGTH_BITS) - 1)))


def _all_items(sources: list[Source], recipe: DatasetRecipe) -> Iterator[tuple[int, Item]]:
    """Yields every item with the number of its parent."""
    for number, source in enumerate(sources):
        with closing(source.open()) as chunks:
            for item in items_of(source.kind, chunks, recipe.passage_characters):
                yield number, item


def _kept(items: Iterable[tuple[int, Item]], recipe: DatasetRecipe, seen: _Seen) -> Iterator[tuple[int, Item]]:
    """Yields the items that length, duplicates and split leave."""
    shortest, longest = recipe.min_characters or 0, recipe.max_characters or float("inf")
    offset = random.Random(f"{recipe.seed}/split").random()
    position = 0
    for number, item in items:
        if not shortest <= item.num_characters <= longest:
            continue
        if recipe.deduplicate and not seen.is_new(item.identity):
            continue
        if recipe.split is None or _is_in_part(recipe.split, position // recipe.split.block_items, offset):
            yield number, item
        position += 1


def _is_in_part(split: Split, block: int, offset: float) -> bool:
    """Tells on which side a block lies. Blocks of the test part are spread evenly; the offset says where they begin."""
    is_test = floor((block + 1) * split.test_share + offset) > floor(block * split.test_share + offset)
    return is_test is (split.part is SplitPart.TEST)


class _Seen:
    """What was seen, on disk: its memory does not grow with the number of items."""

    def __init__(self) -> None:
        # An empty name is a database in a temporary file of its own, which goes with the connection.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("pragma journal_mode = off")
        self._database.execute("create table seen (digest blob primary key) without rowid")
        self._database.execute("begin")

    def is_new(self, identity: bytes) -> bool:
        """Notes a thing; tells whether it was not there yet."""
        digest = blake2b(identity, digest_size=16).digest()
        return self._database.execute("insert or ignore into seen values (?)", (digest,)).rowcount == 1

    def close(self) -> None:
        """Gives the file back."""
        self._database.close()


class _Reservoir:
    """Places of items in the spool: all of them, or a uniform sample of ``size`` (Vitter's algorithm R)."""

    def __init__(self, size: int | None, seed: str) -> None:
        self._size = size
        self._random = random.Random(seed)
        self.num_seen = 0
        self.places = array("Q")

    def add(self, offset: int, length: int) -> None:
        """Looks at the next item."""
        place = offset << LENGTH_BITS | length
        self.num_seen += 1
        if self._size is None or len(self.places) < self._size:
            self.places.append(place)
            return
        at = self._random.randrange(self.num_seen)
        if at < self._size:
            self.places[at] = place


def _drawn(items: Iterable[tuple[int, Item]], sources: list[Source], recipe: DatasetRecipe, pool: BinaryIO) -> array[int]:
    """Returns where the drawn items lie in ``pool``, which takes in all of them."""
    sizes = _sizes(recipe)
    reservoirs = [_Reservoir(size, f"{recipe.seed}/sample/{number}") for number, size in enumerate(sizes)]
    offset = 0
    for number, item in items:
        reservoir = reservoirs[number if len(reservoirs) > 1 else 0]
        reservoir.add(offset, len(item.raw))
        pool.write(item.raw)
        offset += len(item.raw)
        if recipe.num_items is None and reservoir.num_seen > MAX_SHUFFLED_ITEMS:
            raise InvalidInput(f"at most {MAX_SHUFFLED_ITEMS} items can be shuffled; name num_items, or leave shuffle out")
    _check_some(sum(reservoir.num_seen for reservoir in reservoirs))
    for number, (size, reservoir) in enumerate(zip(sizes, reservoirs, strict=True)):
        if size is not None and reservoir.num_seen < size:
            of = sources[number].ref if len(reservoirs) > 1 else ", ".join(source.ref for source in sources)
            raise InvalidInput(f"{size} items of {of} are asked for, but only {reservoir.num_seen} are left after the other steps")
    places = array("Q")
    for reservoir in reservoirs:
        places.extend(reservoir.places)
    return places


def _sizes(recipe: DatasetRecipe) -> list[int | None]:
    """Returns how many items to draw from all parents together, or from each by its weight: rounded by largest remainder."""
    weights = [parent.weight for parent in recipe.parents if parent.weight is not None]
    if not weights or recipe.num_items is None:
        return [recipe.num_items]
    shares = [recipe.num_items * weight / sum(weights) for weight in weights]
    sizes = [floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda index: (sizes[index] - shares[index], index))
    for index in by_remainder[: recipe.num_items - sum(sizes)]:
        sizes[index] += 1
    return [*sizes]


def _ordered(places: array[int], recipe: DatasetRecipe) -> array[int]:
    ordered = array("Q", sorted(places))
    if recipe.shuffle:
        random.Random(f"{recipe.seed}/order").shuffle(ordered)
    return ordered


def _check_some(num_items: int) -> None:
    if num_items == 0:
        raise InvalidInput("no item is left: ask for other lengths, or another split")
