"""docs/troubleshooting.md has everything that the doctor looks at, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import quantry_local.checkup
from quantry.checkup import machine, server

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def looked_at(module: ModuleType) -> set[str]:
    """Returns what a module's findings are called: ``area: name``, of names that are made the part before the first brace."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    named = re.findall(r'Teller\((\w+), f?"([^"{]+)', source)
    return {f"{getattr(module, area)}: {name.strip()}" for area, name in named}


def test_every_finding_is_told_of() -> None:
    told = set(re.findall(r"^\| `(\w+: [a-z ]+?)(?: <name>)?` \|", PAGE, re.MULTILINE))
    found = looked_at(machine) | looked_at(server) | looked_at(quantry_local.checkup)
    assert told == found | {"server: settings"}
