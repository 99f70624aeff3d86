"""Check ``files``: every file is whole, and what was not to change is the master's.

Every file is hashed and every header parsed. The tokenizer, the chat template and the like are the master's byte for byte: a
tokenizer of another model answers in other tokens. config.json is the master's own with quantization_config added.
"""

from __future__ import annotations

import json
from typing import Any

from quantry_blobs.directory import hash_directory
from quantry_core.checkpoints import CheckpointInfo
from quantry_core.gate import GateCheck
from quantry_core.versions import EvidenceDraft, manifest_digest
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.plan import carried_files

CONFIG_ADDED = "quantization_config"


def check_files(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if the checkpoint cannot be read at all."""
    manifest = hash_directory(given.output_dir)
    problems = _files_missing(given) + _config_changes(given.master, given.stored.info)
    metrics = {
        "manifest_digest": manifest_digest(manifest),
        "num_files": len(manifest),
        "size_bytes": sum(file.size_bytes for file in manifest),
    }
    return evidence(GateCheck.FILES, problems, metrics)


def _files_missing(given: GateInput) -> list[str]:
    problems = []
    ours, theirs = given.output.files(), given.original.files()
    for name in carried_files(theirs):
        if name not in ours:
            problems.append(f"{name} of the master is missing")
        elif ours[name] != theirs[name] or given.output.read(name, 0, ours[name]) != given.original.read(name, 0, theirs[name]):
            problems.append(f"{name} is not the master's")
    return problems


def _config_changes(master: CheckpointInfo, info: CheckpointInfo) -> list[str]:
    """The same keys with the same values, told apart as JSON does: an absent key is no null, and 1 is not true."""
    ours, theirs = _as_json(info.config), _as_json(master.config)
    names = sorted(name for name in ours.keys() | theirs.keys() if name != CONFIG_ADDED and ours.get(name) != theirs.get(name))
    return [f"config.json: {name} is {ours.get(name, 'absent')}, in the master {theirs.get(name, 'absent')}" for name in names]


def _as_json(config: dict[str, Any]) -> dict[str, str]:
    return {name: json.dumps(value, sort_keys=True) for name, value in config.items()}
