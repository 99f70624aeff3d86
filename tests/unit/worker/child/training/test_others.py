"""Which other answer an answer is compared with, beside a search of its own for each."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain

import pytest

from quantry_worker.child.training.others import others_of_batches


def searched(prompts: list[int], batch_size: int) -> list[int]:
    num_answers, has_one_prompt = len(prompts), len(set(prompts)) < 2
    found = []
    for index, prompt in enumerate(prompts):
        begin = index - index % batch_size
        size = min(batch_size, num_answers - begin)
        of_batch = (begin + (index - begin - back) % size for back in range(1, size))
        of_all = ((index - back) % num_answers for back in range(1, num_answers + 1))
        found.append(next(other for other in chain(of_batch, of_all) if has_one_prompt or prompts[other] != prompt))
    return found


def test_an_answer_is_compared_with_one_to_another_prompt() -> None:
    assert others_of_batches([0, 0, 1, 1], 4) == [3, 3, 1, 1]
    prompts = [0, 0, 1, 1, 2]
    assert all(prompts[other] != prompt for other, prompt in zip(others_of_batches(prompts, 2), prompts, strict=True))
    assert others_of_batches([0, 0], 2) == [1, 0]


@pytest.mark.parametrize("num_prompts", [1, 2, 3, 8])
def test_the_nearest_answer_to_another_prompt_is_found(num_prompts: int) -> None:
    drawn = random.Random(num_prompts)
    for _ in range(300):
        prompts = [int(num_prompts * drawn.random() ** 3) for _ in range(drawn.randint(1, 20))]
        for batch_size in (1, 2, 3, 7, 40):
            assert others_of_batches(prompts, batch_size) == searched(prompts, batch_size)


class Looked(Sequence[int]):
    """Prompts that count how often one of them is looked at."""

    def __init__(self, prompts: list[int]) -> None:
        self.num_looks = 0
        self._prompts = prompts

    def __len__(self) -> int:
        return len(self._prompts)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]  # as a list has it
        found = self._prompts[place]
        self.num_looks += len(found) if isinstance(place, slice) else 1
        return found

    def __iter__(self) -> Iterator[int]:
        for prompt in self._prompts:
            self.num_looks += 1
            yield prompt


def test_many_answers_to_one_prompt_are_gone_through_a_few_times_in_all() -> None:
    prompts = Looked([0] * 2000 + [1] + [0] * 2000)
    assert others_of_batches(prompts, 4)[-1] == 2000
    assert prompts.num_looks < 10 * len(prompts)
