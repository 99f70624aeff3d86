"""What charts have in common: colours that can be read on a light ground and on a dark one, axes, moments."""

from __future__ import annotations

from datetime import datetime
from typing import Any

# A chart knows nothing of the theme.
BLUE, AMBER, GREY, DIM, LINE = "#4a7ae8", "#c98a00", "#8d97a5", "#7f8a99", "rgba(127, 138, 153, 0.25)"
RELEASE_COLOURS = (BLUE, AMBER, "#2f9e6e", "#a65fd1", "#d1605f", "#3aa5b8")
TEXT_STYLE = {"color": DIM}


def axis(*, drawn: bool = True, labels: bool = True) -> dict[str, Any]:
    """Returns how an axis looks; ``drawn``: with lines across the chart; ``labels``: with the common style of its labels."""
    parts: dict[str, Any] = {"nameTextStyle": TEXT_STYLE, "axisLine": {"lineStyle": {"color": DIM}}}
    if labels:
        parts["axisLabel"] = {**TEXT_STYLE, "hideOverlap": True}
    if drawn:
        parts["splitLine"] = {"lineStyle": {"color": LINE}}
    return parts


def milliseconds(moment: datetime) -> int:
    """Returns a moment as charts count it: milliseconds since 1970."""
    return round(moment.timestamp() * 1000)
