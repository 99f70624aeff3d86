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
ADAPTER_ID = "ver_0197f0a0000070008000000000000003"
AGAINST_MASTER: dict[str, Any] = {"against": "bard@1", "against_version_id": MASTER_ID}
AGAINST_OTHER: dict[str, Any] = {"against": "bard@4", "against_version_id": "ver_0197f0a0000070008000000000000004"}
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
            "keep_16bit": ["*.odd|`"],
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
            evidence(EvidenceKind.EVALUATION, "plays.test@1", age_s=60, perplexity=99.0, **AGAINST_MASTER),
            evidence(
                EvidenceKind.EVALUATION,
                "plays.test@1",
                perplexity=20.5,
                reference_perplexity=20.0,
                perplexity_ratio=1.025,
                **AGAINST_MASTER,
            ),
        ],
    }
    return made.model_copy(update=update | changes)


_TEXT: dict[str, Any] = {
    "perplexity": 20.5,
    "nll_mean": 3.0204248861443626,
    "num_tokens": 12345678,
    "num_windows": 40,
    "window_tokens": 256,
    "seed": 7,
}
_COMPARED = _TEXT | {
    "reference_perplexity": 20.0,
    "perplexity_ratio": 1.025,
    "perplexity_ratio_low": 1.0123456789,
    "perplexity_ratio_high": 1.0345678912,
    "nll_increase_nats": 0.024692612590371503,
    "nll_increase_low_nats": 0.0122700925918,
    "nll_increase_high_nats": 0.0339833,
    "kl_mean_nats": 0.0312345678,
    "kl_p99_nats": 0.4,
    "kl_p999_nats": 1.25,
    "kl_max_nats": 3.5,
    "top1_agreement": 0.91234567,
    "logprob_error_mean_nats": 0.1,
    "logprob_error_p99_nats": 1.5,
    "confidence": 0.95,
}
_BOUNDS: dict[str, Any] = {
    "thresholds": {"perplexity_ratio": 1.02},
    "problems": ["perplexity_ratio is 1.025, at most 1.02 is asked for"],
}
_MAPS: dict[str, Any] = {
    "attention_similarity_min": 0.98,
    "attention_similarity_mean": 0.99,
    "attention_js_max_nats": 0.01,
    "similarity_by_layer": [0.98, 1],
}
_CASES = [
    {"name": "empty", "num_characters": 0, "skipped": "no token begins a text"},
    {"name": "emoji", "num_characters": 9, "runs": True, "is_finite": True, "continuation": "a|b", "kl_mean_nats": 0.05},
]
_WORST: dict[str, Any] = {"extremes.num_failed": 0}
_LEVELS = [
    {"concurrency": 1, "ttft_ms_p50": 12.5, "requests_per_s": 3.25},
    {"concurrency": 4, "ttft_ms_p50": 20.0, "requests_per_s": 9.0},
]
_QUALITY: dict[str, Any] = {
    "corpora": {"plays.test@1": {"perplexity_ratio": 1.01, "perplexity": 20.2}},
    "tasks": {"next_word": {"acc": 0.51, "acc_change": -0.115}},
    "cases": [{"name": "emoji", "runs": True, "is_finite": True, "kl_mean_nats": 0.06}],
    "attention_similarity_min": 0.97,
    "extremes.kl_mean_nats": 0.06,
    "task:next_word.acc_change": -0.115,
    "weights_ratio": 0.25,
    "perplexity_ratio": 1.01,
    "thresholds": {"perplexity_ratio": 1.05, "extremes.kl_mean_nats": 0.1, "task:next_word.acc_change": -0.2, "weights_ratio": 0.3},
    "num_problems": 0,
    "problems": [],
    "seed": 0,
}
_TASK: dict[str, Any] = {"acc": 0.5, "acc_stderr": 0.05, "reference_acc": 0.625, "reference_acc_stderr": 0.0484, "num_documents": 200}


