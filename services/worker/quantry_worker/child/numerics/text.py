"""Token streams into random windows for calibration. Pure functions on arrays.

N is a number of windows, T the tokens of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.families import context_tokens

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class TokenStream:
    """One dataset as token ids, shape [num_tokens]: its text, or its rows one after another."""

    ref: str
    tokens: Tokens
    kind: DatasetKind = DatasetKind.TEXT
    row_tokens: Tokens | None = None
    """Tokens of each row, shape [num_rows], what stands between rows not counted. None for plain text."""
    chat_template_sha256: str | None = None
    """Of the tokenizer's template that rows were written by; None where none was used."""


@dataclass(frozen=True)
class DatasetSampling:
    """What one dataset was made into, and how much of it was drawn."""

    dataset: str
    kind: DatasetKind
    num_tokens: int
    num_windows: int
    num_samples: int
    num_rows: int | None
    row_tokens_min: int | None
    row_tokens_mean: float | None
    row_tokens_max: int | None
    chat_template_sha256: str | None


@dataclass(frozen=True)
class SamplingReport:
    """How samples were drawn: enough to draw them again from the same datasets with the same tokenizer."""

    num_samples: int
    length_tokens: int
    seed: int | None
    """None where nothing was drawn: consecutive windows were taken from the beginning."""
    datasets: tuple[DatasetSampling, ...]

    def as_json(self) -> dict[str, Any]:
        """Returns it as JSON keeps it, for a recipe or a job's metrics."""
        return {**asdict(self), "datasets": [asdict(one) for one in self.datasets]}


def sample_windows(streams: list[TokenStream], *, num_samples: int, length_tokens: int, seed: int) -> Tokens:
    """Returns calibration samples, shape [num_samples, length_tokens], the same for the same arguments.

    Rows are packed: one after another in their stream, they are cut into windows as text is.

    Every stream is cut into consecutive windows; each gives samples in proportion to how many it has, drawn without
    repetition. Raises InvalidInput if a text is shorter than one window or all together have too few.
    """
    windows = [_cut(stream, length_tokens) for stream in streams]
    num_windows = [len(one) for one in windows]
    if sum(num_windows) < num_samples:
        raise InvalidInput(
            f"the calibration text is too short: {num_samples} samples of {length_tokens} tokens are asked for, "
            f"{', '.join(stream.ref for stream in streams)} hold {sum(num_windows)}; ask for fewer or shorter samples, or add text"
        )
    generator = np.random.default_rng(seed)
    chosen = [
        one[generator.choice(len(one), size=quota, replace=False)]
        for one, quota in zip(windows, _quotas(num_windows, num_samples), strict=True)
    ]
    samples = np.concatenate(chosen)
    # Mixed, so that a batch is no single dataset.
    return samples[generator.permutation(num_samples)]


def calibration_report(streams: list[TokenStream], *, num_samples: int, length_tokens: int, seed: int) -> SamplingReport:
    """Returns what ``sample_windows`` draws for the same arguments, which it has taken."""
    quotas = _quotas([len(stream.tokens) // length_tokens for stream in streams], num_samples)
    return SamplingReport(
        num_samples=num_samples,
        length_tokens=length_tokens,
        seed=seed,
        datasets=tuple(_sampling(stream, length_tokens, quota) for stream, quota in zip(streams, quotas, strict=True)),
    )


def scoring_report(streams: list[TokenStream], *, window_tokens: int, num_windows: list[int]) -> SamplingReport:
    """Returns what was scored, ``num_windows`` of each stream from its beginning."""
    datasets = tuple(_sampling(stream, window_tokens, taken) for stream, taken in zip(streams, num_windows, strict=True))
    return SamplingReport(num_samples=sum(num_windows), length_tokens=window_tokens, seed=None, datasets=datasets)


def check_length(length_tokens: int, config: Mapping[str, Any], *, field: str) -> None:
    """Raises InvalidInput if windows are longer than the context that config.json states; without one nothing is checked."""
    context = context_tokens(config)
    if context is not None and length_tokens > context:
        raise InvalidInput(f"{field} is {length_tokens}, but the model's context is {context} tokens")


def _sampling(stream: TokenStream, length_tokens: int, num_samples: int) -> DatasetSampling:
    rows = stream.row_tokens
    return DatasetSampling(
        dataset=stream.ref,
        kind=stream.kind,
        num_tokens=len(stream.tokens),
        num_windows=len(stream.tokens) // length_tokens,
        num_samples=num_samples,
        num_rows=None if rows is None else len(rows),
        row_tokens_min=None if rows is None else int(rows.min()),
        row_tokens_mean=None if rows is None else round(float(rows.mean()), 2),
        row_tokens_max=None if rows is None else int(rows.max()),
        chat_template_sha256=stream.chat_template_sha256,
    )


def _cut(stream: TokenStream, length_tokens: int) -> Tokens:
    num_windows = len(stream.tokens) // length_tokens
    if num_windows == 0:
        raise InvalidInput(f"dataset {stream.ref} is too short: it has {len(stream.tokens)} tokens, one window needs {length_tokens}")
    return stream.tokens[: num_windows * length_tokens].reshape(num_windows, length_tokens)


def _quotas(num_windows: list[int], num_samples: int) -> list[int]:
    """Returns how many samples each stream gives: proportional shares, rounded by largest remainder."""
    total = sum(num_windows)
    quotas = [num_samples * count // total for count in num_windows]
    remainders = [num_samples * count % total for count in num_windows]
    by_remainder = sorted(range(len(num_windows)), key=lambda index: (-remainders[index], index))
    for index in by_remainder[: num_samples - sum(quotas)]:
        quotas[index] += 1
    return quotas
