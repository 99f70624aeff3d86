"""Other packages that belong to the command: they add commands to it, and looks to ``quantry doctor``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

import typer

from quantry.checkup.findings import Check, Teller
from quantry.cli.output import stderr

PLUGIN_GROUP = "quantry.commands"
"""Entry points of this group are functions ``register(app: typer.Typer) -> None`` that add commands. Their module may have a function
``checks() -> Sequence[Check]`` too: what the doctor looks at."""


def plugins() -> Sequence[EntryPoint]:
    """Returns the installed plugins, by name."""
    return sorted(entry_points(group=PLUGIN_GROUP), key=lambda entry: entry.name)


def add_plugins(app: typer.Typer) -> None:
    """Lets every installed plugin add its commands; one that cannot be loaded costs a warning, not the command."""
    for plugin in plugins():
        try:
            plugin.load()(app)
        except Exception as error:  # A plugin may fail in any way; the rest must work.
            stderr().print(f"quantry: the plugin {plugin.name} cannot be used: {type(error).__name__}: {error}")


def plugin_checks() -> list[Check]:
    """Returns what plugins look at; of one that fails, a line that says so."""
    found: list[Check] = []
    for plugin in plugins():
        try:
            checks = getattr(importlib.import_module(plugin.module), "checks", None)
            found.extend(checks() if checks is not None else ())
        except Exception as error:  # As above.
            line = Teller("stack", plugin.name).warn(f"the plugin cannot be used: {error}", "install it again")
            found.append(Check("stack", plugin.name, lambda line=line: [line]))  # type: ignore[misc]
    return found
