"""What an adapter's folder must be: inert, well formed, and a low-rank update as PEFT saves it.

Pure rules over a ``CheckpointReader``, as those of checkpoints, so that the child, the registry and whoever serves an adapter
apply the same ones. Rank, alpha and the rest are read from adapter_config.json, and hold against the tensors' shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.checkpoints import CheckpointReader, check_listing, read_json, read_safetensors
from quantry_core.errors import SourceRefused
from quantry_core.names import BadName, check_name, is_number
from quantry_core.safetensors import TensorInfo
from quantry_core.training import AdapterKind

CONFIG_PATH = "adapter_config.json"
WEIGHTS_PATH = "adapter_model.safetensors"
SIDE_FILES = frozenset(
    {
        "README.md",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "vocab.json",
        "merges.txt",
    }
)
"""What may lie beside the two files of an adapter."""
ADAPTER_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_REFUSED_SETTINGS = (
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "trainable_token_indices",
    "layer_replication",
    "lora_bias",
    "target_parameters",
    "alora_invocation_tokens",
    "arrow_config",
    "auto_mapping",
    "kasa_config",
    "megatron_config",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
"""Of PEFT's LoraConfig: each changes what the two matrices of a module mean, or adds weights beside them."""

_A, _B, _MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_magnitude_vector)"
)


class AdapterInfo(BaseModel):
    """What adapter_config.json and the header of the weights say. No tensor was loaded."""

    model_config = ConfigDict(frozen=True)

    kind: AdapterKind
    rank: int
    alpha: float
    base_ref: str = Field(description="The version it was trained on, name@number.")
    modules: list[str] = Field(description="Full names of the modules that it changes, sorted.")
    dtype: str | None = Field(description="float32, float16 or bfloat16; None where tensors differ.")
    num_parameters: int
    weights_bytes: int

    @property
    def target_modules(self) -> list[str]:
        """The last parts of the modules' names (q_proj), each once, sorted."""
        return sorted({module.rpartition(".")[2] for module in self.modules})


def inspect_adapter(reader: CheckpointReader) -> AdapterInfo:
    """Returns what an adapter's folder holds; raises SourceRefused naming the file and the reason if it is not fit.

    Refused: unsafe paths, pickles, code, files that are no part of an adapter; other kinds of adapters than LoRA, DoRA and rsLoRA;
    a base that is no ``name@number``; tensors beside the low-rank pairs; shapes that do not fit the rank or each other.
    """
    files = dict(reader.files())
    check_listing(files)
    for path in sorted(files):
        if path not in {CONFIG_PATH, WEIGHTS_PATH} and path not in SIDE_FILES:
            raise SourceRefused(f"{path}: not part of an adapter, which is {CONFIG_PATH} and {WEIGHTS_PATH}")
    if CONFIG_PATH not in files:
        raise SourceRefused(f"there is no {CONFIG_PATH}; an adapter's folder as PEFT saves it is needed")
    if WEIGHTS_PATH not in files:
        raise SourceRefused(f"there is no {WEIGHTS_PATH}; an adapter's weights are kept as safetensors only")
    config = read_json(reader, files, CONFIG_PATH)
    kind = _kind(config)
    rank, alpha = _rank(config), _alpha(config)
    tensors = read_safetensors(reader, WEIGHTS_PATH, files[WEIGHTS_PATH])
    modules = _modules(tensors)
    for name, parts in modules.items():
        _check_module(name, parts, kind, rank)
    dtypes = {tensor.dtype for tensor in tensors.values()}
    return AdapterInfo(
        kind=kind,
        rank=rank,
        alpha=alpha,
        base_ref=_base_ref(config),
        modules=sorted(modules),
        dtype=ADAPTER_DTYPES[dtypes.pop()] if len(dtypes) == 1 else None,
        num_parameters=sum(tensor.num_elements for tensor in tensors.values()),
        weights_bytes=files[WEIGHTS_PATH],
    )


