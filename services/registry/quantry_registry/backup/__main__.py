"""``python -m quantry_registry.backup``: create, list, verify, restore, prune.

Reads the settings of the registry: QUANTRY_DATABASE_URL and QUANTRY_S3_*; QUANTRY_BACKUP_S3_* for backups on another server.
A PLACE is a folder, or s3://bucket/prefix.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.errors import QuantryError
from quantry_core.secret_files import take_secret_files
from quantry_registry.backup.create import Source, create
from quantry_registry.backup.manifest import BackupError, Manifest, load_manifest, manifests
from quantry_registry.backup.places import Place, place_of
from quantry_registry.backup.progress import Progress, bytes_text
from quantry_registry.backup.prune import prune
from quantry_registry.backup.restore import Allowed, Installation, restore
from quantry_registry.backup.settings import BackupSettings, BackupStoreSettings
from quantry_registry.backup.verify import verify
from quantry_registry.parts import make_parts
from quantry_registry.settings import RegistrySettings
from quantry_store.postgres_tools import DumpError, PostgresTools
from quantry_store.settings import StoreSettings
from quantry_telemetry.logs import configure_logging

PROGRAM = "python -m quantry_registry.backup"
EXIT_DAMAGED, EXIT_REFUSED = 1, 2
UNUSED_PORT = 1
"""The registry's settings want one; nothing is served here."""

_SETTINGS = (BlobSettings, StoreSettings, RegistrySettings, BackupSettings, BackupStoreSettings)
_PREFIXES = {settings.__name__: settings.model_config["env_prefix"] for settings in _SETTINGS}

NOT_INCLUDED = (
    "Not in the backup, keep them elsewhere: QUANTRY_CAPTURE_KEYS (without them no captured prompt can be read), "
    "QUANTRY_WEBHOOK_KEYS (without them no webhook can be sent), "
    "QUANTRY_DASHBOARD_SECRET, the passwords of Postgres, Redis and S3, and the API keys (the database has only their hashes)."
)


@dataclass(frozen=True)
class Command:
    """What was asked for, with what it takes."""

    options: argparse.Namespace
    settings: BackupSettings
    place: Place
    progress: Progress

    def answer(self, text: str, document: object) -> None:
        """Prints on standard output what a program reads: a line, or with --json a document. What people read goes to the other."""
        sys.stdout.write(json.dumps(document, indent=2) + "\n" if self.options.json else text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 where a backup is damaged, 2 where nothing was done; says why on standard error."""
    options = _parser().parse_args(arguments)
    take_secret_files(PROGRAM)
    configure_logging("backup", level="WARNING")
    try:
        settings = BackupSettings()
        command = Command(options, settings, _place(options.place), Progress())
        run: Callable[[Command], int] = options.run
        return run(command)
    except ValidationError as error:
        prefix = _PREFIXES.get(error.title, "")
        invalid = "; ".join(f"{prefix}{'.'.join(map(str, item['loc']))}".upper() + f": {item['msg']}" for item in error.errors())
        problem = f"the settings are not valid: {invalid}"
    except QuantryError as error:
        problem = error.detail
    except (BackupError, DumpError, OSError) as error:
        problem = str(error)
    sys.stderr.write(f"quantry: {problem}\n")
    return EXIT_REFUSED


def _create(command: Command) -> int:
    blobs = BlobSettings()
    store = MinioStore(blobs)
    source = Source(StoreSettings().database_url, store, blobs.vault_bucket)
    tools = PostgresTools.find(command.settings.pg_bin)
    manifest = create(source, tools, command.place, command.progress, parallel=command.settings.parallel)
    command.progress.say(f"backup {manifest.id} in {command.place}: {_figures(manifest)}")
    command.progress.say(NOT_INCLUDED)
    command.answer(f"{manifest.id}\n", manifest.model_dump(mode="json"))
    return 0


def _list(command: Command) -> int:
    found = [load_manifest(command.place, backup_id) for backup_id in manifests(command.place)]
    lines = "".join(f"{manifest.id}  {_figures(manifest)}\n" for manifest in found)
    command.answer(lines, [manifest.model_dump(mode="json") for manifest in found])
    return 0


def _verify(command: Command) -> int:
    manifest = load_manifest(command.place, command.options.backup)
    problems = verify(command.place, manifest, command.progress, parallel=command.settings.parallel)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    command.answer("", {"backup": manifest.id, "is_whole": not problems, "problems": [str(problem) for problem in problems]})
    if problems:
        sys.stderr.write(f"quantry: backup {manifest.id} is damaged: {len(problems)} of its files\n")
        return EXIT_DAMAGED
    command.progress.say(f"backup {manifest.id} is whole: {_figures(manifest)}")
    return 0


def _restore(command: Command) -> int:
    manifest = load_manifest(command.place, command.options.backup)
    blobs = BlobSettings()
    parts = make_parts(RegistrySettings(registry_port=UNUSED_PORT), blobs, MinioStore(blobs))
    into = Installation(StoreSettings(), parts)
    allowed = Allowed(replace=command.options.replace, connected=command.options.ignore_connections)
    tools = PostgresTools.find(command.settings.pg_bin)
    restore(command.place, manifest, into, tools, command.progress, allowed=allowed, parallel=command.settings.parallel)
    command.progress.say(f"backup {manifest.id} is restored: {_figures(manifest)}")
    command.answer("", manifest.model_dump(mode="json"))
    return 0


def _prune(command: Command) -> int:
    pruned = prune(command.place, command.options.keep)
    command.progress.say(
        f"removed {len(pruned.backups)} backups, {len(pruned.unfinished)} that were never finished, and {pruned.num_blobs} blobs "
        "that only they needed"
    )
    command.answer("", {"removed": list(pruned.backups), "unfinished": list(pruned.unfinished), "num_blobs": pruned.num_blobs})
    return 0


def _place(where: str) -> Place:
    return place_of(where, lambda: MinioStore(BackupStoreSettings().store()))


def _figures(manifest: Manifest) -> str:
    return (
        f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC, {manifest.num_blobs} blobs, {bytes_text(manifest.num_bytes)}, "
        f"database {bytes_text(manifest.dump.size_bytes)} at revision {manifest.revision}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Backs up the database and the vault together, and brings both back.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Command], int], words: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=words, description=words)
        made.add_argument("place", metavar="PLACE", help="a folder, or s3://bucket/prefix")
        made.add_argument("--json", action="store_true", help="print a JSON document on standard output")
        made.set_defaults(run=run)
        return made

    command("create", _create, "Make a backup; blobs that lie in the place already are not copied again.")
    command("list", _list, "List the whole backups of a place.")
    verifying = command("verify", _verify, "Read and hash every byte of a backup.")
    restoring = command("restore", _restore, "Bring a backup back into an empty installation, and verify it.")
    for parsed in (verifying, restoring):
        parsed.add_argument("--backup", metavar="ID", help="this one; else the newest")
    restoring.add_argument("--replace", action="store_true", help="also where the installation is in use: its database is removed")
    restoring.add_argument("--ignore-connections", action="store_true", help="also while others are connected to the database")
    keeping = command("prune", _prune, "Remove old backups, and blobs that no other one needs. No backup may run meanwhile.")
    keeping.add_argument("--keep", type=_positive, required=True, metavar="N", help="the newest so many stay")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one backup stays")
    return number


if __name__ == "__main__":
    sys.exit(main())
