"""``quantry vault``: verify, collect, list, show, store, policies."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.completion import version_refs
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, bytes_text, emit_json, print_fields, print_page, print_table, say, time_text
from quantry_core.bucket_policies import KeyHolder, bucket_policy
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.vault import CollectReport, DamagedBlob, VaultRun, VaultRunKind, VaultRunStatus, VerifyReport

app = typer.Typer(help="Check the bytes of every version, and remove what nothing needs.", no_args_is_help=True)

EXIT_DAMAGED = 1

WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for its end.")]

_COLUMNS: tuple[Column[VaultRun], ...] = (
    ("run", lambda run: run.id),
    ("kind", lambda run: run.kind),
    ("status", lambda run: run.status),
    ("asked", lambda run: time_text(run.created_at)),
    ("ended", lambda run: time_text(run.finished_at)),
    ("result", lambda run: run.message or ""),
)

_DAMAGE: tuple[Column[DamagedBlob], ...] = (
    ("sha256", lambda blob: blob.sha256),
    ("found", lambda blob: blob.found),
    ("versions", lambda blob: ", ".join(blob.versions)),
    ("datasets", lambda blob: ", ".join(blob.datasets)),
    ("artifacts", lambda blob: ", ".join(blob.artifacts)),
    ("elsewhere", lambda blob: str(blob.num_elsewhere)),
    ("kept at", lambda blob: blob.kept_at or ""),
)


@app.command("verify")
def verify(
    context: typer.Context,
    version: Annotated[str | None, typer.Option(metavar="REF", autocompletion=version_refs, help="Only this version.")] = None,
    older_than_s: Annotated[float | None, typer.Option(min=0, help="Only what was not verified for so many seconds.")] = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read and hash the vault's bytes again. With --wait the exit code is 1 where something is damaged."""
    with connect(context) as client:
        run = client.vault.verify(version, older_than_s=older_than_s)
        if wait:
            run = client.vault.wait(run.id)
    _show(run, as_json)


@app.command("collect")
def collect(
    context: typer.Context,
    remove: Annotated[bool, typer.Option("--remove", help="Really remove; without it, only say what would go.")] = False,
    age_s: Annotated[float | None, typer.Option(min=0, help="Keep what was sealed within so many seconds.")] = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove bytes that nothing refers to, and versions and datasets that were deleted long ago."""
    with connect(context) as client:
        run = client.vault.collect(dry_run=not remove, age_s=age_s)
        if wait:
            run = client.vault.wait(run.id)
    _show(run, as_json)


@app.command("list")
def list_runs(context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False) -> None:
    """List runs, newest first."""
    with connect(context) as client:
        page = client.vault.runs(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="Nothing was verified or collected yet.")


@app.command("show")
def show_run(
    context: typer.Context, run_id: Annotated[str, typer.Argument(metavar="RUN", help="vrn_...")], as_json: JsonOption = False
) -> None:
    """Show a run: how far it is, or what it found."""
    with connect(context) as client:
        run = client.vault.run(run_id)
    _show(run, as_json)


@app.command("store")
def show_store(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show whether the vault's bucket keeps older versions and locks objects."""
    with connect(context) as client:
        store = client.vault.store()
    if as_json:
        emit_json(store)
        return
    locked = f"for {store.retention_s:.0f} s" if store.locks_objects and store.retention_s is not None else "no"
    print_fields([("keeps versions", "yes" if store.keeps_versions else "no"), ("locks objects", locked)])


@app.command("policies")
def show_policies(
    holder: Annotated[KeyHolder, typer.Argument(help="Whose key.")],
    vault: Annotated[str, typer.Option(help="Name of the vault's bucket.")] = "quantry-vault",
    staging: Annotated[str, typer.Option(help="Name of the staging bucket.")] = "quantry-staging",
    _as_json: Annotated[bool, typer.Option("--json", help="It is JSON either way.")] = False,
) -> None:
    """Print what a part's S3 key may do, as a policy document for servers that have policies."""
    emit_json(bucket_policy(holder, vault=vault, staging=staging))


def _show(run: VaultRun, as_json: bool) -> None:
    if as_json:
        emit_json(run)
    else:
        print_fields([("run", run.id), ("kind", run.kind), ("status", run.status), *_figures(run)])
        if run.kind is VaultRunKind.VERIFY and run.report.get("damaged"):
            print_table(VerifyReport.model_validate(run.report).damaged, _DAMAGE, empty="")
        if run.message:
            say(run.message)
    if run.status is VaultRunStatus.FAILED:
        raise typer.Exit(EXIT_DAMAGED)


def _figures(run: VaultRun) -> list[tuple[str, str]]:
    if run.kind is VaultRunKind.VERIFY:
        verified = VerifyReport.model_validate(run.report)
        return [("read", f"{verified.num_blobs} blobs, {bytes_text(verified.num_bytes)}"), ("damaged", str(verified.num_damaged))]
    collected = CollectReport.model_validate(run.report)
    return [
        ("blobs", str(collected.num_blobs)),
        ("orphans", str(collected.num_orphans)),
        ("bytes", bytes_text(collected.num_bytes)),
        ("versions", str(collected.num_versions)),
        ("datasets", str(collected.num_datasets)),
        ("incoming", str(collected.num_incoming)),
        ("staged attempts", str(collected.num_staged_attempts)),
    ]
