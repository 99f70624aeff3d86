"""Import jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from quantry_core.jobs.specs.references import ModelName, Spec
from quantry_core.jobs.states import JobType


class ImportSpec(Spec):
    """Brings a 16-bit checkpoint into the registry as a master."""

    type: Literal[JobType.IMPORT] = JobType.IMPORT
    model: ModelName = Field(description="The model it becomes a version of; made if it is not there yet.")
    source: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description=(
            "An absolute path below an allowed root, hf:<owner>/<name>[@<revision>] for the Hugging Face hub, "
            "s3:<bucket>/<prefix> for an allowed bucket, or upload:upl_... for what was uploaded."
        )
    )
