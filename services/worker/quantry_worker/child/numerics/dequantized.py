"""The model that a quantized checkpoint stands for, built from weights that this code dequantized itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import SourceRefused
from quantry_core.families import family_of
from quantry_worker.child.formats.stored import StoredCheckpoint
from quantry_worker.child.plan import names_in_words

BLOCK_WEIGHTS = 1 << 22


def dequantized_model(stored: StoredCheckpoint, master: CheckpointInfo, master_dir: Path) -> Any:
    """Returns the causal language model in evaluation mode, float32, of the master's architecture and the checkpoint's numbers.

    Raises SourceRefused if a tensor is missing.
    """
    plain = master.tensors.keys() & stored.info.tensors.keys()
    config = AutoConfig.from_pretrained(master_dir, local_files_only=True, trust_remote_code=False)
    return model_of(config, dequantized_tensors(stored, plain, family_of(master.config).transposed)).eval()


def dequantized_tensors(stored: StoredCheckpoint, plain: Iterable[str], transposed: frozenset[str]) -> dict[str, torch.Tensor]:
    """Returns float32 tensors as a master has them: the weight of each quantized module, and of ``plain`` what is no such weight.

    Modules whose last name is in ``transposed`` have a weight of (in, out), all others of (out, in).
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, module in stored.modules.items():
        weight = torch.from_numpy(np.concatenate(list(module.blocks(BLOCK_WEIGHTS))))
        tensors[f"{name}.weight"] = weight.T.contiguous() if name.rpartition(".")[2] in transposed else weight
    for name in plain:
        if name not in tensors:
            tensors[name] = torch.from_numpy(stored.reader.floats(name).copy())
    return tensors


def model_of(config: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Returns the causal language model of a config, float32, filled with tensors that are named as its family's checkpoints are.

    So whatever transformers does to such checkpoints on loading (experts into one tensor, an output layer tied to its embedding)
    it does here too. Raises SourceRefused if a tensor is missing.
    """
    # The class itself: AutoModelForCausalLM wants a folder, and there is none.
    model, loading = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
        None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True
    )
    if loading["missing_keys"]:
        raise SourceRefused(f"the checkpoint lacks {names_in_words(loading['missing_keys'])}")
    return model
