"""Which other answer an answer is compared with: one to another prompt, of its own batch where that has one."""

from __future__ import annotations

from collections.abc import Sequence


def others_of_batches(prompts: Sequence[int], batch_size: int) -> list[int]:
    """Returns for each answer the one before it in its batch, around its edges, whose prompt is another; where the batch has none, of
    all answers. Where there is but one prompt in all, it is the answer before it."""
    of_all, has_one_prompt = _others(prompts), len(set(prompts)) < 2
    found: list[int] = []
    for begin in range(0, len(prompts), batch_size):
        batch = prompts[begin : begin + batch_size]
        if len(set(batch)) > 1 or (has_one_prompt and len(batch) > 1):
            found += [begin + place for place in _others(batch)]
        else:
            found += of_all[begin : begin + len(batch)]
    return found


def _others(prompts: Sequence[int]) -> list[int]:
    """Returns for each place the last one before it, around the edges, with another prompt; the one before it where there is none."""
    num = len(prompts)
    last = next((place for place in reversed(range(num)) if prompts[place] != prompts[0]), None)
    if last is None:
        return [(place - 1) % num for place in range(num)]
    found = []
    for place, prompt in enumerate(prompts):
        if prompts[place - 1] != prompt:
            last = (place - 1) % num
        found.append(last)
    return found
