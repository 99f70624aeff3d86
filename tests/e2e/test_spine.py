"""Import, quantize, gate, evaluate: what comes out is small, true, and known by where it came from."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from e2e.conftest import EXAMPLES, ROOT, Platform
from factories.child_runs import ML_SCRIPT
from quantry_core.gate import required_checks
from quantry_core.jobs import EvaluateSpec, QualitySpec
from quantry_core.versions import EdgeRole, EvidenceKind, Verdict, VersionDetail, VersionKind, VersionState
from quantry_local.demo_steps import MAX_WEIGHTS_SHARE, MODEL, TEST_CORPORA, corpus_metrics

INDEPENDENT = ROOT / "tests" / "integration" / "worker" / "independent_perplexity.py"
NUM_WINDOWS = 24
"""Windows of each corpus that both sides score: about 6,000 tokens."""


def test_the_master_is_kept_byte_for_byte(master: VersionDetail) -> None:
    assert master.kind is VersionKind.MASTER
    assert master.dtype == "float16"
    digests = {file.path: file.sha256 for file in master.files}
    on_disk = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (EXAMPLES / MODEL).iterdir()}
    assert digests == on_disk


def test_the_quantized_version_is_small_ready_and_descends_from_the_master(master: VersionDetail, quantized: VersionDetail) -> None:
    assert quantized.state is VersionState.READY
    assert quantized.kind is VersionKind.QUANTIZED
    assert quantized.weights_bytes <= MAX_WEIGHTS_SHARE * master.weights_bytes
    assert [edge.parent_version_id for edge in quantized.edges if edge.role is EdgeRole.BASE] == [master.id]
    assert sum(edge.role is EdgeRole.CALIBRATION for edge in quantized.edges) == 3
    gates = {one.name: one.verdict for one in quantized.evidence if one.kind is EvidenceKind.GATE}
    assert gates == dict.fromkeys(required_checks(QualitySpec()), Verdict.PASS)
    assert quantized.card == master.card
    assert {"torch", "transformers", "llmcompressor", "compressed-tensors"} <= set(quantized.toolchain)


def test_perplexities_agree_with_plain_transformers(
    platform: Platform, master: VersionDetail, quantized: VersionDetail, tmp_path: Path
) -> None:
    corpora = [f"{corpus}.test" for corpus in TEST_CORPORA]
    platform.succeed(EvaluateSpec(version=quantized.id, against=master.id, corpora=corpora, max_windows=NUM_WINDOWS))
    figures = corpus_metrics(platform.client.versions.get(quantized.id))
    platform.client.versions.export(quantized.id, tmp_path / "quantized")
    platform.client.versions.export(master.id, tmp_path / "master")
    texts = [str(EXAMPLES / "corpora" / f"{name}.txt") for name in corpora]
    command = [*ML_SCRIPT, str(INDEPENDENT), str(tmp_path / "quantized"), str(tmp_path / "master")]
    # Threads that spin while they wait take the processors from whatever else runs.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    arguments = [*command, "256", str(NUM_WINDOWS), *texts]
    finished = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    for corpus, independent in zip(TEST_CORPORA, json.loads(finished.stdout), strict=True):
        ours = figures[corpus]
        assert ours["perplexity"] == pytest.approx(independent["perplexity"], rel=0.005)
        assert ours["reference_perplexity"] == pytest.approx(independent["reference_perplexity"], rel=0.005)
        assert ours["kl_mean_nats"] == pytest.approx(independent["kl_mean_nats"], rel=0.02)
        assert ours["top1_agreement"] == pytest.approx(independent["top1_agreement"], abs=0.005)


def test_the_lineage_shows_master_and_texts(platform: Platform, master: VersionDetail, quantized: VersionDetail) -> None:
    lineage = platform.client.versions.lineage(quantized.id)
    assert {node.id for node in lineage.nodes} >= {master.id, quantized.id}
    assert sum(node.noun == "dataset" for node in lineage.nodes) == 3
