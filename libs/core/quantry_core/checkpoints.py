"""What a checkpoint directory must be before Quantry touches it: complete, inert, well-formed, and 16-bit for a master.

Pure rules over a ``CheckpointReader``, so that the API (at submission), the worker (at import) and the registry
(in the vault) apply the same ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from quantry_core.errors import SourceRefused
from quantry_core.front_matter import MAX_CARD_BYTES, read_front_matter
from quantry_core.names import check_file_path
from quantry_core.safetensors import LENGTH_BYTES, SafetensorsError, TensorInfo, header_length, parse_header
from quantry_core.versions import VersionCard

ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".jsonl", ".txt", ".model", ".jinja", ".md", ".yaml"})
ALLOWED_NAMES = frozenset({"LICENSE", "NOTICE", "LICENSE.txt", "README"})
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".msgpack"})
CARD_PATH = "README.md"
INDEX_PATH = "model.safetensors.index.json"
MAX_JSON_BYTES = 1024**2
"""Of a JSON file that is read here, unless MAX_JSON_BYTES_BY_PATH says otherwise."""

MAX_JSON_BYTES_BY_PATH = {
    # A line for each added token: Gemma 3's has more than 1 MiB.
    "tokenizer_config.json": 8 * 1024**2,
    # A line of about 100 bytes for each tensor.
    INDEX_PATH: 64 * 1024**2,
}
MAX_FILES = 2000
DTYPE_NAMES = {"F16": "float16", "BF16": "bfloat16"}


class CheckpointReader(Protocol):
    """Read access to a checkpoint's files, wherever they lie."""

    def files(self) -> Mapping[str, int]:
        """Returns size in bytes by relative path."""
        ...

    def read(self, path: str, start: int, length: int) -> bytes:
        """Returns up to ``length`` bytes of a file from ``start``; fewer only at its end."""
        ...


class CheckpointInfo(BaseModel):
    """What the headers and config.json say. No tensor was loaded."""

    model_config = ConfigDict(frozen=True)

    config: dict[str, Any]
    files: dict[str, int]
    tensors: dict[str, TensorInfo]
    tensor_files: dict[str, str]

    @property
    def weights_bytes(self) -> int:
        """Bytes of all *.safetensors files."""
        return sum(size for path, size in self.files.items() if path.endswith(".safetensors"))

    @property
    def num_parameters(self) -> int:
        return sum(tensor.num_elements for tensor in self.tensors.values())


def inspect_checkpoint(reader: CheckpointReader) -> CheckpointInfo:
    """Returns what a checkpoint holds; raises SourceRefused naming the file and the reason if it is not fit.

    Refused: unsafe paths, pickles, code, anything not on the allow-list, ``auto_map``, a missing or malformed
    config.json, missing weights, a header that does not describe its file, shards without an index, an index that is not
    exactly what the shards hold.
    """
    files = dict(reader.files())
    check_listing(files)
    config = read_json(reader, files, "config.json")
    _refuse_remote_code(reader, files)
    if not isinstance(config.get("model_type"), str):
        raise SourceRefused("config.json names no model_type, so no library can tell what this model is")
    tensors: dict[str, TensorInfo] = {}
    tensor_files: dict[str, str] = {}
    for path in sorted(path for path in files if path.endswith(".safetensors")):
        for name, tensor in read_safetensors(reader, path, files[path]).items():
            if name in tensors:
                raise SourceRefused(f"tensor {name!r} is in {tensor_files[name]} and again in {path}")
            tensors[name] = tensor
            tensor_files[name] = path
    if not tensors:
        raise SourceRefused("there are no weights: no *.safetensors file with a tensor in it")
    _check_index(reader, files, tensor_files)
    return CheckpointInfo(config=config, files=files, tensors=tensors, tensor_files=tensor_files)


def check_listing(files: Mapping[str, int]) -> None:
    """Raises SourceRefused naming the first file that is no part of a checkpoint: unsafe paths, pickles, code, too many."""
    if len(files) > MAX_FILES:
        raise SourceRefused(f"there are {len(files)} files, more than the {MAX_FILES} a checkpoint may have")
    for path in sorted(files):
        try:
            check_file_path(path)
        except ValueError as error:
            raise SourceRefused(str(error)) from error
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in PICKLE_SUFFIXES:
            raise SourceRefused(f"{path}: pickled weights can run code when loaded; save the model as safetensors")
        if suffix == ".py":
            raise SourceRefused(f"{path}: code inside a checkpoint is never run and not taken; remove it")
        if suffix not in ALLOWED_SUFFIXES and PurePosixPath(path).name not in ALLOWED_NAMES:
            raise SourceRefused(f"{path}: files of this kind are not part of a checkpoint; remove it")