def _kind(config: Mapping[str, Any]) -> AdapterKind:
    if config.get("peft_type") != "LORA":
        raise SourceRefused(f"{CONFIG_PATH}: peft_type is {_quoted(config.get('peft_type'))}; only LORA adapters are taken")
    if config.get("bias", "none") != "none":
        raise SourceRefused(f"{CONFIG_PATH}: bias is {_quoted(config['bias'])}; an adapter that changes biases is not taken")
    for setting in _REFUSED_SETTINGS:
        if config.get(setting):
            raise SourceRefused(f"{CONFIG_PATH}: {setting} is set, which is more than a low-rank update of linear modules; leave it out")
    is_dora, is_rslora = config.get("use_dora") is True, config.get("use_rslora") is True
    if is_dora and is_rslora:
        raise SourceRefused(f"{CONFIG_PATH}: use_dora and use_rslora are both set; an adapter is of one kind")
    if is_dora:
        return AdapterKind.DORA
    return AdapterKind.RSLORA if is_rslora else AdapterKind.LORA


def _rank(config: Mapping[str, Any]) -> int:
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise SourceRefused(f"{CONFIG_PATH}: r, the rank, is {_quoted(rank)} and not a whole number from 1")
    return rank


def _alpha(config: Mapping[str, Any]) -> float:
    alpha = config.get("lora_alpha")
    # 0 and infinity are numbers too, and no scale.
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < 1e9:
        raise SourceRefused(f"{CONFIG_PATH}: lora_alpha is {_quoted(alpha)} and not a number above 0")
    return float(alpha)


def _base_ref(config: Mapping[str, Any]) -> str:
    base = config.get("base_model_name_or_path")
    name, _, number = base.rpartition("@") if isinstance(base, str) else ("", "", "")
    try:
        check_name(name)
    except BadName:
        number = ""
    if not isinstance(base, str) or not is_number(number):
        raise SourceRefused(f"{CONFIG_PATH}: base_model_name_or_path is {_quoted(base)} and not a version, as in bard-6m@1")
    return base


def _modules(tensors: Mapping[str, TensorInfo]) -> dict[str, dict[str, TensorInfo]]:
    """Returns an adapter's tensors by module and part."""
    modules: dict[str, dict[str, TensorInfo]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise SourceRefused(f"{WEIGHTS_PATH}: tensor {name[:200]!r} is not a part of a LoRA, DoRA or rsLoRA module")
        if tensor.dtype not in ADAPTER_DTYPES:
            raise SourceRefused(f"{WEIGHTS_PATH}: tensor {name[:200]!r} is {tensor.dtype}; an adapter is {', '.join(ADAPTER_DTYPES)}")
        modules.setdefault(match["module"], {})[match["part"]] = tensor
    if not modules:
        raise SourceRefused(f"{WEIGHTS_PATH}: there is no tensor in it")
    return modules


def _check_module(module: str, parts: Mapping[str, TensorInfo], kind: AdapterKind, rank: int) -> None:
    """Raises SourceRefused unless a module has A of [rank, in], B of [out, rank] and, of DoRA alone, a magnitude of [out]."""
    where = f"{WEIGHTS_PATH}: module {module[:200]!r}"
    wanted = {_A, _B, _MAGNITUDE} if kind is AdapterKind.DORA else {_A, _B}
    for part in sorted(wanted ^ set(parts)):
        raise SourceRefused(f"{where} {'lacks' if part in wanted else 'has a'} {part}, and {CONFIG_PATH} says it is {kind}")
    a, b = parts[_A].shape, parts[_B].shape
    if len(a) != 2 or len(b) != 2 or a[0] != rank or b[1] != rank or 0 in (a[1], b[0]):
        raise SourceRefused(f"{where} has A of shape {list(a)} and B of {list(b)}, which are not [{rank}, in] and [out, {rank}]")
    if kind is AdapterKind.DORA and parts[_MAGNITUDE].shape != (b[0],):
        raise SourceRefused(f"{where} has a magnitude of shape {list(parts[_MAGNITUDE].shape)}, and {b[0]} outputs")


def _quoted(value: object) -> str:
    """Returns what a config holds in a form that fits into a sentence; it may be long, or nested deeply."""
    if isinstance(value, str):
        return repr(value[:100])
    return str(value)[:100] if value is None or isinstance(value, bool | int | float) else f"a value of type {type(value).__name__}"
