"""Dockerfiles, taken apart as far as their rules are tested."""

from __future__ import annotations

import functools
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = tuple(sorted([*ROOT.glob("docker/*.Dockerfile"), *ROOT.glob("services/engine/Dockerfile.*")]))


@dataclass
class Stage:
    """What lies between two FROMs."""

    base: str
    name: str | None
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, kind: str) -> list[str]:
        """Returns the arguments of every instruction of one kind."""
        return [arguments for instruction, arguments in self.instructions if instruction == kind]

    def environment(self) -> dict[str, str]:
        return dict(word.split("=", 1) for arguments in self.of("ENV") for word in shlex.split(arguments))

    def command(self, kind: str) -> list[str] | None:
        """Returns the words of the last CMD or ENTRYPOINT, which is in exec form; None without one."""
        found = self.of(kind)
        return None if not found else list(json.loads(found[-1]))

    def health_command(self) -> list[str] | None:
        found = self.of("HEALTHCHECK")
        return None if not found else list(json.loads(found[-1].partition(" CMD ")[2]))

    def copies(self) -> list[tuple[str | None, list[str], str]]:
        """Returns of each COPY: the stage it copies from (None: the context), its sources, its target."""
        found = []
        for arguments in self.of("COPY"):
            words = shlex.split(arguments)
            options = [word for word in words if word.startswith("--")]
            paths = [word for word in words if not word.startswith("--")]
            stage = next((option.removeprefix("--from=") for option in options if option.startswith("--from=")), None)
            found.append((stage, paths[:-1], paths[-1]))
        return found


@functools.cache
def stages_of(path: Path) -> list[Stage]:
    """Returns the stages of a Dockerfile, comments gone and continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    stages: list[Stage] = []
    for line in filter(None, (line.strip() for line in joined.splitlines())):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            stages.append(Stage(base.strip(), name.strip() or None))
        else:
            stages[-1].instructions.append((instruction, arguments.strip()))
    return stages


def stage_named(path: Path, target: str | None) -> Stage:
    """Returns the stage that an image is of, with what it inherits from stages of the same file; the last one for None."""
    stages = stages_of(path)
    stage = next(stage for stage in reversed(stages) if target is None or stage.name == target)
    if all(other.name != stage.base for other in stages):
        return stage
    parent = stage_named(path, stage.base)
    return Stage(parent.base, stage.name, [*parent.instructions, *stage.instructions])
