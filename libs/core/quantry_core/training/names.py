"""The names of training, as papers, TRL and PEFT write them."""

from __future__ import annotations

from enum import StrEnum


class TrainingMethod(StrEnum):
    """What is learned from. OpenAI's fine-tuning API has the first two under the same names."""

    SUPERVISED = "supervised"
    DPO = "dpo"
    """Rafailov et al. 2023, arXiv:2305.18290."""
    KTO = "kto"
    """Ethayarajh et al. 2024, arXiv:2402.01306."""
    ORPO = "orpo"
    """Hong et al. 2024, arXiv:2403.07691."""
    GRPO = "grpo"
    """Shao et al. 2024, arXiv:2402.03300."""
    RLOO = "rloo"
    """Ahmadian et al. 2024, arXiv:2402.14740."""


REWARD_METHODS = frozenset({TrainingMethod.GRPO, TrainingMethod.RLOO})
"""Generate answers themselves, and learn from what a reward says of them."""
LOSS_METHODS = frozenset({TrainingMethod.SUPERVISED})
"""Their loss is the log-loss of text, so that its exponent is a perplexity."""


class AdapterKind(StrEnum):
    """What is trained beside frozen weights."""

    LORA = "lora"
    """Hu et al. 2021, arXiv:2106.09685."""
    DORA = "dora"
    """Liu et al. 2024, arXiv:2402.09353."""
    RSLORA = "rslora"
    """LoRA scaled by the root of its rank. Kalajdzievski 2023, arXiv:2312.03732."""


class BasePrecision(StrEnum):
    """What a 16-bit base is rounded to while an adapter is trained on it: QLoRA, Dettmers et al. 2023, arXiv:2305.14314."""

    NF4 = "nf4"
    INT8 = "int8"


class Overlong(StrEnum):
    """What becomes of a sample of more tokens than a sequence holds. Counted either way."""

    TRUNCATE = "truncate"
    DROP = "drop"
    REFUSE = "refuse"


class Schedule(StrEnum):
    """How the learning rate goes on after its warm-up."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant"


class Strategy(StrEnum):
    """How several processes share the work of one job."""

    DDP = "ddp"
    """Each has the whole model; gradients are averaged."""
    FSDP = "fsdp"
    """Parameters, gradients and optimizer states are cut into shards. Zhao et al. 2023, arXiv:2304.11277."""
    DEEPSPEED = "deepspeed"
    """ZeRO. Rajbhandari et al. 2020, arXiv:1910.02054."""


class AdapterMerge(StrEnum):
    """How several adapters become one, by PEFT's names."""

    LINEAR = "linear"
    TIES = "ties"
    """Yadav et al. 2023, arXiv:2306.01708."""
    DARE_LINEAR = "dare_linear"
    """Yu et al. 2023, arXiv:2311.03099."""
    DARE_TIES = "dare_ties"


class MergeTarget(StrEnum):
    """What became of adapters that were to be merged. A merged version's recipe says it as ``merged_into``."""

    MASTER = "master"
    """Merged into the 16-bit weights that all began with."""
    DEQUANTIZED_BASE = "dequantized-base"
    """Merged into the quantized weights they were trained on, read back as 16-bit ones."""
    UNMERGED = "unmerged"
    """Left beside the quantized base: there is no new version."""
