"""`pageferry migrations`: those of a source host that runs already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pageferry.cli.reach import each_of, reaches_a_host, show_list, state_name

_DID = {"cancel": "is being cancelled", "resolve": "resolved"}


@click.command(
    epilog="""\b
Examples:
  pageferry migrations rack1:50051 --tls certs/operator
  pageferry migrations rack1:50051 cancel web-1 --tls certs/operator
  pageferry migrations 127.0.0.1:50051 resolve web-1
""",
)
@reaches_a_host
@click.argument("action", type=click.Choice(list(_DID)), required=False)
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
    insecure: bool,
    as_json: bool,
) -> None:
    """List the migrations of the source host at ADDRESS; or cancel or resolve some of them.

    cancel ends one before its commit: the guest goes on at the source. resolve asks the
    destination how a commit ended whose answer was lost (state in_doubt), and acts on what it
    says: the guest is the destination's, or goes on here. The last 256 that ended are listed.
    """
    from pageferry.source_client import SourceClient
    from wire.trust.security import Security

    if action is not None and not names:
        raise click.UsageError(f"name the migrations to {action}", ctx)
    with SourceClient(address, Security.of(tls, insecure=insecure)) as client:
        if action is not None:
            to_do = {"cancel": client.cancel, "resolve": lambda name: _resolve(client, name)}
            ctx.exit(each_of(to_do[action], names, _DID[action]))
        _show([_row(status) for status in client.migrations()], as_json=as_json)


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


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from paging_core.units import format_bytes, format_ns

    reading = {"wire_bytes": format_bytes, "downtime_ns": format_ns}
    show_list(rows, reading, nothing="no migrations", as_json=as_json)
