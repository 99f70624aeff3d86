"""Runs in the ml environment: samples and packing beside what transformers says of the same, printed as JSON.

``<ml python> check_samples.py <master>``. The mask of answers is compared with the one that transformers makes by a template's
``{% generation %}`` marks; packed samples with the same samples alone, on models of several families made here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig, GPT2Config, LlamaConfig, Qwen3Config

from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.rows import Message, Role, Row
from quantry_core.training import Overlong
from quantry_worker.child.training.log_loss import collate
from quantry_worker.child.training.order import Counts
from quantry_worker.child.training.packing import check_isolation, collate_packed, pack
from quantry_worker.child.training.samples import IGNORED, Sample, SampleOrder, make_samples

MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<a>{% generation %}{{ m['content'] }}</s>{% endgeneration %}{{ '\n' }}"
    "{% else %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<a>{{ m['content'] }}</s>\n"
    "{% else %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
REWRITING = "{% for m in messages %}{{ m['role'] }}{% if loop.last %}!{% endif %}: {{ m['content'] }}\n{% endfor %}"
SAID = [
    ("system", "Be brief."),
    ("user", "Shall I compare thee to a summer's day?"),
    ("assistant", "Thou art more lovely and more temperate."),
    ("user", "And then?"),
    ("assistant", "Rough winds do shake the darling buds of May"),
]
SMALL: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
FAMILIES = {
    "llama": LlamaConfig(**SMALL),
    "qwen3": Qwen3Config(**SMALL),
    "gemma3": Gemma3TextConfig(**SMALL, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
    "gpt2": GPT2Config(vocab_size=256, n_embd=32, n_layer=2, n_head=4, n_positions=128),
}


def samples(tokenizer: Any, row: Row, **changes: Any) -> list[Sample]:
    settings: dict[str, Any] = {"dataset_ref": "d@1", "max_tokens": 512, "overlong": Overlong.TRUNCATE, "completion_only": True} | changes
    return make_samples(SampleOrder(tokenizer=tokenizer, **settings), [(1, row)], Counts())


def chat(said: list[tuple[str, str]]) -> Row:
    return Row(DatasetKind.CHAT, messages=tuple(Message(Role(role), content) for role, content in said))


def masks(tokenizer: Any) -> dict[str, Any]:
    """What is learned of a chat by us, and by transformers from the marks of the same template."""
    tokenizer.chat_template = PLAIN
    (ours,) = samples(tokenizer, chat(SAID))
    messages = [{"role": role, "content": content} for role, content in SAID]
    theirs = tokenizer.apply_chat_template(
        messages, chat_template=MARKED, return_assistant_tokens_mask=True, return_dict=True, add_generation_prompt=False
    )
    learned = [token for token, label in zip(ours.input_ids, ours.labels, strict=True) if label != IGNORED]
    (whole,) = samples(tokenizer, chat(SAID), completion_only=False)
    tokenizer.chat_template = REWRITING
    try:
        samples(tokenizer, chat(SAID))
        refused = ""
    except InvalidInput as error:
        refused = error.detail
    return {
        "ids": ours.input_ids,
        "their_ids": theirs["input_ids"],
        "their_mask": theirs["assistant_masks"],
        "learned": [label != IGNORED for label in ours.labels],
        "learned_text": tokenizer.decode(learned),
        "num_learned_whole": sum(label != IGNORED for label in whole.labels),
        "refused": refused,
    }


def prompt_and_answer(tokenizer: Any) -> dict[str, Any]:
    tokenizer.chat_template = None
    row = Row(DatasetKind.PROMPTS, messages=(Message(Role.USER, "To be,"), Message(Role.ASSISTANT, " or not to be")))
    (one,) = samples(tokenizer, row)
    learned = [token for token, label in zip(one.input_ids, one.labels, strict=True) if label != IGNORED]
    return {
        "text": tokenizer.decode(one.input_ids),
        "learned_text": tokenizer.decode(learned),
        "ends_in_eos": learned[-1] == tokenizer.eos_token_id,
    }


def isolation(name: str) -> dict[str, Any]:
    """How far logits and gradients of packed samples are from those of the same samples alone."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[name]).float().eval()
    check_isolation(model, 256)
    lengths = [5, 17, 9, 23, 4]
    made = []
    for length in lengths:
        ids = torch.randint(256, (length,)).tolist()
        made.append(Sample(ids, ids))
    sequences = pack(made, 32)
    batch = collate_packed(sequences, pad_id=0)
    logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    distance = 0.0
    for row, sequence in enumerate(sequences):
        place = 0
        for sample in sequence:
            alone = model(input_ids=torch.tensor([sample.input_ids]), use_cache=False).logits[0]
            distance = max(distance, float((logits[row, place : place + len(sample.input_ids)] - alone).abs().max()))
            place += len(sample.input_ids)
    crossing = model(input_ids=batch["input_ids"], attention_mask=torch.ones_like(batch["input_ids"]), use_cache=False).logits
    return {
        "num_sequences": len(sequences),
        "num_samples": sum(len(one) for one in sequences),
        "distance": distance,
        "distance_without": float((crossing - logits).abs().max()),
        "gradient_distance": gradient_distance(model, batch, collate(made, 0)),
    }


def gradient_distance(model: Any, packed: dict[str, torch.Tensor], plain: dict[str, torch.Tensor]) -> float:
    gradients = []
    for batch in (packed, plain):
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits = model(**inputs, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["labels"][:, 1:], ignore_index=IGNORED, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, [model.get_output_embeddings().weight])
        gradients.append(gradient)
    return float((gradients[0] - gradients[1]).norm() / gradients[1].norm())


class SeesAll(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
    """A model whose logits at a place depend on all before it, whatever positions say."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(256, 8)
        self.config = LlamaConfig(**SMALL)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return type("Output", (), {"logits": self.embedding(input_ids).cumsum(dim=1)})


def crossing_is_refused() -> str:
    try:
        check_isolation(SeesAll(), 256)
    except InvalidInput as error:
        return error.detail
    return ""


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(Path(sys.argv[1]))
    found = {
        "masks": masks(tokenizer),
        "prompt": prompt_and_answer(tokenizer),
        "isolation": {name: isolation(name) for name in FAMILIES},
        "crossing": crossing_is_refused(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
