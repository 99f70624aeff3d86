"""The configuration of supervisord: one program per part, each with its own rotated log."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantry_local.errors import StackError
from quantry_local.folders import Folders
from quantry_local.parts import Part

LOG_MAX_BYTES = 10 * 1024**2
NUM_LOG_BACKUPS = 3


@dataclass(frozen=True)
class SupervisorFiles:
    """Where supervisord of one stack has its configuration, socket, pid and log."""

    folders: Folders

    @property
    def home(self) -> Path:
        return self.folders.state_dir / "supervisor"

    @property
    def config(self) -> Path:
        return self.home / "supervisord.conf"

    @property
    def pid(self) -> Path:
        return self.home / "supervisord.pid"

    @property
    def socket(self) -> Path:
        return self.folders.sockets / "supervisor" / "rpc.sock"

    @property
    def log(self) -> Path:
        return self.folders.logs / "supervisord.log"

    def launch_file(self, part: str) -> Path:
        return self.home / f"{part}.json"


def render_config(files: SupervisorFiles, parts: Sequence[Part], python: Path) -> str:
    """Returns supervisord.conf. Parts do not start by themselves; at the end they stop in the reverse of their order."""
    sections = [
        (
            "unix_http_server",
            {"file": _value(files.socket), "chmod": "0700"},
        ),
        ("rpcinterface:supervisor", {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"}),
        (
            "supervisord",
            {
                "nodaemon": "true",
                "silent": "true",
                "umask": "077",
                "pidfile": _value(files.pid),
                "logfile": _value(files.log),
                "logfile_maxbytes": str(LOG_MAX_BYTES),
                "logfile_backups": str(NUM_LOG_BACKUPS),
                "identifier": "quantry",
                "directory": "/",
                # Said outright, or supervisord warns that it runs as root.
                **({"user": "root"} if os.geteuid() == 0 else {}),
            },
        ),
    ]
    sections += [(f"program:{part.name}", _program(files, part, python, place)) for place, part in enumerate(parts, start=1)]
    return "\n".join(f"[{title}]\n" + "".join(f"{name}={value}\n" for name, value in values.items()) for title, values in sections)


def _program(files: SupervisorFiles, part: Part, python: Path, place: int) -> dict[str, str]:
    return {
        "command": shlex.join([_value(python), "-m", "quantry_local.launch", _value(files.launch_file(part.name))]),
        "priority": str(place),
        "autostart": "false",
        "autorestart": "true",
        "startsecs": "1",
        "startretries": "3",
        "stopsignal": part.stop_signal,
        "stopwaitsecs": str(part.stop_wait_s),
        # The signal goes to the part alone, which stops its own children in its own order; what is left is killed with it.
        "stopasgroup": "false",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": _value(files.folders.logs / f"{part.name}.log"),
        "stdout_logfile_maxbytes": str(LOG_MAX_BYTES),
        "stdout_logfile_backups": str(NUM_LOG_BACKUPS),
    }


def _value(path: Path) -> str:
    """Returns a path as supervisord.conf needs it; raises StackError for one that the file cannot hold."""
    text = str(path)
    # `%` begins an expansion, and supervisord expands some values twice, so that it cannot be escaped; ` ;` begins a comment.
    if "%" in text or " ;" in text or "\n" in text:
        raise StackError(f"the path {text!r} cannot stand in supervisord's configuration; choose another --state-dir")
    return text
