"""The names of methods, schemes, formats, backends and environments, as papers and libraries write them."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """How weights become smaller. Names as in the papers, or as the libraries that gave them theirs."""

    RTN = "rtn"
    GPTQ = "gptq"
    AWQ = "awq"
    AUTOROUND = "autoround"
    GPTQMODEL = "gptqmodel"
    HQQ = "hqq"
    SMOOTHQUANT = "smoothquant"
    FP8 = "fp8"
    NVFP4 = "nvfp4"
    MXFP4 = "mxfp4"
    KV_CACHE = "kv-cache"
    BITSANDBYTES = "bitsandbytes"
    GGUF = "gguf"
    EETQ = "eetq"


class Scheme(StrEnum):
    """What numbers a checkpoint holds. W4A16 is 4-bit weights with 16-bit activations; the rest as engines and libraries call it."""

    W2A16 = "W2A16"
    W3A16 = "W3A16"
    W4A16 = "W4A16"
    W8A16 = "W8A16"
    W4A8 = "W4A8"
    W8A8 = "W8A8"
    FP8 = "FP8"
    FP8_DYNAMIC = "FP8_DYNAMIC"
    NVFP4 = "NVFP4"
    NVFP4A16 = "NVFP4A16"
    MXFP4 = "MXFP4"
    MXFP4A16 = "MXFP4A16"
    KV_FP8 = "KV_FP8"
    NF4 = "NF4"
    INT8 = "INT8"
    Q8_0 = "Q8_0"
    Q5_K_M = "Q5_K_M"
    Q4_K_M = "Q4_K_M"


class Format(StrEnum):
    """How a checkpoint's weights are stored on disk."""

    SAFETENSORS = "safetensors"
    COMPRESSED_TENSORS = "compressed-tensors"
    GPTQ = "gptq"
    BITSANDBYTES = "bitsandbytes"
    GGUF = "gguf"
    EETQ = "eetq"
    PEFT = "peft"
    """An adapter: adapter_config.json and adapter_model.safetensors, as PEFT saves them."""


class Backend(StrEnum):
    """The library that runs a method."""

    LLM_COMPRESSOR = "llm-compressor"
    AUTO_ROUND = "auto-round"
    GPTQMODEL = "gptqmodel"
    HQQ = "hqq"
    BITSANDBYTES = "bitsandbytes"
    EETQ = "eetq"


class Environment(StrEnum):
    """Python environments of child processes."""

    ML = "ml"
    GPTQMODEL = "gptqmodel"


class CostClass(StrEnum):
    """How much work a method is, beside others on the same model."""

    DATA_FREE = "data-free"
    """Reads each weight once: seconds per billion weights."""
    CALIBRATED = "calibrated"
    """One pass of calibration text through every layer, and a solution of each: minutes per billion weights."""
    TUNED = "tuned"
    """Hundreds of steps of training in every layer: several times a calibrated method."""


class DeviceKind(StrEnum):
    """Where something runs."""

    CPU = "cpu"
    CUDA = "cuda"
