"""``python -m quantry_local.launch <file>``: becomes one part of the stack, as its launch file says.

supervisord starts every part through this, so that secrets stand in files of mode 0600 and in no command line, and no
value has to survive the quoting rules of supervisord's configuration.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel, ConfigDict


class LaunchFile(BaseModel):
    """How one part is started."""

    model_config = ConfigDict(frozen=True)

    command: list[str]
    environment: dict[str, str]
    cwd: str
    uid: int | None = None
    gid: int | None = None


def launch(file: LaunchFile) -> NoReturn:
    """Drops to the part's account where it has one, and replaces this process."""
    os.chdir(file.cwd)
    if file.uid is not None and file.gid is not None:
        os.setgroups([])
        os.setgid(file.gid)
        os.setuid(file.uid)
    os.execve(file.command[0], file.command, file.environment)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    launch(LaunchFile.model_validate_json(Path(sys.argv[1]).read_bytes()))
