"""How a spec names versions and datasets, and what all specs have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from quantry_core.names import AliasName, Name

OUTPUT_PREFIX = "output:"
"""Begins a reference to the version that another job will make: ``output:job_...``, or in a pipeline ``output:<step>``."""


class Spec(BaseModel):
    """Frozen and closed: a field that is not known is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


REFERS_TO = "x-quantry-refers-to"
"""In a JSON schema: what a text names, so that a form can suggest what there is."""


@dataclass(frozen=True)
class RefersTo:
    """Beside a type of text: writes into its JSON schema what it names, as REFERS_TO."""

    noun: str
    """version, dataset, deployment, model, alias, method or scheme."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {REFERS_TO: self.noun}


VersionRef = Annotated[str, StringConstraints(min_length=1, max_length=160), RefersTo("version")]
"""``ver_...``, ``name@3``, ``name@alias``, or ``name`` for the latest ready version of a fitting kind: the latest master where something
is quantized or trained."""

DatasetRef = Annotated[str, StringConstraints(min_length=1, max_length=160), RefersTo("dataset")]
"""``dat_...``, ``name@3``, or ``name`` for the latest."""

DeploymentName = Annotated[Name, RefersTo("deployment")]
ModelName = Annotated[Name, RefersTo("model")]
CandidateAlias = Annotated[AliasName, RefersTo("alias")]

SchemeName = Annotated[str, StringConstraints(max_length=64), RefersTo("scheme")]

ModulePattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
"""A module's exact name, or a glob over it (``*.mlp.*``)."""

Suffix = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$")]
"""What is added to the base's name to name the model of what was made from it."""
