"""What is counted of rows while they stream, in memory that does not grow with their number."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

from quantry_core.datasets import DatasetKind, DatasetStatistics, UntrainableRow
from quantry_core.rows import Row, characters_of, why_not_trainable

MAX_KEPT_DIGESTS = 100_000
MAX_UNTRAINABLE_ROWS = 100
"""So many are kept with their lines; beyond them they are only counted."""
EXACT_LENGTH_CHARACTERS = 1000


def num_non_ascii(text: str) -> int:
    """Returns the number of characters beyond ASCII."""
    return 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))


def share_of(part: int, whole: int) -> float | None:
    """Returns a share to four places; None of nothing."""
    return round(part / whole, 4) if whole else None


class RowTally:
    """Add every row, then take the statistics."""

    def __init__(self, kind: DatasetKind) -> None:
        self._kind = kind
        self._num_rows = 0
        self._num_characters = 0
        self._num_non_ascii = 0
        self._shortest = 0
        self._longest = 0
        self._lengths: Counter[int] = Counter()
        self._roles: Counter[str] = Counter()
        self._labels: Counter[bool] = Counter()
        self._num_chosen_characters = 0
        self._num_rejected_characters = 0
        self._different = DistinctTally()
        self._num_untrainable = 0
        self._untrainable: list[UntrainableRow] = []

    def add(self, line: int, row: Row) -> None:
        """Counts a row, which stands in that line of the file."""
        length = row.num_characters
        self._shortest = min(self._shortest, length) if self._num_rows else length
        self._longest = max(self._longest, length)
        self._num_rows += 1
        self._num_characters += length
        self._num_non_ascii += sum(num_non_ascii(part) for part in row.parts)
        self._lengths[_rounded(length)] += 1
        self._different.add(row.identity)
        if self._kind is DatasetKind.CHAT:
            self._roles.update(message.role.value for message in row.messages)
        if row.label is not None:
            self._labels[row.label] += 1
        self._num_chosen_characters += characters_of(row.chosen)
        self._num_rejected_characters += characters_of(row.rejected)
        if (reason := why_not_trainable(row)) is not None:
            self._num_untrainable += 1
            if self._num_untrainable <= MAX_UNTRAINABLE_ROWS:
                self._untrainable.append(UntrainableRow(line=line, reason=reason))

    def statistics(self, num_lines: int) -> DatasetStatistics:
        """Returns what was counted; ``num_lines`` are those of the file."""
        is_preferences = self._kind is DatasetKind.PREFERENCES
        return DatasetStatistics(
            num_characters=self._num_characters,
            num_lines=num_lines,
            non_ascii_share=share_of(self._num_non_ascii, self._num_characters),
            num_rows=self._num_rows,
            row_characters_min=self._shortest,
            row_characters_mean=round(self._num_characters / self._num_rows, 2) if self._num_rows else None,
            row_characters_max=self._longest,
            row_characters_p50=self._percentile(50),
            row_characters_p95=self._percentile(95),
            num_duplicate_rows=max(self._num_rows - self._different.estimate, 0),
            is_duplicates_estimated=not self._different.is_exact,
            num_messages=dict(sorted(self._roles.items())) if self._kind is DatasetKind.CHAT else None,
            num_chosen_characters=self._num_chosen_characters if is_preferences else None,
            num_rejected_characters=self._num_rejected_characters if is_preferences else None,
            num_labels={"true": self._labels[True], "false": self._labels[False]} if self._kind is DatasetKind.LABELLED else None,
            num_untrainable_rows=self._num_untrainable,
            untrainable_rows=self._untrainable,
        )

    def _percentile(self, percent: int) -> int | None:
        """Returns the smallest length that at least so many percent of the rows do not pass: nearest rank."""
        seen = 0
        for length in sorted(self._lengths):
            seen += self._lengths[length]
            if 100 * seen >= percent * self._num_rows:
                return length
        return None


class DistinctTally:
    """Counts different things: exactly up to ``max_kept`` of them, by adaptive sampling beyond.

    Digests that end in more zero bits than there is room for are kept, and each stands for 2^bits (P. Flajolet, On adaptive
    sampling, Computing 43, 1990).
    """

    def __init__(self, max_kept: int = MAX_KEPT_DIGESTS) -> None:
        self._max_kept = max_kept
        self._kept: set[int] = set()
        self._num_bits = 0

    def add(self, identity: bytes) -> None:
        """Counts a thing by what it is known by."""
        digest = int.from_bytes(blake2b(identity, digest_size=8).digest(), "big")
        if digest & self._mask:
            return
        self._kept.add(digest)
        while len(self._kept) > self._max_kept:
            self._num_bits += 1
            self._kept = {one for one in self._kept if not one & self._mask}

    @property
    def estimate(self) -> int:
        """How many different things there were."""
        return len(self._kept) << self._num_bits

    @property
    def is_exact(self) -> bool:
        """Tells whether every one of them was kept."""
        return self._num_bits == 0

    @property
    def _mask(self) -> int:
        return (1 << self._num_bits) - 1


def _rounded(length: int) -> int:
    """Returns a length to three digits, so that there are never many different ones."""
    if length < EXACT_LENGTH_CHARACTERS:
        return length
    step: int = 10 ** (len(str(length)) - 3)
    return length // step * step
