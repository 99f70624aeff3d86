"""How a spec names versions and datasets, and what all specs have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

OUTPUT_PREFIX = "output:"
"""Begins a reference to the version that another job will make: ``output:job_...``, or in a pipeline ``output:<step>``."""


class Spec(BaseModel):
    """Frozen and closed: a field that is not known is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


VersionRef = Annotated[str, StringConstraints(min_length=1, max_length=160)]
"""``ver_...``, ``name@3``, ``name@alias``, or ``name`` for the latest ready version of a fitting kind: the latest master where something
is quantized or trained."""

DatasetRef = Annotated[str, StringConstraints(min_length=1, max_length=160)]
"""``dat_...``, ``name@3``, or ``name`` for the latest."""

ModulePattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
"""A module's exact name, or a glob over it (``*.mlp.*``)."""

Suffix = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$")]
"""What is added to the base's name to name the model of what was made from it."""
