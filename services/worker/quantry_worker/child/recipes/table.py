"""Which recipe runs a job type: one literal table of module names.

A recipe is a module with ``run(task, reporter) -> ChildResult``. Names, not functions: an import of one checkpoint must not
wait for the import of torch that another recipe needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from quantry_core.jobs import JobType
from quantry_worker.child.libraries import load
from quantry_worker.child.reporter import Reporter
from quantry_worker.protocol import ChildResult, ChildTask

Recipe = Callable[[ChildTask, Reporter], ChildResult]

RECIPES: dict[JobType, str] = {
    JobType.IMPORT: "quantry_worker.child.recipes.import_checkpoint",
    JobType.QUANTIZE: "quantry_worker.child.recipes.quantize",
    JobType.FINETUNE: "quantry_worker.child.recipes.finetune",
    JobType.MERGE: "quantry_worker.child.recipes.merge",
    JobType.EVALUATE: "quantry_worker.child.recipes.evaluate",
    JobType.RECALIBRATE: "quantry_worker.child.recipes.recalibrate",
}


def load_recipe(job_type: JobType) -> Recipe:
    """Returns the recipe of a job type; raises LookupError for one that no worker runs, ImportError if a library is missing."""
    if job_type not in RECIPES:
        raise LookupError(f"no worker runs {job_type} jobs")
    return cast(Recipe, load(RECIPES[job_type]).run)
