"""Runs in the ml environment: parts of a training by themselves, printed as JSON. ``<ml python> check_training_parts.py <master>``."""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler, SkipBatchSampler
from tokenizers.processors import TemplateProcessing
from torch.utils.data import BatchSampler
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import RepeatSampler

from quantry_core.datasets import DatasetKind
from quantry_core.jobs import FinetuneSpec, Hyperparameters
from quantry_core.rows import Row
from quantry_core.training import Overlong
from quantry_worker.child.reporter import Reporter
from quantry_worker.child.training.answers import Encoded, Rows, fitting
from quantry_worker.child.training.epochs import Epochs, EpochSampler
from quantry_worker.child.training.log_loss import collate
from quantry_worker.child.training.odds_ratio import _Trainer
from quantry_worker.child.training.order import Counts, TrainingOrder
from quantry_worker.child.training.samples import IGNORED, Sample, SampleOrder, make_samples
from quantry_worker.child.training.watching import Watch

WAITED_S = 0.2


def orders_of_prompts() -> dict[str, Any]:
    """The order of the third epoch, after the two before it and by a process that begins with it."""

    def sampler() -> EpochSampler:
        return EpochSampler(RepeatSampler(list(range(12)), mini_repeat_count=2, batch_size=3, seed=5), 5)

    whole, late = sampler(), sampler()
    epochs = []
    for epoch in range(3):
        whole.set_epoch(epoch)
        epochs.append(list(whole))
    late.set_epoch(2)
    return {"epochs": epochs, "late": list(late), "length": len(late)}


def order_of_a_share() -> dict[str, Any]:
    """The batches of the second process in the second epoch, the first of them passed over, and all of them."""

    def batches(num_passed_over: int) -> list[list[int]]:
        shuffled = SeedableRandomSampler(range(16), data_seed=3)
        share = BatchSamplerShard(BatchSampler(shuffled, 2, drop_last=False), num_processes=2, process_index=1)
        outer = SkipBatchSampler(share, num_passed_over) if num_passed_over else share
        loader = SimpleNamespace(batch_sampler=outer)
        Epochs().on_epoch_begin(None, SimpleNamespace(epoch=1.25), None, train_dataloader=loader)
        return list(outer)

    first = list(BatchSamplerShard(BatchSampler(SeedableRandomSampler(range(16), data_seed=3), 2, drop_last=False), 2, 1))
    return {"all": batches(0), "passed_over": batches(1), "first_epoch": first}


def text_and_rows(master: str) -> dict[str, Any]:
    """Samples of a tokenizer that begins and ends every text with special tokens, as an engine lets it."""
    tokenizer = AutoTokenizer.from_pretrained(master)
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    order = SampleOrder(tokenizer=tokenizer, dataset_ref="d@1", max_tokens=8, overlong=Overlong.TRUNCATE, completion_only=True)
    text = "Shall I compare thee to a summer's day? Thou art more lovely and more temperate."
    cut = make_samples(order, [(1, Row(DatasetKind.TEXT, text=text))], Counts())
    (row,) = make_samples(order, [(1, Row(DatasetKind.ROWS, text="To be"))], Counts())
    return {
        "begins": [one.input_ids[0] == ends[0][1] for one in cut],
        "is_begin_learned": [one.labels[0] != IGNORED for one in cut],
        "lengths": [len(one.input_ids) for one in cut],
        "text": "".join(tokenizer.decode(one.input_ids[1:]) for one in cut) == text,
        "row": tokenizer.convert_ids_to_tokens([row.input_ids[0], row.input_ids[-1]]),
    }


def cut_pairs() -> dict[str, Any]:
    """Two pairs that are too long: one differs at its beginning, one at its end alone."""
    spec = FinetuneSpec(model="bard@1", training_file="d@1", hyperparameters=Hyperparameters(sequence_tokens=16))
    nothing: dict[str, Any] = {"train": [], "validation": [], "arguments": {}, "callbacks": [], "row_numbers": ([], [])}
    order = TrainingOrder(spec=spec, model=None, tokenizer=None, seed=0, dataset_refs=("d@1", "d@1"), **nothing)
    counts = Counts()
    pairs = [Encoded(1, [1] * 14, ([3, 4, 5], [6, 4, 5])), Encoded(2, [1] * 14, ([3, 4, 5], [3, 4, 6]))]
    kept = fitting(order, Rows("d@1", [], counts), pairs)
    return {"kept": [one.number for one in kept], "num_truncated": counts.num_truncated, "num_dropped": counts.num_dropped}


def odds_ratio_log_loss() -> dict[str, float]:
    """The log-loss that orpo learns by, beside that of the chosen answers computed alone, and of prompts and answers."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes)).eval()
    prompts, chosen, rejected = [[5, 6, 7, 8], [9]], [[10, 11], [12, 13, 14]], [[15], [16, 17]]
    batch: dict[str, torch.Tensor] = {}
    for name, answers in (("chosen", chosen), ("rejected", rejected)):
        made = collate([Sample(one + two, [IGNORED] * len(one) + two) for one, two in zip(prompts, answers, strict=True)], 0)
        batch |= {f"{name}_{key}": tensor for key, tensor in made.items()}
    trainer = object.__new__(_Trainer)
    trainer.is_encoder_decoder, trainer.aux_loss_enabled, trainer.padding_value = False, False, 0
    trainer.accelerator = SimpleNamespace(device=torch.device("cpu"))
    with torch.no_grad():
        found = trainer.concatenated_forward(model, batch)[4]
        answers_nll, all_nll, num_answer, num_all = 0.0, 0.0, 0, 0
        for prompt, answer in zip(prompts, chosen, strict=True):
            ids = torch.tensor([prompt + answer])
            losses = -torch.log_softmax(model(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
            answers_nll, num_answer = answers_nll + float(losses[-len(answer) :].sum()), num_answer + len(answer)
            all_nll, num_all = all_nll + float(losses.sum()), num_all + len(losses)
    return {"found": float(found), "of_answers": answers_nll / num_answer, "of_all": all_nll / num_all}


def rate_on_a_gpu() -> float:
    """Tokens a second of a step of ten tokens that a device has yet to do when it has been asked for."""
    watch = Watch(Reporter(lambda _: None), lambda state: 10.0 * state.global_step, lambda: None, seconds=0.0)
    arguments = SimpleNamespace(device=torch.device("cuda"))
    state = SimpleNamespace(global_step=0, max_steps=2, is_world_process_zero=True, log_history=[{}])
    watch.on_step_begin(arguments, state, None)
    state.global_step = 1
    with patch("torch.cuda.synchronize", lambda _device: time.sleep(WAITED_S)):
        watch.on_step_end(arguments, state, None)
    watch.on_log(arguments, state, None, {"loss": 1.0})
    return float(state.log_history[-1]["tokens_per_s"])


def main() -> None:
    found = {
        "prompts": orders_of_prompts(),
        "share": order_of_a_share(),
        "text": text_and_rows(sys.argv[1]),
        "pairs": cut_pairs(),
        "orpo": odds_ratio_log_loss(),
        "tokens_per_s": rate_on_a_gpu(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