def check_master(info: CheckpointInfo) -> str:
    """Returns the master's dtype, "float16" or "bfloat16"; raises SourceRefused if this is not a complete 16-bit master.

    Every tensor of two or more dimensions must be of that dtype; vectors (norms, biases) may be float32.
    """
    if "quantization_config" in info.config:
        raise SourceRefused("config.json has a quantization_config: this checkpoint is quantized already; import its 16-bit master")
    matrices = {name: tensor for name, tensor in info.tensors.items() if len(tensor.shape) >= 2}
    dtypes = Counter(tensor.dtype for tensor in matrices.values())
    if not dtypes:
        raise SourceRefused("there is no weight matrix in this checkpoint")
    dtype = dtypes.most_common(1)[0][0]
    if dtype not in DTYPE_NAMES:
        raise SourceRefused(f"a master is 16-bit (float16 or bfloat16), these weights are {dtype}; convert them first")
    for name, tensor in info.tensors.items():
        is_vector = len(tensor.shape) < 2
        if tensor.dtype != dtype and not (is_vector and tensor.dtype in {"F32", "F16", "BF16"}):
            raise SourceRefused(f"a master is 16-bit throughout: tensor {name!r} is {tensor.dtype} among {dtype} weights")
    if not {"tokenizer.json", "tokenizer.model"} & set(info.files):
        raise SourceRefused("there is no tokenizer: neither tokenizer.json nor tokenizer.model")
    return DTYPE_NAMES[dtype]


def read_card(reader: CheckpointReader) -> VersionCard:
    """Returns what the front matter of a checkpoint's model card says; an empty card where there is none that can be read."""
    size_bytes = reader.files().get(CARD_PATH)
    if size_bytes is None:
        return VersionCard()
    return read_front_matter(reader.read(CARD_PATH, 0, min(size_bytes, MAX_CARD_BYTES)).decode("utf-8", errors="replace"))


def read_json(reader: CheckpointReader, files: Mapping[str, int], path: str) -> dict[str, Any]:
    """Returns a JSON object file; raises SourceRefused if it is missing, too large or not a JSON object."""
    if path not in files:
        raise SourceRefused(f"there is no {path}; a checkpoint directory as transformers saves it is needed")
    max_bytes = MAX_JSON_BYTES_BY_PATH.get(path, MAX_JSON_BYTES)
    if files[path] > max_bytes:
        raise SourceRefused(f"{path} has {files[path]} bytes, more than the {max_bytes} allowed")
    try:
        document = json.loads(reader.read(path, 0, files[path]))
    except (ValueError, RecursionError) as error:
        # A plain ValueError: a number of more than 4300 digits.
        raise SourceRefused(f"{path} is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise SourceRefused(f"{path} is not a JSON object")
    return document


def read_safetensors(reader: CheckpointReader, path: str, size_bytes: int) -> dict[str, TensorInfo]:
    """Returns the tensors of one safetensors file by name; raises SourceRefused naming the file if it is malformed."""
    try:
        length = header_length(reader.read(path, 0, LENGTH_BYTES), size_bytes)
        return parse_header(reader.read(path, LENGTH_BYTES, length), size_bytes)
    except SafetensorsError as error:
        raise SourceRefused(f"{path}: {error}") from error


def _refuse_remote_code(reader: CheckpointReader, files: Mapping[str, int]) -> None:
    for path in sorted(files):
        if path.endswith("config.json") and "auto_map" in read_json(reader, files, path):
            raise SourceRefused(f"{path} has an auto_map: it asks to run code that comes with the model, which is refused")


def _check_index(reader: CheckpointReader, files: Mapping[str, int], tensor_files: Mapping[str, str]) -> None:
    """Raises SourceRefused unless the index lists every tensor, where it lies, and nothing else: libraries load by it."""
    if INDEX_PATH not in files:
        num_shards = sum(path.endswith(".safetensors") for path in files)
        if num_shards > 1:
            raise SourceRefused(f"there are {num_shards} *.safetensors files but no {INDEX_PATH} that says what is in them")
        return
    weight_map = read_json(reader, files, INDEX_PATH).get("weight_map")
    if not isinstance(weight_map, dict):
        raise SourceRefused(f"{INDEX_PATH} has no weight_map")
    for name in sorted(weight_map.keys() | tensor_files.keys()):
        if name not in weight_map:
            raise SourceRefused(f"{INDEX_PATH} leaves out tensor {name[:200]!r}, which is in {tensor_files[name]}")
        shard = weight_map[name]
        if not isinstance(shard, str):
            raise SourceRefused(f"{INDEX_PATH} names no file for tensor {name[:200]!r}")
        if tensor_files.get(name) != shard:
            raise SourceRefused(f"{INDEX_PATH} says tensor {name[:200]!r} is in {shard[:200]!r}, but it is not there")
