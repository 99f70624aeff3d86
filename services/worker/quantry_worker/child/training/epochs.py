"""In which order an epoch takes its samples: by the epoch's number alone, so that what goes on in any epoch sees what an undisturbed
run sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler
from transformers import TrainerCallback
from trl.trainer.utils import RepeatSampler


class EpochSampler(Sampler[int]):
    """TRL's sampler, which repeats samples, shuffled anew in each epoch. By itself it goes on from the epoch before, which a process
    that begins later has not drawn."""

    def __init__(self, sampler: RepeatSampler, seed: int) -> None:
        self._sampler = sampler
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self._sampler.generator.manual_seed(self._seed + self._epoch)
        return iter(self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)


class Epochs(TrainerCallback):
    """Tells the sampler which epoch begins, however deep it lies.

    accelerate looks for it at two depths, and finds none where several processes share the batches and the first of them are passed over.
    """

    def on_epoch_begin(self, _args: Any, state: Any, _control: Any, train_dataloader: Any, **_: Any) -> None:
        sampler = train_dataloader.batch_sampler
        while sampler is not None:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(int(state.epoch or 0))
            sampler = getattr(sampler, "batch_sampler", getattr(sampler, "sampler", None))