def wholly_measured() -> VersionDetail:
    """Returns a quantized version with every sort of evidence there is, measured against its master and against another version."""
    made = EvidenceKind.EVALUATION
    return described_quantized(
        evidence=[
            evidence(EvidenceKind.GATE, "precision", bits_per_weight=4.25, num_problems=0, problems=[]),
            evidence(EvidenceKind.GATE, "quality", **_QUALITY),
            evidence(made, "plays.test@1", verdict=Verdict.FAIL, age_s=90, **_COMPARED, **_BOUNDS, **AGAINST_MASTER),
            evidence(made, "kjv.test@1", verdict=Verdict.INCONCLUSIVE, age_s=80, **_TEXT),
            evidence(
                made, "recalibration:plays.test@1", age_s=70, perplexity=20.5, reference_perplexity=20.4, margin_nats=0.02, **AGAINST_OTHER
            ),
            # Newer than what was measured against the master, and against another version.
            evidence(made, "plays.test@1", age_s=60, perplexity=20.5, reference_perplexity=21.0, perplexity_ratio=0.976, **AGAINST_OTHER),
            evidence(made, "task:next_word", verdict=Verdict.INCONCLUSIVE, age_s=50, **_TASK, **AGAINST_MASTER),
            evidence(made, "attention", verdict=Verdict.INCONCLUSIVE, age_s=40, **_MAPS, **AGAINST_MASTER),
            evidence(made, "extremes", age_s=30, cases=_CASES, **_WORST, **AGAINST_MASTER),
            evidence(made, "speed", verdict=Verdict.INCONCLUSIVE, age_s=20, levels=_LEVELS, engine="vllm", memory_peak_bytes=1234567890),
        ]
    )


def file_of(version_detail: VersionDetail, path: str) -> ManifestFile:
    """Returns one file of a version."""
    return next(file for file in version_detail.files if file.path == path)


def described_adapter(**changes: Any) -> VersionDetail:
    """Returns an adapter of the master, measured on what was held out and on a text that it never saw."""
    made = version({"adapter_config.json": b"{}", "adapter_model.safetensors": b"1" * 200})
    held_out: dict[str, Any] = {
        "nll_mean": 2.5,
        "reference_nll_mean": 3.0,
        "nll_increase_nats": -0.5,
        "nll_increase_low_nats": -0.6,
        "nll_increase_high_nats": -0.4,
        "perplexity": 12.18,
        "reference_perplexity": 20.08,
        "num_samples": 40,
        "num_tokens": 4000,
    }
    update = {
        "id": QUANTIZED_ID,
        "number": 3,
        "kind": VersionKind.ADAPTER,
        "format": Format.PEFT,
        "scheme": None,
        "dtype": None,
        "weights_bytes": 200,
        "recipe": {
            "type": "finetune",
            "model": "bard",
            "method": {"type": "supervised", "completion_only": True},
            "adapter": {"kind": "lora", "rank": 16, "alpha": 32.0, "target_modules": ["q_proj", "v|proj"]},
            "base_precision": "nf4",
            "hyperparameters": {"n_epochs": 2, "batch_size": 8, "learning_rate": 0.0002, "max_steps": None},
            "seed": 7,
        },
        "toolchain": {"peft": "0.21.2"},
        "edges": [
            LineageEdge(role=EdgeRole.BASE, parent_version_id=MASTER_ID),
            LineageEdge(role=EdgeRole.TRAINING, parent_dataset_id=DATASET_ID),
        ],
        "evidence": [
            evidence(EvidenceKind.EVALUATION, "validation", verdict=Verdict.INCONCLUSIVE, **held_out, **AGAINST_MASTER),
            evidence(EvidenceKind.EVALUATION, "training", num_steps=100, best_step=80, stopped_early=True),
            evidence(EvidenceKind.EVALUATION, "plays.test@1", verdict=Verdict.INCONCLUSIVE, perplexity_ratio=1.05, **AGAINST_MASTER),
        ],
    }
    return made.model_copy(update=update | changes)


def described_merged(**changes: Any) -> VersionDetail:
    """Returns what an adapter was merged into, with the ways that were tried."""
    made = described_master()
    update = {
        "id": QUANTIZED_ID,
        "number": 4,
        "kind": VersionKind.MERGED,
        "recipe": {"type": "merge", "adapters": [{"adapter": "bard@3", "weight": 1.0}], "merged_into": "master", "seed": 0},
        "edges": [
            LineageEdge(role=EdgeRole.ADAPTER, parent_version_id=ADAPTER_ID),
            LineageEdge(role=EdgeRole.BASE, parent_version_id=MASTER_ID),
        ],
        "evidence": [
            evidence(
                EvidenceKind.EVALUATION, "way-master", verdict=Verdict.INCONCLUSIVE, nll_mean=2.6, corpora={"plays@1": {"perplexity": 21.0}}
            ),
            evidence(EvidenceKind.EVALUATION, "way-unmerged", verdict=Verdict.INCONCLUSIVE, nll_mean=2.7),
            evidence(EvidenceKind.EVALUATION, "choice", choice="master", nll_mean={"master": 2.6, "unmerged": 2.7}, is_beyond_noise=True),
        ],
    }
    return made.model_copy(update=update | changes)
