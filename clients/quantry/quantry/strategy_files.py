"""YAML files of strategies."""

from __future__ import annotations

from pathlib import Path

from pydantic import RootModel

from quantry.yaml_files import read_yaml
from quantry_core.strategies import Strategy


class _Strategy(RootModel[Strategy]):
    """A file whose fields are those of the strategy that its ``name`` says."""


def read_strategy(path: Path) -> Strategy:
    """Returns the strategy that a YAML file describes: its ``name``, and fields of that strategy.

    Raises FileRefused with every problem that was found, and OSError if the file cannot be read.
    """
    return read_yaml(_Strategy, path).root
