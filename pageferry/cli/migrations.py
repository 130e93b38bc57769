"""`pageferry migrations`: those of a source host that runs already."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from pageferry.cli.reach import check_list, each_of, reaches_a_host, show_list, state_name

_DID = {"cancel": "is being cancelled", "resolve": "resolved"}
_FORCED = {
    "keep": "decided: the guest goes on at the source; see that it does not run elsewhere too",
    "release": "decided: the guest is the destination's; its memory at the source was freed",
}


@click.command(
    epilog="""\b
Examples:
  pageferry migrations rack1:50051 --tls certs/operator
  pageferry migrations rack1:50051 cancel web-1-3f9a2c-8b0d64e19a77c2f5 --tls certs/operator
  pageferry migrations 127.0.0.1:50051 resolve web-1-3f9a2c-8b0d64e19a77c2f5
  pageferry migrations 127.0.0.1:50051 resolve web-1-3f9a2c-8b0d64e19a77c2f5 --resolve keep
""",
)
@reaches_a_host
@click.option(
    "--resolve",
    "decision",
    type=click.Choice(list(_FORCED)),
    default=None,
    help="Decide about a guest in doubt whose destination will never answer. keep: it goes on at "
    "the source; if the destination did take it, it runs TWICE. release: its memory at the source "
    "is freed; if the destination did not take it, it is LOST. Look at the destination first.",
)
@click.argument("action", required=False, metavar="[cancel|resolve]")
@click.argument("names", nargs=-1, metavar="[MIGRATION]…")
@click.pass_context
def migrations(
    ctx: click.Context,
    /,
    address: str,
    action: str | None,
    names: tuple[str, ...],
    tls: Path | None,
    *,
    decision: str | None,
    insecure: bool,
    json_target: str | None,
) -> None:
    """List the migrations of the source host at ADDRESS; or cancel or resolve some of them.

    cancel ends one before its commit: the guest goes on at the source. resolve asks the
    destination how a commit ended whose answer was lost (state in_doubt), and acts on what it
    says: the guest is the destination's, or goes on here. With --resolve keep or release an
    operator decides instead, where no answer can be had: an answer that says otherwise still
    counts for more. The last 256 that ended are listed.
    """
    from pageferry.source_client import SourceClient
    from pageferry.v1 import source_pb2
    from wire.trust.security import Security

    action, names = _meant(action, names, decision, ctx)
    check_list(json_target, action, ctx)
    with SourceClient(address, Security.of(tls, insecure=insecure)) as client:
        if decision is not None:
            resolution = source_pb2.Resolution.Value(f"RESOLUTION_{decision.upper()}")
            decide = partial(client.resolve, resolution=resolution)
            ctx.exit(each_of(decide, names, _FORCED[decision]))
        if action is not None:
            to_do = {"cancel": client.cancel, "resolve": lambda name: _resolve(client, name)}
            ctx.exit(each_of(to_do[action], names, _DID[action]))
        _show([_row(status) for status in client.migrations()], json_target)


def _meant(
    action: str | None, names: tuple[str, ...], decision: str | None, ctx: click.Context
) -> tuple[str | None, tuple[str, ...]]:
    """What to do, and to which; with --resolve the word resolve may be left out."""
    if decision is not None and action is not None and action not in _DID:
        action, names = "resolve", (action, *names)
    if action is not None and action not in _DID:
        known = ", ".join(map(repr, _DID))
        raise click.UsageError(f"{action!r} is not one of {known}", ctx)
    if action is not None and not names:
        raise click.UsageError(f"name the migrations to {action}", ctx)
    if decision is not None and action != "resolve":
        raise click.UsageError("--resolve is about migrations in doubt: name them", ctx)
    return action, names


def _resolve(client: Any, name: str) -> str:
    from pageferry.whereabouts import of_migration

    return of_migration(client.resolve(name))


def _row(status: Any) -> dict[str, Any]:
    from pageferry.document import OUTCOMES
    from pageferry.v1 import source_pb2
    from pageferry.whereabouts import of_migration

    return {
        "migration": status.migration_id,
        "guest": status.guest_id,
        "destination": status.destination,
        "state": state_name(source_pb2.MigrationState, "MIGRATION_STATE_", status.state),
        "rounds": len(status.rounds),
        "wire_bytes": status.totals.wire_bytes,
        "downtime_ns": status.downtime.total_ns,
        "where": of_migration(status) if status.state in OUTCOMES else "",
        "error": status.error,
    }


def _show(rows: list[dict[str, Any]], json_target: str | None) -> None:
    from paging_core.units import format_bytes, format_ns

    reading = {"wire_bytes": format_bytes, "downtime_ns": format_ns}
    show_list("migrations", rows, reading, json_target)
