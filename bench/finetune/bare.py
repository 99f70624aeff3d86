"""The bare script: what an engineer would write with TRL and PEFT. Runs in the ml environment.

``python bench/finetune/bare.py <master> <text> <output> <batch size> <length in tokens> <steps> <learning rate>``. Same model, adapter,
optimizer, text, batches and compute dtype as the platform's recipe; nothing is held out, measured, checkpointed or stored anywhere but in
a folder. Prints one line of JSON: tokens a second from the first step's beginning to the last one's end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

master, text, output = sys.argv[1:4]
batch_size, length_tokens, num_steps = (int(argument) for argument in sys.argv[4:7])
learning_rate = float(sys.argv[7])

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
tokenizer = AutoTokenizer.from_pretrained(master)
ids = tokenizer(Path(text).read_text(), add_special_tokens=False, verbose=False).input_ids
rows = [ids[start : start + length_tokens] for start in range(0, len(ids) - length_tokens + 1, length_tokens)]
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(master, dtype=torch.float32),
    args=SFTConfig(
        output_dir=output,
        per_device_train_batch_size=batch_size,
        max_steps=num_steps,
        learning_rate=learning_rate,
        max_length=length_tokens,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        seed=0,
    ),
    train_dataset=Dataset.from_dict({"input_ids": rows}),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
)
started = time.monotonic()
trainer.train()
seconds = time.monotonic() - started
trainer.save_model(output)
print(json.dumps({"tokens_per_s": num_steps * batch_size * length_tokens / seconds, "train_s": seconds}))
