"""Servers and keys by name, in one file of a person's own: ``~/.config/quantry/profiles.json``, mode 0600."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_serializer

from quantry.errors import ConfigurationError
from quantry_core.names import Name

FILE_NAME = "profiles.json"
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700


class Profile(BaseModel):
    """One server and a key for it. Whoever prints it sees no key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    api_key: SecretStr

    @field_serializer("api_key", when_used="json")
    def _key(self, key: SecretStr) -> str:
        # The file is the one place that it is written to.
        return key.get_secret_value()


class Profiles(BaseModel):
    """What the file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profiles: dict[Name, Profile] = Field(default_factory=dict)
    current: str | None = None
    """The one that is used where nothing nearer says otherwise."""

    def named(self, name: str) -> Profile:
        """Returns a profile; raises ConfigurationError naming those there are."""
        if name not in self.profiles:
            there = ", ".join(sorted(self.profiles)) or "none yet: quantry config set-profile makes one"
            raise ConfigurationError(f"there is no profile {name!r}; there are: {there}")
        return self.profiles[name]

    def with_profile(self, name: str, profile: Profile) -> Profiles:
        """Returns these with one more, or with another in its place. The first one is used from now on.

        Raises ConfigurationError for what cannot be a name.
        """
        try:
            made = Profiles(profiles={**self.profiles, name: profile}, current=self.current or name)
        except ValidationError as error:
            raise ConfigurationError(f"{name!r} cannot name a profile: {error.errors()[0]['msg']}") from None
        return made

    def without(self, name: str) -> Profiles:
        """Returns these without one; raises ConfigurationError where it is not there."""
        self.named(name)
        left = {other: profile for other, profile in self.profiles.items() if other != name}
        return Profiles(profiles=left, current=None if self.current == name else self.current)

    def used(self, name: str) -> Profiles:
        """Returns these with another one in use; raises ConfigurationError where it is not there."""
        self.named(name)
        return self.model_copy(update={"current": name})


def profiles_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns where the profiles lie: below $XDG_CONFIG_HOME, else below ~/.config."""
    given = environ.get("XDG_CONFIG_HOME", "")
    # The specification of these folders has a relative one ignored.
    base = Path(given) if given and Path(given).is_absolute() else Path(environ.get("HOME") or Path.home()) / ".config"
    return base / "quantry" / FILE_NAME


def read_profiles(path: Path) -> Profiles:
    """Returns the profiles of a file, none where there is none.

    Raises ConfigurationError where it cannot be read, is of another form, or may be read by others: it holds keys.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return Profiles()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigurationError(f"others may read {path}, which holds keys (mode {mode:o}); make it your own: chmod 600 {path}")
    try:
        return Profiles.model_validate_json(content)
    except ValidationError as error:
        # Without what the file has there: that may be a key.
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "as a whole"
        raise ConfigurationError(f"{path} is not what quantry config writes: {where}: {error.errors()[0]['msg']}") from None


def write_profiles(path: Path, profiles: Profiles) -> None:
    """Writes the profiles whole or not at all, readable by nobody else, in a folder of mode 0700 where it has to be made."""
    path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, prefix=f"{FILE_NAME}.", delete=False, encoding="utf-8") as file:
        part = Path(file.name)
        try:
            part.chmod(_FILE_MODE)
            json.dump(profiles.model_dump(mode="json"), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
