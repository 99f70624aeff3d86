"""A task whose documents an operator has put on the machine, from a cache that nobody may write."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from factories.child_runs import MASTER, ML_PYTHON, checkpoint, run
from quantry_core.jobs import EvaluateSpec, InputRole, TasksSpec
from quantry_worker.datasets_cache import lend_datasets

SEED = Path(__file__).with_name("seed_datasets.py")
NUM_ROWS = 6


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.long
def test_a_task_reads_the_documents_that_are_lent_and_leaves_them_as_they_are(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    subprocess.run([ML_PYTHON, SEED, str(NUM_ROWS)], env=environment, check=True)
    before = listing(cache)
    # Where the child looks, whose HOME this is.
    lend_datasets(cache, tmp_path / "run" / ".cache" / "huggingface")
    spec = EvaluateSpec(version="bard", tasks=TasksSpec(names=["sciq"], num_fewshot=1))
    ran = run(tmp_path / "run", spec, [checkpoint(InputRole.SUBJECT, MASTER)])
    metrics = ran.evidence("task:sciq").metrics
    assert (metrics["num_documents"], metrics["num_fewshot"]) == (NUM_ROWS, 1)
    assert 0 <= metrics["acc"] <= 1
    rows = [json.loads(line) for line in (ran.artifacts_dir / "tasks.jsonl").read_text().splitlines()]
    assert {row["doc"]["question"] for row in rows} == {f"question of test number {index}" for index in range(NUM_ROWS)}
    assert listing(cache) == before
