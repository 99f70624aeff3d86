"""``quantry whoami``: which server, which project, which role."""

from __future__ import annotations

import typer

from quantry.cli.context import JsonOption, connect
from quantry.cli.output import emit_json, print_fields


def whoami(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show whose key is used: its id, project and role."""
    with connect(context) as client:
        identity, url = client.whoami(), client.url
    if as_json:
        emit_json(identity)
    else:
        print_fields(
            [
                ("server", url),
                ("key", identity.key_id),
                ("project", identity.project_id + (", the platform's own" if identity.is_platform else "")),
                ("role", identity.role),
            ]
        )
