"""A master and a version quantized from it, with recipe, lineage and evidence, as the registry tells of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from factories.client import JOB_ID, MASTER_ID, NOW, QUANTIZED_ID, version
from quantry_core.methods import Format
from quantry_core.versions import (
    EdgeRole,
    Evidence,
    EvidenceKind,
    LineageEdge,
    ManifestFile,
    Verdict,
    VersionCard,
    VersionDetail,
    VersionKind,
)

DATASET_ID = "dat_0197f0a0000070008000000000000001"
TOKENIZER = b'{"a": 1}'


def evidence(kind: EvidenceKind, name: str, *, age_s: float = 0.0, verdict: Verdict = Verdict.PASS, **metrics: Any) -> Evidence:
    """Returns evidence that is ``age_s`` seconds old."""
    return Evidence(
        id=f"evi_{name}",
        version_id=QUANTIZED_ID,
        job_id=JOB_ID,
        kind=kind,
        name=name,
        verdict=verdict,
        metrics=metrics,
        created_at=NOW - timedelta(seconds=age_s),
    )


def described_master(**changes: Any) -> VersionDetail:
    """Returns a master from the hub under a licence."""
    master = version({"config.json": b"{}", "model.safetensors": b"0" * 4000, "tokenizer.json": TOKENIZER})
    update = {
        "weights_bytes": 4000,
        "recipe": {"source": "hf:owner/bard", "commit": "abc"},
        "card": VersionCard(license="apache-2.0", base_model=["owner/older"], languages=["en"]),
    }
    return master.model_copy(update=update | changes)


def described_quantized(**changes: Any) -> VersionDetail:
    """Returns what was made from the master by GPTQ, measured on two corpora, one of them twice."""
    made = version({"config.json": b'{"q": 1}', "model.safetensors": b"1" * 1000, "tokenizer.json": TOKENIZER, "recipe.yaml": b"x"})
    update = {
        "id": QUANTIZED_ID,
        "number": 2,
        "kind": VersionKind.QUANTIZED,
        "format": Format.COMPRESSED_TENSORS,
        "scheme": "W4A16",
        "dtype": None,
        "weights_bytes": 1000,
        "recipe": {
            "method": "gptq",
            "scheme": "W4A16",
            "group_size": 64,
            "options": {"damping": 0.01},
            "ignore": ["lm_head"],
            "keep_16bit": ["re:.*|odd`"],
            "calibration": {"datasets": ["plays"], "num_samples": 64, "length_tokens": 256, "seed": 7},
        },
        "toolchain": {"llmcompressor": "0.14"},
        "card": VersionCard(license="apache-2.0", languages=["en"]),
        "edges": [
            LineageEdge(role=EdgeRole.BASE, parent_version_id=MASTER_ID),
            LineageEdge(role=EdgeRole.CALIBRATION, parent_dataset_id=DATASET_ID),
        ],
        "evidence": [
            evidence(EvidenceKind.GATE, "files"),
            evidence(EvidenceKind.EVALUATION, "plays.test@1", age_s=60, perplexity=99.0),
            evidence(EvidenceKind.EVALUATION, "plays.test@1", perplexity=20.5, reference_perplexity=20.0, perplexity_ratio=1.025),
        ],
    }
    return made.model_copy(update=update | changes)


def file_of(version_detail: VersionDetail, path: str) -> ManifestFile:
    """Returns one file of a version."""
    return next(file for file in version_detail.files if file.path == path)
