"""The method table as the API shows it: each method with its schemes spelled out and what loads its results."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from quantry_core.methods import METHODS, SCHEMES, CostClass, DeviceKind, MethodInfo, SchemeInfo
from quantry_core.servability import EngineSupport, loaders


class SchemeView(BaseModel):
    """One scheme of a method."""

    model_config = ConfigDict(frozen=True)

    info: SchemeInfo
    needs_calibration: bool
    cost: CostClass
    devices: tuple[DeviceKind, ...]
    loaded_by: list[EngineSupport]


class MethodView(BaseModel):
    """A method with all that can be told of it."""

    model_config = ConfigDict(frozen=True)

    info: MethodInfo
    schemes: list[SchemeView]


def method_view(info: MethodInfo) -> MethodView:
    """Returns a row of the table as it is shown."""
    schemes = [
        SchemeView(
            info=SCHEMES[scheme],
            needs_calibration=info.needs_calibration(scheme),
            cost=info.cost(scheme),
            devices=info.devices(scheme),
            loaded_by=loaders(info.format, scheme),
        )
        for scheme in info.schemes
    ]
    return MethodView(info=info, schemes=schemes)


def method_views() -> list[MethodView]:
    """Returns the whole table."""
    return [method_view(info) for info in METHODS.values()]
